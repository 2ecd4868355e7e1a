//! The configuration files of a ClickHouse server: small caches, few threads, logs in its own folder, nothing shared with
//! a server that the package may have installed as a service. Words that change between versions are left out where the
//! default will do, so that a newer server reads the same files.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use quick_xml::escape::escape;

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
    /// Its name, also the name of an XML element: letters, digits, `_`.
    pub name: String,
    /// Its password, any text.
    pub password: String,
    /// May only read (`readonly = 1`; such a user may not change settings or use table functions either).
    pub readonly: bool,
    /// The only databases it may use, besides `system`; all of them when empty.
    pub databases: Vec<String>,
}

/// An entry of `<remote_servers>`, as Distributed tables and the original copier know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its name, also the name of an XML element.
    pub name: String,
    /// Its shards, in order.
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

/// What a ClickHouse server is started with.
#[derive(Debug)]
pub(crate) struct ServerConfig<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) ip: Ipv4Addr,
    pub(crate) zookeeper: Option<Ipv4Addr>,
    pub(crate) macros: Macros,
    pub(crate) merge_tree: &'a [(String, String)],
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
        let mut xml = format!(
            "<yandex>
    <logger><level>information</level><log>{dir}/server.log</log><errorlog>{dir}/error.log</errorlog></logger>
    <path>{dir}/data/</path>
    <tmp_path>{dir}/tmp/</tmp_path>
    <user_files_path>{dir}/user_files/</user_files_path>
    <format_schema_path>{dir}/format_schemas/</format_schema_path>
    <users_config>users.xml</users_config>
    <include_from>{dir}/clusters.xml</include_from>
    <default_profile>default</default_profile>
    <default_database>default</default_database>
    <timezone>UTC</timezone>
    <listen_host>{ip}</listen_host>
    <http_port>{HTTP_PORT}</http_port>
    <tcp_port>{TCP_PORT}</tcp_port>
    <interserver_http_port>{INTERSERVER_PORT}</interserver_http_port>
    <interserver_http_host>{ip}</interserver_http_host>
    <keep_alive_timeout>3</keep_alive_timeout>
    <max_concurrent_queries>200</max_concurrent_queries>
    <mark_cache_size>67108864</mark_cache_size>
    <uncompressed_cache_size>0</uncompressed_cache_size>
    <macros><shard>{}</shard><replica>{}</replica></macros>
    <remote_servers incl=\"clusters\" />
",
            escape(&macros.shard),
            escape(&macros.replica)
        );
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
        if self.query_log {
            let table = "<database>system</database><table>query_log</table>";
            let flush = "<flush_interval_milliseconds>500</flush_interval_milliseconds>";
            line(&mut xml, format_args!("<query_log>{table}{flush}</query_log>"));
        }
        xml.push_str("</yandex>\n");
        xml
    }
}

/// The four accounts that every laboratory has, and those of its spec.
pub(crate) fn accounts(more: &[User]) -> Vec<User> {
    let user = |name: &str, password: &str, readonly, databases: &[&str]| User {
        name: name.to_owned(),
        password: password.to_owned(),
        readonly,
        databases: databases.iter().map(|&name| name.to_owned()).collect(),
    };
    let always = [
        user("default", "", false, &[]),
        user("tester", ODD_PASSWORD, false, &[]),
        user("readonly", "", true, &[]),
        user("nodb", "", false, &["harmless"]),
    ];
    always.into_iter().chain(more.iter().cloned()).collect()
}

/// `users.xml`.
pub(crate) fn users_xml(more: &[User], profile: &[(String, String)], query_log: bool) -> String {
    let users: String = accounts(more).iter().map(user_xml).collect();
    let (profile, query_log) = (settings(profile), u8::from(query_log));
    format!(
        "<yandex>
    <profiles>
        <default>
            <background_pool_size>4</background_pool_size>
            <background_schedule_pool_size>4</background_schedule_pool_size>
            <log_queries>{query_log}</log_queries>
            {profile}
        </default>
        <readonly><readonly>1</readonly></readonly>
    </profiles>
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

fn user_xml(user: &User) -> String {
    let User { name, password, readonly, databases } = user;
    let profile = if *readonly { "readonly" } else { "default" };
    let mut rest = format!("<networks><ip>::/0</ip></networks><profile>{profile}</profile><quota>default</quota>");
    if !databases.is_empty() {
        let list: String = databases.iter().map(|name| format!("<database>{}</database>", escape(name))).collect();
        let _ = write!(rest, "<allow_databases>{list}</allow_databases>"); // a String takes all
    }
    format!("        <{name}><password>{}</password>{rest}</{name}>\n", escape(password))
}

fn settings(list: &[(String, String)]) -> String {
    list.iter().map(|(name, value)| format!("<{name}>{}</{name}>", escape(value))).collect()
}

fn line(xml: &mut String, content: std::fmt::Arguments<'_>) {
    let _ = writeln!(xml, "    {content}"); // a String takes all
}
