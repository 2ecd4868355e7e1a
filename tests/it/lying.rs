//! Servers that lie and networks that break: a proxy harms one answer, or one connection, of a copy or of another verb.
//!
//! Whatever is harmed, the outcome is one of two: the program ends with 0 and the target has exactly the rows, or it ends with another code
//! and says why. It never panics, never hangs, and never says that it has finished when it has not.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::copy::BY_MONTH;
use crate::harness::{Digest, Ended, Harm, Launch, Proxy, Rule, Scene, Task, scene};

/// Cases at work at a time.
const AT_ONCE: usize = 3;
/// The variable of the environment with which all cases are tried, and not only some of them: that takes ten minutes.
const ALL: &str = "EVERY_HARM";
/// What takes longer is shown where the test fails.
const SLOW: Duration = Duration::from_secs(15);
const ROWS: u64 = 6_000;

/// What stands between a worker, a source and a target.
struct Between {
    source: Proxy,
    target: Proxy,
    /// Between the servers: before the one that is connected to.
    rows: Proxy,
}

/// Where the harm is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Source,
    Target,
    Rows,
}

/// One copy with one harm.
#[derive(Debug, Clone)]
struct Case {
    way: &'static str,
    at: At,
    rule: Rule,
}

/// Two months; text that does not pack, so that much travels.
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

/// A task of its own for each case, through proxies of its own.
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

/// One in so many of some cases, from the first one on; or all, where that is asked for.
fn some<T>(cases: Vec<T>, one_in: usize) -> Vec<T> {
    let one_in = if std::env::var_os(ALL).is_some() { 1 } else { one_in };
    cases.into_iter().step_by(one_in).collect()
}

/// Does this for all cases, a few at a time, and fails with all that went wrong.
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
                    // Shown where the test fails.
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

/// Whether a program ended as it may: without a panic, and with a line unless all is well.
fn ended_well(ended: &Ended) -> Result<i32, String> {
    let said = format!("{}\n--- on standard output:\n{}", ended.stderr, ended.stdout);
    for word in ["panicked", "internal error"] {
        if said.contains(word) {
            return Err(said);
        }
    }
    match ended.status.code() {
        Some(0) => Ok(0),
        Some(code @ (1..=4)) if !ended.stderr.trim().is_empty() || !ended.stdout.trim().is_empty() => Ok(code),
        _ => Err(format!("{}: {said}", ended.status)),
    }
}

/// One case of a copy. A copy that did not finish is resumed without harm, and finishes then.
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
    let told = |why: String| Err(format!("case {number} {case:?}: {why}"));
    let code = match ended_well(&ended) {
        Ok(code) => code,
        Err(why) => return told(why),
    };
    if proxy.harmed() == 0 && case.rule.skip == 0 {
        return told(format!("nothing was harmed:\n{}", ended.stderr));
    }
    // The statements run on, and nothing else tells that nothing comes of them.
    if case.at == At::Rows && matches!(case.rule.harm, Harm::Hold) && !ended.stderr.contains("nothing has moved for ") {
        return told(format!("the stall was not told:\n{}", ended.stderr));
    }
    let has = || digest(scene, 1, &scene.dst, &name);
    if code == 0 {
        let found = has();
        return if found == wanted { Ok(()) } else { told(format!("ended with 0, but {found:?}:\n{}", ended.stderr)) };
    }
    proxy.harm(None);
    let again = run(scene, &task, &name).run();
    match ended_well(&again) {
        Ok(0) if has() == wanted => Ok(()),
        // A lie about the source's parts is recorded: whether the source held still cannot be told any more.
        Ok(3) if has() == wanted && again.stderr.contains("not accounted") => Ok(()),
        code => told(format!("ended with {code:?} afterwards:\n{}\n--- before:\n{}", again.stderr, ended.stderr)),
    }
}

/// The answers of a server that is not well.
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

/// The statement that moves rows, by way, and where it is answered.
const MOVES: [(&str, At, &str); 5] = [
    ("push", At::Source, "INSERT INTO FUNCTION"),
    ("pull", At::Target, "FROM remote("),
    ("relay", At::Source, "AS `relayed 0`"),
    ("relay", At::Target, "FORMAT Native"),
    ("clone", At::Target, "FETCH PARTITION"),
];

#[apply(both)]
fn the_answer_to_a_statement_that_moves_rows_is_harmed(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene);
    let wanted = digest(&scene, 0, &scene.src, "hits");
    let mut cases = Vec::new();
    for (way, at, request) in MOVES {
        cases.extend(answers().into_iter().map(|harm| Case { way, at, rule: Rule::once(request, harm) }));
    }
    // 15 harms for each statement: another few of them for each.
    let cases = some(cases, if release.is_modern() { 4 } else { 13 });
    for_all(&cases, |number, case| judge(&scene, number, case, wanted));
}

#[apply(both)]
fn rows_between_servers_are_harmed(#[case] release: Release) {
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

/// Any answer of a copy, not only those to statements that move rows: plans, counts, definitions, looks at what runs. Another harm and another
/// byte at each.
#[apply(both)]
fn any_answer_is_harmed(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene);
    let wanted = digest(&scene, 0, &scene.src, "hits");
    let harms = answers();
    let mut cases = Vec::new();
    for (number, skip) in (0..100).step_by(3).enumerate() {
        let at = if number % 2 == 0 { At::Source } else { At::Target };
        let way = ["push", "relay", "pull", "clone"][number % 4];
        // A held question ends after a minute.
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

/// A verb about a task that has been copied.
fn verb_of<'a>(scene: &'a Scene, task: &Task, verb: &str) -> Launch<'a> {
    let state = scene.dir().join("t-state");
    let launch = scene.launch_local(task, "t.xml").verb(verb).args(&["--state-dir", state.to_str().unwrap()]);
    if verb == "cleanup" || verb == "status" { launch.without_task_file().args(&["--task-path", "/t"]) } else { launch }
}

/// What looks at a copy that differs from its source never says that it does not.
#[apply(both)]
fn what_other_verbs_are_answered_is_harmed(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene);
    let (task, between) = task(&scene, "push", "t");
    run(&scene, &task, "t").run().with(0);
    // A row more, and one with another text.
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
