//! Loopback addresses: each laboratory leases a block `127.0.N.*` and gives every server an address of its own, so that
//! all servers have their default ports and task files need only hosts, as in life.
//!
//! The lease is an OS lock on a file in the temporary folder. The kernel releases it with the process, so that a lease
//! never has to be cleaned up; the files stay, empty.

use std::fs::{File, OpenOptions, TryLockError};
use std::net::{Ipv4Addr, TcpListener};

use crate::LabError;

/// Blocks given out. They start above 127.0.1.1, which Debian gives to the machine's own name.
const FIRST: u8 = 10;
const LAST: u8 = 250;
/// Last bytes: ClickHouse servers have 1, 2, …, ZooKeeper one of its own.
const ZOOKEEPER: u8 = 200;
/// How many ClickHouse servers a block can hold.
pub(crate) const MOST_SERVERS: usize = 99;

pub(crate) const ZOOKEEPER_PORT: u16 = 2181;
pub(crate) const ZOOKEEPER_SECURE_PORT: u16 = 2281;
pub(crate) const HTTP_PORT: u16 = 8123;
pub(crate) const HTTPS_PORT: u16 = 8443;
pub(crate) const TCP_PORT: u16 = 9000;
pub(crate) const TCP_SECURE_PORT: u16 = 9440;
pub(crate) const INTERSERVER_PORT: u16 = 9009;

/// A block of addresses `127.0.N.*` that belongs to one laboratory until this is dropped.
#[derive(Debug)]
pub struct BlockLease {
    block: u8,
    _lock: File,
}

impl BlockLease {
    /// Leases the first block that no other laboratory has and where nothing listens on the ports of `clickhouse` servers
    /// and a ZooKeeper.
    ///
    /// # Errors
    /// [`LabError::TooManyServers`], [`LabError::NoFreeBlock`].
    pub fn take(clickhouse: usize) -> Result<Self, LabError> {
        if clickhouse > MOST_SERVERS {
            return Err(LabError::TooManyServers { asked: clickhouse, most: MOST_SERVERS });
        }
        let mut reason = String::new();
        for block in FIRST..=LAST {
            match try_lock(block) {
                Ok(lock) => {
                    let lease = BlockLease { block, _lock: lock };
                    match lease.foreign_listener(clickhouse) {
                        None => return Ok(lease),
                        Some(found) => reason = found,
                    }
                }
                Err(busy) => reason = busy,
            }
        }
        Err(LabError::NoFreeBlock { first: FIRST, last: LAST, reason })
    }

    /// Address of the ClickHouse server with this index, counted from 0: `127.0.N.(index + 1)`.
    pub(crate) fn clickhouse(&self, index: usize) -> Ipv4Addr {
        let last = u8::try_from(index + 1).expect("`take` allows at most MOST_SERVERS, less than 255");
        Ipv4Addr::new(127, 0, self.block, last)
    }

    /// Address of the ZooKeeper server.
    pub(crate) fn zookeeper(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, self.block, ZOOKEEPER)
    }

    /// What listens where a server of ours would, if anything does: the servers of a laboratory that is just being ended
    /// by its supervisors, or somebody else's.
    fn foreign_listener(&self, clickhouse: usize) -> Option<String> {
        let servers = (0..clickhouse).map(|index| self.clickhouse(index));
        servers
            .flat_map(|ip| [HTTP_PORT, TCP_PORT, INTERSERVER_PORT].map(|port| (ip, port)))
            .chain([(self.zookeeper(), ZOOKEEPER_PORT)])
            .find_map(|address| TcpListener::bind(address).err().map(|e| format!("{}:{}: {e}", address.0, address.1)))
    }
}

/// Locks the block's file, or says why that is not possible. A file of another user that we may not open counts as leased.
fn try_lock(block: u8) -> Result<File, String> {
    let path = std::env::temp_dir().join(format!("clickhouse-copier-lab-{block}.lock"));
    let open = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = open.map_err(|e| format!("{}: {e}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(format!("{}: leased by another laboratory", path.display())),
        Err(TryLockError::Error(e)) => Err(format!("{}: {e}", path.display())),
    }
}
