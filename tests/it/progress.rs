//! Progress of a run: log lines with fields, progress lines and bars, reports.

use std::fs;
use std::num::NonZeroU16;

use serde_json::Value;

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, COLUMNS, FEW_TRIES, SCREEN, Scene, Task, fill, parse_json, scene};

/// A task of three months in pieces that take some seconds each, because each statement may send only `rate` bytes a second.
fn slow(scene: &Scene, rate: u32) -> Task {
    fill(scene, &[0], BY_MONTH, 60_000, 3);
    let hits = scene.table("hits").engine(BY_MONTH).with("transfer", "push").with("batch_bytes", "1");
    // A few rows at a time, so that the server counts them as they go.
    let settings = format!(
        "<settings><max_network_bandwidth>{rate}</max_network_bandwidth><max_block_size>500</max_block_size>\
         <min_insert_block_size_rows>500</min_insert_block_size_rows>\
         <min_insert_block_size_bytes>1</min_insert_block_size_bytes></settings>"
    );
    scene.task(&[&[0]], &[&[1]]).with(hits).more(&settings)
}

/// A task whose pieces take some seconds on 25.8 too. It ignores limits for a small push, so the worker limits the rate.
fn slow_anywhere(scene: &Scene) -> Task {
    if !scene.release().is_modern() {
        return slow(scene, 60_000);
    }
    fill(scene, &[0], BY_MONTH, 60_000, 3);
    let hits = scene.table("hits").engine(BY_MONTH).with("transfer", "relay").with("batch_bytes", "1");
    let settings = "<settings><max_block_size>500</max_block_size></settings>";
    scene.task(&[&[0]], &[&[1]]).with(hits).more(settings).more("<max_bytes_per_second>300000</max_bytes_per_second>")
}

/// One table is copied; the other returns other rows each time it is read, so it fails.
#[apply(both)]
fn log_fields_identify_pieces_and_the_report_agrees_with_the_servers(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 6000, 3);
    let select = format!("SELECT d, id, s, toInt32(rand() % 1000000) AS v FROM {}.hits", scene.src);
    let one_month = "WHERE toYYYYMM(d) = 201801";
    scene.ask(0, &format!("CREATE VIEW {}.restless {COLUMNS} AS {select} {one_month}", scene.src));
    let hits = scene.table("hits").engine(BY_MONTH).with("batch_bytes", "1");
    let restless = scene.table("restless").engine(BY_MONTH).with("verify", "checksum");
    let task = scene.task(&[&[0]], &[&[1]]).with(hits).with(restless);
    let launch = scene.launch(&task).args(&FEW_TRIES).args(&["--log-format=json", "--report=report.json"]);
    let ended = launch.run().with(3);

    let log = fs::read_to_string(scene.log_folder().join("log.log")).unwrap();
    let lines: Vec<Value> = log.lines().map(parse_json).collect();
    ended.stderr.lines().for_each(|line| drop(parse_json(line)));
    let lines_about = |table: &str, name: &str, value: Value| -> Vec<&Value> {
        lines.iter().filter(|line| line["table"] == table && line[name] == value).collect()
    };
    let report = scene.read_json("report.json");
    let task_id = &report["task"];
    // The log lines of one piece.
    let piece = lines_about("hits", "piece", 1.into());
    for words in ["attempt 1 begins", "rows copied in"] {
        let line = piece.iter().find(|line| line["message"].as_str().unwrap().contains(words));
        let line = line.unwrap_or_else(|| panic!("no {words:?} in\n{log}"));
        assert_eq!(
            (&line["task"], &line["worker"], &line["attempt"]),
            (task_id, &report["worker"], &1.into()),
            "{line}"
        );
    }
    let partition = piece[0]["partition"].clone();
    assert!(["201801", "201802", "201803"].map(Value::from).contains(&partition), "{partition}");
    assert!(piece.iter().all(|line| line["partition"] == partition), "{log}");
    // The batch is published under the same partition, and no other piece has this partition.
    let published = lines_about("hits", "partition", partition);
    assert!(
        published.iter().any(|line| line["message"].as_str().unwrap().contains(": published, ")
            && line["attempt"] == 1
            && line["piece"].is_null()),
        "{log}"
    );
    assert!(published.iter().all(|line| line["piece"].is_null() || line["piece"] == 1), "{log}");
    // The attempts of a piece that fails, apart.
    let failing = lines_about("restless", "piece", 0.into());
    let level = |attempt: u32| {
        let lines = failing.iter().filter(|line| line["attempt"] == attempt);
        lines.map(|line| line["level"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((level(1), level(2)), (vec!["DEBUG".into(), "WARN".into()], vec!["DEBUG".into(), "ERROR".into()]));
    let target = scene.server(1).host().to_owned();
    assert!(
        lines.iter().any(|line| line["node"].as_str().is_some_and(|node| node.contains(&target))),
        "no line is about {target}:\n{log}"
    );

    // The report of a run in which something failed.
    assert_eq!((&report["outcome"], &report["state"]), (&"partial".into(), &"failed".into()), "{report}");
    assert!(report["seconds"].as_f64().unwrap() > 0.0 && report["warnings"].is_array(), "{report}");
    let [hits, restless] = report["tables"].as_array().unwrap().as_slice() else { panic!("{report}") };
    for partition in hits["partitions"].as_array().unwrap() {
        let sql = format!(
            "SELECT count() FROM {}.hits WHERE toYYYYMM(d) = {}",
            scene.dst,
            partition["name"].as_str().unwrap()
        );
        assert_eq!(partition["rows_published"].to_string(), scene.ask(1, &sql), "{report}");
        assert_eq!((&partition["state"], &partition["retries"]), (&"done".into(), &0.into()), "{report}");
    }
    let failed = &restless["partitions"][0];
    assert_eq!((&failed["state"], &failed["retries"]), (&"failed".into(), &1.into()), "{report}");
    assert!(failed["error"].as_str().unwrap().contains("column `v` differs"), "{report}");
    // What status says afterwards is the same.
    let status = scene.launch(&task).verb("status").without_task_file().args(&["--format=json"]).run().with(3);
    let status = parse_json(&status.stdout);
    for name in ["schema", "task", "path", "state", "total", "tables", "errors"] {
        assert_eq!(status[name], report[name], "{name}");
    }
    // The same run again, in words.
    for (file, words) in [("report.md", "| 201802 | done | "), ("report.txt", " 201802 ")] {
        scene.launch(&task).args(&FEW_TRIES).args(&["--report", file]).run().with(3);
        let text = fs::read_to_string(scene.dir().join(file)).unwrap();
        assert!(text.contains(words) && text.contains("partitions have failed"), "{text}");
    }
}

#[apply(both)]
fn without_a_terminal_progress_is_printed_as_lines(#[case] release: Release) {
    let scene = scene!(release);
    // Three pieces at a time take some seconds each, so that several lines are possible.
    let task = slow(&scene, 30_000);
    let ended = scene.launch(&task).args(&["--jobs=3", "--progress-every=1"]).run().with(0);
    let lines: Vec<&str> = ended.stderr.lines().filter(|line| line.contains(" % copied, ")).collect();
    assert!(!lines.is_empty(), "{}", ended.stderr);
    for line in &lines {
        assert!(line.contains(" of 3 partitions published; 1 worker") && line.contains(" INFO "), "{line}");
    }
    // No line repeats the line before.
    let mut reported: Vec<&str> = lines.iter().map(|line| line.split_once(" % copied").unwrap().1).collect();
    let all = reported.len();
    reported.dedup();
    assert_eq!(reported.len(), all, "{}", ended.stderr);
    assert!(!ended.stderr.contains('\r') && !ended.stderr.contains('\x1b'), "{}", ended.stderr);
    scene.check(&task);
}

#[apply(both)]
fn on_a_terminal_progress_bars_move_and_log_lines_stay_whole(#[case] release: Release) {
    let scene = scene!(release);
    let task = slow_anywhere(&scene);
    let ended = scene.launch(&task).args(&["--jobs=2"]).on_terminal().run().with(0);
    // The screen as a user saw it.
    let [lines, columns] = [SCREEN.0, SCREEN.1].map(|size| NonZeroU16::new(size).unwrap());
    let mut screen = vt100::Parser::new(lines, columns, 0);
    let (mut shares, mut whole) = (Vec::new(), false);
    let mut most_bars = 0;
    for bytes in ended.stderr.as_bytes().chunks(64) {
        screen.process(bytes);
        let bars: Vec<String> = screen.screen().rows(0, SCREEN.1).filter(|line| line.starts_with('[')).collect();
        let of_pieces: Vec<&String> = bars.iter().filter(|bar| bar.contains(" rows  hits piece ")).collect();
        most_bars = most_bars.max(of_pieces.len());
        for bar in of_pieces {
            let share = bar.split_once(']').unwrap().1.split_once('%').unwrap().0.trim();
            shares.push(share.parse::<u32>().unwrap());
        }
        whole |= bars.iter().any(|bar| bar.contains(" of 3 partitions published; 1 worker"));
    }
    assert!(most_bars == 2 && whole, "{most_bars} bars; {whole}: {}", ended.stderr);
    // 25.8 counts rows in blocks of a million, so it shows no percentages between.
    if !release.is_modern() {
        assert!(shares.iter().any(|share| (1..100).contains(share)), "{shares:?}");
    }
    // At the end the screen shows only whole log lines and no bar.
    let text = screen.screen().rows(0, SCREEN.1).collect::<Vec<_>>().join("\n");
    assert!(!text.contains("rows  hits piece") && !text.contains("partitions published;"), "{text}");
    let shown: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let log = fs::read_to_string(scene.log_folder().join("log.log")).unwrap();
    let logged: Vec<&str> = log
        .lines()
        .filter(|line| [" INFO ", " WARN ", "ERROR "].iter().any(|level| line.contains(level)))
        .filter_map(|line| Some(line.split_once("clickhouse_copier::")?.1.split_once(": ")?.1))
        .collect();
    assert!(logged.len() > 6, "{log}");
    assert_eq!(shown.len(), logged.len(), "{text}\n---\n{log}");
    for (line, message) in shown.iter().zip(&logged) {
        let is_it = [" INFO ", " WARN "].iter().any(|level| line.ends_with(&format!("{level}{message}")));
        assert!(line.starts_with("20") && is_it, "{line:?} is not {message:?}");
    }
    scene.check(&task);
}
