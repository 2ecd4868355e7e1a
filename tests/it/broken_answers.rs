//! Wrong answers of servers and broken networks: a proxy damages one answer, or one connection, of a copy or of another verb.
//!
//! There are two accepted results: the program ends with 0 and the target has exactly the rows, or it ends with another code and
//! prints the reason. It never panics, never hangs, and never reports success with wrong rows.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, Digest, Ended, Harm, Launch, Proxy, Rule, Scene, Task, scene};

/// The number of cases at the same time.
const AT_ONCE: usize = 3;
/// With this environment variable all cases run, which takes ten minutes. Without it only some of them run.
const ALL: &str = "EVERY_HARM";
/// Output of cases that take longer is printed if the test fails.
const SLOW: Duration = Duration::from_secs(15);
const ROWS: u64 = 6_000;

/// The proxies between a worker, a source and a target.
struct Between {
    source: Proxy,
    target: Proxy,
    /// Between the two servers, in front of the one that accepts the connection.
    rows: Proxy,
}

/// The proxy that damages something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Source,
    Target,
    Rows,
}

/// One copy with one damaged answer or connection.
#[derive(Debug, Clone)]
struct Case {
    way: &'static str,
    at: At,
    rule: Rule,
}

/// Two months of rows. The text cannot be compressed, so that many bytes are sent.
fn fill(scene: &Scene) {
    scene.ask(0, &format!("CREATE TABLE {}.hits (d Date, id UInt64, s String) {BY_MONTH}", scene.src));
    let text =
        "concat(hex(reinterpretAsString(intHash64(number))), hex(reinterpretAsString(intHash64(number + 1000000))))";
    let rows = format!("SELECT toDate('2018-01-01') + number % 59, number, {text} FROM system.numbers LIMIT {ROWS}");
    scene.ask(0, &format!("INSERT INTO {}.hits {rows}", scene.src));
    scene.ask(1, &format!("CREATE DATABASE {}", scene.dst));
}

fn digest(scene: &Scene, server: usize, database: &str, table: &str) -> Digest {
    scene.digest(&[server], "cityHash64(d, id, s)", &format!("{database}.{table}"))
}

/// Returns a task for one case and its proxies.
fn task(scene: &Scene, way: &str, name: &str) -> (Task, Between) {
    let [source, target] = [0, 1].map(|server| scene.server(server).host().to_owned());
    let connected = if way == "pull" { &source } else { &target };
    let between =
        Between { source: Proxy::http(&source), target: Proxy::http(&target), rows: Proxy::native(connected) };
    let table = scene.table(name).from(&scene.src, "hits").engine(BY_MONTH.trim_start_matches("ENGINE = "));
    let mut task = scene.task(&[&[0]], &[&[1]]).at(name).with(table.with("transfer", way).with("verify", "checksum"));
    for (host, http) in [(&source, &between.source), (&target, &between.target)] {
        let native = if host == connected { format!("<port>{}</port>", between.rows.port) } else { String::new() };
        task.ports.push((host.clone(), format!("<http_port>{}</http_port>{native}", http.port)));
    }
    (task, between)
}

fn launch<'a>(scene: &'a Scene, task: &Task, name: &str) -> Launch<'a> {
    let launch = scene.launch_local(task, &format!("{name}.xml"));
    let state = scene.dir().join(format!("{name}-state"));
    launch.args(&["--state-dir", state.to_str().unwrap(), "--stall-timeout", "2"])
}

fn run<'a>(scene: &'a Scene, task: &Task, name: &str) -> Launch<'a> {
    launch(scene, task, name).args(&["--retry-delay-ms", "100"])
}

/// Returns every n-th case, or all cases if [`ALL`] is set.
fn some<T>(cases: Vec<T>, one_in: usize) -> Vec<T> {
    let one_in = if std::env::var_os(ALL).is_some() { 1 } else { one_in };
    cases.into_iter().step_by(one_in).collect()
}

/// Runs all cases, a few at a time. Fails with the messages of all failed cases.
fn for_all<T: Sync>(cases: &[T], judge: impl Fn(usize, &T) -> Result<(), String> + Sync) {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let number = next.fetch_add(1, Ordering::SeqCst)
                    && let Some(case) = cases.get(number)
                {
                    let begun = std::time::Instant::now();
                    let judged = judge(number, case);
                    // Printed if the test fails.
                    println!("case {number} took {:.1} s", begun.elapsed().as_secs_f64());
                    if let Err(why) = judged {
                        wrong.lock().unwrap().push(why);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n----\n"));
}

/// Returns the exit code. Fails if the program panicked, or failed without a message.
fn ended_well(ended: &Ended) -> Result<i32, String> {
    let output = format!("{}\n--- on standard output:\n{}", ended.stderr, ended.stdout);
    for word in ["panicked", "internal error"] {
        if output.contains(word) {
            return Err(output);
        }
    }
    match ended.status.code() {
        Some(0) => Ok(0),
        Some(code @ (1..=4)) if !ended.stderr.trim().is_empty() || !ended.stdout.trim().is_empty() => Ok(code),
        _ => Err(format!("{}: {output}", ended.status)),
    }
}

/// Runs one case. A copy that failed is run again without damage, and must finish then.
fn judge(scene: &Scene, number: usize, case: &Case, wanted: Digest) -> Result<(), String> {
    let name = format!("t{number}");
    let (task, between) = task(scene, case.way, &name);
    let proxy = match case.at {
        At::Source => &between.source,
        At::Target => &between.target,
        At::Rows => &between.rows,
    };
    proxy.harm(Some(case.rule.clone()));
    let ended = run(scene, &task, &name).run();
    if ended.took > SLOW {
        println!("case {number} {case:?} was slow:\n{}", ended.stderr);
    }
    let failed = |why: String| Err(format!("case {number} {case:?}: {why}"));
    let code = match ended_well(&ended) {
        Ok(code) => code,
        Err(why) => return failed(why),
    };
    if proxy.harmed() == 0 && case.rule.skip == 0 {
        return failed(format!("nothing was harmed:\n{}", ended.stderr));
    }
    // The statements still run on the servers; only the stall timeout can end them.
    if case.at == At::Rows && matches!(case.rule.harm, Harm::Hold) && !ended.stderr.contains("nothing has moved for ") {
        return failed(format!("the stall was not told:\n{}", ended.stderr));
    }
    let has = || digest(scene, 1, &scene.dst, &name);
    if code == 0 {
        let found = has();
        return if found == wanted {
            Ok(())
        } else {
            failed(format!("ended with 0, but {found:?}:\n{}", ended.stderr))
        };
    }
    proxy.harm(None);
    let again = run(scene, &task, &name).run();
    match ended_well(&again) {
        Ok(0) if has() == wanted => Ok(()),
        // A wrong answer about the source's parts is recorded, so the worker cannot know whether the source changed.
        Ok(3) if has() == wanted && again.stderr.contains("not accounted") => Ok(()),
        code => failed(format!("ended with {code:?} afterwards:\n{}\n--- before:\n{}", again.stderr, ended.stderr)),
    }
}

/// Damaged answers of all kinds.
fn answers() -> Vec<Harm> {
    let http = |status: &str, more: &str, body: &str| {
        Harm::Instead(format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\n\r\n{body}", body.len()))
    };
    vec![
        Harm::Gone,
        Harm::Cut(20),
        Harm::Cut(400),
        Harm::Late(Duration::from_millis(300)),
        Harm::Twice,
        Harm::Flip(0),
        Harm::Flip(7),
        http("200 OK", "", ""),
        http("200 OK", "", "Code: 60. DB::Exception: Table d.t does not exist. (UNKNOWN_TABLE)\n"),
        http("502 Bad Gateway", "Content-Type: text/html\r\n", "<html><h1>502 Bad Gateway</h1></html>"),
        http(
            "500 Internal Server Error",
            "X-ClickHouse-Exception-Code: 241\r\n",
            "Code: 241. DB::Exception: Memory limit",
        ),
        Harm::Instead("\u{1b}]0;not HTTP at all\r\n\r\n".to_owned()),
        Harm::Endless("HTTP/1.1 500 Internal Server Error\r\n\r\n".to_owned()),
        Harm::Endless("HTTP/1.1 200 OK\r\n\r\n".to_owned()),
        Harm::Hold,
    ]
}

/// For each transfer the proxy and the statement that moves rows.
const MOVES: [(&str, At, &str); 5] = [
    ("push", At::Source, "INSERT INTO FUNCTION"),
    ("pull", At::Target, "FROM remote("),
    ("relay", At::Source, "AS `relayed 0`"),
    ("relay", At::Target, "FORMAT Native"),
    ("clone", At::Target, "FETCH PARTITION"),
];

#[apply(both)]
fn broken_answers_to_transfers_never_lead_to_wrong_rows(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene);
    let wanted = digest(&scene, 0, &scene.src, "hits");
    let mut cases = Vec::new();
    for (way, at, request) in MOVES {
        cases.extend(answers().into_iter().map(|harm| Case { way, at, rule: Rule::once(request, harm) }));
    }
    // There are 15 kinds of damage. Some of them run for each statement.
    let cases = some(cases, if release.is_modern() { 4 } else { 13 });
    for_all(&cases, |number, case| judge(&scene, number, case, wanted));
}

#[apply(both)]
fn broken_connections_between_servers_never_lead_to_wrong_rows(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene);
    let wanted = digest(&scene, 0, &scene.src, "hits");
    let harms =
        [Harm::Cut(60_000), Harm::Cut(100_000), Harm::Flip(60_000), Harm::Late(Duration::from_secs(1)), Harm::Hold];
    let cases: Vec<Case> = ["push", "pull"]
        .into_iter()
        .flat_map(|way| harms.clone().map(|harm| Case { way, at: At::Rows, rule: Rule::once("", harm) }))
        .collect();
    let cases = some(cases, if release.is_modern() { 1 } else { 3 });
    for_all(&cases, |number, case| judge(&scene, number, case, wanted));
}

/// Damages any answer of a copy, not only to statements that move rows: to questions for plans, counts, definitions, running
/// statements. Kind of damage and byte differ from case to case.
#[apply(both)]
fn broken_answers_to_any_request_never_lead_to_wrong_rows(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene);
    let wanted = digest(&scene, 0, &scene.src, "hits");
    let harms = answers();
    let mut cases = Vec::new();
    for (number, skip) in (0..100).step_by(3).enumerate() {
        let at = if number % 2 == 0 { At::Source } else { At::Target };
        let way = ["push", "relay", "pull", "clone"][number % 4];
        // A question on a held connection ends only after a minute.
        let harm = match harms[number * 4 % harms.len()].clone() {
            Harm::Hold | Harm::Flip(_) => Harm::Flip(number * 13),
            harm => harm,
        };
        cases.push(Case { way, at, rule: Rule { request: "", skip, times: 1, harm } });
        cases.push(Case {
            way,
            at,
            rule: Rule { request: "", skip: skip + 2, times: 1, harm: Harm::Flip(number * 7) },
        });
    }
    let cases = some(cases, if release.is_modern() { 5 } else { 11 });
    for_all(&cases, |number, case| judge(&scene, number, case, wanted));
}

/// Returns the command line of a verb about a copied task.
fn verb_of<'a>(scene: &'a Scene, task: &Task, verb: &str) -> Launch<'a> {
    let state = scene.dir().join("t-state");
    let launch = scene.launch_local(task, "t.xml").verb(verb).args(&["--state-dir", state.to_str().unwrap()]);
    if verb == "cleanup" || verb == "status" { launch.without_task_file().args(&["--task-path", "/t"]) } else { launch }
}

/// `verify` of a target that differs from its source never ends with 0.
#[apply(both)]
fn broken_answers_to_other_verbs_never_hide_a_difference(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene);
    let (task, between) = task(&scene, "push", "t");
    run(&scene, &task, "t").run().with(0);
    // One more row, with another text.
    scene.ask(1, &format!("INSERT INTO {}.t SELECT toDate('2018-01-05'), toUInt64(1), 'another'", scene.dst));
    let (verbs, harms) = (["verify", "check", "status", "cleanup", "plan"], answers());
    let mut number = 0;
    for verb in verbs {
        let skips = (0..40).step_by(if verb == "verify" { 1 } else { 4 }).collect();
        for skip in some(skips, 4) {
            number += 1;
            let harm = match harms[number * 4 % harms.len()].clone() {
                Harm::Hold => Harm::Flip(number),
                harm => harm,
            };
            let proxy = if number % 2 == 0 { &between.source } else { &between.target };
            proxy.harm(Some(Rule { request: "", skip, times: 1, harm: harm.clone() }));
            let ended = verb_of(&scene, &task, verb).run();
            let code = ended_well(&ended).unwrap_or_else(|why| panic!("{verb} {skip} {harm:?}: {why}"));
            assert!(verb != "verify" || code != 0, "verify {skip} {harm:?}: {}{}", ended.stdout, ended.stderr);
            proxy.harm(None);
        }
    }
}
