//! The table of a web analytics service, its rows, and how they are compared.

use std::collections::BTreeMap;

use lab::ClickHouse;

use crate::Outcome;
use crate::case::{DAYS, Partitions};

/// Database and table on the source, and on the target.
pub const SOURCE: (&str, &str) = ("web", "hits");
pub const TARGET: (&str, &str) = ("web_copy", "hits");

const COLUMNS: &str = "WatchID UInt64, EventDate Date, EventTime DateTime, CounterID UInt32, UserID UInt64, RegionID UInt32, \
    URL String, Referer String, Title String, SearchPhrase String, OS UInt8, Browser UInt8, IsMobile UInt8, \
    ScreenWidth UInt16, ScreenHeight UInt16, Duration UInt32, GoalsReached Array(UInt32), Interests Array(UInt16)";
const NAMES: &str = "WatchID, EventDate, EventTime, CounterID, UserID, RegionID, URL, Referer, Title, SearchPhrase, OS, \
    Browser, IsMobile, ScreenWidth, ScreenHeight, Duration, GoalsReached, Interests";

/// Few busy sites and many quiet ones, each with its pages and its users; a user comes back some twenty times.
fn rows(partitions: Partitions, shards: u64, shard: u64, count: u64) -> String {
    let day = match partitions {
        Partitions::FourMonths => "intHash64(id + 1) % 120".to_owned(), // January to April 2018
        Partitions::OneMonth => "intHash64(id + 1) % 31".to_owned(),
        Partitions::ThreeHundredDays => format!("number % {DAYS}"), // as many rows on each
    };
    format!(
        "SELECT
    id, toDate('2018-01-01') + day, toDateTime('2018-01-01 00:00:00') + toUInt32(day * 86400 + visit % 86400),
    site, intHash64(person), toUInt32(person % 250),
    concat('https://site-', toString(site), '.example/', arrayElement(['catalogue/', 'item/', 'news/2018/', ''], 1 + page % 4),
        toString(page), if(id % 10 = 0, '?utm_source=mail', '')),
    if(id % 3 = 0, arrayElement(['https://search.example/', 'https://news.example/today', ''], 1 + page % 3),
        concat('https://site-', toString(site), '.example/')),
    concat(arrayElement(['Winter boots', 'Чайники', 'All the news', 'Home'], 1 + page % 4), ', page ', toString(page % 500)),
    if(id % 8 = 0, arrayElement(['winter boots', 'купить чайник', 'cheap red lamp'], 1 + page % 3), ''),
    toUInt8(person % 12), toUInt8(person % 9), toUInt8(person % 3 = 0),
    toUInt16(arrayElement([1366, 1920, 360, 1440], 1 + person % 4)), toUInt16(arrayElement([768, 1080, 640, 900], 1 + person % 4)),
    toUInt32(visit % 600), arrayMap(x -> toUInt32(page % 50 + x), range(id % 7 % 3)),
    arrayMap(x -> toUInt16(person % 900 + x * 7), range(person % 4))
FROM
(
    SELECT
        number, intHash64(number * {shards} + {shard}) AS id, {day} AS day, intHash64(id + 2) AS visit,
        visit % {people} AS person, toUInt32(exp2(person % 1300 / 100)) AS site,
        toUInt32(exp2(intHash64(id + 3) % 1600 / 100)) AS page
    FROM system.numbers LIMIT {count}
)",
        people = (count * shards / 20).max(1),
    )
}

/// How the table is partitioned and sorted, as after the name of its engine.
pub fn keys(partitions: Partitions) -> String {
    let by = match partitions {
        Partitions::FourMonths | Partitions::OneMonth => "toYYYYMM(EventDate)",
        Partitions::ThreeHundredDays => "EventDate",
    };
    format!("PARTITION BY {by} ORDER BY (CounterID, EventDate, intHash32(UserID))")
}

/// Makes the table of one source shard and fills it, a part for each partition.
pub fn fill(server: &ClickHouse, partitions: Partitions, shards: u64, shard: u64, count: u64) -> Outcome<()> {
    let (database, table) = SOURCE;
    server.query(&format!("CREATE DATABASE {database}"))?;
    server.query(&format!("CREATE TABLE {database}.{table} ({COLUMNS}) ENGINE = MergeTree() {}", keys(partitions)))?;
    server.query(&format!("INSERT INTO {database}.{table} {}", rows(partitions, shards, shard, count)))?;
    let many = format!(
        "SELECT partition FROM system.parts WHERE database = '{database}' AND table = '{table}' AND active \
         GROUP BY partition HAVING count() > 1 FORMAT TSVRaw"
    );
    for partition in server.query(&many)?.lines() {
        server.query(&format!("OPTIMIZE TABLE {database}.{table} PARTITION {partition} FINAL"))?;
    }
    Ok(())
}

/// The uncompressed bytes of a table on one server.
pub fn bytes(server: &ClickHouse, (database, table): (&str, &str)) -> Outcome<u64> {
    let of = format!("database = '{database}' AND table = '{table}'");
    Ok(server.value(&format!("SELECT sum(data_uncompressed_bytes) FROM system.columns WHERE {of}"))?.parse()?)
}

/// The active parts of a table on one server: how much merging a copy leaves to do.
pub fn parts(server: &ClickHouse, (database, table): (&str, &str)) -> Outcome<u64> {
    let of = format!("database = '{database}' AND table = '{table}'");
    Ok(server.value(&format!("SELECT count() FROM system.parts WHERE {of} AND active"))?.parse()?)
}

/// Rows and a sum of their hashes, for each month: the same for the same rows, however they are ordered and distributed.
pub type Digest = BTreeMap<String, (u64, u64)>;

/// What some servers hold of a table together.
pub fn digest(servers: &[ClickHouse], (database, table): (&str, &str)) -> Outcome<Digest> {
    let mut digest = Digest::new();
    for server in servers {
        let hash = format!("sum(cityHash64({NAMES}))");
        let of = format!("FROM {database}.{table} GROUP BY month");
        for line in server.query(&format!("SELECT toYYYYMM(EventDate) AS month, count(), {hash} {of}"))?.lines() {
            let mut fields = line.split('\t');
            let mut next = || fields.next().ok_or_else(|| format!("half a line: {line:?}"));
            let (month, rows, sum) = (next()?, next()?.parse::<u64>()?, next()?.parse::<u64>()?);
            let entry = digest.entry(month.to_owned()).or_default();
            *entry = (entry.0 + rows, entry.1.wrapping_add(sum));
        }
    }
    Ok(digest)
}
