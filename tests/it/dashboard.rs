//! `dashboard` and `--metrics-listen` over HTTP: the answers agree with the servers, and requests without permission get nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::TcpStream;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{Dashboard, TOKEN, ask, scene, stream, task_with_slow_push, xml_without_limits};

/// Parses metrics in OpenMetrics form: values by name and labels. Fails if a line has a wrong form.
fn figures(text: &str) -> BTreeMap<String, f64> {
    let (mut figures, mut types) = (BTreeMap::new(), BTreeMap::new());
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "EOF"] => {}
            ["#", "HELP", name, help] => assert!(name.starts_with("clickhouse_copier_") && help.len() > 10, "{line}"),
            ["#", "UNIT", name, unit] => assert!(name.ends_with(&format!("_{unit}")), "{line}"),
            ["#", "TYPE", name, kind] => {
                assert_eq!(types.insert(name.to_owned(), kind.to_owned()), None, "{line}");
            }
            _ => {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                let name = sample.split('{').next().unwrap();
                let family = name.strip_suffix("_total").unwrap_or(name);
                let kind = types.get(family).unwrap_or_else(|| panic!("no type before {line}"));
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert_eq!(figures.insert(sample.to_owned(), value.parse().unwrap()), None, "twice: {line}");
            }
        }
    }
    figures
}

/// Collects the paths of all fields of a JSON object, as in `tables[].name`. Names that are data become `*`.
fn places(value_at: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value_at {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = if at.ends_with("partitions") && value.is_u64() { "*" } else { name };
                let at = if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
                found.insert(at.clone());
                places(value, &at, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| places(value, &format!("{at}[]"), found)),
        _ => {}
    }
}

/// Opens connections with half a request each. The server may close them.
fn half_asked(address: &str, number: usize) -> Vec<TcpStream> {
    let begin = || {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").ok()?;
        Some(stream)
    };
    (0..number).filter_map(|_| begin()).collect()
}

/// Many connections with half-sent requests: the copy continues, and other requests are answered during and after it.
#[test]
fn many_open_connections_disturb_neither_the_copy_nor_the_dashboard() {
    // This process needs as many file descriptors.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(16_384), hard).unwrap();
    let scene = scene!(Release::V25_8);
    let task = task_with_slow_push(&scene, 20_000);
    let dashboard =
        Dashboard::from_launch(scene.launch(&task).files(256).verb("dashboard").args(&["--listen", "127.0.0.1:0"]));
    let worker = scene.launch(&task).files(256).args(&["--jobs=2", "--metrics-listen", "127.0.0.1:0"]).start();
    worker.says("metrics of this worker are at http://");
    let own =
        worker.stderr_so_far().split_once("are at http://").unwrap().1.split_once("/metrics").unwrap().0.to_owned();
    let mut floods = Vec::new();
    for address in [&own, &dashboard.address] {
        floods.push(half_asked(address, 1_100));
        assert_eq!(ask(address, "/metrics", &[], None).code, 200);
    }
    let ended = worker.ends().with(0);
    assert!(!ended.stderr.contains("too many files") && !ended.stderr.contains("is repeated"), "{}", ended.stderr);
    scene.check(&task);
    dashboard.get("/api/status");
    drop(floods);
    dashboard.get("/api/status");
}

#[apply(both)]
fn the_dashboard_and_the_metrics_agree_with_the_servers(#[case] release: Release) {
    let scene = scene!(release);
    let task = task_with_slow_push(&scene, 20_000);
    let dashboard = Dashboard::start(&scene, &task, &["--listen", "127.0.0.1:0"]);
    let early = ask(&dashboard.address, "/api/status", &[], None);
    assert_eq!(early.code, 503, "{}", early.body);
    assert!(early.json()["stale"].as_str().unwrap().contains("there is no task at"), "{}", early.body);

    let worker = scene.launch(&task).args(&["--jobs=2", "--metrics-listen", "127.0.0.1:0"]).start();
    worker.says("metrics of this worker are at http://");
    let own =
        worker.stderr_so_far().split_once("are at http://").unwrap().1.split_once("/metrics").unwrap().0.to_owned();
    let mut documented = BTreeSet::new();
    scene.eventually("statements are seen that the server shows too", || {
        let answer = ask(&dashboard.address, "/api/status", &[], None);
        if answer.code != 200 {
            return Err(answer.body);
        }
        let status = answer.json();
        places(&status, "", &mut documented);
        let jobs = status["workers"][0]["jobs"].as_array().cloned().unwrap_or_default();
        let ids = jobs.iter().flat_map(|job| job["statements"].as_array().unwrap());
        let ids: Vec<&str> = ids.map(|statement| statement["query_id"].as_str().unwrap()).collect();
        let shown = scene.ask(0, "SELECT query_id FROM system.processes WHERE query_id LIKE 'copier:%'");
        let both = ids.iter().filter(|id| shown.contains(**id)).count();
        if both == 2 && status["state"] == "copying" { Ok(()) } else { Err(format!("{shown}; {status}")) }
    });
    scene.eventually("the worker tells of two pieces in hand", || {
        let running_pieces = figures(&ask(&own, "/metrics", &[], None).body);
        let jobs = running_pieces.get(r#"clickhouse_copier_worker_jobs{kind="copy"}"#);
        if jobs == Some(&2.0) { Ok(()) } else { Err(format!("{running_pieces:?}")) }
    });
    assert_eq!((ask(&own, "/healthz", &[], None).code, ask(&own, "/api/status", &[], None).code), (200, 404));
    let mut news = stream(&dashboard.address, "/api/stream");
    let (first, second) = (news.next().unwrap(), news.next().unwrap());
    assert_eq!((&first["whole"], &second["whole"]), (&json!(true), &json!(false)));
    assert_eq!(first["partitions"].as_array().unwrap().len(), 3, "{first}");
    let pieces = dashboard.get("/api/partition?table=0&partition=2");
    assert_eq!((&pieces["batch"]["table"], &pieces["status"]["name"]), (&json!("hits"), &json!("201803")));
    assert_eq!(pieces["batch"]["pieces"].as_array().unwrap().len(), 2, "{pieces}");
    assert_eq!(ask(&dashboard.address, "/api/partition?table=0&partition=3", &[], None).code, 404);

    scene.launch_text(&xml_without_limits(&task)).args(&["--task-upload-force"]).run().with(0);
    worker.ends().with(0);
    // The dashboard shows a state that is up to a second old.
    scene.eventually("the end is seen", || match dashboard.get("/api/status")["state"].as_str() {
        Some("finished") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let after = dashboard.get("/api/status");
    places(&after, "", &mut documented);
    assert_eq!((&after["state"], &after["stale"]), (&json!("finished"), &Value::Null));
    for (partition, month) in after["tables"][0]["partitions"].as_array().unwrap().iter().zip(201_801..) {
        let rows = scene.sum(&[1], &format!("SELECT count() FROM {}.hits WHERE toYYYYMM(d) = {month}", scene.dst));
        assert_eq!((&partition["name"], &partition["rows_published"]), (&json!(month.to_string()), &json!(rows)));
    }
    // The dashboard and the verb `status` give the same object.
    scene.eventually("the page and the verb say the same", || {
        let verb = scene.launch(&task).verb("status").without_task_file().args(&["--format=json"]).run().with(0);
        let mut same = dashboard.get("/api/status");
        for more in ["seen_at", "stale"] {
            assert!(same.as_object_mut().unwrap().remove(more).is_some(), "no {more}");
        }
        // Only the dashboard measures rates.
        for rate in ["bytes_per_second", "seconds_left"] {
            same.as_object_mut().unwrap().insert(rate.into(), Value::Null);
        }
        let printed = serde_json::from_str::<Value>(&verb.stdout).unwrap();
        if same == printed { Ok(()) } else { Err(format!("{same}\n{printed}")) }
    });

    let exported = ask(&dashboard.address, "/metrics", &[], None);
    assert!(exported.headers["content-type"].starts_with("application/openmetrics-text"), "{exported:?}");
    let figures = figures(&exported.body);
    let rows = scene.sum(&[1], &format!("SELECT count() FROM {}.hits", scene.dst));
    for (name, value) in [
        ("up", 1.0),
        (r#"published_rows{table="hits"}"#, rows as f64),
        (r#"partitions{table="hits",state="done"}"#, 3.0),
        (r#"task_state{state="finished"}"#, 1.0),
        ("workers", 0.0),
    ] {
        assert_eq!(figures[&format!("clickhouse_copier_{name}")], value, "{name}");
    }

    let schema = fs::read_to_string("docs/status-schema.md").unwrap();
    for place in &documented {
        assert!(schema.contains(&format!("| `{place}` |")), "docs/status-schema.md does not tell of {place}");
    }
    let events = dashboard.get("/api/events").to_string();
    for words in ["has come", " published", "the task is finished"] {
        assert!(events.contains(words), "no {words:?} in {events}");
    }
    dashboard.process.signal(nix::sys::signal::Signal::SIGTERM);
    dashboard.process.ends().with(0);
}

#[apply(both)]
fn the_dashboard_refuses_other_hosts_and_requests_without_token(#[case] release: Release) {
    let scene = scene!(release);
    let task = task_with_slow_push(&scene, 20_000);
    let refused = |arguments: &[&str]| {
        let launch = scene.launch(&task).verb("dashboard").without_task_file().env("SHORT", "hunter2");
        launch.args(arguments).run().with(2)
    };
    refused(&["--listen", "0.0.0.0:0"]).tells(&["0.0.0.0:0", "other machines", "token"]);
    let short = refused(&["--listen", "0.0.0.0:0", "--token-env", "SHORT"]).tells(&["less than 16"]);
    assert!(!short.stderr.contains("hunter2"), "{}", short.stderr);
    refused(&["--token-env", "NOT_THERE"]).tells(&["NOT_THERE"]);
    scene.launch(&task).args(&["--metrics-listen", "0.0.0.0:0"]).run().with(2).tells(&["other machines"]);
    assert_eq!(scene.children(&task.path), None, "a run that is refused begins nothing");

    let open = Dashboard::start(&scene, &task, &["--listen", "127.0.0.1:0"]);
    let evil = [("Host", "evil.example")];
    let paths = ["/", "/api/status", "/api/partition?table=0&partition=0", "/api/events", "/api/stream", "/metrics"];
    for path in paths {
        let answer = ask(&open.address, path, &evil, None);
        assert_eq!(answer.code, 403, "{path} under another name: {}", answer.body);
    }
    let page = ask(&open.address, "/", &[], None);
    assert_eq!(page.code, 200);
    assert!(page.headers["content-security-policy"].contains("default-src 'none'"), "{page:?}");

    let guarded = Dashboard::start(&scene, &task, &["--listen", "0.0.0.0:0", "--token-env", "DASHBOARD_TOKEN"]);
    let address = guarded.address.replace("0.0.0.0", "127.0.0.1");
    for path in paths {
        for headers in
            [&[][..], &[("Authorization", "Bearer wrong-horse-battery-staple")], &[("Cookie", "clickhouse_copier=")]]
        {
            let answer = ask(&address, path, headers, None);
            assert_eq!(answer.code, 401, "{path}: {}", answer.body);
            assert!(!answer.body.contains(&task.path), "{path}: {}", answer.body);
        }
    }
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(ask(&address, "/metrics", &[("Authorization", &bearer)], None).code, 200);
    assert_eq!(ask(&address, "/healthz", &[], None).body, "ok\n");
    assert_eq!(ask(&address, "/login", &[], Some("token=wrong")).code, 401);
    let link = ask(&address, &format!("/?token={TOKEN}"), &[], None);
    let login = ask(&address, "/login", &[], Some(&format!("token={TOKEN}")));
    for entered in [&link, &login] {
        assert_eq!((entered.code, &*entered.headers["location"]), (303, "/"), "{entered:?}");
    }
    let cookie = login.headers["set-cookie"].split(';').next().unwrap().to_owned();
    assert_eq!(ask(&address, "/api/events", &[("Cookie", &cookie)], None).code, 200);

    let printed = guarded.process.killed();
    assert!(!printed.contains(TOKEN), "{printed}");
}
