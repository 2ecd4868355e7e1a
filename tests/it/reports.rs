//! Reports of a run as HTML, JSON and text, and the hooks that get them.

use std::fs;
use std::os::unix::net::UnixDatagram;

use lab::Release;
use nix::sys::signal::Signal;
use rstest_reuse::apply;
use scraper::{ElementRef, Html, Selector};
use serde_json::Value;

use crate::both;
use crate::harness::{BY_MONTH, COLUMNS, FEW_TRIES, Scene, fill, parse_json, scene};

fn cells(page: &Html, selector: &str) -> Vec<String> {
    let selector = Selector::parse(selector).unwrap();
    page.select(&selector).map(|element: ElementRef| element.text().collect()).collect()
}

/// Returns a hook that writes the JSON to `<file>`, and one line for each of its runs to `<file>.env`.
fn keeps(scene: &Scene, file: &str) -> String {
    let path = scene.dir().join(file).display().to_string();
    let words = "$CLICKHOUSE_COPIER_OUTCOME $CLICKHOUSE_COPIER_EXIT_CODE $CLICKHOUSE_COPIER_TASK";
    format!("cat > '{path}'; echo \"{words}\" >> '{path}.env'")
}

/// Two workers copy two shards to two.
#[apply(both)]
fn reports_agree_with_the_servers_and_the_finish_hook_runs_once(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0, 1], BY_MONTH, 30_000, 3);
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("id").with("batch_bytes", "1");
    let task = scene.task(&[&[0], &[1]], &[&[2], &[3]]).with(hits);
    let (finish, failure) = (keeps(&scene, "finish.json"), keeps(&scene, "failure.json"));
    let launch = |name: &str| {
        let reports = ["html", "json", "md"].map(|ending| format!("--report={name}.{ending}"));
        let reports = [reports[0].as_str(), &reports[1], &reports[2]];
        let hooks = ["--on-finish", &finish, "--on-failure", &failure];
        scene.launch(&task).args(&["--jobs=1"]).args(&reports).args(&hooks)
    };
    // A socket as of systemd for a unit with Type=notify.
    let socket = scene.dir().join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_nonblocking(true).unwrap();
    let notifications = || -> String {
        let (mut datagram, mut said) = ([0; 1000], String::new());
        while let Ok(length) = systemd.recv(&mut datagram) {
            said += &String::from_utf8_lossy(&datagram[..length]);
        }
        said
    };
    let watched = launch("one").env("NOTIFY_SOCKET", socket.to_str().unwrap()).start();
    let other = launch("two").args(&["--format=json"]).start();
    watched.ends().with(0).reports(&["hits", "rows"]);
    let printed = other.ends().with(0).stdout;
    let report = notifications();
    assert!(report.contains("READY=1\n") && report.contains("STOPPING=1\n"), "{report}");
    assert_eq!(scene.read("finish.json.env"), format!("finished 0 {}\n", scene.task_path()));
    assert!(!scene.dir().join("failure.json").exists());
    let report = scene.read_json("finish.json");
    let [one, two] = ["one", "two"].map(|name| scene.read_json(&format!("{name}.json")));
    assert!(report == one || report == two, "the hook read something else than a report:\n{report}\n{one}\n{two}");
    assert_eq!(parse_json(&printed), two, "what is printed for a program is its report");
    // The report has the same numbers as the servers.
    for (server, at) in [(2, 0), (3, 1)] {
        let rows = scene.ask(server, &format!("SELECT count() FROM {}.hits", scene.dst));
        let after: Vec<&Value> =
            one["shards"].as_array().unwrap().iter().filter(|entry| entry["side"] == "target").collect();
        assert_eq!(after[at]["rows"].to_string(), rows, "{one}");
    }
    let before = one["shards"].as_array().unwrap().iter().filter(|entry| entry["side"] == "source");
    assert_eq!(before.map(|entry| entry["rows"].as_u64().unwrap()).sum::<u64>(), 60_000);
    // The report of each worker includes the work of both.
    let copied: u64 = one["throughput"]["bytes"].as_array().unwrap().iter().map(|entry| entry.as_u64().unwrap()).sum();
    let all = one["total"]["bytes"].as_u64().unwrap();
    assert!(copied.abs_diff(all) * 1000 <= all, "{copied} of {all}");
    assert!(one["spent"]["transferring"].as_u64().unwrap() > 0 && one["spent"]["publishing"].as_u64().unwrap() > 0);
    let partitions = one["tables"][0]["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 3);
    for entry in partitions {
        let moments = ["began_at", "copied_at", "published_at"].map(|name| entry[name].as_str().unwrap().to_owned());
        assert!(
            moments.is_sorted()
                && moments[0].starts_with("20")
                && moments[2].as_str() <= one["ended"].as_str().unwrap()
        );
    }
    // The HTML report has the same numbers.
    let page = Html::parse_document(&scene.read("one.html"));
    assert!(page.errors.is_empty(), "{:?}", page.errors);
    assert_eq!(cells(&page, "#outcome"), ["finished"]);
    let column = |number: usize| cells(&page, &format!(".partitions tbody td:nth-child({number})"));
    let numbers = |name: &str| -> Vec<String> {
        let plain = partitions.iter().map(|entry| entry[name].to_string());
        plain.map(|digits| digits.replace('"', "")).collect()
    };
    let without_commas =
        |texts: Vec<String>| -> Vec<String> { texts.iter().map(|text| text.replace(',', "")).collect() };
    assert_eq!(cells(&page, ".partitions tbody th"), numbers("name"));
    assert_eq!(without_commas(column(3)), numbers("rows"));
    assert_eq!(without_commas(column(4)), numbers("rows_published"));
    assert_eq!(column(9), numbers("published_at"));
    assert_eq!(cells(&page, "#shards tbody tr").len(), 4);
    assert_eq!(cells(&page, "#times rect").len(), 6, "a bar for copying and one for publishing, each partition");
    assert_eq!(cells(&page, "script, link, img, iframe"), Vec::<String>::new());
    assert!(scene.read("one.md").contains("## Where the time went"));

    // A run that finds the task finished also writes a report and runs the hook.
    launch("again").env("NOTIFY_SOCKET", socket.to_str().unwrap()).run().with(0);
    assert!(notifications().contains("READY=1\n"), "one that ends before it was ready has failed, to systemd");
    assert_eq!(scene.read("finish.json.env").lines().last().unwrap(), format!("was_finished 0 {}", scene.task_path()));
    assert_eq!(scene.read_json("again.json")["tables"], one["tables"]);
}

/// Every failure, also before the task is read, gives a report and runs the hook.
#[apply(both)]
fn every_failure_gives_a_report_and_runs_the_failure_hook_without_secrets(#[case] release: Release) {
    const SECRET: &str = "hush-in-a-report";
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 3000, 2);
    let failure = keeps(&scene, "failure.json");
    let hooks = ["--on-failure", &failure, "--report=report.json", "--report=report.html", "--on-finish", "exit 1"];
    let expect = |outcome: &str, code: i32| -> Value {
        let report = scene.read_json("failure.json");
        assert_eq!(report, scene.read_json("report.json"));
        assert_eq!((&report["outcome"], &report["exit_code"]), (&outcome.into(), &code.into()), "{report}");
        let known = scene.read("failure.json.env");
        assert!(known.lines().last().unwrap().starts_with(&format!("{outcome} {code} ")), "{known}");
        for file in ["failure.json", "report.html"] {
            assert!(!scene.read(file).contains(SECRET), "{file}");
        }
        report
    };
    // A task file that is not a valid task.
    scene.launch_text("<clickhouse><tables/></clickhouse>").args(&hooks).run().with(2);
    let report = expect("failed", 2);
    assert!(report["error"].as_str().unwrap().contains("task-0.xml"), "{report}");
    // An account that the server refuses.
    let wrong = scene.table("hits").engine(BY_MONTH);
    let task = scene.task(&[&[0]], &[&[1]]).account("nobody", SECRET).with(wrong).at("wrong");
    scene.launch(&task).args(&hooks).run().with(1);
    let report = expect("failed", 1);
    let host = scene.server(0).host();
    assert!(report["error"].as_str().unwrap().contains(host), "{report}");
    assert!(cells(&Html::parse_document(&scene.read("report.html")), "#error")[0].contains(host));
    // A partition that cannot be copied, and a name that is a tag. The hook fails as well, and says so.
    let select = format!("SELECT d, id, s, toInt32(rand() % 1000000) AS v FROM {}.hits", scene.src);
    scene.ask(0, &format!("CREATE VIEW {}.`<script>alert(1)</script>` {COLUMNS} AS {select}", scene.src));
    let mut restless = scene.table("restless").engine(BY_MONTH).with("verify", "checksum");
    restless = restless.from(&scene.src, "<script>alert(1)</script>");
    let task = scene.task(&[&[0]], &[&[1]]).with(restless).at("restless");
    let fails = format!("{failure}; echo no pager; exit 9");
    let hooks_that_fail = ["--on-failure", &fails, "--report=report.json", "--report=report.html"];
    let ended = scene.launch(&task).args(&FEW_TRIES).args(&hooks_that_fail).run().with(3);
    let ended = ended.tells(&["--on-failure: no pager"]);
    ended.tells(&["--on-failure: the command failed (exit status: 9)"]);
    let report = expect("partial", 3);
    let warnings = report["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|line| line.as_str().unwrap().contains("column `v` differs")), "{report}");
    let page = Html::parse_document(&scene.read("report.html"));
    assert_eq!(cells(&page, "script"), Vec::<String>::new());
    let source = format!("{}.<script>alert(1)</script>", scene.src);
    assert!(cells(&page, "p code").contains(&source), "{source}");
    // A signal.
    let hits = scene.table("hits").engine(BY_MONTH);
    let task = scene.task(&[&[0]], &[&[1]]).with(hits).at("signal");
    let worker = scene.launch(&task).args(&hooks).stop_at("piece-pushed").start();
    worker.reaches("piece-pushed");
    worker.signal(Signal::SIGTERM);
    worker.says("told to end");
    worker.signal(Signal::SIGTERM);
    worker.ends().with(130);
    let report = expect("interrupted", 130);
    assert_eq!(report["tables"][0]["partitions"].as_array().unwrap().len(), 2, "{report}");
    // A report that cannot be written makes the run fail. Other reports are written.
    let folder = scene.dir().join("gone");
    fs::create_dir(&folder).unwrap();
    let launch = scene.launch(&task).args(&["--report=gone/x.json"]).args(&hooks);
    let worker = launch.freeze_at("publication-claimed").start();
    worker.freezes_at("publication-claimed");
    fs::remove_dir(&folder).unwrap();
    worker.thaw();
    worker.ends().with(1).tells(&["cannot write the report to", "gone/x.json"]);
    assert_eq!(scene.read_json("report.json")["outcome"], "finished");
    let report = scene.read_json("failure.json");
    assert_eq!((&report["outcome"], &report["exit_code"]), (&"finished".into(), &1.into()), "{report}");
    assert!(report["error"].as_str().unwrap().contains("gone/x.json"), "{report}");
}
