//! The modern nodes behave like ClickHouse servers over HTTP.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use lab::{ClickHouse, Lab, LabSpec, ODD_PASSWORD, Release};
use ureq::Agent;

/// Status, body and headers of an answer.
struct Reply {
    status: u16,
    body: Vec<u8>,
    headers: ureq::http::HeaderMap,
}

impl Reply {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn post(server: &ClickHouse, parameters: &[(&str, &str)], headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Reply {
    let config = Agent::config_builder().http_status_as_error(false).proxy(None).build();
    let request = Agent::from(config).post(server.http_url());
    let request = parameters.iter().fold(request, |request, (name, value)| request.query(*name, *value));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let mut response = request.send(body.as_ref()).unwrap();
    let body = response.body_mut().with_config().limit(u64::MAX).read_to_vec().unwrap();
    Reply { status: response.status().as_u16(), body, headers: response.headers().clone() }
}

/// Everything that the server answers on one connection to bytes sent as they are.
fn raw(server: &ClickHouse, request: &[u8]) -> String {
    let mut stream = TcpStream::connect((server.host(), 8123)).unwrap();
    stream.write_all(request).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// The most memory that a node has had, in MiB.
fn peak(server: &ClickHouse) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

fn node() -> &'static ClickHouse {
    Lab::shared_modern().modern(0)
}

/// One of each release, and what its errors end with.
fn nodes() -> [(&'static ClickHouse, &'static str); 2] {
    [(node(), "(version 26.9.2.1)"), (Lab::shared_between().modern(0), "(version 24.5.1.1)")]
}

#[test]
fn statements_come_in_the_query_string_the_body_or_both() {
    for (parameters, body) in [
        (&[("query", "SELECT 1 + 1")][..], ""),
        (&[], "SELECT 1 + 1"),
        (&[("query", "SELECT 1")], "+ 1"),
        (&[("query", "SELECT {n:UInt8} + 1"), ("param_n", "1")], ""),
        (&[("default_format", "JSONEachRow")], "SELECT '\u{451}' AS name /* ; */ FORMAT CSV;"),
    ] {
        for (node, _) in nodes() {
            let reply = post(node, parameters, &[], body);
            let expected = if body.contains("CSV") { "\"\u{451}\"\n" } else { "2\n" };
            assert_eq!((reply.status, reply.text().as_str()), (200, expected), "{parameters:?} {body}");
        }
    }
    for (node, _) in nodes() {
        let reply = post(node, &[("query_id", "mine"), ("default_format", "JSON")], &[], "SELECT 1 AS a WHERE 0");
        assert!(reply.text().contains("\"type\": \"UInt8\""), "{}", reply.text());
        assert_eq!((reply.header("X-ClickHouse-Query-Id"), reply.header("X-ClickHouse-Format")), ("mine", "JSON"));
    }
}

#[test]
fn settings_and_the_database_are_those_of_the_request() {
    for (server, _) in nodes() {
        server.query("CREATE DATABASE IF NOT EXISTS front_settings").unwrap();
        let sql = "SELECT currentDatabase(), getSetting('max_threads')";
        let reply = post(server, &[("database", "front_settings"), ("max_threads", "7")], &[], sql);
        assert_eq!(reply.text(), "front_settings\t7\n");
        assert!(server.value(sql).unwrap().starts_with("default\t"));
    }
}

#[test]
fn errors_have_the_servers_status_code_and_text() {
    for (parameters, sql, status, code) in [
        (&[][..], "SELECT nowhere", 404, 47),
        (&[], "SELEC 1", 400, 62),
        (&[], "", 400, 62),
        (&[], "SELECT * FROM nowhere", 404, 60),
        (&[], "INSERT INTO nowhere VALUES (1)", 404, 60),
        (&[], "SELECT throwIf(1)", 500, 395),
        (&[], "INSERT INTO FUNCTION null('n UInt8') SELECT * FROM input('n UInt8') FORMAT TSV\n1\n", 501, 48),
        (&[("session_id", "1")], "SELECT 1", 501, 48),
        (&[("no_such_setting", "1")], "SELECT 1", 404, 115),
        (&[("not a setting", "1")], "SELECT 1", 404, 115),
        (&[("database", "nowhere")], "SELECT 1", 404, 81),
        (&[("user", "nobody")], "SELECT 1", 403, 516),
        (&[("user", "tester"), ("password", "wrong")], "SELECT 1", 403, 516),
        (&[("user", "readonly")], "CREATE DATABASE nowhere", 500, 164),
        (&[("user", "readonly"), ("max_threads", "1")], "SELECT 1", 500, 164),
    ] {
        for (node, version) in nodes() {
            let reply = post(node, parameters, &[], sql);
            let start = format!("Code: {code}. DB::Exception: ");
            assert!(
                reply.status == status && reply.text().starts_with(&start),
                "{sql}: {} {}",
                reply.status,
                reply.text()
            );
            assert_eq!(reply.header("X-ClickHouse-Exception-Code"), code.to_string());
            assert!(reply.text().ends_with(&format!("{version}\n")), "{}", reply.text());
        }
    }
    for (node, _) in nodes() {
        assert_eq!(node.query_as("tester", ODD_PASSWORD, "SELECT 1").unwrap(), "1\n");
        let answer = raw(node, b"GET /?query=CREATE+DATABASE+nowhere HTTP/1.0\r\n\r\n");
        assert!(answer.contains("Code: 164."), "{answer}");
    }
}

#[test]
fn an_error_in_the_middle_of_a_result_comes_behind_its_rows_and_the_answer_has_no_end() {
    let sql = "SELECT throwIf(number = 3000000) FROM numbers(5000000) SETTINGS max_threads = 1";
    let request = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{sql}", sql.len());
    let answer = raw(node(), request.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{}", &answer[..300]);
    let tag = answer.split("X-ClickHouse-Exception-Tag: ").nth(1).unwrap().lines().next().unwrap();
    let end = &answer[answer.len() - 500..];
    assert!(end.contains(&format!("__exception__\r\n{tag}\r\nCode: 395. DB::Exception: ")), "{end}");
    assert!(end.ends_with(&format!("{tag}\r\n__exception__\r\n\r\n")), "{end}");
    let whole = post(node(), &[("wait_end_of_query", "1")], &[], sql);
    assert_eq!((whole.status, &whole.text()[..10]), (500, "Code: 395."));
}

#[test]
fn large_results_and_inserts_pass_through_little_memory() {
    let lab =
        Lab::start(LabSpec { zookeeper: false, clickhouse: 0, modern: vec![Release::V26_9], ..LabSpec::default() })
            .unwrap();
    let server = lab.modern(0);
    let before = peak(server);
    // 1 GiB out, in blocks of 4 MB: the engine holds about ten of them …
    let config = Agent::config_builder().proxy(None).build();
    let sql = "SELECT randomPrintableASCII(1000) FROM numbers(1073741) SETTINGS max_block_size = 4000 FORMAT RowBinary";
    let mut response = Agent::from(config).post(server.http_url()).send(sql).unwrap();
    let read = std::io::copy(&mut response.body_mut().as_reader(), &mut std::io::sink()).unwrap();
    assert_eq!(read, 1_002 * 1_073_741);
    assert!(peak(server) < before + 150, "{before} -> {} MiB for a result of 1 GiB", peak(server));
    // … and in, in chunks.
    server.query("CREATE TABLE default.sink (s String) ENGINE = Null").unwrap();
    let block = post(server, &[], &[], "SELECT randomPrintableASCII(1000) FROM numbers(4000) FORMAT Native").body;
    let head = "POST /?query=INSERT+INTO+default.sink+FORMAT+Native&max_insert_block_size=10000\
                &min_insert_block_size_rows=10000&min_insert_block_size_bytes=10000000 HTTP/1.1\r\n\
                Host: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    let mut stream = TcpStream::connect((server.host(), 8123)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..268 {
        write!(stream, "{:x}\r\n", block.len()).unwrap();
        stream.write_all(&block).unwrap();
        stream.write_all(b"\r\n").unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"written_rows\":\"1072000\""), "{answer}");
    assert!(peak(server) < before + 500, "{before} -> {} MiB for an insert of 1 GiB", peak(server));
}

#[test]
fn native_rows_go_in_and_a_broken_body_is_an_error() {
    for (server, _) in nodes() {
        server.query("CREATE DATABASE IF NOT EXISTS front_native").unwrap();
        server
            .query("CREATE TABLE front_native.t (a UInt64, s LowCardinality(String)) ENGINE = MergeTree ORDER BY a")
            .unwrap();
        let sql = "SELECT number AS a, toLowCardinality(toString(number % 9)) AS s FROM numbers(100000) FORMAT Native";
        let rows = post(server, &[], &[], sql).body;
        let insert = ("query", "INSERT INTO front_native.t FORMAT Native");
        let count = || server.value("SELECT count(), sum(a) FROM front_native.t").unwrap();
        let cut = post(server, &[insert], &[], &rows[..rows.len() - 1000]);
        assert_eq!((cut.status, &cut.text()[..9]), (500, "Code: 33."), "{}", cut.text());
        // A connection that breaks between two blocks: all that came could be read.
        for head in [format!("Content-Length: {}", rows.len() + 1), "Transfer-Encoding: chunked".to_owned()] {
            let mut request = b"POST /?query=INSERT+INTO+front_native.t+FORMAT+Native HTTP/1.1\r\nHost: x\r\n".to_vec();
            request.extend_from_slice(format!("{head}\r\n\r\n").as_bytes());
            if head.ends_with("chunked") {
                request.extend_from_slice(format!("{:x}\r\n", rows.len()).as_bytes());
            }
            request.extend_from_slice(&rows);
            let answer = raw(server, &request);
            assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("Code: 33."), "{answer}");
        }
        assert_eq!(count(), "0\t0");
        let done = post(server, &[insert, ("query_id", "native")], &[], &rows);
        assert_eq!((done.status, done.text().as_str()), (200, ""));
        assert!(done.header("X-ClickHouse-Summary").contains("\"written_rows\":\"100000\""));
        assert_eq!(count(), "100000\t4999950000");
        // The statement and its rows in one body; text with a line feed as its first byte.
        post(server, &[], &[], "INSERT INTO front_native.t (s, a) FORMAT TSV\n\t7\nx\t8\n");
        post(server, &[], &[], "INSERT INTO front_native.t VALUES (9, 'it''s'), (10, 'select')");
        let added = server.value("SELECT groupArray((a, s)) FROM (SELECT * FROM front_native.t WHERE s NOT IN ('0', '1', '2', '3', '4', '5', '6', '7', '8') ORDER BY a)");
        assert_eq!(added.unwrap(), r"[(7,''),(8,'x'),(9,'it\'s'),(10,'select')]");
    }
}

#[test]
fn results_are_compressed_where_that_is_asked_for() {
    let zipped =
        post(node(), &[("enable_http_compression", "1")], &[("Accept-Encoding", "gzip")], "SELECT repeat('a', 100000)");
    assert_eq!((zipped.header("Content-Encoding"), &zipped.body[..2]), ("gzip", &[0x1f, 0x8b][..]));
    assert!(zipped.body.len() < 1000);
    let table = "CREATE TABLE IF NOT EXISTS default.zipped (s String) ENGINE = Memory";
    node().query(table).unwrap();
    let insert = ("query", "INSERT INTO default.zipped FORMAT TSV");
    assert_eq!(post(node(), &[insert], &[("Content-Encoding", "gzip")], &zipped.body).status, 200);
    assert_eq!(node().value("SELECT length(s) FROM default.zipped").unwrap(), "100000");
    let half = &zipped.body[..zipped.body.len() / 2];
    assert_eq!(post(node(), &[insert], &[("Content-Encoding", "gzip")], half).status, 500);
    node().query("DROP TABLE default.zipped").unwrap();
}

/// Waits until a statement runs; the server tells nobody, so it is asked now and then.
fn until_running(server: &ClickHouse, id: &str) {
    let begun = Instant::now();
    while server.value(&format!("SELECT count() FROM system.processes WHERE query_id = '{id}'")).unwrap() != "1" {
        assert!(begun.elapsed() < Duration::from_secs(30), "{id} does not run");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_statement_is_seen_and_killed_by_the_id_it_was_given() {
    for (server, _) in nodes() {
        let endless = "INSERT INTO FUNCTION null('n UInt64') SELECT number FROM system.numbers";
        std::thread::scope(|scope| {
            let running = scope.spawn(|| post(server, &[("query_id", "front:endless")], &[], endless));
            until_running(server, "front:endless");
            let again = post(server, &[("query_id", "front:endless")], &[], "SELECT 1");
            assert!(again.text().starts_with("Code: 216."), "{}", again.text());
            let other = server.query("KILL QUERY WHERE query_id = 'front:other' SYNC").unwrap();
            assert_eq!(other, "");
            let killed = server.query("KILL QUERY WHERE startsWith(query_id, 'front:end') ASYNC").unwrap();
            assert!(killed.starts_with("waiting\tfront:endless\t"), "{killed}");
            let ended = running.join().unwrap();
            assert_eq!((ended.status, &ended.text()[..10]), (500, "Code: 394."));
            assert_eq!(post(server, &[("query_id", "front:endless")], &[], "SELECT 1").text(), "1\n");
        });
    }
}

#[test]
fn a_killed_insert_of_streamed_rows_is_not_taken_for_a_good_one() {
    for (server, _) in nodes() {
        server.query("CREATE DATABASE IF NOT EXISTS front_killed").unwrap();
        server.query("CREATE TABLE IF NOT EXISTS front_killed.half (a UInt64) ENGINE = MergeTree ORDER BY a").unwrap();
        // The statement begins with the first rows; only the end of them is missing.
        let mut stream = TcpStream::connect((server.host(), 8123)).unwrap();
        let rows = "4\n".repeat(200_000);
        let head = "POST /?query_id=front:rest&query=INSERT+INTO+front_killed.half+FORMAT+TSV HTTP/1.1\r\nHost: x\r\n\
                Connection: close\r\n";
        write!(stream, "{head}Content-Length: {}\r\n\r\n{rows}", rows.len() + 2).unwrap();
        until_running(server, "front:rest");
        server.query("KILL QUERY WHERE query_id = 'front:rest' ASYNC").unwrap();
        stream.write_all(b"5\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("Code: 394."), "{answer}");
    }
}

#[test]
fn a_killed_node_starts_again_with_its_data() {
    let modern = vec![Release::V26_9, Release::V24_5];
    let lab = Lab::start(LabSpec { zookeeper: false, clickhouse: 0, modern, ..LabSpec::default() }).unwrap();
    for server in [lab.modern(0), lab.modern(1)] {
        server.query("CREATE DATABASE here").unwrap();
        server.query("CREATE TABLE here.t (a UInt64) ENGINE = MergeTree ORDER BY a").unwrap();
        server.query("INSERT INTO here.t SELECT number FROM numbers(1000)").unwrap();
        server.kill_9().unwrap();
        assert!(server.query("SELECT 1").is_err());
        server.start().unwrap();
        assert_eq!(server.value("SELECT count() FROM here.t").unwrap(), "1000");
        server.stop().unwrap();
        server.start().unwrap();
        assert_eq!(server.value("SELECT sum(a) FROM here.t").unwrap(), "499500");
    }
}

/// What this release is here for: as a client it understands 18.16, and its `remote()` takes a sharding key.
#[test]
fn a_node_in_between_writes_to_18_16_and_reads_from_it() {
    let (server, [one, two]) = (Lab::shared_between().modern(1), [0, 1].map(|i| Lab::shared().clickhouse(i)));
    let columns = "(d Date, id UInt64, s String, n Nullable(Int32), dec Decimal(18, 4), u UUID, a Array(String))";
    server.query("CREATE DATABASE front_remote").unwrap();
    for old in [one, two] {
        old.query("CREATE DATABASE front_remote").unwrap();
        old.query(&format!("CREATE TABLE front_remote.t {columns} ENGINE = MergeTree ORDER BY id")).unwrap();
    }
    for table in ["t", "back"] {
        server.query(&format!("CREATE TABLE front_remote.{table} {columns} ENGINE = MergeTree ORDER BY id")).unwrap();
    }
    let rows = "SELECT today(), number, toString(number), if(number % 3 = 0, NULL, -number), number / 3, generateUUIDv4(), \
                ['a', toString(number)] FROM numbers(3000)";
    server.query(&format!("INSERT INTO front_remote.t {rows}")).unwrap();
    let both = format!("{},{}", one.native(), two.native());
    let push = format!("remote('{both}', front_remote.t, 'default', '', id) SELECT * FROM front_remote.t");
    server.query(&format!("INSERT INTO FUNCTION {push}")).unwrap();
    let sum = "SELECT count(), sum(id), sum(cityHash64(d, id, s, ifNull(n, toInt32(0)), reinterpretAsString(dec), \
               reinterpretAsString(u), a)) FROM front_remote";
    let [odd, even] = [one, two].map(|old| old.value("SELECT count(), min(id) FROM front_remote.t").unwrap());
    assert_eq!((odd.as_str(), even.as_str()), ("1500\t0", "1500\t1"));
    server.query(&format!("INSERT INTO front_remote.back SELECT * FROM remote('{both}', front_remote.t)")).unwrap();
    let [there, back] = ["t", "back"].map(|table| server.value(&format!("{sum}.{table}")).unwrap());
    assert_eq!(there, back);
}

/// This engine's own REPLACE only attaches: the front makes two of it.
#[test]
fn a_node_in_between_replaces_partitions() {
    let server = Lab::shared_between().modern(1);
    server.query("CREATE DATABASE front_replace").unwrap();
    for table in ["a", "b"] {
        let engine = "MergeTree PARTITION BY p ORDER BY n";
        server.query(&format!("CREATE TABLE front_replace.{table} (p UInt8, n UInt8) ENGINE = {engine}")).unwrap();
    }
    server.query("INSERT INTO front_replace.a VALUES (1, 10), (2, 20), (3, 30)").unwrap();
    server.query("INSERT INTO front_replace.b VALUES (1, 11), (2, 22)").unwrap();
    let commands = "REPLACE PARTITION ID '1' FROM front_replace.b, REPLACE PARTITION ID '2' FROM front_replace.b";
    server.query(&format!("ALTER TABLE front_replace.a {commands}")).unwrap();
    let rows = || server.value("SELECT arraySort(groupArray(n)) FROM front_replace.a").unwrap();
    assert_eq!((rows(), rows()), ("[11,22,30]".to_owned(), "[11,22,30]".to_owned()));
}
