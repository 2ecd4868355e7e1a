//! Sources of every engine: without parts, without rows of their own, and those that cannot be copied from.

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{Scene, scene};

const COLUMNS: &str = "(id UInt64, d Date, s String)";
const BY_MONTH: &str = "MergeTree PARTITION BY toYYYYMM(d) ORDER BY id";

/// Fills a table that is there with rows of two months.
fn insert(scene: &Scene, server: usize, table: &str, rows: u32) {
    let row = format!("SELECT number + {server} * 1000, toDate('2018-01-10') + number % 40, toString(number)");
    scene.ask(server, &format!("INSERT INTO {}.{table} {row} FROM system.numbers LIMIT {rows}", scene.src));
}

/// Makes a table beside the others.
fn create(scene: &Scene, server: usize, table: &str, what: &str) {
    scene.ask(server, &format!("CREATE TABLE {}.{table} {COLUMNS} {}", scene.src, what.replace("{src}", &scene.src)));
}

fn view(scene: &Scene, server: usize, table: &str, what: &str) {
    scene.ask(
        server,
        &format!("CREATE {}", what.replace("{src}", &scene.src).replace("{view}", &format!("{}.{table}", scene.src))),
    );
}

/// Tables that are filled, tables that read `base`, and whether several shards may have them.
fn sources(scene: &Scene, server: usize) -> Vec<&'static str> {
    create(scene, server, "base", &format!("ENGINE = {BY_MONTH}"));
    insert(scene, server, "base", 100);
    let filled = [
        ("log", "ENGINE = Log"),
        ("tiny", "ENGINE = TinyLog"),
        ("stripe", "ENGINE = StripeLog"),
        ("memory", "ENGINE = Memory"),
        ("joined", "ENGINE = Join(ANY, LEFT, id)"),
        ("file", "ENGINE = File(TSV)"),
        ("filled", "ENGINE = MergeTree ORDER BY id"),
    ];
    for (name, engine) in filled {
        create(scene, server, name, engine);
        insert(scene, server, name, 60);
    }
    create(scene, server, "merge", "ENGINE = Merge('{src}', '^(base|log)$')");
    create(
        scene,
        server,
        "buffer",
        "ENGINE = Buffer('{src}', 'base', 1, 1000, 1000, 1000000, 1000000, 100000000, 100000000)",
    );
    insert(scene, server, "buffer", 7);
    view(scene, server, "seen", "VIEW {view} AS SELECT id, d, s FROM {src}.base WHERE id % 2 = 0");
    view(
        scene,
        server,
        "inner",
        "MATERIALIZED VIEW {view} ENGINE = MergeTree ORDER BY id POPULATE AS SELECT id, d, s FROM {src}.base",
    );
    view(scene, server, "led", "MATERIALIZED VIEW {view} TO {src}.filled AS SELECT id, d, s FROM {src}.base");
    vec!["log", "tiny", "stripe", "memory", "joined", "file", "merge", "buffer", "seen", "inner", "led"]
}

#[apply(both)]
fn tables_of_every_readable_engine_are_copied(#[case] release: Release) {
    let scene = scene!(release);
    let mut names = sources(&scene, 0);
    if release.is_modern() {
        view(
            &scene,
            0,
            "words",
            "DICTIONARY {view} (id UInt64, d Date, s String) PRIMARY KEY id SOURCE(CLICKHOUSE(TABLE 'base' DB '{src}')) LIFETIME(0) LAYOUT(FLAT())",
        );
        names.push("words");
    }
    let mut task = scene.task(&[&[0]], &[&[1], &[2]]);
    for name in names {
        // With the source's key, and without one.
        task = task.with(scene.table(name).engine(BY_MONTH).sharding_key("id"));
        let whole = scene.table(&format!("{name}_whole")).from(&scene.src, name);
        task = task.with(whole.engine("MergeTree ORDER BY id").sharding_key("id"));
    }
    scene.run(&task).with(0);
    scene.check(&task);
    let rows = scene.sum(&[1, 2], &format!("SELECT count() FROM {}.memory_whole", scene.dst));
    assert_eq!(rows, 60);
    scene.launch(&task).verb("verify").run().with(0);
}

#[apply(both)]
fn tables_of_every_readable_engine_are_copied_from_two_shards(#[case] release: Release) {
    let scene = scene!(release);
    let mut task = scene.task(&[&[0], &[1]], &[&[2]]);
    sources(&scene, 0);
    for name in sources(&scene, 1) {
        task = task.with(scene.table(name).engine(BY_MONTH));
    }
    scene.run(&task).with(0);
    scene.check(&task);
}

#[apply(both)]
fn distributed_tables_on_several_source_shards_are_refused(#[case] release: Release) {
    let scene = scene!(release);
    let cluster = scene.lab().cluster("both_shards", &[&[0], &[1]]);
    scene.lab().define_cluster(&cluster).unwrap();
    for server in [0, 1] {
        create(&scene, server, "base", &format!("ENGINE = {BY_MONTH}"));
        insert(&scene, server, "base", 50);
        create(&scene, server, "all", "ENGINE = Distributed(both_shards, '{src}', 'base')");
        create(&scene, server, "merge", "ENGINE = Merge('{src}', '^all$')");
        view(&scene, server, "seen", "VIEW {view} AS SELECT id, d, s FROM (SELECT * FROM {src}.merge)");
    }
    let names = ["all", "merge", "seen"];
    let with_tables = |task: crate::harness::Task| {
        names.iter().fold(task, |task, name| task.with(scene.table(name).engine(BY_MONTH)))
    };
    let doubled = with_tables(scene.task(&[&[0], &[1]], &[&[2]]).at("doubled"));
    let ended = scene.run(&doubled).with(2).tells(&["tables/all/table_pull", "Distributed"]);
    ended.tells(&["tables/merge/table_pull", "Distributed"]).tells(&["tables/seen/table_pull", "Distributed"]);
    let words = ["tables/all/table_pull", "tables/merge/table_pull", "tables/seen/table_pull", "Distributed"];
    scene.launch(&doubled).verb("check").run().with(2).reports(&words);
    // From one shard the rows of both are read, each once.
    let once = with_tables(scene.task(&[&[0]], &[&[2]]).at("once"));
    scene.run(&once).with(0);
    scene.check(&once);
    assert_eq!(scene.ask(2, &format!("SELECT count(), uniq(id) FROM {}.seen", scene.dst)), "100\t100");
}

#[apply(both)]
fn set_and_null_tables_are_refused_as_sources(#[case] release: Release) {
    let scene = scene!(release);
    create(&scene, 0, "set", "ENGINE = Set");
    create(&scene, 0, "nothing", "ENGINE = Null");
    let job = |name: &str| scene.table(name).engine(BY_MONTH);
    let task = scene.task(&[&[0]], &[&[1]]).with(job("set")).with(job("nothing"));
    let ended = scene.run(&task).with(2).tells(&["tables/set/table_pull", "engine Set"]);
    ended.tells(&["tables/nothing/table_pull", "engine Null"]);
    assert!(!scene.has_database(1, &scene.dst));
}
