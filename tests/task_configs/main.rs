//! Task and keeper files: the samples we ship, every fault with its exact text, and what must survive the way in.

mod faults;
mod keeper_files;

use std::collections::BTreeMap;
use std::path::Path;

use clickhouse_copier::model::{Cluster, Secret, TableName, Way};
use clickhouse_copier::task::{
    Faults, GivenSecrets, IfTargetNotEmpty, KeeperConfig, Parsed, Task, Verify, Warning, differences,
};
use proptest::prelude::*;

fn secrets() -> GivenSecrets {
    let pairs = |list: &[(&str, &str)]| list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    GivenSecrets {
        env: pairs(&[
            ("BACKUP_PASSWORD", "b4ckup"),
            ("RESTORE_PASSWORD", "r3store"),
            ("COPIER_PASSWORD", " c0&pier "),
            ("KEEPER_IDENTITY", "copier:k33per"),
            ("EMPTY", ""),
            ("NOT_A_NUMBER", "s3cret"),
        ]),
        files: pairs(&[("/run/secrets/copier-password", "from file \n")]),
    }
}

fn parse(xml: &str) -> Result<Parsed, Faults> {
    Task::parse(xml, &secrets())
}

fn good(xml: &str) -> Task {
    parse(xml).unwrap_or_else(|faults| panic!("{faults}")).task
}

fn shown(warnings: &[Warning]) -> Vec<String> {
    warnings.iter().map(ToString::to_string).collect()
}

const ONE: &str = "<shard><replica><host>a.example</host></replica></shard>";
const TWO: &str = "<shard><replica><host>b.example</host></replica></shard>\
                   <shard><replica><host>c.example</host></replica></shard>";

/// A task with these clusters, elements at the root, and elements in its only table after the required ones.
fn task(source: &str, target: &str, root: &str, table: &str) -> String {
    format!(
        "<clickhouse><remote_servers><src>{source}</src><dst>{target}</dst></remote_servers>{root}<tables><hits>\
         <cluster_pull>src</cluster_pull><database_pull>d</database_pull><table_pull>t</table_pull>\
         <cluster_push>dst</cluster_push><database_push>d</database_push><table_push>t</table_push>{table}\
         </hits></tables></clickhouse>"
    )
}

fn table(elements: &str) -> String {
    task(ONE, TWO, "", &format!("<sharding_key>k</sharding_key>{elements}"))
}

#[test]
fn every_sample_parses_without_a_warning() {
    let mut tasks = BTreeMap::new();
    let mut keepers = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("task-configs")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let xml = std::fs::read_to_string(&path).unwrap();
        let warnings = if name.starts_with("keeper") {
            keepers += 1;
            KeeperConfig::parse(&xml, &secrets()).unwrap_or_else(|faults| panic!("{}", faults.in_file(&name))).1
        } else {
            let parsed = parse(&xml).unwrap_or_else(|faults| panic!("{}", faults.in_file(&name)));
            tasks.insert(name.clone(), parsed.task);
            parsed.warnings
        };
        assert_eq!(shown(&warnings), Vec::<String>::new(), "{name}");
    }
    assert_eq!(keepers, 1);

    let job = |name: &str| tasks[name].tables[0].clone();
    let first_node = |cluster: &Cluster| cluster.shards[0].replicas[0].clone();
    let simple = &tasks["simple-copy.xml"];
    let node = first_node(simple.source(&simple.tables[0]));
    assert_eq!(
        (node.host.as_str(), node.port, node.http_port, node.user.as_str(), node.password.is_empty(), node.secure),
        ("source-1.example", 9000, 8123, "default", true, false)
    );
    assert_eq!((simple.max_workers, job("simple-copy.xml").engine), (u32::MAX, None));

    let reshard = &tasks["reshard.xml"];
    let target = reshard.target(&reshard.tables[0]);
    assert_eq!((target.total_weight(), target.shards.len(), target.shards[0].internal_replication), (4, 3, true));
    let where_condition = reshard.tables[0].where_condition.as_deref();
    assert_eq!(where_condition, Some("CounterID != 0 AND EventDate < '2018-04-01'"));
    assert!(reshard.tables[0].engine.as_ref().unwrap().starts_with("ENGINE = ReplicatedMergeTree('/clickhouse/"));

    let backup = &tasks["backup-cluster.xml"];
    let names: Vec<_> = backup.tables.iter().map(|job| job.name.as_str()).collect();
    assert_eq!(names, ["hits", "visits"]);
    assert!(backup.tables.iter().all(|job| job.if_target_not_empty == IfTargetNotEmpty::Replace));
    assert_eq!(first_node(&backup.clusters[0]).password, Secret::new("b4ckup"));
    assert_eq!(job("restore.xml").target, TableName::new("web_restored", "hits"));

    assert_eq!(job("if-target-not-empty.xml").if_target_not_empty, IfTargetNotEmpty::Replace);
    let transfer = job("transfer.xml");
    assert_eq!((transfer.transfer, transfer.relay_compression), (Some(Way::Relay), false));
    assert_eq!((simple.tables[0].transfer, simple.tables[0].relay_compression), (None, true));
    assert_eq!(job("verify.xml").verify, Verify::Count);
    let limits = &tasks["limits.xml"];
    let number = |rate: Option<std::num::NonZeroU64>| rate.map(std::num::NonZeroU64::get);
    assert_eq!(
        [limits.max_bytes_per_second, limits.max_bytes_per_second_of_task, job("limits.xml").max_bytes_per_second]
            .map(number),
        [Some(50 << 20), Some(120 << 20), Some(20 << 20)]
    );
    assert_eq!(limits.max_jobs_per_server.map(std::num::NonZeroU32::get), Some(3));
    let batches = job("batch-bytes.xml");
    assert_eq!((batches.batch_bytes, batches.number_of_splits), (Some(256 << 20), 4));
    assert_eq!(first_node(&tasks["secure.xml"].clusters[1]).url(), "https://target-1.example:18443/");
    assert_eq!(first_node(&tasks["password-from-env.xml"].clusters[0]).password, Secret::new(" c0&pier "));
    assert_eq!(first_node(&tasks["password-file.xml"].clusters[0]).password, Secret::new("from file "));
    let named = first_node(&tasks["named-collection.xml"].clusters[1]);
    assert_eq!(named.named_collection.as_deref(), Some("copy_target"));
    assert_eq!(job("enabled-partitions.xml").enabled_partitions.unwrap(), ["201801", "201802"]);
    let settings = &tasks["settings.xml"].settings;
    assert!(settings.pull_readonly);
    assert_eq!(
        settings.for_pull().into_keys().collect::<Vec<_>>(),
        ["connect_timeout", "max_memory_usage", "max_threads"]
    );
    assert_eq!(settings.for_push()["max_insert_threads"], "2");
}

/// Written as users of the original wrote them: old root, `<node>` clusters, blanks, both section orders, prefixes.
#[test]
fn task_files_in_the_forms_of_the_original_are_read() {
    let parsed = parse(
        "<?xml version=\"1.0\"?>\n<yandex>
           <max_workers> 3 </max_workers><tcp_port>9100</tcp_port><tcp_port_secure>9540</tcp_port_secure>
           <settings_pull><readonly>1</readonly><max_rows_in_distinct>0</max_rows_in_distinct></settings_pull>
           <settings_push><readonly>0</readonly></settings_push>
           <tables><t_hits>
             <cluster_pull>c0</cluster_pull><database_pull>default</database_pull><table_pull>hits</table_pull>
             <cluster_push>c1</cluster_push><database_push>default</database_push><table_push>hits</table_push>
             <number_of_splits>2</number_of_splits>
             <enabled_partitions>3 4 5 6 1 2 0   </enabled_partitions>
             <engine>ENGINE=MergeTree PARTITION BY d % 3 ORDER BY d</engine>
             <sharding_key>d + 1</sharding_key><where_condition></where_condition>
             <allow_to_drop_target_partitions>True</allow_to_drop_target_partitions>
             <allow_to_copy_alias_and_materialized_columns>yes</allow_to_copy_alias_and_materialized_columns>
           </t_hits></tables>
           <remote_servers>
             <c0><node1><host>s0</host><port>9001</port><weight>2</weight></node1><node2><host>s1</host></node2></c0>
             <c1><shard_a><replica_x><host>s2</host><secure>1</secure></replica_x></shard_a></c1>
           </remote_servers>
         </yandex>",
    )
    .unwrap();
    assert_eq!(shown(&parsed.warnings), Vec::<String>::new());
    let task = parsed.task;
    let job = &task.tables[0];
    assert_eq!((task.max_workers, job.number_of_splits, job.batch_bytes), (3, 2, None));
    assert_eq!(job.enabled_partitions.as_ref().unwrap().join(","), "3,4,5,6,1,2,0");
    assert_eq!((job.where_condition.as_ref(), job.if_target_not_empty), (None, IfTargetNotEmpty::Replace));
    assert!(job.copy_alias_and_materialized && task.settings.pull_readonly);
    assert!(task.settings.push.is_empty());
    assert_eq!(
        task.source(job).shards.iter().map(|s| (s.weight, s.replicas[0].port)).collect::<Vec<_>>(),
        [(2, 9001), (1, 9100)]
    );
    let secure = &task.target(job).shards[0].replicas[0];
    assert_eq!((secure.port, secure.http_port), (9540, 8443));
}

#[test]
fn tables_without_a_policy_take_the_policy_of_the_task() {
    for (of_task, of_table, expected) in [
        ("", "", IfTargetNotEmpty::Fail),
        ("<if_target_not_empty>skip</if_target_not_empty>", "", IfTargetNotEmpty::Skip),
        (
            "<if_target_not_empty>skip</if_target_not_empty>",
            "<if_target_not_empty>Append</if_target_not_empty>",
            IfTargetNotEmpty::Append,
        ),
        ("<allow_to_drop_target_partitions>1</allow_to_drop_target_partitions>", "", IfTargetNotEmpty::Replace),
        (
            "<allow_to_drop_target_partitions>1</allow_to_drop_target_partitions>",
            "<allow_to_drop_target_partitions>0</allow_to_drop_target_partitions>",
            IfTargetNotEmpty::Fail,
        ),
        (
            "<if_target_not_empty>append</if_target_not_empty>",
            "<allow_to_drop_target_partitions>0</allow_to_drop_target_partitions>",
            IfTargetNotEmpty::Append,
        ),
    ] {
        let target = ONE.replace("a.example", "z.example");
        let task = good(&task(ONE, &target, of_task, of_table));
        assert_eq!(task.tables[0].if_target_not_empty, expected, "{of_task} {of_table}");
    }
}

#[test]
fn verify_can_be_set_for_one_table_or_for_all_and_is_part_of_the_plan() {
    let verified = |of_task: &str, of_table: &str| good(&task(ONE, &ONE.replace("a.e", "z.e"), of_task, of_table));
    for (of_task, of_table, expected) in [
        ("", "", Verify::Count),
        ("<verify>checksum</verify>", "", Verify::Checksum),
        ("<verify>checksum</verify>", "<verify>None</verify>", Verify::None),
    ] {
        assert_eq!(verified(of_task, of_table).tables[0].verify, expected, "{of_task} {of_table}");
    }
    let (before, after) = (verified("", ""), verified("", "<verify>checksum</verify>"));
    assert_eq!(
        differences(&before.plan_inputs(), &after.plan_inputs()),
        ["tables/hits/verify was added (\"checksum\")"]
    );
    let wrong = parse(&table("<verify>md5</verify>")).unwrap_err().to_string();
    assert!(wrong.contains("hits/verify") && wrong.contains("count, checksum, none"), "{wrong}");
}

#[test]
fn elements_that_the_original_ignored_give_a_warning() {
    let node =
        "<shard><replica priority='1'><host>a.example</host><compression>1</compression><usr>u</usr></replica></shard>";
    let target = format!("{TWO}<secret>s3cret</secret>");
    let xml = task(
        node,
        &target,
        "<max_workers>0</max_workers><setings/><settings_push><readonly>1</readonly></settings_push>",
        "<sharding_key>k</sharding_key>...<engin>x</engin><where_condition>a</where_condition>\n<where_condition>b</where_condition>",
    );
    let parsed = parse(&xml).unwrap();
    assert_eq!(parsed.task.tables[0].where_condition.as_deref(), Some("a"));
    let mut found = shown(&parsed.warnings);
    found.sort();
    assert_eq!(
        found,
        [
            "/clickhouse/max_workers: is 0: every worker waits until it is raised",
            "/clickhouse/remote_servers/dst/secret: has no effect: servers are addressed with user and password",
            "/clickhouse/remote_servers/src/shard/replica/compression: has no effect: servers choose the compression between themselves",
            "/clickhouse/remote_servers/src/shard/replica/usr: unknown element, ignored (did you mean user?)",
            "/clickhouse/remote_servers/src/shard/replica: unknown attribute priority, ignored",
            "/clickhouse/setings: unknown element, ignored (did you mean settings?)",
            "/clickhouse/settings_push/readonly: readonly is ignored here: rows could not be written with it",
            "/clickhouse/tables/hits/engin: unknown element, ignored (did you mean engine?)",
            "/clickhouse/tables/hits/where_condition: is written again on line 2; the first one is used",
            "/clickhouse/tables/hits: the text between the elements is ignored",
        ]
    );
}

#[test]
fn passwords_are_not_printed_or_stored_with_the_plan() {
    let node = |host: &str| {
        format!(
            "<shard><replica><host>{host}</host><user>us3r</user><password>s3cret &lt;</password></replica></shard>"
        )
    };
    let task = good(&task(&node("a"), &node("b"), "", ""));
    assert_eq!(task.clusters[0].shards[0].replicas[0].password, Secret::new("s3cret <"));
    assert!(!format!("{task:?}").contains("s3cret"));
    let inputs = format!("{:?}", task.plan_inputs());
    assert!(!inputs.contains("s3cret") && !inputs.contains("us3r"), "{inputs}");
}

#[test]
fn edits_that_change_the_plan_are_listed_with_old_and_new_values() {
    let old = good(&table("<where_condition>a = 1</where_condition>"));
    let other = TWO.replace("<shard><replica><host>c", "<shard><weight>3</weight><replica><host>c");
    let table = "<sharding_key>k</sharding_key><where_condition>a = 2</where_condition><engine>E</engine>";
    let new = good(&task(ONE, &other, "<max_workers>1</max_workers><settings><x>1</x></settings>", table));
    assert_eq!(
        differences(&old.plan_inputs(), &new.plan_inputs()),
        [
            r#"remote_servers/dst/shard[2]/weight changed from "1" to "3""#,
            r#"tables/hits/engine was added ("E")"#,
            r#"tables/hits/where_condition changed from "a = 1" to "a = 2""#,
        ]
    );
    assert_eq!(
        differences(&new.plan_inputs(), &old.plan_inputs())[1],
        r#"tables/hits/engine was removed (it was "E")"#
    );
    // What may change while a task runs makes no difference.
    let live = good(
        &self::table("<where_condition>a = 1</where_condition>")
            .replace("<tables>", "<max_workers>9</max_workers><settings><x>1</x></settings><tables>"),
    );
    assert_eq!(differences(&old.plan_inputs(), &live.plan_inputs()), Vec::<String>::new());
}

#[test]
fn a_host_element_must_name_exactly_one_host() {
    for host in ["a|b", "a{1..3}", "a,b", "a/b", "u@a", "a'b", "a b"] {
        let keeper = format!("<yandex><zookeeper><node><host>{host}</host></node></zookeeper></yandex>");
        let faults = KeeperConfig::parse(&keeper, &secrets()).unwrap_err().to_string();
        assert!(faults.contains(&format!("must be the name or address of one host, but is '{host}'")), "{faults}");
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\r', "&#13;")
}

proptest! {
    #[test]
    fn any_where_condition_is_read_unchanged_escaped_or_as_cdata(text in "(?s).*") {
        let expected = text.trim_matches([' ', '\t', '\r', '\n']);
        let expected = (!expected.is_empty()).then_some(expected);
        let escaped = good(&table(&format!("<where_condition>\n  {}<!-- x --> </where_condition>", escape(&text))));
        prop_assert_eq!(escaped.tables[0].where_condition.as_deref(), expected);
        let cdata = text.replace('\r', "").replace("]]>", "]]]]><![CDATA[>");
        let cdata = good(&table(&format!("<where_condition><![CDATA[{cdata}]]></where_condition>")));
        let expected = text.replace('\r', "");
        let expected = expected.trim_matches([' ', '\t', '\n']);
        prop_assert_eq!(cdata.tables[0].where_condition.as_deref(), (!expected.is_empty()).then_some(expected));
    }

    #[test]
    fn no_content_of_a_table_job_makes_the_parser_panic(name in "[a-z_]{1,20}", text in "(?s).*") {
        let _ = parse(&table(&format!("<{name}>{text}</{name}>")));
        let _ = parse(&table(&format!("<enabled_partitions>{}</enabled_partitions>", escape(&text))));
        let _ = parse(&text);
    }
}
