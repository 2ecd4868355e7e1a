//! Tasks whose transfers take seconds, so that a test can act while rows are moved.

use super::{BY_MONTH, COLUMNS, Scene, Task, fill, rows};

/// Returns a task that pushes three months of rows. Each statement sends at most `rate` bytes a second, so a piece takes some seconds.
pub fn task_with_slow_push(scene: &Scene, rate: u32) -> Task {
    scene.short_sessions();
    fill(scene, &[0], BY_MONTH, 60_000, 3);
    let hits = scene.table("hits").engine(BY_MONTH).with("number_of_splits", "2").with("transfer", "push");
    let settings = format!("<settings><max_network_bandwidth>{rate}</max_network_bandwidth></settings>");
    scene.task(&[&[0]], &[&[1]]).with(hits).more(&settings)
}

/// Returns the XML of a task without `<settings>` and `<max_jobs_per_server>`, so that the rest is copied fast.
pub fn xml_without_limits(task: &Task) -> String {
    let xml = task.xml();
    let cut = |xml: &str, name: &str| match (xml.find(&format!("<{name}>")), xml.find(&format!("</{name}>"))) {
        (Some(begin), Some(end)) => format!("{}{}", &xml[..begin], &xml[end + name.len() + 3..]),
        _ => xml.to_owned(),
    };
    cut(&cut(&xml, "settings"), "max_jobs_per_server")
}

/// Returns a task whose source is slow to read: 40 blocks that take 50 milliseconds each.
pub fn task_with_slow_source(scene: &Scene) -> Task {
    let engine = format!("{BY_MONTH} SETTINGS index_granularity = 256");
    scene.ask(0, &format!("CREATE TABLE {}.hits {COLUMNS} {engine}", scene.src));
    scene.ask(0, &format!("INSERT INTO {}.hits {}", scene.src, rows(0, 10_000, 1)));
    let hits = scene.table("hits").engine(BY_MONTH).with("where_condition", "NOT ignore(sleep(0.05))");
    let settings = "<settings><max_block_size>256</max_block_size><max_threads>1</max_threads></settings>";
    scene.task(&[&[0]], &[&[1]]).with(hits.with("number_of_splits", "2")).more(settings)
}

/// Waits until a statement of [`task_with_slow_source`] moves rows.
pub fn wait_for_transfer(scene: &Scene) {
    let sql = format!(
        "SELECT count() FROM system.processes WHERE query_id LIKE 'copier:%' AND query LIKE 'INSERT INTO FUNCTION%' \
         AND position(query, '{}') > 0",
        scene.dst
    );
    scene.eventually("a transfer runs", || match scene.ask(0, &sql).as_str() {
        "0" => Err("none".to_owned()),
        _ => Ok(()),
    });
}
