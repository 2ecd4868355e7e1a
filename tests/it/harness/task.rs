//! Task files, written for a test.

use std::fmt::Write as _;

use lab::{ClickHouse, Cluster, Shard};
use quick_xml::escape::escape;

/// A task file that a test builds. Its fields may be changed.
#[derive(Clone)]
pub struct Task {
    /// The path of the task in ZooKeeper.
    pub path: String,
    /// The source cluster.
    pub source: Cluster,
    /// The target cluster.
    pub target: Cluster,
    /// More clusters, for table jobs that name them with [`Table::cluster`].
    pub targets: Vec<Cluster>,
    /// The account of the source's replicas; `default` without a password unless set.
    pub source_account: Option<(String, String)>,
    /// The same for the target.
    pub target_account: Option<(String, String)>,
    /// The table jobs.
    pub tables: Vec<Table>,
    /// Elements beside `<tables>`, as XML.
    pub more: String,
    /// Elements of replicas, by host, as XML: ports of a [`Proxy`](super::Proxy).
    pub ports: Vec<(String, String)>,
}

impl Task {
    pub fn new(path: String, source: Cluster, target: Cluster) -> Task {
        let (targets, tables, more) = (Vec::new(), Vec::new(), String::new());
        let (source_account, target_account, ports) = (None, None, Vec::new());
        Task { path, source, target, targets, source_account, target_account, tables, more, ports }
    }

    /// Another task, at a path below the scene's.
    pub fn at(mut self, name: &str) -> Task {
        self.path = format!("{}/{name}", self.path);
        self
    }

    pub fn with(mut self, table: Table) -> Task {
        self.tables.push(table);
        self
    }

    /// Adds elements beside `<tables>`, as XML.
    pub fn more(mut self, xml: &str) -> Task {
        self.more.push_str(xml);
        self
    }

    /// Uses this account on both clusters.
    pub fn account(mut self, user: &str, password: &str) -> Task {
        self.source_account = Some((user.to_owned(), password.to_owned()));
        self.target_account = self.source_account.clone();
        self
    }

    pub fn weights(mut self, weights: &[u32]) -> Task {
        for (shard, &weight) in self.target.shards.iter_mut().zip(weights) {
            shard.weight = weight;
        }
        self
    }

    pub fn xml(&self) -> String {
        let mut xml = String::from("<clickhouse>\n<remote_servers>\n");
        cluster_xml(&mut xml, &self.source, self.source_account.as_ref(), &self.ports);
        for cluster in std::iter::once(&self.target).chain(&self.targets) {
            cluster_xml(&mut xml, cluster, self.target_account.as_ref(), &self.ports);
        }
        write!(xml, "</remote_servers>\n{}\n<tables>\n", self.more).unwrap();
        for table in &self.tables {
            write!(xml, "{}", table.xml()).unwrap();
        }
        xml.push_str("</tables>\n</clickhouse>\n");
        xml
    }
}

fn cluster_xml(xml: &mut String, cluster: &Cluster, account: Option<&(String, String)>, ports: &[(String, String)]) {
    let account = account.map(|(user, password)| {
        format!("<user>{}</user><password>{}</password>", escape(user.as_str()), escape(password.as_str()))
    });
    let account = account.unwrap_or_default();
    writeln!(xml, "<{}>", cluster.name).unwrap();
    for shard in &cluster.shards {
        let replication = shard.internal_replication;
        write!(xml, "  <shard><weight>{}</weight>", shard.weight).unwrap();
        write!(xml, "<internal_replication>{replication}</internal_replication>").unwrap();
        for host in &shard.replicas {
            let ports = ports.iter().find(|(known, _)| known == host).map_or("", |(_, ports)| ports.as_str());
            write!(xml, "<replica><host>{host}</host>{ports}{account}</replica>").unwrap();
        }
        xml.push_str("</shard>\n");
    }
    writeln!(xml, "</{}>", cluster.name).unwrap();
}

/// A table job that a test builds.
#[derive(Clone)]
pub struct Table {
    /// The element's name.
    pub name: String,
    /// Source database and table.
    pub source: (String, String),
    /// Target database and table.
    pub target: (String, String),
    /// The name of the target cluster.
    cluster: String,
    more: String,
}

impl Table {
    pub fn new(name: &str, source: (&str, &str), target: (&str, &str)) -> Table {
        let owned = |(database, table): (&str, &str)| (database.to_owned(), table.to_owned());
        Table {
            name: name.to_owned(),
            source: owned(source),
            target: owned(target),
            cluster: "target".to_owned(),
            more: String::new(),
        }
    }

    /// Copies to this cluster of the task.
    pub fn cluster(mut self, name: &str) -> Table {
        self.cluster = name.to_owned();
        self
    }

    /// Adds an element with a text.
    pub fn with(mut self, element: &str, text: &str) -> Table {
        writeln!(self.more, "    <{element}>{}</{element}>", escape(text)).unwrap();
        self
    }

    /// Adds elements as XML.
    pub fn raw(mut self, xml: &str) -> Table {
        writeln!(self.more, "    {xml}").unwrap();
        self
    }

    pub fn engine(self, text: &str) -> Table {
        self.with("engine", text)
    }

    pub fn sharding_key(self, text: &str) -> Table {
        self.with("sharding_key", text)
    }

    pub fn from(mut self, database: &str, table: &str) -> Table {
        self.source = (database.to_owned(), table.to_owned());
        self
    }

    pub fn to(mut self, database: &str, table: &str) -> Table {
        self.target = (database.to_owned(), table.to_owned());
        self
    }

    fn xml(&self) -> String {
        let mut xml = format!("  <{}>\n", self.name);
        for (way, cluster, (database, table)) in
            [("pull", "source", &self.source), ("push", self.cluster.as_str(), &self.target)]
        {
            let (database, table) = (escape(database.as_str()), escape(table.as_str()));
            writeln!(xml, "    <cluster_{way}>{cluster}</cluster_{way}>").unwrap();
            writeln!(xml, "    <database_{way}>{database}</database_{way}>").unwrap();
            writeln!(xml, "    <table_{way}>{table}</table_{way}>").unwrap();
        }
        writeln!(xml, "{}  </{}>", self.more, self.name).unwrap();
        xml
    }
}

/// Returns a cluster in which each of these servers is a shard.
pub fn cluster_of_shards(name: &str, servers: &[&ClickHouse]) -> Cluster {
    let shard = |server: &&ClickHouse| Shard {
        weight: 1,
        internal_replication: false,
        replicas: vec![server.host().to_owned()],
    };
    Cluster { name: name.to_owned(), shards: servers.iter().map(shard).collect() }
}
