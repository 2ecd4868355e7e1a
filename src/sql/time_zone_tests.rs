use super::*;

fn columns() -> TimedColumns {
    let column = |(name, type_name, computed): (&str, &str, Option<&str>)| {
        let column = TimedColumn { type_name: type_name.into(), computed: computed.map(str::to_owned) };
        (name.to_owned(), column)
    };
    [
        ("id", "UInt64", None),
        ("s", "LowCardinality(String)", None),
        ("d", "Date", None),
        ("ts", "DateTime", None),
        ("ms", "Nullable(DateTime64(3))", None),
        ("utc", "DateTime('UTC')", None),
        ("all", "Array(DateTime)", None),
        ("day", "Date", Some("toDate(ts)")),
        ("month", "UInt32", Some("toYYYYMM(d)")),
    ]
    .map(column)
    .into()
}

#[test]
fn expressions_with_the_same_value_in_every_time_zone_are_accepted() {
    for text in [
        "id % 10",
        "toYYYYMM(d)",
        "(toMonday(d), id)",
        "d >= '2020-01-01' AND d < toDate('2020-02-01')",
        "intHash64(id)",
        "cityHash64(ts, ms, all)",
        "intDiv(toUInt32(ts), 86400)",
        "toUnixTimestamp(ts) % 7",
        "toYYYYMMDD(utc)",
        "toStartOfHour(utc)",
        "toYYYYMM(ts, 'Asia/Shanghai')",
        "toDate(ts, 'UTC')",
        "formatDateTime(ts, '%Y', 'Europe/Berlin')",
        "utc >= toDateTime('2020-01-01 00:00:00', 'UTC')",
        "toDate(s)",
        "month",
        "s = 'toDateTime(1)'",
        "d + INTERVAL 1 DAY > '2020-01-01'",
        "`toDate(ts)` = 1",
    ] {
        assert_eq!(zone_dependence(text, &columns()), None, "{text}");
    }
}

#[test]
fn expressions_that_depend_on_the_time_zone_are_found() {
    for (text, reason) in [
        ("ts", "ts"),
        ("toYYYYMMDD(ts)", "ts"),
        ("(id, toDate(ts))", "toDate"),
        ("toMonday(toDate(`ts`))", "toDate"),
        ("formatDateTime(ts, '%Y')", "ts"),
        ("formatDateTime(ts, 'YYYY')", "ts"),
        ("ts >= '2020-01-01 00:00:00'", "ts"),
        ("utc >= '2020-01-01 00:00:00'", "utc"),
        ("id > toDateTime('2020-01-01 00:00:00')", "toDateTime"),
        ("toDate(id)", "toDate"),
        ("toStartOfHour(d)", "toStartOfHour"),
        ("toUnixTimestamp(d)", "toUnixTimestamp"),
        ("d = today()", "today"),
        ("CAST(id AS DateTime)", "CAST"),
        ("CAST(id, 'DateTime')", "CAST"),
        ("id::Date", "Date"),
        ("d + INTERVAL 1 HOUR", "INTERVAL HOUR"),
        ("toString(ms)", "ms"),
        ("has(all, toDateTime(5))", "all"),
        ("day", "day (toDate)"),
        ("id = 1 AND hour(ts) = 3", "ts"),
        ("toYYYYMM(toTimeZone(ts, 'UTC') + 1)", "no such"),
    ] {
        let found = zone_dependence(text, &columns());
        let expected = if reason == "no such" { None } else { Some(reason.to_owned()) };
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn other_names_of_utc_are_read_as_utc() {
    for name in ["UTC", "Etc/UTC", "UCT", "Zulu", "Etc/GMT", "GMT"] {
        assert_eq!(canonical_zone(name), "UTC");
    }
    for name in ["Europe/London", "Etc/GMT+1", "Asia/Shanghai"] {
        assert_eq!(canonical_zone(name), name);
    }
}

#[test]
fn conversions_that_depend_on_the_time_zone_are_found() {
    for (from, to, depends) in [
        ("UInt32", "UInt64", false),
        ("DateTime", "DateTime('UTC')", false),
        ("DateTime", "Nullable(DateTime64(3))", false),
        ("DateTime", "UInt32", false),
        ("Int64", "DateTime", false),
        ("Date", "String", false),
        ("String", "Date", false),
        ("DateTime", "Date", true),
        ("DateTime('UTC')", "String", true),
        ("String", "DateTime", true),
        ("Date", "DateTime", true),
        ("UInt32", "Date", true),
        ("Array(DateTime)", "Array(String)", true),
    ] {
        assert_eq!(conversion_depends_on_zone(from, to), depends, "{from} to {to}");
    }
}

#[test]
fn time_columns_without_a_time_zone_are_listed() {
    assert_eq!(columns_without_zone("(toDate(ts), id, ms, all, utc)", &columns()), ["ts", "ms"]);
}
