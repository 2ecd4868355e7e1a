//! TLS: which certificates are accepted, and the messages for those that are refused.
//!
//! ClickHouse 18.16 speaks TLS on both ports but cannot use it towards other servers (`remoteSecure` came with 19.1), so the
//! rows of these copies leave a secure source for a plain target.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use lab::{Certificate, LabSpec, Release};
use rstest_reuse::apply;

use super::harness::{Scene, Task, scene};
use crate::both;

const CERTIFICATES: [Certificate; 3] = [Certificate::Good, Certificate::Expired, Certificate::OtherHost];
const TARGET: usize = 3;

fn servers(release: Release) -> LabSpec {
    LabSpec { secure: CERTIFICATES.into_iter().enumerate().collect(), ..LabSpec::of(release, 4) }
}

fn fill(scene: &Scene) {
    for server in 0..CERTIFICATES.len() {
        let table = format!("{}.hits", scene.src);
        scene.on(
            &[server],
            &format!(
                "CREATE TABLE {table} (d Date, id UInt64) ENGINE = MergeTree PARTITION BY toYYYYMM(d) ORDER BY id"
            ),
        );
        let rows = "SELECT toDate('2018-01-15') + number % 60, number FROM numbers(3000)";
        scene.on(&[server], &format!("INSERT INTO {table} {rows}"));
    }
}

/// A keeper.xml with this in `<openSSL><client>`.
fn trust(scene: &Scene, client: &str) {
    let openssl = format!("</zookeeper><openSSL><client>{client}</client></openSSL>");
    fs::write(scene.keeper_xml(), scene.keeper_text("").replace("</zookeeper>", &openssl)).unwrap();
}

fn authority(file: &Path) -> String {
    format!("<caConfig>{}</caConfig>", file.display())
}

/// A task whose source uses TLS, to its own database.
fn task(scene: &Scene, source: usize, name: &str) -> (Task, String) {
    let table = scene.table("hits").to(&scene.database(name), "hits");
    let task = scene.task(&[&[source]], &[&[TARGET]]).at(name).with(table);
    let xml = task.xml().replacen("</host>", "</host><secure>1</secure>", 1);
    (task, xml)
}

#[apply(both)]
fn server_certificates_are_checked_against_the_configured_authority(#[case] release: Release) {
    let scene = scene!(own servers(release));
    fill(&scene);
    let launch = |source, name: &str| {
        let (task, xml) = task(&scene, source, name);
        let ended = scene.launch_text(&xml).task_path(&task.path).run();
        (task, ended)
    };

    // The authority is unknown, also to the authorities of the system.
    for client in [String::new(), authority(&scene.lab().stranger())] {
        trust(&scene, &client);
        let words = [scene.server(0).host(), "not from an authority that is trusted here", "<caConfig>"];
        launch(0, "stranger").1.with(1).tells(&words);
    }

    trust(&scene, &authority(&scene.lab().authority()));
    let (good, ended) = launch(0, "good");
    assert!(!ended.stderr.contains("not checked"), "{}", ended.stderr);
    ended.with(0);
    scene.check(&good);
    launch(1, "expired").1.with(1).tells(&[scene.server(1).host(), "has expired"]);
    launch(2, "other_host").1.with(1).tells(&[scene.server(2).host(), "not for this host", "other.example"]);

    // Only with this element certificates are not checked, and a warning says so.
    for (number, unchecked) in [
        "<verificationMode>none</verificationMode>",
        "<invalidCertificateHandler><name>AcceptCertificateHandler</name></invalidCertificateHandler>",
    ]
    .into_iter()
    .enumerate()
    {
        trust(&scene, &format!("{}{unchecked}", authority(&scene.lab().stranger())));
        let (unchecked, ended) = launch(number + 1, &format!("unchecked_{number}"));
        ended.with(0).tells(&["WARN", "/openSSL/client", "certificates of servers are not checked"]);
        scene.check(&unchecked);
    }
}

/// 18.16 has no `remoteSecure`.
#[test]
fn a_secure_target_pulls_from_an_18_16_source() {
    let secure = BTreeMap::from([(1, Certificate::Good)]);
    let scene = scene!(own LabSpec { secure, ..LabSpec::of(Release::V18_16, 2) });
    let table = format!("{}.hits", scene.src);
    scene.on(&[0], &format!("CREATE TABLE {table} (d Date, id UInt64) ENGINE = MergeTree(d, id, 8192)"));
    scene.on(&[0], &format!("INSERT INTO {table} VALUES ('2018-01-01', 1)"));
    trust(&scene, &authority(&scene.lab().authority()));
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    let target = scene.server(1).host();
    let xml = task.xml().replace(&format!("{target}</host>"), &format!("{target}</host><secure>1</secure>"));
    // With `<transfer>push</transfer>` the task is refused before anything is created.
    let push = xml.replace("<hits>", "<hits><transfer>push</transfer>");
    assert_ne!(push, xml);
    scene.launch_text(&push).run().with(1).tells(&[target, "push does not work", "remoteSecure", "before 19.1"]);
    assert!(!scene.has_database(1, &scene.dst));
    scene.launch_text(&xml).run().with(0).tells(&["transfer: pull", "remoteSecure"]);
    scene.check(&task);
}

#[apply(both)]
fn zookeeper_is_reached_over_tls(#[case] release: Release) {
    let scene = scene!(own LabSpec { secure: BTreeMap::from([(0, Certificate::Good)]), ..LabSpec::of(release, 2) });
    crate::harness::fill(&scene, &[0], crate::harness::BY_MONTH, 1000, 2);
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    let secure = |client: &str| {
        trust(&scene, client);
        let text = fs::read_to_string(scene.keeper_xml()).unwrap();
        let text = text.replace("<port>2181</port>", "<port>2281</port><secure>1</secure>");
        fs::write(scene.keeper_xml(), text).unwrap();
    };
    // ZooKeeper's certificates are always checked, and a warning says so.
    secure(&(authority(&scene.lab().stranger()) + "<verificationMode>none</verificationMode>"));
    let words = [":2281", "no session over TLS", "<caConfig>"];
    scene.run(&task).with(1).tells(&words).tells(&["WARN", "ZooKeeper's certificates are checked all the same"]);
    secure(&authority(&scene.lab().authority()));
    scene.run(&task).with(0);
    scene.check(&task);
}

#[apply(both)]
fn invalid_certificate_files_are_reported_with_their_element(#[case] release: Release) {
    let scene = scene!(release);
    let file = scene.dir().join("not.pem");
    fs::write(&file, "hello").unwrap();
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    for (client, words) in [
        (authority(&file), ["/openSSL/client/caConfig", "holds no certificate in PEM form"]),
        (authority(Path::new("/nonexistent")), ["/openSSL/client/caConfig", "cannot read /nonexistent"]),
        (
            "<loadDefaultCAFile>false</loadDefaultCAFile>".into(),
            ["loadDefaultCAFile", "no certificate authority is left"],
        ),
        (
            format!("<privateKeyFile>{}</privateKeyFile>", file.display()),
            ["/openSSL/client", "<certificateFile> is missing"],
        ),
        ("<verificationMode>maybe</verificationMode>".into(), ["verificationMode", "must be one of none, relaxed"]),
    ] {
        trust(&scene, &client);
        scene.run(&task).with(2).tells(&words);
    }
}
