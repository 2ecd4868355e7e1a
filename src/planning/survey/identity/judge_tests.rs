use super::*;
use crate::planning::errors::ProblemKind;
use crate::task::{GivenSecrets, Task};

/// A source cluster with two shards on one host, a target cluster with two replicas, and another target cluster.
const TASK: &str = "<clickhouse><remote_servers>
    <s><shard><replica><host>h</host><port>9600</port></replica></shard>
       <shard><replica><host>h</host><port>9700</port></replica></shard></s>
    <t><shard><internal_replication>true</internal_replication>
       <replica><host>a</host></replica><replica><host>b</host></replica></shard></t>
    <u><shard><replica><host>c</host></replica></shard></u></remote_servers>
    <tables>
    <one><cluster_pull>s</cluster_pull><database_pull>d</database_pull><table_pull>t</table_pull>
         <cluster_push>t</cluster_push><database_push>d</database_push><table_push>t</table_push></one>
    <two><cluster_pull>s</cluster_pull><database_pull>d</database_pull><table_pull>t</table_pull>
         <cluster_push>u</cluster_push><database_push>d</database_push><table_push>t</table_push>
         <if_target_not_empty>replace</if_target_not_empty></two>
    </tables></clickhouse>";

fn task() -> Task {
    Task::parse(TASK, &GivenSecrets::default()).unwrap().task
}

/// Returns the observations where each node of the task is a server of its own.
fn servers(task: &Task) -> Vec<Seen> {
    let nodes = task.clusters.iter().flat_map(|cluster| cluster.nodes().map(|(_, node)| node.clone()));
    let seen = nodes.enumerate().map(|(index, node)| Seen {
        held: true,
        ..Seen::new(index, Arc::new(node), vec![BTreeSet::from([index]); 3], Shown::Yes)
    });
    seen.collect()
}

fn lines(seen: &[Seen]) -> (Vec<String>, Vec<String>) {
    let (faults, remarks) = judge(&task(), seen);
    let line = |fault: Problem| {
        assert_eq!(fault.kind, ProblemKind::Task, "{fault}");
        fault.to_string()
    };
    (faults.into_iter().map(line).collect(), remarks)
}

fn put_on_one_server(seen: &mut [Seen], one: usize, other: usize) {
    seen[one].looks[1].insert(other);
}

#[test]
fn nodes_on_different_servers_are_accepted() {
    assert_eq!(lines(&servers(&task())), (vec![], vec![]));
}

#[test]
fn two_shards_with_the_same_http_address_are_refused() {
    let mut seen = servers(&task());
    put_on_one_server(&mut seen, 1, 0);
    let (faults, _) = lines(&seen);
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert_eq!(
        faults[0],
        "tables/one: shards 1 and 2 of cluster s are one server, h:9600 and h:9700: d.t would be read twice. Both are asked at \
         http://h:8123/: write the <http_port> of each"
    );
}

#[test]
fn replicas_sides_and_jobs_on_the_same_server_are_refused() {
    let mut seen = servers(&task());
    put_on_one_server(&mut seen, 2, 3);
    let (faults, _) = lines(&seen);
    assert!(faults[0].contains("two replicas of shard 1 of cluster t are one server, a:9000 and b:9000"), "{faults:?}");
    let mut seen = servers(&task());
    put_on_one_server(&mut seen, 0, 3);
    let (faults, _) = lines(&seen);
    assert!(
        faults[0].contains("h:9600 of cluster s and b:9000 of cluster t are one server: d.t would be"),
        "{faults:?}"
    );
    let mut seen = servers(&task());
    put_on_one_server(&mut seen, 4, 3);
    let (faults, _) = lines(&seen);
    assert!(
        faults[0].starts_with("tables/one and tables/two fill the same table d.t, since b:9000 and c:9000"),
        "{faults:?}"
    );
}

#[test]
fn an_address_must_lead_to_one_server_on_both_ports() {
    let mut seen = servers(&task());
    seen[2].looks[1].clear();
    assert!(lines(&seen).0[0].contains("a:9000: several servers answer in turn at http://a:8123/"), "{seen:?}");
    // A mark that has ended decides nothing.
    seen[2].held = false;
    assert_eq!(lines(&seen).0, Vec::<String>::new());
    let mut seen = servers(&task());
    let from = seen[2].node.clone();
    seen[1].behind.push(Behind { node: 1, from, own: false });
    let (faults, _) = lines(&seen);
    assert!(
        faults[0].contains("h:9700: this native address, seen from a:9000, is another server than the one at"),
        "{faults:?}"
    );
}

#[test]
fn servers_are_compared_by_fingerprint_if_an_account_sees_no_marks() {
    let fingerprint = |host: &str, uuid: Option<&str>| {
        Some(Fingerprint { host: host.into(), started: 100, uuid: uuid.map(str::to_owned), port: Some(9000) })
    };
    let compare_without_marks = |one, other| {
        let mut seen = servers(&task());
        let node = Node { user: "other".into(), ..(*seen[4].node).clone() };
        seen[4].node = Arc::new(node);
        for (index, seen) in seen.iter_mut().enumerate() {
            seen.fingerprint = fingerprint(&format!("host {index}"), None);
        }
        (seen[3].fingerprint, seen[4].fingerprint) = (one, other);
        assert_eq!(not_told_apart(&seen), BTreeSet::from([0, 1, 2, 3, 4]));
        (verdict(&seen[3], &seen[4]), lines(&seen).1)
    };
    assert_eq!(
        compare_without_marks(fingerprint("x", Some("u")), fingerprint("x", Some("v"))).0,
        IdentityVerdict::Different
    );
    assert_eq!(
        compare_without_marks(fingerprint("x", Some("u")), fingerprint("x", Some("u"))).0,
        IdentityVerdict::Same
    );
    // Cloned disks.
    assert_eq!(
        compare_without_marks(fingerprint("x", Some("u")), fingerprint("y", Some("u"))).0,
        IdentityVerdict::Different
    );
    let (verdict, remarks) = compare_without_marks(fingerprint("x", None), fingerprint("x", None));
    assert_eq!(verdict, IdentityVerdict::Unknown);
    assert!(remarks[0].contains("whether b:9000 and c:9000 are one server could not be told"), "{remarks:?}");
}
