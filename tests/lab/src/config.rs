//! The configuration files of a ClickHouse server: small caches, few threads, logs in its own folder, nothing shared with
//! a server that the package may have installed as a service. Words that change between releases are left out where the
//! default will do; what only old or only modern servers read stands apart.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use quick_xml::escape::escape;

use crate::Release;
use crate::addresses::{HTTP_PORT, HTTPS_PORT, INTERSERVER_PORT, TCP_PORT, TCP_SECURE_PORT, ZOOKEEPER_PORT};

/// The password of the user `tester`: quotes, a backslash, XML's and URLs' special signs, a letter outside ASCII, a blank.
pub const ODD_PASSWORD: &str = r#"p'a"ss\w%&<ö> #1"#;

/// Values of `{shard}` and `{replica}` in a server's replication paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Macros {
    /// `{shard}`; by default the server's index, counted from 0.
    pub shard: String,
    /// `{replica}`; by default the server's address.
    pub replica: String,
}

/// An account on all servers of a laboratory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name of the account, also the name of an XML element: letters, digits, `_`.
    pub name: String,
    /// The password of the account, any text.
    pub password: String,
    /// May only read (`readonly = 1`; such a user may not change settings or use table functions either).
    pub readonly: bool,
    /// The only databases it may use, besides `system`; all of them when empty.
    pub databases: Vec<String>,
    /// What it may do on modern servers, each as GRANT has it, such as `GRANT SELECT ON *.*`; everything when empty. 18.16
    /// has no grants.
    pub grants: Vec<String>,
    /// Settings of a profile of its own, which has those of the default profile too.
    pub settings: Vec<(String, String)>,
    /// Database, table and the condition that rows must meet to be seen.
    pub filters: Vec<(String, String, String)>,
}

impl User {
    /// An account that may do everything.
    #[must_use]
    pub fn new(name: &str, password: &str) -> User {
        User {
            name: name.to_owned(),
            password: password.to_owned(),
            readonly: false,
            databases: Vec::new(),
            grants: Vec::new(),
            settings: Vec::new(),
            filters: Vec::new(),
        }
    }
}

/// An entry of `<remote_servers>`, as Distributed tables and the original copier know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The name of the cluster, also the name of an XML element.
    pub name: String,
    /// The shards of the cluster, in order.
    pub shards: Vec<Shard>,
}

/// One shard of a [`Cluster`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Share of the rows that a Distributed table sends here.
    pub weight: u32,
    /// Whether a Distributed table writes to one replica (and replication does the rest) or to each.
    pub internal_replication: bool,
    /// Addresses of its replicas, with the native port 9000.
    pub replicas: Vec<String>,
}

/// The options of a ClickHouse server.
#[derive(Debug)]
pub(crate) struct ServerConfig<'a> {
    pub(crate) release: Release,
    pub(crate) dir: &'a Path,
    pub(crate) ip: Ipv4Addr,
    pub(crate) zookeeper: Option<Ipv4Addr>,
    pub(crate) macros: Macros,
    pub(crate) timezone: &'a str,
    pub(crate) merge_tree: &'a [(String, String)],
    /// Elements of the server's own configuration, such as `max_table_size_to_drop`.
    pub(crate) server: &'a [(String, String)],
    pub(crate) query_log: bool,
    pub(crate) small_disk: Option<u32>,
    /// The `<openSSL>` of a server that speaks TLS.
    pub(crate) openssl: Option<String>,
}

impl ServerConfig<'_> {
    /// `config.xml`. Clusters stand in a file of their own, so that they can be changed while the server runs.
    pub(crate) fn xml(&self) -> String {
        let ServerConfig { dir, ip, macros, .. } = self;
        let dir = dir.to_string_lossy();
        let dir = escape(dir.as_ref());
        // The paths of 26.9, which is clickhouse-local, come with its command line.
        let mut xml = format!(
            "<yandex>
    <logger><level>information</level><log>{dir}/server.log</log><errorlog>{dir}/error.log</errorlog></logger>
    <path>{dir}/data/</path>
    <tmp_path>{dir}/tmp/</tmp_path>
    <user_files_path>{dir}/user_files/</user_files_path>
    <format_schema_path>{dir}/format_schemas/</format_schema_path>
    <users_config>{dir}/users.xml</users_config>
    <include_from>{dir}/clusters.xml</include_from>
    <default_profile>default</default_profile>
    <default_database>default</default_database>
    <timezone>{}</timezone>
    <listen_host>{ip}</listen_host>
    <http_port>{HTTP_PORT}</http_port>
    <tcp_port>{TCP_PORT}</tcp_port>
    <keep_alive_timeout>3</keep_alive_timeout>
    <mark_cache_size>67108864</mark_cache_size>
    <uncompressed_cache_size>0</uncompressed_cache_size>
    <macros><shard>{}</shard><replica>{}</replica></macros>
    <remote_servers incl=\"clusters\" />
",
            escape(self.timezone),
            escape(&macros.shard),
            escape(&macros.replica)
        );
        if self.release.is_whole() {
            let host = format!("<interserver_http_host>{ip}</interserver_http_host>");
            line(&mut xml, format_args!("<interserver_http_port>{INTERSERVER_PORT}</interserver_http_port>{host}"));
        }
        if self.release.is_modern() {
            self.modern(&mut xml, dir.as_ref());
        }
        if let Some(zookeeper) = self.zookeeper {
            let node = format!("<node><host>{zookeeper}</host><port>{ZOOKEEPER_PORT}</port></node>");
            line(&mut xml, format_args!("<zookeeper>{node}<session_timeout_ms>10000</session_timeout_ms></zookeeper>"));
        }
        if let Some(openssl) = &self.openssl {
            let ports =
                format!("<https_port>{HTTPS_PORT}</https_port><tcp_port_secure>{TCP_SECURE_PORT}</tcp_port_secure>");
            line(&mut xml, format_args!("{ports}{openssl}"));
        }
        if !self.merge_tree.is_empty() {
            line(&mut xml, format_args!("<merge_tree>{}</merge_tree>", settings(self.merge_tree)));
        }
        // If an element is there twice, a server uses the first.
        if !self.server.iter().any(|(name, _)| name == "max_concurrent_queries") {
            line(&mut xml, format_args!("<max_concurrent_queries>200</max_concurrent_queries>"));
        }
        if !self.server.is_empty() {
            line(&mut xml, format_args!("{}", settings(self.server)));
        }
        if self.query_log {
            let table = "<database>system</database><table>query_log</table>";
            // Tests run SYSTEM FLUSH LOGS before they read it. Each automatic flush creates a part that must be merged: with two
            // flushes a second that took a third of a server's processor time.
            let flush = "<flush_interval_milliseconds>60000</flush_interval_milliseconds>";
            line(&mut xml, format_args!("<query_log>{table}{flush}</query_log>"));
        }
        xml.push_str("</yandex>\n");
        xml
    }

    /// Configuration for modern servers only: SQL accounts, and less work in the background.
    fn modern(&self, xml: &mut String, dir: &str) {
        let users = format!("<users_xml><path>{dir}/users.xml</path></users_xml>");
        let accounts = format!("<local_directory><path>{dir}/access/</path></local_directory>");
        line(xml, format_args!("<user_directories>{users}{accounts}</user_directories>"));
        for (name, value) in [
            ("background_schedule_pool_size", 8),
            ("background_common_pool_size", 4),
            ("background_fetches_pool_size", 4),
            ("background_move_pool_size", 1),
            ("background_message_broker_schedule_pool_size", 1),
            ("background_distributed_schedule_pool_size", 1),
            ("max_thread_pool_free_size", 100),
            ("asynchronous_metrics_update_period_s", 600),
            ("asynchronous_heavy_metrics_update_period_s", 600),
            ("memory_worker_period_ms", 1000),
        ] {
            line(xml, format_args!("<{name}>{value}</{name}>"));
        }
    }
}

/// The four accounts that every laboratory has, and those of its spec.
fn accounts(more: &[User]) -> Vec<User> {
    let always = [
        User::new("default", ""),
        User::new("tester", ODD_PASSWORD),
        User { readonly: true, ..User::new("readonly", "") },
        User { databases: vec!["harmless".to_owned()], ..User::new("nodb", "") },
    ];
    always.into_iter().chain(more.iter().cloned()).collect()
}

/// `users.xml`.
pub(crate) fn users_xml(release: Release, more: &[User], profile: &[(String, String)], query_log: bool) -> String {
    let accounts = accounts(more);
    let users: String = accounts.iter().map(|user| user_xml(release, user)).collect();
    let own = accounts.iter().filter(|user| !user.settings.is_empty());
    let own: String = own
        .map(|User { name, settings: own, .. }| {
            format!("        <of_{name}><profile>default</profile>{}</of_{name}>\n", settings(own))
        })
        .collect();
    let (profile, query_log) = (settings(profile), u8::from(query_log));
    // Where modern servers have them in their own configuration.
    let pools = match release.is_modern() {
        true => "",
        false => {
            "<background_pool_size>4</background_pool_size><background_schedule_pool_size>4</background_schedule_pool_size>"
        }
    };
    format!(
        "<yandex>
    <profiles>
        <default>
            {pools}
            <log_queries>{query_log}</log_queries>
            {profile}
        </default>
        <readonly><readonly>1</readonly></readonly>
{own}    </profiles>
    <quotas><default></default></quotas>
    <users>
{users}    </users>
</yandex>
"
    )
}

/// The file that `config.xml` includes its `<remote_servers>` from.
pub(crate) fn clusters_xml<'a>(clusters: impl IntoIterator<Item = &'a Cluster>) -> String {
    let mut xml = String::from("<yandex><clusters>\n");
    for Cluster { name, shards } in clusters {
        line(&mut xml, format_args!("<{name}>"));
        for Shard { weight, internal_replication, replicas } in shards {
            let replication = format!("<internal_replication>{internal_replication}</internal_replication>");
            let replica = |host| format!("<replica><host>{}</host><port>{TCP_PORT}</port></replica>", escape(host));
            let replicas: String = replicas.iter().map(|host| replica(host.as_str())).collect();
            line(&mut xml, format_args!("<shard><weight>{weight}</weight>{replication}{replicas}</shard>"));
        }
        line(&mut xml, format_args!("</{name}>"));
    }
    xml.push_str("</clusters></yandex>\n");
    xml
}

fn user_xml(release: Release, user: &User) -> String {
    let User { name, password, readonly, databases, grants, settings, filters } = user;
    let profile = match readonly {
        true => "readonly".to_owned(),
        false if settings.is_empty() => "default".to_owned(),
        false => format!("of_{name}"),
    };
    let mut rest = format!("<networks><ip>::/0</ip></networks><profile>{profile}</profile><quota>default</quota>");
    if !databases.is_empty() {
        let list: String = databases.iter().map(|name| format!("<database>{}</database>", escape(name))).collect();
        let _ = write!(rest, "<allow_databases>{list}</allow_databases>"); // a String takes all
    }
    if !filters.is_empty() {
        let filter = |(database, table, condition): &(String, String, String)| {
            format!("<{database}><{table}><filter>{}</filter></{table}></{database}>", escape(condition))
        };
        let list: String = filters.iter().map(filter).collect();
        let _ = write!(rest, "<databases>{list}</databases>"); // a String takes all
    }
    if release.is_modern() {
        if !grants.is_empty() {
            let list: String = grants.iter().map(|grant| format!("<query>{}</query>", escape(grant))).collect();
            let _ = write!(rest, "<grants>{list}</grants>");
        } else if databases.is_empty() && !readonly {
            rest.push_str(
                "<access_management>1</access_management><named_collection_control>1</named_collection_control>",
            );
        }
    }
    format!("        <{name}><password>{}</password>{rest}</{name}>\n", escape(password))
}

fn settings(list: &[(String, String)]) -> String {
    list.iter().map(|(name, value)| format!("<{name}>{}</{name}>", escape(value))).collect()
}

fn line(xml: &mut String, content: std::fmt::Arguments<'_>) {
    let _ = writeln!(xml, "    {content}"); // a String takes all
}
