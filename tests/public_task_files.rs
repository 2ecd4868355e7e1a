//! Task files shaped like those that people have published for the original copier: its integration tests, handbooks, charts, blogs.
//! Each is written anew, with the same structure; what its author meant is what is read.

use clickhouse_copier::model::{Cluster, TableName};
use clickhouse_copier::task::{GivenSecrets, IfTargetNotEmpty, Task};

fn read(xml: &str) -> (Task, Vec<String>) {
    let parsed = Task::parse(xml, &GivenSecrets::default()).unwrap_or_else(|faults| panic!("{faults}"));
    (parsed.task, parsed.warnings.iter().map(ToString::to_string).collect())
}

fn refusal(xml: &str) -> String {
    Task::parse(xml, &GivenSecrets::default()).map(|_| ()).unwrap_err().to_string()
}

fn hosts(cluster: &Cluster) -> Vec<Vec<String>> {
    let of_shard =
        |shard: &clickhouse_copier::model::Shard| shard.replicas.iter().map(|node| node.host.clone()).collect();
    cluster.shards.iter().map(of_shard).collect()
}

const CLUSTERS: &str = "<remote_servers>
    <from><shard><replica><host>s1</host><port>9000</port></replica></shard></from>
    <to><shard><replica><host>t1</host><port>9000</port></replica></shard></to>
</remote_servers>";

fn job(name: &str, table: &str, more: &str) -> String {
    format!(
        "<{name}><cluster_pull>from</cluster_pull><database_pull>shop</database_pull><table_pull>{table}</table_pull>
         <cluster_push>to</cluster_push><database_push>shop</database_push><table_push>{table}_new</table_push>{more}</{name}>"
    )
}

fn task(root: &str, jobs: &str) -> String {
    format!("<?xml version=\"1.0\"?>\n<yandex>{CLUSTERS}{root}<tables>{jobs}</tables></yandex>")
}

/// A file as in the integration tests of the original: tables before clusters, an engine that begins on the next line, empty
/// sections, a comment around unused elements, a list of partitions in any order with blanks at its end.
const TEST_OF_THE_ORIGINAL: &str = "<?xml version=\"1.0\"?>
<yandex>
    <!-- workers -->
    <max_workers>3</max_workers>
    <settings>
        <connect_timeout>1</connect_timeout>
        <max_block_size>2</max_block_size>
    </settings>
    <settings_pull>
        <max_rows_in_distinct>0</max_rows_in_distinct>
    </settings_pull>
    <settings_push>
    </settings_push>
    <tables>
        <visits>
            <cluster_pull>old</cluster_pull>
            <database_pull>default</database_pull>
            <table_pull>visits</table_pull>

            <cluster_push>new</cluster_push>
            <database_push>default</database_push>
            <table_push>visits_by_day</table_push>
            <!--
            <enabled_partitions>
                <partition></partition>
            </enabled_partitions>
            -->
            <number_of_splits>2</number_of_splits>
            <enabled_partitions>4 2 3 1 0   </enabled_partitions>
            <engine>ENGINE=
                ReplicatedMergeTree('/clickhouse/tables/cluster{cluster}/{shard}/b', '{replica}')
                PARTITION BY n % 5
                ORDER BY (n, sipHash64(n)) SAMPLE BY sipHash64(n) SETTINGS index_granularity = 16
            </engine>
            <sharding_key>jumpConsistentHash(intHash64(n), 2)</sharding_key>
            <where_condition>n - n = 0</where_condition>
        </visits>
    </tables>
    <remote_servers>
    <old>
        <shard>
            <internal_replication>true</internal_replication>
            <replica><host>s0_0_0</host><port>9000</port></replica>
            <replica><host>s0_0_1</host><port>9000</port></replica>
        </shard>
    </old>
    <new>
        <shard>
            <internal_replication>true</internal_replication>
            <replica><host>s1_0_0</host><port>9000</port></replica>
        </shard>
        <shard>
            <internal_replication>true</internal_replication>
            <replica><host>s1_1_0</host><port>9000</port></replica>
            <replica>
                <!-- never answers -->
                <host>255.255.255.255</host>
                <port>9000</port>
            </replica>
        </shard>
    </new>
    </remote_servers>
</yandex>
";

#[test]
fn a_task_file_of_the_originals_own_tests_is_read() {
    let (task, warnings) = read(TEST_OF_THE_ORIGINAL);
    assert_eq!(warnings, Vec::<String>::new());
    let [job] = task.tables.as_slice() else { panic!("{:?}", task.tables) };
    assert_eq!((task.max_workers, job.number_of_splits), (3, 2));
    assert_eq!(job.enabled_partitions.as_deref(), Some(["4", "2", "3", "1", "0"].map(str::to_owned).as_slice()));
    assert!(job.engine.as_ref().is_some_and(|engine| engine.starts_with("ENGINE=\n") && engine.ends_with("= 16")));
    assert_eq!(job.where_condition.as_deref(), Some("n - n = 0"));
    assert_eq!(hosts(task.source(job)), [["s0_0_0", "s0_0_1"]]);
    assert_eq!(hosts(task.target(job)), [vec!["s1_0_0"], vec!["s1_1_0", "255.255.255.255"]]);
    assert_eq!(task.settings.for_pull().get("max_rows_in_distinct").map(String::as_str), Some("0"));
}

/// As in handbooks: comments with tags inside, dots for what is left out, a comment at the head of the engine, quoted partitions.
#[test]
fn a_task_file_of_a_handbook_is_read() {
    let more = "
            <!-- Where rows go (see <remote_servers/>) -->
            <engine>
                <!-- as in SHOW CREATE TABLE -->
                ENGINE = MergeTree() PARTITION BY toMonday(day) ORDER BY (shop, day)
            </engine>
            <sharding_key>rand()</sharding_key>
            <where_condition><![CDATA[shop != 0 AND note < 'a & b']]></where_condition>
            <enabled_partitions>
                <partition>'2018-02-26'</partition>
                <partition>'2018-03-05'</partition>
                ...
            </enabled_partitions>";
    let root = "<max_workers>2</max_workers>
        <settings_pull><readonly>1</readonly></settings_pull><settings_push><readonly>0</readonly></settings_push>
        <settings><connect_timeout>3</connect_timeout><insert_distributed_sync>1</insert_distributed_sync></settings>";
    let (task, warnings) = read(&task(root, &format!("{} ...", job("table_orders", "orders", more))));
    assert_eq!(
        warnings,
        [
            "/yandex/tables: the text between the elements is ignored",
            "/yandex/tables/table_orders/enabled_partitions: the text between the elements is ignored",
        ]
    );
    let [job] = task.tables.as_slice() else { panic!("{:?}", task.tables) };
    assert_eq!(job.engine.as_deref(), Some("ENGINE = MergeTree() PARTITION BY toMonday(day) ORDER BY (shop, day)"));
    assert_eq!(job.where_condition.as_deref(), Some("shop != 0 AND note < 'a & b'"));
    let partitions = ["'2018-02-26'", "'2018-03-05'"].map(str::to_owned);
    assert_eq!(job.enabled_partitions.as_deref(), Some(partitions.as_slice()));
    assert!(task.settings.pull_readonly);
}

/// As in charts and migrations to hosted servers: accounts, TLS, everything that a server's own `<remote_servers>` may hold.
#[test]
fn a_task_file_for_hosted_servers_is_read() {
    let clusters = "<remote_servers>
        <from>
            <secret>shared</secret>
            <allow_distributed_ddl_queries>false</allow_distributed_ddl_queries>
            <shard_1>
                <weight>1</weight>
                <replica_1><host>ch-0.ch.svc.cluster.local</host><port>9000</port><user>copier</user>
                    <password>a&amp;b&lt;c</password><priority>2</priority><compression>true</compression>
                    <bind_host>10.0.0.1</bind_host><default_database>shop</default_database></replica_1>
            </shard_1>
        </from>
        <to><node><host>abc.hosted.example</host><port>9440</port><secure>1</secure><user>u</user><password>p</password></node></to>
    </remote_servers>";
    let xml = task("", &job("t", "orders", "<allow_to_drop_target_partitions>1</allow_to_drop_target_partitions>"));
    let (task, warnings) = read(&xml.replace(CLUSTERS, clusters));
    let node = &task.clusters[0].shards[0].replicas[0];
    assert_eq!((node.user.as_str(), node.password.expose()), ("copier", "a&b<c"));
    let target = &task.clusters[1].shards[0].replicas[0];
    assert_eq!((target.secure, target.port, target.http_port), (true, 9440, 8443));
    assert_eq!(task.tables[0].if_target_not_empty, IfTargetNotEmpty::Replace);
    let known = |warning: &String| warning.contains(": has no effect: ");
    assert!(warnings.len() == 5 && warnings.iter().all(known), "{warnings:?}");
}

/// As in generated files: every job has the same element's name. The original copies all of them.
#[test]
fn several_table_jobs_may_have_the_same_name() {
    let jobs = format!("{}{}{}", job("table", "a", ""), job("other", "b", ""), job("table", "c", ""));
    let (task, warnings) = read(&task("", &jobs));
    assert_eq!(warnings, Vec::<String>::new());
    let found: Vec<_> = task.tables.iter().map(|job| (job.name.as_str(), job.source.clone())).collect();
    let name = |table| TableName::new("shop", table);
    assert_eq!(found, [("table", name("a")), ("other", name("b")), ("table[1]", name("c"))]);
}

#[test]
fn names_of_tables_may_have_any_characters() {
    let (task, _) = read(&task("", &job("таблица.1-a", "my-table.2024 (old) &amp; `x`", "")));
    assert_eq!(task.tables[0].name, "таблица.1-a");
    assert_eq!(task.tables[0].source, TableName::new("shop", "my-table.2024 (old) & `x`"));
    assert_eq!(task.tables[0].target, TableName::new("shop", "my-table.2024 (old) & `x`_new"));
}

/// ClickHouse ignores `<internal_replication>` one level too deep too.
#[test]
fn an_element_in_the_wrong_place_gives_a_warning() {
    let replica = "<replica><internal_replication>true</internal_replication><host>t1</host>";
    let xml = task("", &job("t", "orders", "")).replace("<replica><host>t1</host>", replica);
    let (task, warnings) = read(&xml);
    assert!(!task.clusters[1].shards[0].internal_replication);
    assert_eq!(warnings, ["/yandex/remote_servers/to/shard/replica/internal_replication: unknown element, ignored"]);
}

/// Files that the original refuses too. The message says what to do.
#[test]
fn files_that_the_original_refuses_are_refused_with_advice() {
    let jobs = job("t", "orders", "");
    for (xml, expected) in [
        (
            task("<settings><allow_to_drop_target_partitions>1</allow_to_drop_target_partitions></settings>", &jobs),
            "task.xml: /yandex/settings/allow_to_drop_target_partitions: is no setting of ClickHouse: it belongs at the root, or in a \
             table job",
        ),
        (
            task("<settings_push><number_of_splits>1</number_of_splits></settings_push>", &jobs),
            "task.xml: /yandex/settings_push/number_of_splits: is no setting of ClickHouse: it belongs in a table job, below <tables>",
        ),
        (
            task("<settings><max_workers>1</max_workers></settings>", &jobs),
            "task.xml: /yandex/settings/max_workers: is no setting of ClickHouse: it belongs at the root",
        ),
        (
            task("", &format!("\n<-- Source cluster name (from <remote_servers/> section) -->{jobs}")),
            "task.xml: not XML: a comment must begin with <!--, not with <-- (line 6, column 1)",
        ),
    ] {
        assert_eq!(refusal(&xml), expected);
    }
}
