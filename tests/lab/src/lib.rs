//! Real servers on this machine: ZooKeeper 3.8 and ClickHouse 18.16.1 from Debian's packages, on loopback addresses of
//! their own, for tests, examples and benchmarks. Blocking: no runtime is needed.
//!
//! ```no_run
//! use lab::{Lab, LabSpec};
//!
//! let lab = Lab::start(LabSpec { clickhouse: 2, ..LabSpec::default() })?;
//! lab.define_cluster(&lab.cluster("both", &[&[0], &[1]]))?;
//! lab.clickhouse(0).query("CREATE TABLE t (a UInt8) ENGINE = Memory")?;
//! lab.clickhouse(1).kill_9()?;
//! lab.clickhouse(1).start()?;
//! # Ok::<(), lab::LabError>(())
//! ```
//!
//! - [`Lab`] is a set of servers; [`Lab::shared`] is the one that all tests of a process use.
//! - [`ClickHouse`] and [`ZooKeeper`] are what a test holds; both are a [`Server`] that can be killed, frozen, started.
//! - [`addresses`](BlockLease): every laboratory leases a block `127.0.N.*`, so that several can run at once.
//! - [`Lab::modern`] is a node of ClickHouse 24.5 or 26.9: the embedded engine chdb, from PyPI, behind an HTTP front in Python.
//! - [`install_missing`] fetches the packages when the machine does not have them.
//!
//! At the shell, `cargo run -p lab -- up 3` starts servers to try things by hand.
//!
//! Another ClickHouse is used when `CLICKHOUSE_BIN` names its binary or a `clickhouse` stands on PATH (as `clickhouse
//! server`). The configuration keeps to what both old and new servers read, but only 18.16.1 has been run with it.
//!
//! # Guarantees
//!
//! - No server outlives the process that started it, however that ends (also `kill -9`): a supervising `sh` holds the
//!   read end of a pipe whose write end only that process has. See `process.rs`.
//! - Nothing stays on disk: the laboratory's folder is removed when it is dropped, or by the supervisors when its process
//!   ends without dropping it (statics never are). With `LAB_KEEP=1` in the environment the folder stays.
//! - No server listens on anything but its own loopback address.

mod addresses;
mod clickhouse;
mod config;
mod disk;
mod error;
mod install;
mod laboratory;
mod linters;
mod modern;
mod process;
mod server;
mod tls;
mod zookeeper;

pub use addresses::BlockLease;
pub use clickhouse::ClickHouse;
pub use config::{Cluster, Macros, ODD_PASSWORD, Shard, User};
pub use error::LabError;
pub use install::{browser, install_missing, original_copier};
pub use laboratory::{Lab, LabSpec, SHARED_SERVERS};
pub use linters::{debian, kubernetes_validate};
pub use modern::Release;
pub use server::Server;
pub use tls::Certificate;
pub use zookeeper::ZooKeeper;
