//! The dashboard page in a real browser, while tables are copied and servers are killed and started again. With
//! `UPDATE_SCREENSHOTS=1` this test writes the pictures of `docs/commands.md`.

use std::path::Path;

use lab::{LabSpec, Release};
use rstest_reuse::apply;
use serde_json::json;

use crate::both;
use crate::harness::{BY_MONTH, Browser, COLUMNS, Dashboard, Scene, TOKEN, Task, ask, rows, scene, xml_without_limits};

/// Partitions of the large table.
const HITS: u64 = 12;

/// A table with twelve months that take some seconds each, and a small table. `docs/commands.md` shows the names, so the servers are
/// the test's own.
fn task(scene: &Scene) -> Task {
    scene.short_sessions();
    scene.on(&[0, 1], "CREATE DATABASE web");
    for (server, number) in [(0, 0), (1, 60_000)] {
        scene.ask(server, &format!("CREATE TABLE web.hits {COLUMNS} {BY_MONTH}"));
        scene.ask(server, &format!("INSERT INTO web.hits {}", rows(number, 60_000, HITS)));
        scene.ask(server, "CREATE TABLE web.users (id UInt64, name String) ENGINE = MergeTree ORDER BY id");
        scene.ask(server, "INSERT INTO web.users SELECT number, toString(number) FROM numbers(1000)");
    }
    let hits = scene.table("hits").engine(BY_MONTH).with("batch_bytes", "1").with("transfer", "push");
    let users = scene.table("users").with("transfer", "push");
    let settings = "<settings><max_network_bandwidth>25000</max_network_bandwidth></settings>";
    let task = scene.task(&[&[0], &[1]], &[&[2]]).with(users.from("web", "users").to("web_new", "users"));
    let task = task.with(hits.from("web", "hits").to("web_new", "hits")).more(settings);
    Task { path: "/copy/web".into(), ..task }
}

fn published(scene: &Scene) -> u64 {
    scene.sum(
        &[2],
        "SELECT uniqExact(partition) FROM system.parts WHERE active AND database = 'web_new' AND table = 'hits'",
    )
}

fn shows(scene: &Scene, browser: &mut Browser, selector: &str, words: &str) {
    scene.eventually(&format!("{selector} shows {words:?}"), || {
        let text = browser.text(selector);
        if text.contains(words) { Ok(()) } else { Err(text) }
    });
}

fn keep(browser: &mut Browser, name: &str) {
    if std::env::var_os("UPDATE_SCREENSHOTS").is_some() {
        browser.keep(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name));
    }
}

/// Checks that buttons have names, that no element is wider than the window, and that texts have enough contrast.
fn has_no_flaws(browser: &mut Browser) {
    let flaws = browser.value(FLAWS);
    assert_eq!(flaws, json!([]), "{flaws:#}");
}

const FLAWS: &str = r#"(() => {
  const flaws = [];
  const width = document.documentElement.scrollWidth;
  if (width > innerWidth) flaws.push(`${width} pixels are wider than the window of ${innerWidth}`);
  for (const button of document.querySelectorAll("button")) {
    if (!button.getAttribute("aria-label") && !button.innerText.trim()) flaws.push(`no name: ${button.outerHTML}`);
  }
  const light = (color) => {
    const [r, g, b] = color.match(/[\d.]+/g).map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (color !== "rgba(0, 0, 0, 0)") return color;
    }
    return "rgb(255, 255, 255)";
  };
  const seen = new Set();
  for (const element of document.querySelectorAll(".cell, .sign, h1, h2, p, li, dt, dd, time, td, th")) {
    if (!element.checkVisibility()) continue;
    const [front, back] = [getComputedStyle(element).color, ground(element)];
    const [a, b] = [light(front), light(back)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const flaw = `contrast ${contrast.toFixed(2)} of ${front} on ${back}: ${element.tagName} ${element.className}`;
    if (contrast < 4.5 && !seen.has(flaw)) flaws.push(flaw);
    seen.add(flaw);
  }
  return flaws;
})()"#;

/// Shows ten thousand partitions, and changes a hundred of them twenty times. Returns the times in milliseconds, including layout.
const MANY: &str = r#"(() => {
  const news = (whole, partitions) => ({
    whole, seen_at: new Date().toISOString(), stale: null, partitions, events: [], rates: [],
    status: { schema: 1, task: "0123456789ab", path: "/many", state: "copying", bytes_per_second: 1, seconds_left: 1,
      workers: [], waits: [], errors: [], account: { differences: [], unaccounted: [] }, silent: [],
      total: { partitions: { pending: 10000 }, rows: 1, rows_copied: 0, rows_published: 0, bytes: 1, bytes_copied: 0, retries: 0 },
      tables: [{ name: "many", source: "a.b", target: "c.d", remarks: [], partitions: [],
        amounts: { partitions: { pending: 10000 }, rows: 1, rows_copied: 0, rows_published: 0, bytes: 1, bytes_copied: 0 } }] } });
  const cell = (n, state) => [0, n, { name: `p${n}`, state, rows: 10, copied: 0, failed: false }];
  const timed = (work) => {
    const began = performance.now();
    work();
    document.body.offsetHeight;
    return performance.now() - began;
  };
  const all = Array.from({ length: 10000 }, (_, n) => cell(n, "pending"));
  const observer = new MutationObserver(() => {});
  observer.observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
  const isCell = (node) => node.classList?.contains("cell");
  const touched = () => new Set(observer.takeRecords().map((record) => record.target).filter(isCell)).size;
  const first = timed(() => take(news(true, all)));
  const nodes = document.querySelectorAll(".cell").length;
  observer.takeRecords();
  const later = Array.from({ length: 20 }, (_, round) => timed(() =>
    take(news(false, Array.from({ length: 100 }, (_, n) => cell(round * 100 + n, "done"))))));
  return { nodes, first, later: Math.max(...later), touched: touched() };
})()"#;

#[apply(both)]
fn the_dashboard_page_shows_what_the_servers_hold(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 3));
    let task = task(&scene);
    let mut browser = Browser::start();
    let dashboard = Dashboard::start(&scene, &task, &["--listen", "127.0.0.1:0"]);
    let url = format!("http://{}/", dashboard.address);
    browser.window(1280, 1400, false, false);
    browser.open(&url);
    shows(&scene, &mut browser, "#alarm", "there is no task at");

    let workers = [(); 2].map(|()| scene.launch(&task).args(&["--jobs=2"]).start());
    shows(&scene, &mut browser, "#line", "live: copying");
    scene.eventually("both workers are shown with what they do, and something is published", || {
        let shown = browser.text("#workers");
        let (both, busy) = (shown.matches("copies hits piece").count(), shown.matches("rows read").count());
        let done = browser.value("document.querySelectorAll('[data-table=hits] .cell[data-state=done]').length");
        if both >= 3 && busy >= 2 && done.as_u64() >= Some(3) { Ok(()) } else { Err(format!("{done} {shown}")) }
    });
    let count = |browser: &mut Browser, selector: &str| {
        browser.value(&format!("document.querySelectorAll('{selector}').length")).as_u64().unwrap()
    };
    assert_eq!(count(&mut browser, "[data-table=hits] .cell"), HITS);
    // A partition is shown as published after it is on the servers.
    let done = count(&mut browser, "[data-table=hits] .cell[data-state=done]");
    assert!((1..=published(&scene)).contains(&done), "{done} of {}", published(&scene));
    has_no_flaws(&mut browser);
    keep(&mut browser, "dashboard-light.png");
    browser.window(390, 844, true, true);
    shows(&scene, &mut browser, "#line", "live");
    has_no_flaws(&mut browser);
    browser.value("document.querySelector('#tables-title').scrollIntoView()");
    keep(&mut browser, "dashboard-dark-phone.png");
    browser.window(1280, 1400, false, false);

    pieces_by_keyboard(&scene, &mut browser);

    // A worker is killed.
    let [first, second] = workers;
    let name = format!("-{}-", first.pid());
    assert!(browser.text("#workers").contains(&name));
    first.kill_9();
    scene.eventually("the killed worker is not shown any more", || {
        let shown = browser.text("#workers");
        if shown.contains(&name) { Err(shown) } else { Ok(()) }
    });
    shows(&scene, &mut browser, "#events", "is gone");

    // The dashboard is started again, and then ZooKeeper.
    let listen = dashboard.address.clone();
    dashboard.process.kill_9();
    shows(&scene, &mut browser, "#alarm", "The dashboard does not answer");
    assert_eq!(count(&mut browser, "[data-table=hits] .cell"), HITS, "what was seen stays");
    let dashboard = Dashboard::start(&scene, &task, &["--listen", &listen]);
    shows(&scene, &mut browser, "#line", "live: ");
    let zookeeper = scene.lab().zookeeper();
    zookeeper.kill_9().unwrap();
    shows(&scene, &mut browser, "#alarm", "The task cannot be seen now");
    assert_eq!(count(&mut browser, "[data-table=hits] .cell"), HITS, "what was seen stays");
    // The JSON says that it is out of date, and the metrics have no outdated values.
    let old = ask(&dashboard.address, "/api/status", &[], None);
    assert_eq!((old.code, old.json()["stale"].is_string(), old.json()["schema"].as_u64()), (200, true, Some(1)));
    let figures = ask(&dashboard.address, "/metrics", &[], None).body;
    assert!(figures.contains("\nclickhouse_copier_up 0\n") && !figures.contains("_rows"), "{figures}");
    zookeeper.start().unwrap();
    shows(&scene, &mut browser, "#line", "live: ");
    assert_eq!(browser.value("document.querySelector('#alarm').hidden"), true);

    scene.launch_text(&xml_without_limits(&task)).task_path(&task.path).args(&["--task-upload-force"]).run().with(0);
    second.ends().with(0);
    shows(&scene, &mut browser, "#line", "live: finished");
    assert_eq!(count(&mut browser, "[data-table=hits] .cell[data-state=done]"), HITS);
    assert_eq!(published(&scene), HITS);
    let rows: u64 =
        ["hits", "users"].iter().map(|table| scene.sum(&[2], &format!("SELECT count() FROM web_new.{table}"))).sum();
    let shown = browser.text("[data-figure='Rows copied'] dd").replace(',', "");
    assert_eq!(shown, format!("{rows} of {rows}"));
    shows(&scene, &mut browser, "#workers", "Nobody works on the task.");
    has_no_flaws(&mut browser);

    let many = browser.value(MANY);
    println!("10,000 partitions: {many}");
    assert_eq!((&many["nodes"], &many["touched"]), (&json!(10_000), &json!(2_000)), "only what changed is touched");
    // Thirty times the duration on an idle machine.
    assert!(many["first"].as_f64() < Some(9000.0) && many["later"].as_f64() < Some(1200.0), "{many}");
    browser.had_no_faults();
    drop(dashboard);

    // Without the token the page asks for it; with it the page opens.
    let guarded = Dashboard::start(&scene, &task, &["--listen", "127.0.0.1:0", "--token-env", "DASHBOARD_TOKEN"]);
    browser.open(&format!("http://{}/", guarded.address));
    shows(&scene, &mut browser, "h2", "A token is needed");
    has_no_flaws(&mut browser);
    // The browser sets the focus when it draws the page, which may be later.
    scene.eventually("the field for the token has the focus", || {
        let focused = browser.value("document.activeElement.id");
        if focused == "token" { Ok(()) } else { Err(focused.to_string()) }
    });
    browser.types(TOKEN);
    browser.press("Enter");
    shows(&scene, &mut browser, "#line", "live: finished");
    browser.had_no_faults();
}

fn pieces_by_keyboard(scene: &Scene, browser: &mut Browser) {
    let focus = "document.activeElement.getAttribute('aria-label') ?? ''";
    let at = |browser: &mut Browser| browser.value(focus).as_str().unwrap().to_owned();
    browser.value("document.querySelector('#whole-title').focus()");
    let mut steps = 0;
    while !at(browser).contains("201801: ") {
        browser.press("Tab");
        steps += 1;
        assert!(steps < 10, "the focus is at {}", at(browser));
    }
    browser.press("ArrowRight");
    assert!(at(browser).starts_with("201802: "), "{}", at(browser));
    browser.press("End");
    assert!(at(browser).starts_with("201812: "), "{}", at(browser));
    browser.press("ArrowLeft");
    browser.press("Enter");
    shows(scene, browser, "#details-title", "hits, partition 201811");
    let rows = scene.sum(&[0, 1], "SELECT count() FROM web.hits WHERE toYYYYMM(d) = 201811");
    let rows = rows.to_string();
    let words = browser.text("#details-body").replace(',', "");
    assert!(words.contains(&format!("{rows} rows")) && words.contains("Piece"), "{words}");
    has_no_flaws(browser);
    browser.value("document.querySelector('#details form button').click()");
    assert_eq!(browser.value("document.querySelector('#details').open"), false);
    browser.press("Enter");
    shows(scene, browser, "#details-title", "hits, partition 201811");
    browser.press("Escape");
    assert_eq!(browser.value("document.querySelector('#details').open"), false);
    assert!(at(browser).starts_with("201811: "), "the focus is where it was: {}", at(browser));
}
