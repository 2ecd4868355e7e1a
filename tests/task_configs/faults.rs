//! What is wrong with a task file, with the place of each fault.

use super::{ONE, TWO, parse, table, task};

const HITS: &str = "task.xml: /clickhouse/tables/hits";
const SRC: &str = "task.xml: /clickhouse/remote_servers/src";
const KEY: &str = "<sharding_key>k</sharding_key>";

/// Returns files with a wrong root or twice the same element, with their messages.
fn faults_of_roots() -> Vec<(String, String)> {
    vec![
        (String::new(), "task.xml: the file is empty: the root element <clickhouse> is missing".into()),
        ("<a>\n</b>".into(), "task.xml: not XML: </b> found where <a> of line 1 should end (line 2, column 1)".into()),
        ("<config/>".into(), "task.xml: /config: the root element must be <clickhouse> or <yandex>".into()),
        (
            "<yandex/>".into(),
            "task.xml: /yandex: <remote_servers> is missing\ntask.xml: /yandex: <tables> is missing".into(),
        ),
        (
            "<yandex><remote_servers/><tables/></yandex>".into(),
            "task.xml: /yandex/remote_servers: holds no cluster\ntask.xml: /yandex/tables: holds no table".into(),
        ),
        (
            table("").replace("</src>", "</src>\n<src/>"),
            "task.xml: /clickhouse/remote_servers/src[2]: is defined twice, first on line 1".into(),
        ),
        (
            task(ONE, TWO, "<max_workers>many</max_workers>", KEY),
            "task.xml: /clickhouse/max_workers: must be a whole number from 0 to 4294967295, but is 'many'".into(),
        ),
    ]
}

/// Returns tasks with a wrong cluster, with their messages.
fn faults_of_clusters() -> Vec<(String, String)> {
    vec![
        (task("", TWO, "", KEY), format!("{SRC}: the cluster has no <shard>")),
        (task("<shard/>", TWO, "", KEY), format!("{SRC}/shard: the shard has no <replica>")),
        (
            task(&format!("{ONE}<shrad/>"), TWO, "", KEY),
            format!("{SRC}/shrad: unknown element in a cluster (did you mean shard?)"),
        ),
        (
            task(&format!("{ONE}<node><host>n</host></node>"), TWO, "", KEY),
            format!("{SRC}: the cluster has both <shard> and <node> elements; only one form is possible"),
        ),
        (
            task("<shard><weight>0</weight><replica><host>a</host></replica></shard>", TWO, "", KEY),
            format!("{SRC}: the weights of all shards are 0: no shard would get a row"),
        ),
        (
            task(&format!("{ONE}{ONE}"), TWO, "", KEY),
            format!("{SRC}: names the node a.example:9000 twice: its rows would be copied twice"),
        ),
    ]
}

/// Returns tasks with a wrong replica, with their messages.
fn faults_of_replicas() -> Vec<(String, String)> {
    let replica = |inside: &str| task(&format!("<shard><replica>{inside}</replica></shard>"), TWO, "", KEY);
    vec![
        (replica("<port>1</port>"), format!("{SRC}/shard/replica: <host> is missing")),
        (replica("<host> </host>"), format!("{SRC}/shard/replica/host: is empty")),
        (
            replica("<host>a</host><port>65536</port>"),
            format!("{SRC}/shard/replica/port: must be a whole number from 1 to 65535, but is '65536'"),
        ),
        (
            replica("<host>a</host><port from_env='NOT_A_NUMBER'/>"),
            format!(
                "{SRC}/shard/replica/port: must be a whole number from 1 to 65535, but is not (environment variable NOT_A_NUMBER)"
            ),
        ),
        (
            replica("<host>a</host><secure>maybe</secure>"),
            format!("{SRC}/shard/replica/secure: must be 1, true, yes, on, 0, false, no or off, but is 'maybe'"),
        ),
        (
            replica("<host>a</host><password from_env='NO_SUCH'/>"),
            format!("{SRC}/shard/replica/password: the environment variable NO_SUCH is not set"),
        ),
        (
            replica("<host>a</host><password from_env='EMPTY'>s3cret</password>"),
            format!("{SRC}/shard/replica/password: is given twice: here and by from_env"),
        ),
        (
            replica("<host>a</host><password>s3cret</password><password_file>f</password_file>"),
            format!("{SRC}/shard/replica/password: is given twice: here and by <password_file>"),
        ),
        (
            replica("<host>a</host><password_file>/nowhere</password_file>"),
            format!("{SRC}/shard/replica/password_file: cannot read /nowhere: no such file"),
        ),
        (
            replica("<host>a</host><password>s3<cret/></password>"),
            format!("{SRC}/shard/replica/password: must hold text only, but holds elements (write < as &lt;)"),
        ),
    ]
}

/// Returns tasks whose table job names a wrong table or cluster or no sharding key, with their messages.
fn faults_of_tables() -> Vec<(String, String)> {
    vec![
        (
            task(ONE, TWO, "", ""),
            format!("{HITS}: <sharding_key> is missing, and cluster dst has 2 shards to choose from"),
        ),
        (
            task(ONE, TWO, "", "<sharding_key from_env='EMPTY'/>"),
            format!("{HITS}: <sharding_key> is missing, and cluster dst has 2 shards to choose from"),
        ),
        (
            task(ONE, ONE, "", ""),
            format!("{HITS}: copies d.t onto itself: a.example:9000 is in both the source and the target cluster"),
        ),
        (
            table("").replace(">src</cluster_pull>", ">srcs</cluster_pull>"),
            format!("{HITS}/cluster_pull: unknown cluster 'srcs'; <remote_servers> has src, dst (did you mean src?)"),
        ),
        (
            table("").replace("<cluster_push>dst</cluster_push>", "<cluster_push from_env='NOT_A_NUMBER'/>"),
            format!(
                "{HITS}/cluster_push: unknown cluster (from environment variable NOT_A_NUMBER); <remote_servers> has src, dst"
            ),
        ),
        (table("").replace("<table_pull>t</table_pull>", ""), format!("{HITS}: <table_pull> is missing")),
        (table("").replace("<table_pull>t<", "<table_pull> <"), format!("{HITS}/table_pull: is empty")),
    ]
}

/// Returns tasks whose table job has a wrong option, with their messages.
fn faults_of_options() -> Vec<(String, String)> {
    vec![
        (
            table("<number_of_splits>-1</number_of_splits>"),
            format!("{HITS}/number_of_splits: must be a whole number from 1 to 4294967295, but is '-1'"),
        ),
        (
            table("<batch_bytes>big</batch_bytes>"),
            format!(
                "{HITS}/batch_bytes: must be a number of bytes above 0, such as 1073741824, 512M or 1GiB, but is 'big'"
            ),
        ),
        (
            table("<transfer>fetch</transfer>"),
            format!("{HITS}/transfer: must be one of auto, push, pull, relay, clone, but is 'fetch'"),
        ),
        (
            table("<if_target_not_empty>drop</if_target_not_empty>"),
            format!("{HITS}/if_target_not_empty: must be one of fail, replace, append, skip, but is 'drop'"),
        ),
        (
            table(
                "<if_target_not_empty>skip</if_target_not_empty><allow_to_drop_target_partitions>1</allow_to_drop_target_partitions>",
            ),
            format!("{HITS}/if_target_not_empty: contradicts <allow_to_drop_target_partitions> of the same element"),
        ),
        (
            table("<enabled_partitions/>"),
            format!("{HITS}/enabled_partitions: is empty; leave the element out to copy all partitions"),
        ),
        (
            table("<enabled_partitions>'2018</enabled_partitions>"),
            format!("{HITS}/enabled_partitions: the list of partitions has an unclosed or unopened '"),
        ),
        (
            table("<enabled_partitions><partition>1</partition><partition/></enabled_partitions>"),
            format!("{HITS}/enabled_partitions/partition[2]: is empty"),
        ),
    ]
}

#[test]
fn each_fault_names_its_element() {
    let cases =
        [faults_of_roots(), faults_of_clusters(), faults_of_replicas(), faults_of_tables(), faults_of_options()]
            .concat();
    for (xml, expected) in cases {
        let faults = parse(&xml).map(|_| ()).expect_err(&xml).to_string();
        assert_eq!(faults, expected, "{xml}");
        assert!(!faults.contains("s3cret"), "{faults}");
    }
}

#[test]
fn all_faults_are_reported_at_once_in_the_order_of_lines() {
    let xml = "<clickhouse>
        <max_workers>x</max_workers>
        <tables>
            <hits>
                <cluster_pull>nowhere</cluster_pull>
                <batch_bytes>0</batch_bytes>
            </hits>
        </tables>
        <remote_servers>
            <src><shard><replica/></shard><shard/></src>
        </remote_servers>
    </clickhouse>";
    let faults = parse(xml).unwrap_err().in_file("/tmp/my.xml");
    let lines: Vec<_> = faults.list().iter().map(|fault| (fault.line, fault.path.replace("/clickhouse", ""))).collect();
    let expected = [
        (2, "/max_workers"),
        (4, "/tables/hits"),
        (4, "/tables/hits"),
        (4, "/tables/hits"),
        (4, "/tables/hits"),
        (4, "/tables/hits"),
        (5, "/tables/hits/cluster_pull"),
        (6, "/tables/hits/batch_bytes"),
        (10, "/remote_servers/src/shard[1]/replica"),
        (10, "/remote_servers/src/shard[2]"),
    ];
    assert_eq!(lines, expected.map(|(line, path)| (line, path.to_owned())));
    assert!(faults.to_string().lines().all(|line| line.starts_with("/tmp/my.xml: /clickhouse/")), "{faults}");
}
