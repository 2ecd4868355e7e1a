//! Files of the coordinator (`keeper.xml`).

use clickhouse_copier::model::Tls;
use clickhouse_copier::task::{KeeperConfig, LogLevel};

use super::{secrets, shown};

#[test]
fn keeper_files_are_read_with_hosts_root_identity_and_log_settings() {
    let parse = |xml: &str| KeeperConfig::parse(xml, &secrets());
    let (config, warnings) = parse(
        "<yandex><zookeeper><node index='1'><host>z1</host></node><node><host>z2</host><port>2281</port></node>
         <root>/copier/</root><identity>u:p:q</identity></zookeeper>
         <logger><level>Notice</level><size>1000M</size><count>10</count><stderr>x</stderr></logger>
         <tcp_port>9000</tcp_port><macros/></yandex>",
    )
    .unwrap();
    assert_eq!(config.hosts, [("z1".to_owned(), 2181), ("z2".to_owned(), 2281)]);
    assert_eq!((config.secure, config.session_timeout.as_secs(), config.operation_timeout.as_secs()), (false, 30, 10));
    assert_eq!((config.root.as_deref(), config.identity.as_ref().unwrap().expose()), (Some("/copier"), "u:p:q"));
    assert_eq!(
        (config.logger.level, config.logger.size, config.logger.count),
        (Some(LogLevel::Information), Some(1000 << 20), Some(10))
    );
    assert_eq!(
        shown(&warnings),
        [
            "/yandex: not used by the copier: tcp_port, macros",
            "/yandex/logger/stderr: has no effect: the standard streams are left as they are",
        ]
    );
    for (xml, expected) in [
        ("<yandex/>", "keeper.xml: /yandex: <zookeeper> is missing"),
        ("<yandex><zookeeper/></yandex>", "keeper.xml: /yandex/zookeeper: has no <node>"),
        (
            "<yandex><zookeeper><node><port>x</port></node></zookeeper></yandex>",
            "keeper.xml: /yandex/zookeeper/node: <host> is missing\n\
             keeper.xml: /yandex/zookeeper/node/port: must be a whole number from 1 to 65535, but is 'x'",
        ),
        (
            "<yandex><zookeeper><node><host>a</host><secure>1</secure></node><node><host>b</host></node>\
             <root>copier</root><identity>s3cret</identity><session_timeout_ms>0</session_timeout_ms></zookeeper></yandex>",
            "keeper.xml: /yandex/zookeeper: <secure> must be the same for all nodes\n\
             keeper.xml: /yandex/zookeeper/session_timeout_ms: must be a whole number from 1 to 2147483647, but is '0'\n\
             keeper.xml: /yandex/zookeeper/root: must start with /, but is 'copier'\n\
             keeper.xml: /yandex/zookeeper/identity: must have the form user:password",
        ),
        (
            "<yandex><zookeeper><node><host>a</host></node></zookeeper><logger><level>loud</level></logger></yandex>",
            "keeper.xml: /yandex/logger/level: must be one of none, fatal, critical, error, warning, notice, information, \
             debug, trace, test, but is 'loud'",
        ),
    ] {
        assert_eq!(parse(xml).unwrap_err().to_string(), expected, "{xml}");
    }
}

#[test]
fn keeper_files_say_which_certificates_to_trust() {
    let parse = |xml: &str| {
        let mut secrets = secrets();
        secrets.files.insert("ca.pem".into(), "-----BEGIN CERTIFICATE-----".into());
        secrets.files.insert("key.pem".into(), "-----BEGIN EC PRIVATE KEY-----".into());
        let node = "<zookeeper><node><host>a</host></node></zookeeper>";
        KeeperConfig::parse(&format!("<yandex>{node}<openSSL>{xml}</openSSL></yandex>"), &secrets)
    };
    let tls = |client: &str| parse(&format!("<client>{client}</client>")).unwrap().0.tls;
    assert_eq!(tls(""), Tls::default());
    let own = tls(
        "<caConfig> ca.pem </caConfig><certificateFile>ca.pem</certificateFile><privateKeyFile>key.pem</privateKeyFile>",
    );
    assert!(own.verify && !own.trusts_system() && own.identity.is_some());
    assert!(!format!("{own:?}").contains("EC PRIVATE"), "{own:?}");
    assert!(tls("<caConfig>ca.pem</caConfig><loadDefaultCAFile>true</loadDefaultCAFile>").trusts_system());
    for (client, verify) in [
        ("<verificationMode>relaxed</verificationMode>", true),
        ("<verificationMode>NONE</verificationMode>", false),
        ("<invalidCertificateHandler><name>RejectCertificateHandler</name></invalidCertificateHandler>", true),
        ("<invalidCertificateHandler><name>AcceptCertificateHandler</name></invalidCertificateHandler>", false),
    ] {
        assert_eq!(tls(client).verify, verify, "{client}");
    }
    // What is not honoured is told.
    let (_, warnings) = parse(
        "<server><certificateFile>x</certificateFile></server><client><cipherList>ALL</cipherList><caFile>x</caFile>\
         <disableProtocols>sslv2</disableProtocols><verificationMode>none</verificationMode></client>",
    )
    .unwrap();
    assert_eq!(
        shown(&warnings),
        [
            "/yandex/openSSL/server: has no effect: the copier is a client only",
            "/yandex/openSSL/client/cipherList: has no effect: the library's ciphers are used",
            "/yandex/openSSL/client/caFile: unknown element, ignored",
            "/yandex/openSSL/client/disableProtocols: has no effect: TLS 1.2 and 1.3 are spoken, nothing older",
            "/yandex/openSSL/client/verificationMode: certificates of servers are not checked: whoever stands between can pose \
             as a server, and read passwords and rows",
        ]
    );
}
