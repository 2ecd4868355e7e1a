//! Real servers on this machine, for tests, examples and benchmarks: ClickHouse 18.16 (Debian's package), 24.8, 25.8 and 26.9
//! (packages of PyPI that hold the server) and ZooKeeper 3.8 (Debian's package), on loopback addresses of their own.
//! Blocking: no runtime is needed.
//!
//! ```no_run
//! use lab::{Lab, LabSpec, Release};
//!
//! let lab = Lab::start(LabSpec::of(Release::V25_8, 2))?;
//! lab.define_cluster(&lab.cluster("both", &[&[0], &[1]]))?;
//! lab.clickhouse(0).query("CREATE TABLE t (a UInt8) ENGINE = Memory")?;
//! lab.clickhouse(1).kill_9()?;
//! lab.clickhouse(1).start()?;
//! # Ok::<(), lab::LabError>(())
//! ```
//!
//! - [`Lab`] is a set of servers; [`Lab::shared`] is the one that all tests of a process use, one for each [`Release`].
//! - [`ClickHouse`] and [`ZooKeeper`] are what a test holds; both are a [`Server`] that can be killed, frozen, started.
//! - [`addresses`](BlockLease): every laboratory leases a block `127.0.N.*`, so that several can run at once.
//! - What is missing is fetched, and said with its size before it is fetched: Debian's packages with apt, modern releases
//!   with pip into a cache.
//!
//! At the shell, `cargo run -p lab -- up 25.8:3 18.16:2` starts servers to try things by hand.
//!
//! Another ClickHouse stands in for 25.8 when `CLICKHOUSE_BIN` names its binary.
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
mod process;
mod release;
mod server;
mod tls;
mod wheels;
mod zookeeper;

pub use addresses::BlockLease;
pub use clickhouse::ClickHouse;
pub use config::{Cluster, Macros, ODD_PASSWORD, Shard, User};
pub use error::LabError;
pub use install::{browser, install_clickhouse, install_zookeeper, original_copier};
pub use laboratory::{Lab, LabSpec, SHARED_SERVERS};
pub use linters::{debian, kubernetes_validate};
pub use release::Release;
pub use server::Server;
pub use tls::Certificate;
pub use zookeeper::ZooKeeper;
