//! Source tables, and the rows that fill them.

use lab::{ClickHouse, LabSpec, Release};

use super::Scene;

/// Columns of the source table `hits`.
pub const COLUMNS: &str = "(d Date, id UInt64, s String, v Int32)";
/// Engine of the source table `hits`: a partition for each month.
pub const BY_MONTH: &str = "ENGINE = MergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, id)";

/// The keys of [`BY_MONTH`], for an engine of another name.
pub const MONTHLY_KEYS: &str = "PARTITION BY toYYYYMM(d) ORDER BY (d, id)";

/// Returns a SELECT of `count` rows that begins at row `from`. Each call gives the same rows, over so many months from January 2018.
pub fn rows(from: u64, count: u64, months: u64) -> String {
    format!(
        "SELECT toDate('2018-01-01') + number % ({months} * 30 - 1) AS d, number AS id, \
         toString(number * 7919 % 1000003) AS s, toInt32(number % 1000) - 500 AS v \
         FROM system.numbers LIMIT {from}, {count}"
    )
}

/// Creates the source table `hits` on some servers and fills it with `count` rows on each, which differ between the servers.
pub fn fill(scene: &Scene, servers: &[usize], engine: &str, count: u64, months: u64) {
    for (number, &server) in (0..).zip(servers) {
        scene.create_old(&[server], &format!("CREATE TABLE {}.hits {COLUMNS} {engine}", scene.src));
        scene.ask(server, &format!("INSERT INTO {}.hits {}", scene.src, rows(number * count, count, months)));
    }
}

/// Columns of every type that 18.16 has, with defaults and comments.
const EVERY_TYPE: &str = r"(
    d Date,
    id UInt64,
    s String DEFAULT concat('id ', toString(id)) COMMENT 'it\'s a \\ comment',
    n Nullable(Int32),
    a Array(Nullable(String)),
    u UUID,
    dec Decimal(18, 4),
    e Enum8('a' = 1, 'it\'s' = 2),
    f FixedString(3),
    nest Nested(x UInt8, y String),
    t DateTime DEFAULT toDateTime(d),
    fl Float64,
    aa Array(Array(Int16)),
    tu Tuple(UInt8, String),
    nu Nullable(UUID),
    c String COMMENT 'plain',
    m UInt64 MATERIALIZED id * 2,
    al String ALIAS concat(s, '!') COMMENT 'made up'
)";

/// The columns of [`EVERY_TYPE`] that an INSERT names.
const EVERY_TYPE_INSERTED: &str = "(d, id, s, n, a, u, dec, e, f, nest.x, nest.y, t, fl, aa, tu, nu, c)";

/// A SELECT of 3000 rows for [`EVERY_TYPE`].
const EVERY_VALUE: &str = r"SELECT toDate('2018-01-01') + number % 60, number, if(number % 5 = 0, 'x\0\t\n\\', toString(number)),
    if(number % 3 = 0, NULL, toInt32(number) - 700), [NULL, toString(number), '\''],
    toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0'), toDecimal64(number, 4) / 3, if(number % 2 = 0, 'a', 'it\'s'),
    if(number % 2 = 0, 'abc', 'z'), [toUInt8(number % 256), 2], ['x', toString(number)],
    toDateTime('2018-01-01 00:00:00') + number, if(number = 7, 0. / 0, number / 7), [[1, 2], [], [toInt16(number)]],
    (toUInt8(1), toString(number)), if(number % 4 = 0, NULL, toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba1')), 'c'
    FROM system.numbers LIMIT 3000";

/// Creates a table with [`EVERY_TYPE`] on one server and fills it. `limit` is what follows `LIMIT`, as in `3000, 2500`.
pub fn fill_every_type(server: &ClickHouse, table: &str, limit: &str) {
    server.query(&format!("CREATE TABLE {table} {EVERY_TYPE} {BY_MONTH}")).unwrap();
    let values = EVERY_VALUE.replace("LIMIT 3000", &format!("LIMIT {limit}"));
    server.query(&format!("INSERT INTO {table} {EVERY_TYPE_INSERTED} {values}")).unwrap();
}

/// Returns a laboratory whose servers delete replaced parts after a second. A replacement is complete only then, because after a
/// restart the old parts would come back.
pub fn removing_old_parts_soon(release: Release, servers: usize) -> LabSpec {
    let merge_tree = vec![("old_parts_lifetime".to_owned(), "1".to_owned())];
    LabSpec { merge_tree, ..LabSpec::of(release, servers) }
}
