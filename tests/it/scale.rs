//! Many partitions, tables, workers and tasks.

use std::thread;

use lab::{LabSpec, Release};
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, Scene, Task, fill, scene};

#[apply(both)]
fn five_hundred_small_partitions_are_copied(#[case] release: Release) {
    let scene = scene!(release);
    let columns = "(id UInt64, s String)";
    let engine = "ENGINE = MergeTree PARTITION BY id % 500 ORDER BY id";
    for (server, from) in [(0, 0), (1, 5000)] {
        scene.ask(server, &format!("CREATE TABLE {}.hits {columns} {engine}", scene.src));
        let rows = format!("SELECT number, toString(number) FROM system.numbers LIMIT {from}, 5000");
        scene.insert(server, &format!("INSERT INTO {}.hits {rows}", scene.src));
    }
    let task = scene.task(&[&[0], &[1]], &[&[2], &[3], &[4]]).with(scene.table("hits").sharding_key("cityHash64(id)"));
    scene.run(&task).with(0);
    scene.check(&task);
    scene.check_partitions(&task, &[("hits", 500)]);
}

/// Statements that the servers of the next test run at once, and connections that they take.
const FEW: [(&str, &str); 2] = [("max_concurrent_queries", "20"), ("max_connections", "60")];
const TABLES: usize = 80;

/// Rows and a checksum of each table, by one statement.
fn contents(scene: &Scene, server: usize, database: &str) -> Vec<String> {
    let sums = "SELECT _table, count(), sum(cityHash64(id, s))";
    scene.lines(&[server], &format!("{sums} FROM merge('{database}', '^t') GROUP BY _table"))
}

#[apply(both)]
fn many_tables_are_copied_on_servers_with_few_concurrent_queries(#[case] release: Release) {
    let server = FEW.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let scene = scene!(own LabSpec { server, ..LabSpec::of(release, 2) });
    let mut task = scene.task(&[&[0]], &[&[1]]);
    for number in 0..TABLES {
        let (src, name) = (&scene.src, format!("t{number}"));
        scene.ask(0, &format!("CREATE TABLE {src}.{name} (id UInt64, s String) ENGINE = MergeTree ORDER BY id"));
        let rows = format!("SELECT number + {number}, toString(number) FROM system.numbers LIMIT 10");
        scene.ask(0, &format!("INSERT INTO {src}.{name} {rows}"));
        task = task.with(scene.table(&name));
    }
    let source = contents(&scene, 0, &scene.src);
    assert_eq!(source.len(), TABLES);
    // Few files: many servers and many tables do not need many connections.
    scene.launch(&task).files(256).verb("check").run().with(0);
    thread::scope(|scope| {
        let sleep = "SELECT sleepEachRow(0.1), 'holds a place' FROM system.numbers LIMIT 600 FORMAT Null";
        for _ in 0..20 {
            // Ended by KILL, which is an error here.
            scope.spawn(|| scene.server(0).query_with(&[("max_block_size", "1")], sleep).is_ok());
        }
        let worker = scene.launch(&task).files(256).start();
        worker.says("too many statements run there (code 202)");
        scene.ask(0, "KILL QUERY WHERE query LIKE 'SELECT sleepEachRow(0.1), \\'holds a place%' ASYNC");
        let stderr = worker.ends().with(0).stderr;
        assert!(!stderr.contains("attempt 1 failed"), "{stderr}");
        assert!(
            stderr.matches("too many statements run there").count() < TABLES / 10,
            "a line for each server, not each table"
        );
    });
    assert_eq!(contents(&scene, 1, &scene.dst), source);
    scene.launch(&task).files(256).verb("status").without_task_file().run().with(0).reports(&["finished"]);
    scene.launch(&task).files(256).verb("verify").run().with(0);
}

#[apply(both)]
fn three_workers_copy_one_task(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0, 1], BY_MONTH, 60_000, 6);
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("id").with("batch_bytes", "200000");
    let twice = scene.table("twice").from(&scene.src, "hits").engine("MergeTree PARTITION BY toMonday(d) ORDER BY id");
    let task = scene.task(&[&[0], &[1]], &[&[2], &[3]]).with(hits).with(twice.sharding_key("rand()"));
    let workers = [(); 3].map(|()| scene.launch(&task).start());
    for worker in workers {
        worker.ends().with(0);
    }
    scene.check(&task);
    scene.check_partitions(&task, &[("hits", 6), ("twice", 26)]);
}

#[apply(both)]
fn two_tasks_copy_into_one_table_at_the_same_time(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 20_000, 4);
    let task = |name: &str, partitions: &str| -> Task {
        let hits = scene.table("hits").engine(BY_MONTH).with("number_of_splits", "2");
        scene.task(&[&[0]], &[&[1]]).at(name).with(hits.with("enabled_partitions", partitions))
    };
    let tasks = [task("early", "201801 201802"), task("late", "201803 201804")];
    let workers = tasks.each_ref().map(|task| scene.launch(task).start());
    for worker in workers {
        worker.ends().with(0);
    }
    for task in &tasks {
        scene.check(task);
        scene.check_partitions(task, &[("hits", 2)]);
    }
}

#[apply(both)]
fn two_tasks_copy_into_one_replicated_table_at_the_same_time(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0, 1], BY_MONTH, 20_000, 4);
    let engine = scene.replicated_engine("");
    let task = |name: &str, condition: &str| -> Task {
        let hits = scene.table("hits").engine(&engine).with("number_of_splits", "2");
        scene.task(&[&[0], &[1]], &[&[2, 3]]).at(name).with(hits.with("where_condition", condition))
    };
    let tasks = [task("early", "d < '2018-03-01'"), task("late", "d >= '2018-03-01'")];
    let workers = tasks.each_ref().map(|task| scene.launch(task).start());
    for worker in workers {
        worker.ends().with(0);
    }
    for task in &tasks {
        scene.check(task);
    }
}

#[apply(both)]
fn max_workers_limits_the_workers_and_can_be_raised(#[case] release: Release) {
    let scene = scene!(release);
    scene.short_sessions();
    fill(&scene, &[0], BY_MONTH, 20_000, 4);
    let one = |number: u32| {
        let hits = scene.table("hits").engine(BY_MONTH).with("batch_bytes", "1");
        let task = scene.task(&[&[0]], &[&[1]]).with(hits);
        task.more(&format!("<max_workers>{number}</max_workers>"))
    };
    let task = one(1);
    let stuck = scene.launch(&task).stop_at("piece-claimed").start();
    stuck.reaches("piece-claimed");
    let waiting = scene.launch(&task).start();
    waiting.says("max_workers");
    let active = format!("{}/task_active_workers", task.path);
    assert_eq!(scene.children(&active).unwrap().len(), 1);
    assert_eq!(scene.ask(1, &format!("SELECT count() FROM {}.hits", scene.dst)), "0");

    // After the number is raised, the waiting worker copies although the first one is still stopped.
    let third = scene.launch(&one(3)).args(&["--task-upload-force"]).start();
    scene.eventually("rows arrive", || {
        match scene.ask(1, &format!("SELECT count() FROM {}.hits", scene.dst)).as_str() {
            "0" => Err("none".to_owned()),
            _ => Ok(()),
        }
    });
    stuck.kill_9();
    waiting.ends().with(0);
    third.ends().with(0);
    scene.check(&task);
}

#[apply(both)]
fn a_worker_above_max_workers_starts_when_another_dies(#[case] release: Release) {
    let scene = scene!(release);
    scene.short_sessions();
    fill(&scene, &[0], BY_MONTH, 5000, 2);
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits").engine(BY_MONTH));
    let task = task.more("<max_workers>1</max_workers>");
    let stuck = scene.launch(&task).stop_at("piece-claimed").start();
    stuck.reaches("piece-claimed");
    let waiting = scene.launch(&task).start();
    waiting.says("max_workers");
    stuck.kill_9();
    waiting.ends().with(0);
    scene.check(&task);
}
