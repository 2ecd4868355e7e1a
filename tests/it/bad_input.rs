//! Wrong task files, configurations and servers: the program prints one readable line within seconds and creates nothing.

use std::fs;

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, COLUMNS, Ended, Launch, Scene, fill, scene};

/// A good task, from servers 0 and 1 to servers 2 and 3. Each test makes it wrong in another way.
fn good(scene: &Scene) -> String {
    fill(scene, &[0, 1], BY_MONTH, 1000, 2);
    let hits = scene.table("hits").engine("ENGINE = MergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, id)");
    let hits = hits.sharding_key("id").with("where_condition", "v < 400").with("enabled_partitions", "201801 201802");
    scene.task(&[&[0], &[1]], &[&[2], &[3]]).with(hits.with("number_of_splits", "2")).xml()
}

/// Accepted exit codes: 2 if the text of the task is wrong, 1 if servers are unreachable, either if only a server could find the
/// fault.
const TEXT: &[i32] = &[2];
const WORLD: &[i32] = &[1];
const EITHER: &[i32] = &[1, 2];

/// The expected result of a wrong input.
struct Case<'a> {
    name: &'a str,
    codes: &'a [i32],
    /// Words that must stand in the one line of the error.
    words: &'a [&'a str],
}

impl Case<'_> {
    fn check(&self, scene: &Scene, launch: Launch<'_>) -> Ended {
        let Case { name, codes, words } = self;
        let path = format!("{}/{}", scene.task_path(), name.replace([' ', '/'], "-"));
        let ended = launch.task_path(&path).run();
        let stderr = &ended.stderr;
        let code = ended.status.code();
        assert!(
            code.is_some_and(|code| codes.contains(&code)),
            "{name}: {} instead of {codes:?}: {stderr}",
            ended.status
        );
        assert!(!stderr.contains("panicked") && !stderr.contains("internal error"), "{name}: {stderr}");
        let errors: Vec<&str> =
            stderr.lines().filter(|line| !line.contains(" WARN ") && !line.contains(" INFO ")).collect();
        assert_eq!(errors.len(), 1, "{name}: not one line: {stderr}");
        for word in *words {
            assert!(errors[0].contains(word), "{name}: no {word:?} in: {stderr}");
        }
        assert!(errors[0].chars().count() < 1000, "{name}: too long to read: {stderr}");
        for noise in ["e.what()", "Stack trace", "DB::Exception: DB::"] {
            assert!(!errors[0].contains(noise), "{name}: {noise} in: {stderr}");
        }
        assert_eq!(scene.children(&path), None, "{name}: {path} was made in ZooKeeper");
        scene.check_no_database();
        if codes == &TEXT {
            assert!(!scene.dir().join("logs").exists(), "{name}: a log folder was made");
        }
        ended
    }
}

/// Name, text in the good task, its replacement, accepted exit codes, words of the message.
type Edit = (&'static str, &'static str, &'static str, &'static [i32], &'static [&'static str]);

fn check_edits(scene: &Scene, edits: &[Edit]) {
    let good = good(scene);
    for (name, from, to, codes, words) in edits {
        assert!(good.contains(from), "{name}: the good task has no {from}:\n{good}");
        Case { name, codes, words }.check(scene, scene.launch_text(&good.replacen(from, to, 1)));
    }
}

/// Returns the XML without the part from `start` to `end`.
fn without(xml: &str, start: &str, end: &str) -> String {
    let from = xml.find(start).unwrap();
    let to = from + xml[from..].find(end).unwrap() + end.len();
    format!("{}{}", &xml[..from], &xml[to..])
}

#[apply(both)]
fn the_unchanged_task_file_runs(#[case] release: Release) {
    let scene = scene!(release);
    let xml = good(&scene);
    scene.launch_text(&xml).run().with(0);
}

#[apply(both)]
fn broken_task_files_are_refused(#[case] release: Release) {
    let scene = scene!(release);
    let good = good(&scene);
    let texts: [(&str, String, &[&str]); 7] = [
        ("empty", String::new(), &["task", "empty"]),
        ("blank", "  \n".to_owned(), &["task", "empty"]),
        ("no xml", "Hello <world".to_owned(), &["task", "XML", "line 1"]),
        ("cut off", good[..good.len() / 2].to_owned(), &["task", "XML", "line"]),
        ("mixed up", good.replace("</tables>", "</table>"), &["task", "XML", "line"]),
        ("not text", "\u{0}\u{1}".to_owned(), &["task"]),
        ("wrong root", good.replace("clickhouse>", "config>"), &["task", "<clickhouse>", "<yandex>"]),
    ];
    for (name, text, words) in texts {
        Case { name, codes: TEXT, words }.check(&scene, scene.launch_text(&text));
    }
}

#[apply(both)]
fn a_missing_task_file_is_refused(#[case] release: Release) {
    let scene = scene!(release);
    let case = Case { name: "absent", codes: TEXT, words: &["--task-file", "absent.xml", "No such file"] };
    case.check(&scene, scene.launch_text("").without_task_file().args(&["--task-file", "absent.xml"]));
}

#[apply(both)]
fn a_path_without_a_task_and_without_a_task_file_is_refused(#[case] release: Release) {
    let scene = scene!(release);
    let case = Case { name: "nothing", codes: EITHER, words: &["nothing", "--task-file"] };
    case.check(&scene, scene.launch_text("").without_task_file());
}

#[apply(both)]
fn wrong_elements_of_a_task_file_are_refused(#[case] release: Release) {
    let scene = scene!(release);
    check_edits(
        &scene,
        &[
            (
                "source name",
                ">source<",
                ">nowhere<",
                TEXT,
                &["/tables/hits/cluster_pull", "nowhere", "source", "target"],
            ),
            ("target name", ">target<", ">nowhere<", TEXT, &["/tables/hits/cluster_push", "nowhere", "target"]),
            (
                "no pull",
                "<cluster_pull>source</cluster_pull>",
                "",
                TEXT,
                &["/tables/hits", "<cluster_pull>", "missing"],
            ),
            ("empty pull", "<cluster_pull>source<", "<cluster_pull><", TEXT, &["/tables/hits/cluster_pull", "empty"]),
            (
                "no push",
                "<cluster_push>target</cluster_push>",
                "",
                TEXT,
                &["/tables/hits", "<cluster_push>", "missing"],
            ),
            ("no table", "<table_pull>hits</table_pull>", "", TEXT, &["/tables/hits", "<table_pull>", "missing"]),
            ("empty table", "<table_push>hits<", "<table_push> <", TEXT, &["/tables/hits/table_push", "empty"]),
            (
                "no key",
                "<sharding_key>id</sharding_key>",
                "",
                TEXT,
                &["/tables/hits", "<sharding_key>", "target", "2 shards"],
            ),
            ("weight", "<weight>1<", "<weight>heavy<", TEXT, &["/remote_servers/source/shard[1]/weight", "heavy"]),
            ("port", "</host>", "</host><port>70000</port>", TEXT, &["/replica/port", "70000", "65535"]),
            ("no port", "</host>", "</host><port>http</port>", TEXT, &["/replica/port", "http"]),
            ("splits", ">2</number_of_splits", ">-2</number_of_splits", TEXT, &["/tables/hits/number_of_splits", "-2"]),
            ("size", "</hits>", "<batch_bytes>big</batch_bytes></hits>", TEXT, &["/tables/hits/batch_bytes", "big"]),
            ("workers", "<tables>", "<max_workers>many</max_workers><tables>", TEXT, &["/max_workers", "many"]),
            (
                "policy",
                "</hits>",
                "<if_target_not_empty>drop</if_target_not_empty></hits>",
                TEXT,
                &["/tables/hits/if_target_not_empty", "fail, replace, append, skip", "drop"],
            ),
            (
                "bool",
                "</hits>",
                "<allow_to_drop_target_partitions>maybe</allow_to_drop_target_partitions></hits>",
                TEXT,
                &["/tables/hits/allow_to_drop_target_partitions", "maybe"],
            ),
            ("quote", ">201801 201802<", ">'201801<", TEXT, &["/tables/hits/enabled_partitions", "'"]),
            ("no partition", ">201801 201802<", "><", TEXT, &["/tables/hits/enabled_partitions", "empty"]),
            ("host", "<host>", "<host></host><host>", TEXT, &["/replica/host", "empty"]),
            ("unknown", "<weight>", "<wieght>3</wieght><weight>", TEXT, &["/shard[1]/wieght", "weight"]),
        ],
    );
}

#[apply(both)]
fn missing_clusters_and_table_jobs_are_refused(#[case] release: Release) {
    let scene = scene!(release);
    let good = good(&scene);
    let source = &good[good.find("<source>").unwrap()..good.find("</source>").unwrap()];
    let host = scene.server(0).host();
    let replica = format!("<replica><host>{host}</host></replica>");
    let texts: [(&str, String, &[&str]); 6] = [
        ("no clusters", without(&good, "<remote_servers>", "</remote_servers>"), &["<remote_servers>", "missing"]),
        (
            "empty clusters",
            {
                let inside = without(&good, "<remote_servers>", "</remote_servers>");
                inside.replacen("<tables>", "<remote_servers/><tables>", 1)
            },
            &["/remote_servers", "no cluster"],
        ),
        ("an empty cluster", good.replacen(source, "<source>", 1), &["/remote_servers/source", "no <shard>"]),
        ("an empty shard", good.replacen(&replica, "", 1), &["/remote_servers/source/shard[1]", "no <replica>"]),
        ("no tables", without(&good, "<tables>", "</tables>"), &["<tables>", "missing"]),
        ("empty tables", without(&good, "  <hits>", "</hits>"), &["/tables", "no table"]),
    ];
    for (name, text, words) in texts {
        assert_ne!(text, good, "{name}");
        Case { name, codes: TEXT, words }.check(&scene, scene.launch_text(&text));
    }
}

#[apply(both)]
fn all_faults_of_a_task_file_are_reported_at_once(#[case] release: Release) {
    let scene = scene!(release);
    let bad = good(&scene).replacen("<weight>1<", "<weight>heavy<", 1).replacen(">2</number", ">two</number", 1);
    let bad = bad.replacen("<table_push>hits</table_push>", "", 1);
    let ended = scene.launch_text(&bad).run().with(2);
    for words in [["shard[1]/weight", "heavy"], ["number_of_splits", "two"], ["<table_push>", "missing"]] {
        let line = ended.stderr.lines().find(|line| words.iter().all(|word| line.contains(word)));
        assert!(line.is_some(), "{words:?}: {}", ended.stderr);
    }
    assert_eq!(scene.children(&scene.task_path()), None);
}

#[apply(both)]
fn wrong_engines_are_refused(#[case] release: Release) {
    let scene = scene!(release);
    const ENGINE: &str = "ENGINE = MergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, id)";
    check_edits(
        &scene,
        &[
            ("open bracket", ENGINE, "MergeTree PARTITION BY toYYYYMM(d ORDER BY id", EITHER, &["hits", "engine"]),
            ("no words", ENGINE, "rand()", EITHER, &["hits", "engine", "rand"]),
            ("unknown engine", ENGINE, "ENGINE = MergeThree ORDER BY id", EITHER, &["hits", "engine", "MergeThree"]),
            ("not a merge tree", ENGINE, "ENGINE = Memory", EITHER, &["hits", "engine", "Memory"]),
            ("key", ENGINE, "ENGINE = MergeTree ORDER BY nope", EITHER, &["hits", "engine", "nope"]),
            (
                "partition",
                ENGINE,
                "ENGINE = MergeTree PARTITION BY nope ORDER BY id",
                EITHER,
                &["hits", "engine", "nope"],
            ),
            (
                "function",
                ENGINE,
                "ENGINE = MergeTree PARTITION BY toMoonday(d) ORDER BY id",
                EITHER,
                &["hits", "engine", "toMoonday"],
            ),
            ("version", ENGINE, "ENGINE = ReplacingMergeTree(nope) ORDER BY id", EITHER, &["hits", "engine", "nope"]),
            ("two statements", ENGINE, "ENGINE = MergeTree ORDER BY id; DROP TABLE x", EITHER, &["hits", "engine"]),
            (
                "no order",
                ENGINE,
                "ENGINE = MergeTree PARTITION BY toYYYYMM(d)",
                EITHER,
                &["hits", "engine", "ORDER BY"],
            ),
        ],
    );
}

#[apply(both)]
fn wrong_conditions_and_sharding_keys_are_refused(#[case] release: Release) {
    let scene = scene!(release);
    check_edits(
        &scene,
        &[
            ("syntax", "v &lt; 400", "v = = 400", EITHER, &["hits", "where_condition"]),
            ("bracket", "v &lt; 400", "v &lt; 400) OR (1", EITHER, &["hits", "where_condition"]),
            ("column", "v &lt; 400", "nope = 1", EITHER, &["hits", "where_condition", "nope"]),
            ("function", "v &lt; 400", "later(d)", EITHER, &["hits", "where_condition", "later"]),
            ("no condition", "v &lt; 400", "s", EITHER, &["hits", "where_condition"]),
            ("key syntax", ">id</sharding", ">id +</sharding", EITHER, &["hits", "sharding_key"]),
            ("key column", ">id</sharding", ">nope</sharding", EITHER, &["hits", "sharding_key", "nope"]),
            ("key string", ">id</sharding", ">s</sharding", EITHER, &["hits", "sharding_key", "String"]),
            ("key float", ">id</sharding", ">v / 2</sharding", EITHER, &["hits", "sharding_key", "Float64"]),
            ("key date", ">id</sharding", ">d</sharding", EITHER, &["hits", "sharding_key", "Date"]),
            ("key null", ">id</sharding", ">toInt32OrNull(s)</sharding", EITHER, &["hits", "sharding_key", "Nullable"]),
            ("key list", ">id</sharding", ">id, v</sharding", EITHER, &["hits", "sharding_key"]),
        ],
    );
}

#[apply(both)]
fn enabled_partitions_of_the_wrong_type_are_refused(#[case] release: Release) {
    let scene = scene!(release);
    check_edits(
        &scene,
        &[
            ("word", ">201801 201802<", ">'january'<", EITHER, &["hits", "enabled_partitions", "january"]),
            ("tuple", ">201801 201802<", ">(201801, 1)<", EITHER, &["hits", "enabled_partitions", "(201801, 1)"]),
            ("expression", ">201801 201802<", ">nope(1)<", EITHER, &["hits", "enabled_partitions", "nope(1)"]),
            ("column", ">201801 201802<", ">id<", EITHER, &["hits", "enabled_partitions", "id"]),
        ],
    );
}

#[apply(both)]
fn missing_source_tables_are_refused(#[case] release: Release) {
    let scene = scene!(release);
    let good = good(&scene);
    let cases = [
        ("no table", "<table_pull>hits<", "<table_pull>misses<", "misses"),
        ("no database", "__src<", "__nope<", "__nope"),
    ];
    for (name, from, to, word) in cases {
        assert!(good.contains(from), "{name}");
        let case = Case { name, codes: EITHER, words: &[word, scene.server(0).host()] };
        case.check(&scene, scene.launch_text(&good.replacen(from, to, 1)));
    }
    // The table exists on one shard only.
    scene.ask(1, &format!("DROP TABLE {}.hits", scene.src));
    let words = [scene.server(1).host(), "hits"];
    Case { name: "one shard", codes: EITHER, words: &words }.check(&scene, scene.launch_text(&good));
}

#[apply(both)]
fn a_target_table_with_other_columns_or_engine_is_refused(#[case] release: Release) {
    let scene = scene!(release);
    let good = good(&scene);
    // The table is in a database that exists before, so that the check for new databases still works.
    let there = scene.database("there");
    scene.on(&[2, 3], &format!("CREATE DATABASE {there}"));
    let good = good.replace(&scene.dst, &there);
    let engine = "ENGINE = MergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, id)";
    let tables: [(&str, &str, &str, &[&str]); 4] = [
        ("a column less", "(d Date, id UInt64, s String)", engine, &["hits", "v"]),
        (
            "another type",
            "(d Date, id UInt64, s Array(UInt8), v Int32)",
            engine,
            &["hits", "s", "Array(UInt8)", "String"],
        ),
        ("a memory table", COLUMNS, "ENGINE = Memory", &["hits", "Memory"]),
        ("a column more", "(d Date, id UInt64, s String, x String, v Int32)", engine, &["hits", "x"]),
    ];
    for (name, columns, engine, words) in tables {
        scene.on(&[3], &format!("CREATE TABLE {there}.hits {columns} {engine}"));
        let words: Vec<&str> = words.iter().copied().chain([scene.server(3).host()]).collect();
        Case { name, codes: EITHER, words: &words }.check(&scene, scene.launch_text(&good));
        scene.on(&[3], &format!("DROP TABLE {there}.hits"));
        assert_eq!(scene.lines(&[2, 3], &format!("SHOW TABLES FROM {there}")), Vec::<String>::new(), "{name}");
    }
}

#[apply(both)]
fn wrong_accounts_are_refused(#[case] release: Release) {
    let scene = scene!(release);
    let good = good(&scene);
    let at = |cluster: &str, server: usize, user: &str, password: &str| {
        // The account of the only replica of a cluster's first shard.
        let (before, after) = good.split_at(good.find(&format!("<{cluster}>\n")).unwrap());
        let host = format!("<host>{}</host>", scene.server(server).host());
        let account = format!("{host}<user>{user}</user><password>{password}</password>");
        format!("{before}{}", after.replacen(&host, &account, 1))
    };
    let pushed = |text: String| text.replace("</hits>", "<transfer>push</transfer></hits>");
    let denied: &[&str] = if release.is_modern() { &["Not enough privileges"] } else { &["denied"] };
    let cases: [(&str, String, usize, &[&str]); 7] = [
        ("wrong password at the source", at("source", 0, "tester", "sesame-open"), 0, &["password"]),
        ("wrong password at the target", at("target", 2, "tester", "sesame-open"), 2, &["password"]),
        ("no such user", at("source", 0, "nobody", "sesame-open"), 0, &["nobody"]),
        ("no grant at the source", at("source", 0, "nodb", ""), 0, denied),
        ("no grant at the target", at("target", 2, "nodb", ""), 2, denied),
        ("read-only at the target", at("target", 2, "readonly", ""), 2, &["readonly"]),
        ("told to push, and read-only at the source", pushed(at("source", 0, "readonly", "")), 0, &["readonly"]),
    ];
    for (name, text, server, words) in cases {
        let words: Vec<&str> = words.iter().copied().chain([scene.server(server).host()]).collect();
        let ended = Case { name, codes: EITHER, words: &words }.check(&scene, scene.launch_text(&text));
        assert!(!ended.stderr.contains("sesame-open"), "{name}: {}", ended.stderr);
    }
}

#[apply(both)]
fn unreachable_shards_are_reported(#[case] release: Release) {
    let scene = scene!(release);
    let good = good(&scene);
    let nobody = scene.unused_host(150);
    for (name, server) in [("source", 0), ("second source", 1), ("target", 2), ("second target", 3)] {
        let spoiled = good.replace(&format!("<host>{}<", scene.server(server).host()), &format!("<host>{nobody}<"));
        assert_ne!(spoiled, good);
        Case { name, codes: WORLD, words: &[&nobody] }.check(&scene, scene.launch_text(&spoiled));
    }
    let unknown = good.replacen(scene.server(0).host(), "no-such-host.invalid", 1);
    Case { name: "no such name", codes: WORLD, words: &["no-such-host.invalid"] }
        .check(&scene, scene.launch_text(&unknown));
}

#[apply(both)]
fn an_unreachable_zookeeper_is_reported(#[case] release: Release) {
    let scene = scene!(release);
    let good = good(&scene);
    let nobody = scene.unused_host(150);
    let text = scene.keeper_text("").replace(scene.lab().zookeeper().host(), &nobody);
    fs::write(scene.keeper_xml(), text).unwrap();
    Case { name: "zookeeper", codes: WORLD, words: &[&nobody, "ZooKeeper"] }.check(&scene, scene.launch_text(&good));
}

#[apply(both)]
fn broken_keeper_files_are_refused(#[case] release: Release) {
    let scene = scene!(release);
    let good = good(&scene);
    let node = "<node><host>127.0.0.1</host></node>";
    let texts: [(&str, String, &[&str]); 8] = [
        ("empty", String::new(), &["keeper.xml", "empty"]),
        ("no xml", "zookeeper: here".to_owned(), &["keeper.xml"]),
        ("wrong root", "<config/>".to_owned(), &["keeper.xml", "<clickhouse>", "<yandex>"]),
        ("no zookeeper", "<clickhouse/>".to_owned(), &["keeper.xml", "<zookeeper>", "missing"]),
        ("no node", "<clickhouse><zookeeper/></clickhouse>".to_owned(), &["/zookeeper", "no <node>"]),
        (
            "no host",
            "<clickhouse><zookeeper><node><port>2181</port></node></zookeeper></clickhouse>".to_owned(),
            &["/zookeeper/node", "<host>", "missing"],
        ),
        (
            "port",
            format!("<clickhouse><zookeeper>{}</zookeeper></clickhouse>", node.replace("</n", "<port>x</port></n")),
            &["/zookeeper/node/port", "x"],
        ),
        (
            "root",
            format!("<clickhouse><zookeeper>{node}<root>a</root></zookeeper></clickhouse>"),
            &["/zookeeper/root", "/"],
        ),
    ];
    for (name, text, words) in texts {
        fs::write(scene.keeper_xml(), text).unwrap();
        Case { name, codes: TEXT, words }.check(&scene, scene.launch_text(&good));
    }
}
