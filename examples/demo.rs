//! A copy from start to end on real servers of its own, with a crash in the middle, and the way back.
//!
//! `cargo build --bins --example demo && cargo run --example demo`; ends with 1 if anything is not as it should be. All
//! servers live on loopback addresses in a temporary folder and end with this process. The servers are ClickHouse 25.8;
//! `-- --servers 18.16` takes that release, `-- --servers 18.16,25.8` a source cluster of the first and a target cluster of the
//! second. With `-- --stay` it asks before it begins, so that the dashboard can be opened first, and before it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clickhouse_copier::sql::{Column, DefaultKind, row_hash};
use lab::{ClickHouse, Lab, LabSpec, Release};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Servers by what they are in the demo.
const SOURCE: [usize; 2] = [0, 1];
const TARGET: [usize; 3] = [2, 3, 4];

const ROWS_PER_SHARD: u64 = 1_500_000;
const COPY: &str = include_str!("../task-configs/demo.xml");
const RESTORE: &str = include_str!("../task-configs/demo-restore.xml");
/// A worker that says nothing for so long hangs.
const SILENCE: Duration = Duration::from_secs(120);

const TABLE: &str = "CREATE TABLE web.hits (
    WatchID UInt64, EventDate Date, EventTime DateTime, CounterID UInt32, UserID UInt64, RegionID UInt32,
    URL String, Referer String, Title String, SearchPhrase String, IsMobile UInt8, Age Nullable(UInt8), Revenue Float64,
    GoalsReached Array(UInt32), ParsedParams Nested(Key String, Value Float64)
) ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/web/hits', '{replica}')
PARTITION BY toYYYYMM(EventDate) ORDER BY (CounterID, EventDate, intHash32(UserID))";

/// Visits of twelve pages each, to a few busy sites and many quiet ones, over the first half of a year.
const VISITS: &str = "INSERT INTO web.hits
SELECT
    id, toDate(time), time, counter, user, 1 + user % 250,
    concat('https://shop-', toString(counter), '.example/', arrayElement(['', 'catalogue/', 'item/', 'basket/'], 1 + page % 4),
        toString(page % 20000), if(page % 5 = 0, concat('?utm_source=', arrayElement(['mail', 'ads', 'partner'], 1 + page % 3)), '')),
    if(step = 0, arrayElement(['https://search.example/', 'https://news.example/', ''], 1 + visit % 3),
        concat('https://shop-', toString(counter), '.example/')),
    concat(arrayElement(['Каталог', 'Product', 'Warenkorb', '検索'], 1 + page % 4), ' № ', toString(page % 20000)),
    if(step = 0 AND visit % 3 = 0, arrayElement(['winter boots', 'купить чайник', 'cheap \"red\" lamp'], 1 + page % 3), ''),
    user % 3 = 0, if(user % 4 = 0, NULL, toUInt8(16 + user % 60)), if(page % 40 = 0, (page % 100000) / 100, 0),
    arrayMap(x -> toUInt32(page % 1000 + x), range(page % 3)),
    arrayMap(x -> arrayElement(['price', 'size', 'rating'], x + 1), range(page % 4)),
    arrayMap(x -> (page % 5000) / (x + 4), range(page % 4))
FROM
(
    SELECT
        intHash64(number * 2 + SHARD) AS id, intHash64(id) AS page, number % 12 AS step,
        intHash64(intDiv(number, 12) * 2 + SHARD + 1000000000) AS visit,
        intHash64(visit % 60000 * 2 + SHARD) AS user,
        toUInt32(exp2(user % 1000 / 100)) AS counter,
        toDateTime('2018-01-01 00:00:00') + toUInt32(visit % 15600000) + toUInt32(step * 40 + page % 40) AS time
    FROM system.numbers LIMIT ROWS
)";

fn main() -> ExitCode {
    match Demo::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("demo: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprint!(": {error}");
                cause = error.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

struct Demo {
    begun: Instant,
    lab: Lab,
    program: PathBuf,
}

impl Demo {
    fn run() -> Outcome<()> {
        let program = program()?;
        let begun = Instant::now();
        let [source, target] = releases()?;
        println!(
            "A laboratory: ZooKeeper, a source of two ClickHouse servers ({}) and a target of three ({}). What is missing is \
             fetched first.",
            source.name(),
            target.name()
        );
        let servers = [vec![source; SOURCE.len()], vec![target; TARGET.len()]].concat();
        let lab = Lab::start(LabSpec::mixed(&servers))?;
        let demo = Demo { begun, lab, program };
        let hosts = |servers: &[usize]| servers.iter().map(|&at| demo.lab.clickhouse(at).host()).collect::<Vec<_>>();
        demo.say(&format!(
            "running: the source has the shards {}, the target {}",
            hosts(&SOURCE).join(" and "),
            hosts(&TARGET).join(", ")
        ));
        let keeper = demo.keeper_xml()?;
        let page = demo.dashboard(&keeper)?;
        demo.fill()?;

        demo.title("Copy: two shards become three. Three workers; one of them is killed in the middle.");
        demo.copy(&keeper, "copy", COPY, 3, true)?;
        demo.compare(("source", "web", &SOURCE), ("target", "web_copy", &TARGET))?;

        demo.title("Restore: back from three shards to two, into a new database of the source cluster. Two workers.");
        demo.copy(&keeper, "restore", RESTORE, 2, false)?;
        demo.compare(("source", "web", &SOURCE), ("restored", "web_restored", &SOURCE))?;

        demo.title("What is left of both tasks on the five servers");
        demo.nothing_left()?;
        demo.say("Everything is as it should be. The laboratory ends with this program.");
        demo.stay("Press Enter to end it.")?;
        drop(page);
        Ok(())
    }

    /// Where somebody wants to look around: waits until that is over.
    fn stay(&self, text: &str) -> Outcome<()> {
        if std::env::args().any(|argument| argument == "--stay") {
            self.say(text);
            std::io::stdin().read_line(&mut String::new())?;
        }
        Ok(())
    }

    /// The copy as a page, from before it begins.
    fn dashboard(&self, keeper: &Path) -> Outcome<Page> {
        let mut command = Command::new(&self.program);
        command.args(["dashboard", "--task-path", "/demo/copy", "--listen", "127.0.0.1:0", "--config"]).arg(keeper);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let out = child.stdout.take().ok_or("piped")?;
        let page = Page(child);
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        if line.is_empty() {
            return Err("the dashboard did not begin".into());
        }
        self.say(line.trim_end());
        self.stay("Press Enter to go on.")?;
        Ok(page)
    }

    fn say(&self, text: &str) {
        println!("{:6.1} s  {text}", self.begun.elapsed().as_secs_f64());
    }

    fn title(&self, text: &str) {
        println!();
        self.say(text);
    }

    fn fill(&self) -> Outcome<()> {
        self.title(&format!("Filling web.hits on the source with {} rows of six months …", group(2 * ROWS_PER_SHARD)));
        let fill = |shard: usize| -> Result<(), lab::LabError> {
            let server = self.lab.clickhouse(shard);
            server.query("CREATE DATABASE web")?;
            server.query(TABLE)?;
            let rows = VISITS.replace("SHARD", &shard.to_string()).replace("ROWS", &ROWS_PER_SHARD.to_string());
            server.query(&rows).map(drop)
        };
        thread::scope(|scope| {
            let fillers = SOURCE.map(|shard| scope.spawn(move || fill(shard)));
            fillers.into_iter().try_for_each(|filler| filler.join().unwrap_or_else(|e| std::panic::resume_unwind(e)))
        })?;
        let sql = "SELECT sum(data_uncompressed_bytes) FROM system.parts WHERE active AND database = 'web'";
        let bytes =
            SOURCE.iter().map(|&at| Ok(self.lab.clickhouse(at).value(sql)?.parse::<u64>()?)).sum::<Outcome<u64>>()?;
        self.say(&format!("filled: {} MiB uncompressed", bytes >> 20));
        Ok(())
    }

    /// A short session, so that nobody has to wait long for the killed worker's claims.
    fn keeper_xml(&self) -> Outcome<PathBuf> {
        let path = self.lab.dir().join("keeper.xml");
        let node = format!("<node><host>{}</host><port>2181</port></node>", self.lab.zookeeper().host());
        let timeout = "<session_timeout_ms>3000</session_timeout_ms>";
        // Nobody else can change the task.
        let identity = "<identity>demo:demo</identity>";
        fs::write(&path, format!("<clickhouse><zookeeper>{node}{timeout}{identity}</zookeeper></clickhouse>\n"))?;
        Ok(path)
    }

    /// Runs workers at a task until it is finished, and prints the report.
    fn copy(&self, keeper: &Path, name: &str, sample: &str, number: usize, kill: bool) -> Outcome<()> {
        let mut task = sample.to_owned();
        for (word, servers) in [("source", &SOURCE[..]), ("target", &TARGET[..])] {
            for (number, &at) in (1..).zip(servers) {
                task = task.replace(&format!("{word}-{number}.example"), self.lab.clickhouse(at).host());
            }
        }
        let file = self.lab.dir().join(format!("{name}.xml"));
        fs::write(&file, task)?;

        let page = self.reports()?.join(format!("demo-{name}.html"));
        let begun = Instant::now();
        let (teller, said) = channel();
        let mut workers = Vec::new();
        for at in 0..number {
            let mut command = Command::new(&self.program);
            command.arg("--config").arg(keeper).args(["--task-path", &format!("/demo/{name}")]);
            command.arg("--task-file").arg(&file).arg("--base-dir").arg(self.lab.dir().join("logs"));
            command.arg("--report").arg(&page);
            workers.push(Worker::start(command, at, teller.clone())?);
        }
        drop(teller);
        self.listen(&said, &mut workers, kill)?;

        let mut report = None;
        for (at, worker) in workers.into_iter().enumerate().filter(|(_, worker)| !worker.killed) {
            let (code, text) = worker.end()?;
            if code != Some(0) {
                return Err(format!("worker {} ended with {code:?}:\n{text}", at + 1).into());
            }
            // One that came after the others had finished has nothing to report.
            report = report.or(Some(text).filter(|text| !text.is_empty()));
        }
        self.say(&format!("the workers ended after {:.1} s. The report:", begun.elapsed().as_secs_f64()));
        println!("{}", report.ok_or("no worker gave a report")?.trim_end());
        if !fs::read_to_string(&page)?.contains("</html>") {
            return Err(format!("{} is no page", page.display()).into());
        }
        self.say(&format!("the same with plots is in {}", page.display()));
        Ok(())
    }

    /// Beside the program, so that they outlive the laboratory.
    fn reports(&self) -> Outcome<&Path> {
        Ok(self.program.parent().ok_or("the program is in no folder")?)
    }

    /// Tells what the workers say until all have ended; kills the first that has copied a piece, if asked to.
    fn listen(&self, said: &Receiver<(usize, String)>, workers: &mut [Worker], kill: bool) -> Outcome<()> {
        let mut victim = None;
        loop {
            let (at, line) = match said.recv_timeout(SILENCE) {
                Ok(said) => said,
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(error) => return Err(format!("the workers are silent: {error}").into()),
            };
            let again = victim.is_some() && line.contains("rows copied") && !line.contains("(attempt 1)");
            self.say(&format!(
                "worker {} | {line}{}",
                at + 1,
                if again { "  <<< begun again after the crash" } else { "" }
            ));
            if kill && victim.is_none() && line.contains("rows copied") {
                workers[at].kill()?;
                victim = Some(at);
                self.say(&format!(
                    ">>> kill -9 worker {}. What it had in hand is taken over when its session ends, after 3 s.",
                    at + 1
                ));
            }
        }
        if kill && victim.is_none() { Err("no worker copied anything, so none was killed".into()) } else { Ok(()) }
    }

    /// Compares two tables month by month: rows, and the sum of the hashes of all rows.
    fn compare(&self, one: Side<'_>, other: Side<'_>) -> Outcome<()> {
        let (left, right) = (self.months(one)?, self.months(other)?);
        let (one, (other, database, servers)) = (one.0, other);
        self.title("The same rows? Count and sum of cityHash64 over all columns, by month, all shards together:");
        println!("  {:<8}{:>12}{:>12}  {:<18}{:<18}", "month", one, other, one, other);
        let months: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
        let mut differ = 0;
        for month in months {
            let [a, b] = [&left, &right].map(|side| side.get(month).copied().unwrap_or_default());
            differ += usize::from(a != b);
            let verdict = if a == b { "equal" } else { "DIFFERENT" };
            println!("  {month:<8}{:>12}{:>12}  {:<18x}{:<18x}{verdict}", group(a.0), group(b.0), a.1, b.1);
        }
        let by_shard = servers.iter().map(|&at| {
            let server = self.lab.clickhouse(at);
            let rows = server.value(&format!("SELECT count() FROM {database}.hits"))?.parse()?;
            Ok(format!("{} has {}", server.host(), group(rows)))
        });
        println!("  {other} by shard: {}", by_shard.collect::<Outcome<Vec<_>>>()?.join(", "));
        let rows: u64 = left.values().map(|month| month.0).sum();
        if differ > 0 || rows != 2 * ROWS_PER_SHARD {
            return Err(format!(
                "{differ} of {} months differ, and {one} has {rows} rows of {}",
                left.len(),
                2 * ROWS_PER_SHARD
            )
            .into());
        }
        Ok(())
    }

    fn months(&self, (_, database, servers): Side<'_>) -> Outcome<BTreeMap<String, (u64, u64)>> {
        let mut months = BTreeMap::<String, (u64, u64)>::new();
        for &at in servers {
            let server = self.lab.clickhouse(at);
            let hash = row_hash(&columns(server, database)?);
            let rows = server.query(&format!(
                "SELECT toYYYYMM(EventDate) AS month, count(), sum({hash}) FROM {database}.hits GROUP BY month"
            ))?;
            for row in rows.lines() {
                let [month, count, sum] = row.split('\t').collect::<Vec<_>>()[..] else { return Err(row.into()) };
                let total = months.entry(month.to_owned()).or_default();
                *total = (total.0 + count.parse::<u64>()?, total.1.wrapping_add(sum.parse()?));
            }
        }
        Ok(months)
    }

    fn nothing_left(&self) -> Outcome<()> {
        for server in self.lab.servers() {
            let tables = server.query("SELECT database, name FROM system.tables WHERE name LIKE 'copier\\\\_%'")?;
            let statements = server.query("SELECT query_id FROM system.processes WHERE query_id LIKE 'copier:%'")?;
            if !tables.is_empty() || !statements.is_empty() {
                return Err(format!("left on {}:\n{tables}{statements}", server.host()).into());
            }
        }
        self.say("no staging table, no statement.");
        Ok(())
    }
}

/// Name for people, database, servers.
type Side<'a> = (&'a str, &'a str, &'a [usize]);

fn columns(server: &ClickHouse, database: &str) -> Outcome<Vec<Column>> {
    let sql = format!("SELECT name, type FROM system.columns WHERE database = '{database}' AND table = 'hits'");
    let column = |line: &str| {
        let (name, type_name) = line.split_once('\t').ok_or("a column has a name and a type")?;
        let (name, type_name) = (name.to_owned(), type_name.to_owned());
        let (default_expression, comment) = (String::new(), String::new());
        Ok(Column { name, type_name, default_kind: DefaultKind::None, default_expression, comment })
    };
    server.query(&sql)?.lines().map(column).collect()
}

/// The process that serves the page. Dropped, it is killed.
struct Page(Child);

impl Drop for Page {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A worker process. Dropped, it is killed.
struct Worker {
    child: Child,
    report: Option<JoinHandle<std::io::Result<String>>>,
    killed: bool,
}

impl Worker {
    /// Starts it; what it says on standard error goes to `teller` line by line, without time stamp and level.
    fn start(mut command: Command, at: usize, teller: Sender<(usize, String)>) -> Outcome<Worker> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (mut out, err) = (child.stdout.take().ok_or("piped")?, child.stderr.take().ok_or("piped")?);
        thread::spawn(move || {
            for line in BufReader::new(err).lines().map_while(Result::ok) {
                let text = [" INFO ", " WARN ", "ERROR "].iter().find_map(|level| line.split_once(level));
                let text = text.map_or(line.as_str(), |(_, text)| text).to_owned();
                if teller.send((at, text)).is_err() {
                    return;
                }
            }
        });
        let report = thread::spawn(move || {
            let mut text = String::new();
            out.read_to_string(&mut text).map(|_| text)
        });
        Ok(Worker { child, report: Some(report), killed: false })
    }

    fn kill(&mut self) -> Outcome<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.killed = true;
        Ok(())
    }

    /// Its exit code and its standard output.
    fn end(mut self) -> Outcome<(Option<i32>, String)> {
        let status = self.child.wait()?;
        let report = self.report.take().ok_or("a worker ends once")?;
        let text = report.join().map_err(|_| "the thread that reads a report panicked")??;
        Ok((status.code(), text))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The releases of the source's and of the target's servers, as `--servers` says.
fn releases() -> Outcome<[Release; 2]> {
    let mut arguments = std::env::args().skip(1);
    if !arguments.any(|argument| argument == "--servers") {
        return Ok([Release::V25_8; 2]);
    }
    let said = arguments.next().unwrap_or_default();
    let known = Release::ALL.into_iter().filter(|release| release.is_whole()).map(Release::name);
    let wrong =
        format!("--servers {said:?}: one release or two with a comma, of {}", known.collect::<Vec<_>>().join(", "));
    let whole = |name: &str| Release::named(name).filter(|release| release.is_whole()).ok_or(wrong.clone());
    let (source, target) = said.split_once(',').unwrap_or((&said, &said));
    Ok([whole(source)?, whole(target)?])
}

/// The program that cargo built beside this example: `target/debug/examples/demo` → `target/debug/clickhouse-copier`.
fn program() -> Outcome<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).ok_or("this program is in no folder")?;
    let program = folder.join("clickhouse-copier");
    if program.is_file() {
        return Ok(program);
    }
    Err(format!("{} is not there: build it first, with `cargo build --bins`", program.display()).into())
}

/// `1234567` → `1,234,567`
fn group(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|part| std::str::from_utf8(part).ok()).collect();
    groups.join(",")
}
