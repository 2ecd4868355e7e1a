//! A ZooKeeper server, alone in its ensemble.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use crate::addresses::{ZOOKEEPER_PORT, ZOOKEEPER_SECURE_PORT};
use crate::clickhouse::write;
use crate::tls::{Authority, Certificate};
use crate::{LabError, Server, install};

/// How long `srvr` may take while the server starts.
const ASK_LIMIT: Duration = Duration::from_millis(500);

/// Small heap and quick start. `forceSync=no`: what a killed server wrote is in the page cache all the same, and nobody
/// pulls the plug. `preAllocSize` in KiB: a log of 1 MiB instead of 64. Without performance data, which a killed JVM leaves
/// in the temporary folder.
const JAVA: [&str; 6] = [
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Dzookeeper.forceSync=no",
    "-Dzookeeper.preAllocSize=1024",
];

/// A ZooKeeper server. What it does as a process (kill, freeze, start again) is in [`Server`].
///
/// Sessions may be as short as one second and at most ten (`tickTime` is 500 ms: a session's end is noticed at most that
/// much late). The tree survives [`Server::kill_9`]; sessions do too, if they are taken up again in time.
#[derive(Debug)]
pub struct ZooKeeper {
    server: Server,
    host: String,
}

impl ZooKeeper {
    /// Writes the configuration into `dir`, starts nothing.
    ///
    /// With an authority it speaks TLS too, on port 2281.
    pub(crate) fn prepare(dir: &Path, ip: Ipv4Addr, authority: Option<&Authority>) -> Result<Self, LabError> {
        let data = dir.join("data");
        fs::create_dir_all(&data).map_err(|source| LabError::File { action: "create", path: data.clone(), source })?;
        let mut config = format!(
            "dataDir={}
clientPort={ZOOKEEPER_PORT}
clientPortAddress={ip}
tickTime=500
minSessionTimeout=1000
maxSessionTimeout=10000
maxClientCnxns=0
4lw.commands.whitelist=*
admin.enableServer=false
",
            data.display()
        );
        if let Some(authority) = authority {
            authority.sign(dir, ip, Certificate::Good)?;
            let (key, store) = (authority.key_and_certificate(dir)?, authority.file());
            config += &format!(
                "secureClientPort={ZOOKEEPER_SECURE_PORT}
secureClientPortAddress={ip}
serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory
ssl.keyStore.location={}
ssl.keyStore.type=PEM
ssl.trustStore.location={}
ssl.trustStore.type=PEM
ssl.clientAuth=none
",
                key.display(),
                store.display()
            );
        }
        let file = dir.join("zoo.cfg");
        write(&file, &config)?;

        let (java, class_path) = install::zookeeper()?;
        let mut command = vec![java];
        command.extend(JAVA.map(OsString::from));
        command.extend([
            "-cp".into(),
            class_path,
            "org.apache.zookeeper.server.quorum.QuorumPeerMain".into(),
            file.into(),
        ]);

        let name = format!("ZooKeeper {ip}");
        let is_ready = Box::new(move || answers(ip).unwrap_or(false));
        let server = Server::new(name, dir.into(), command, dir.join("error.log"), is_ready);
        Ok(ZooKeeper { server, host: ip.to_string() })
    }

    /// The address of the server, without the port (2181).
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Address and port, as a client's connection string: `127.0.N.200:2181`.
    #[must_use]
    pub fn hosts(&self) -> String {
        format!("{}:{ZOOKEEPER_PORT}", self.host)
    }
}

impl Deref for ZooKeeper {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// Whether the server serves. `ruok` won't do: it is answered before sessions are.
fn answers(ip: Ipv4Addr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((ip, ZOOKEEPER_PORT)), ASK_LIMIT)?;
    stream.set_read_timeout(Some(ASK_LIMIT))?;
    stream.write_all(b"srvr")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("Zookeeper version"))
}
