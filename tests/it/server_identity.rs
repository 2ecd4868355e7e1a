//! Several nodes of a task that are one server, and one address that leads to several servers, are refused before anything is
//! created.

use lab::{Cluster, Release, Shard};
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, Ended, Forwarder, Scene, Task, fill, scene};

/// Makes elements of the ports that stand behind hosts.
fn with_ports(xml: &str) -> String {
    let line = |line: &str| -> String {
        let mut parts = line.split("<host>");
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (text, rest) = part.split_once("</host>").unwrap();
            out += &match text.split(' ').collect::<Vec<_>>()[..] {
                [host, "http", port] => format!("<host>{host}</host><http_port>{port}</http_port>"),
                [host, "port", port] => format!("<host>{host}</host><port>{port}</port>"),
                _ => format!("<host>{text}</host>"),
            };
            out += rest;
        }
        out
    };
    xml.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A cluster of shards of replicas, each as its host; `HOST port N` and `HOST http N` name a port.
fn cluster(name: &str, shards: &[&[String]]) -> Cluster {
    let shard = |replicas: &&[String]| Shard { weight: 1, internal_replication: true, replicas: replicas.to_vec() };
    Cluster { name: name.into(), shards: shards.iter().map(shard).collect() }
}

/// Runs a verb for a task, or `run` if there is none.
fn launch(scene: &Scene, name: &str, verb: Option<&str>, clusters: (Cluster, Cluster), onto_itself: bool) -> Ended {
    let table = scene.table("hits").engine(BY_MONTH).sharding_key("id");
    let table = if onto_itself { table.to(&scene.src, "hits") } else { table };
    let task = Task::new(scene.task_path(), clusters.0, clusters.1).at(name).with(table);
    let launch = scene.launch_text(&with_ports(&task.xml())).task_path(&task.path);
    match verb {
        Some(verb) => launch.verb(verb).run(),
        None => launch.run(),
    }
}

/// Two clusters, whether the table is copied to its own name, and what is said against it.
type Case = (Cluster, Cluster, bool, [&'static str; 3]);

fn cases(scene: &Scene) -> Vec<Case> {
    let host = |server: usize| scene.server(server).host().to_owned();
    let with = |host: &str, port: u16| format!("{host} http {port}");
    let with_port = |server: usize, port: u16| format!("{} port {port}", host(server));
    // An HTTP port that forwards to these servers in turn.
    let forward = |ip: &str, servers: &[usize]| {
        Forwarder::start((ip, 0), servers.iter().map(|&server| (host(server), 8123)).collect()).port
    };
    let proxy = with("127.0.0.1", forward("127.0.0.1", &[0]));
    let balancer = with("127.0.0.1", forward("127.0.0.1", &[0, 1]));
    let crossed = with(&host(0), forward(&host(0), &[1]));
    let target = || cluster("target", &[&[host(2)]]);
    let source = || cluster("source", &[&[host(0)]]);
    vec![
        // The original asks the native ports.
        (
            cluster("source", &[&[with_port(0, 9600)], &[with_port(0, 9700)]]),
            target(),
            false,
            ["shards 1 and 2 of cluster source are one server", "would be read twice", "write the <http_port> of each"],
        ),
        (
            cluster("source", &[&[host(0)], std::slice::from_ref(&proxy)]),
            target(),
            false,
            ["shards 1 and 2 of cluster source are one server", "would be read twice", "name each server once"],
        ),
        (
            cluster("source", &[&[host(1)]]),
            cluster("target", &[&[host(0), proxy.clone()]]),
            false,
            [
                "two replicas of shard 1 of cluster target are one server",
                "would be written twice",
                "name each server once",
            ],
        ),
        (
            source(),
            cluster("target", &[std::slice::from_ref(&proxy)]),
            true,
            [
                "cluster source and 127.0.0.1:9000 of cluster target are one server",
                "copied onto itself",
                "name each server once",
            ],
        ),
        (
            cluster("source", &[&[balancer]]),
            target(),
            false,
            ["127.0.0.1:9000", "several servers answer in turn", "name each"],
        ),
        (
            cluster("source", &[&[crossed]]),
            target(),
            false,
            ["native address", "is another server than", "write the <http_port>"],
        ),
    ]
}

#[apply(both)]
fn one_server_under_two_names_is_refused(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0, 1], BY_MONTH, 100, 2);
    for (number, (from, to, onto_itself, words)) in cases(&scene).into_iter().enumerate() {
        let name = format!("case_{number}");
        let checked = launch(&scene, &name, Some("check"), (from.clone(), to.clone()), onto_itself).with(2);
        let has_words = |text: &str| text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(has_words(&checked.stdout), "case {number}: {words:?}:\n{}", checked.stdout);
        if number % 3 == 0 {
            let ended = launch(&scene, &name, None, (from, to), onto_itself).with(2);
            assert!(has_words(&ended.stderr), "case {number}: {words:?}:\n{}", ended.stderr);
            assert!(!scene.has_database(2, &scene.dst), "case {number}");
            assert_eq!(
                scene.children(&format!("{}/{name}", scene.task_path())),
                None,
                "something was made in ZooKeeper"
            );
        }
    }
    // A copy from one table to another on the same server is allowed.
    let only = |name: &str| cluster(name, &[&[scene.server(0).host().to_owned()]]);
    launch(&scene, "within", None, (only("source"), only("target")), false).with(0);
    let rows = |database: &str| scene.ask(0, &format!("SELECT count() FROM {database}.hits"));
    assert_eq!(rows(&scene.dst), rows(&scene.src));
}
