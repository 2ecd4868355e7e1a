//! Quoted names and literals of any text, on the oldest release, the reference and the newest one.

use std::collections::BTreeSet;

use clickhouse_copier::client::ServerClient;
use clickhouse_copier::client::http::HttpServerClient;
use clickhouse_copier::model::{Node, TableName, Tls};
use clickhouse_copier::sql;
use clickhouse_copier::sql::quote::{ident, literal};
use lab::{ClickHouse, Lab, Release};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rstest_reuse::apply;

use crate::both;

/// A server of each of these releases.
fn engines() -> [&'static ClickHouse; 3] {
    [Release::V18_16, Release::V25_8, Release::V26_9].map(|release| Lab::shared(release).clickhouse(0))
}

/// Texts of any characters, with many special characters.
fn texts(lengths: std::ops::Range<usize>, count: usize) -> impl Strategy<Value = Vec<String>> {
    let sign = prop_oneof![
        6 => prop::sample::select("'\"`\\{}|,;%_/#-*()=$?\n\r\t\0\u{1b} abnNxu0é€日😀\u{2028}\u{feff}".chars().collect::<Vec<_>>()),
        1 => any::<char>(),
    ];
    let text = prop::collection::vec(sign, lengths).prop_map(|signs| signs.into_iter().collect::<String>());
    prop::collection::vec(text, count)
}

/// Checks a property on some batches. Each batch asks a server once.
fn batches<S: Strategy>(count: u32, strategy: &S, property: impl Fn(S::Value) -> Result<(), TestCaseError>)
where
    S::Value: std::fmt::Debug,
{
    let config = Config { cases: count, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(strategy, property).unwrap();
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02X}")).collect()
}

#[test]
fn servers_read_a_quoted_literal_as_the_original_text() {
    for server in engines() {
        batches(5, &texts(0..30, 200), |texts| {
            let literals: Vec<String> = texts.iter().map(|text| literal(text)).collect();
            let list = literals.join(", ");
            let found = server.query(&format!("SELECT hex(arrayJoin([{list}]))")).unwrap();
            let wanted: Vec<String> = texts.iter().map(|text| hex(text)).collect();
            prop_assert_eq!(found.lines().collect::<Vec<_>>(), wanted, "{}", server.host());
            // A literal is found in the list, and another text is not.
            let outside = format!("SELECT {} IN ({list}), {} IN ({list})", literals[0], literal("not among them"));
            prop_assert_eq!(server.value(&outside).unwrap(), "1\t0");
            Ok(())
        });
    }
}

#[test]
fn servers_create_a_column_under_its_quoted_name() {
    for server in engines() {
        let database = "it_quoting__columns";
        server.query(&format!("DROP DATABASE IF EXISTS {database}")).unwrap();
        server.query(&format!("CREATE DATABASE {database}")).unwrap();
        batches(5, &texts(1..20, 60), |names| {
            let names: BTreeSet<String> = names.into_iter().collect();
            let columns: Vec<String> = names.iter().map(|name| format!("{} UInt8", ident(name))).collect();
            server.query(&format!("DROP TABLE IF EXISTS {database}.t")).unwrap();
            server.query(&format!("CREATE TABLE {database}.t ({}) ENGINE = Memory", columns.join(", "))).unwrap();
            let asked = format!("SELECT hex(name) FROM system.columns WHERE database = '{database}' AND table = 't'");
            let found = server.query(&asked).unwrap();
            let found: BTreeSet<String> = found.lines().map(str::to_owned).collect();
            prop_assert_eq!(found, names.iter().map(|name| hex(name)).collect::<BTreeSet<_>>(), "{}", server.host());
            let idents = sql::quote::idents(names.iter().map(String::as_str));
            prop_assert_eq!(server.query(&format!("SELECT {idents} FROM {database}.t")).unwrap(), "");
            Ok(())
        });
        server.query(&format!("DROP DATABASE {database}")).unwrap();
    }
}

#[test]
fn statements_touch_only_the_table_that_they_name() {
    for server in engines() {
        let database = "it_quoting__tables '`\\ é%_";
        let drop_database = format!("DROP DATABASE IF EXISTS {}", ident(database));
        server.query(&drop_database).unwrap();
        server.query(&sql::create_database(database)).unwrap();
        let list = format!("SELECT hex(name) FROM system.tables WHERE database = {}", literal(database));
        let tables = || -> BTreeSet<String> { server.query(&list).unwrap().lines().map(str::to_owned).collect() };
        let bystander = TableName::new(database, "bystander");
        server.query(&format!("CREATE TABLE {} (n UInt8) ENGINE = Memory", sql::quote::table(&bystander))).unwrap();
        // Names become names of files, so their length is limited.
        batches(3, &texts(1..12, 20), |names| {
            let names: BTreeSet<String> = names.into_iter().collect();
            let mut there = BTreeSet::from([hex("bystander")]);
            for name in &names {
                let name = TableName::new(database, name);
                server.query(&format!("CREATE TABLE {} (n UInt8) ENGINE = Memory", sql::quote::table(&name))).unwrap();
                there.insert(hex(&name.table));
                prop_assert_eq!(tables(), there.clone(), "{} {:?}", server.host(), name);
                prop_assert_eq!(server.value(&sql::table_exists(&name)).unwrap(), "1");
                let described =
                    server.query(&sql::describe_columns(database, std::slice::from_ref(&name.table))).unwrap();
                prop_assert!(described.contains("\tn\tUInt8"), "{described}");
            }
            // A prefix finds exactly the names that begin with it, even if it looks like a pattern.
            let beginnings: Vec<String> = names.iter().map(|name| name.chars().take(2).collect()).collect();
            for prefix in beginnings {
                let found =
                    server.query(&format!("SELECT count() FROM ({})", sql::tables_with_prefix(database, &prefix)));
                let wanted = names.iter().filter(|name| name.starts_with(&prefix)).count()
                    + usize::from("bystander".starts_with(&prefix));
                let found = found.unwrap();
                prop_assert_eq!(found.trim_end(), wanted.to_string(), "{} {:?}", server.host(), prefix);
            }
            for name in &names {
                server.query(&sql::drop_table(&TableName::new(database, name))).unwrap();
                there.remove(&hex(name));
                prop_assert_eq!(tables(), there.clone(), "{} {:?}", server.host(), name);
            }
            Ok(())
        });
        server.query(&drop_database).unwrap();
    }
}

#[test]
fn a_prefix_of_table_names_is_not_a_like_pattern() {
    for server in engines() {
        let database = "it_quoting__prefix";
        server.query(&format!("DROP DATABASE IF EXISTS {database}")).unwrap();
        server.query(&format!("CREATE DATABASE {database}")).unwrap();
        for name in ["a_b", "axb", "a%b", "a\\_b"] {
            server.query(&format!("CREATE TABLE {database}.{} (n UInt8) ENGINE = Memory", ident(name))).unwrap();
        }
        for (prefix, found) in [("a_", "a_b"), ("a%", "a%b"), ("a\\", "a\\_b"), ("%", "")] {
            let answer = server.query(&format!("{} FORMAT TSVRaw", sql::tables_with_prefix(database, prefix))).unwrap();
            assert_eq!(answer.trim_end(), found, "{prefix}");
        }
        server.query(&format!("DROP DATABASE {database}")).unwrap();
    }
}

/// The id of a statement is part of a URL and of conditions. Ids that look like patterns or end a literal find no other statement,
/// and not the asking statement itself.
#[tokio::test]
async fn a_prefix_of_query_ids_is_not_a_like_pattern() {
    let client = HttpServerClient::new(&Tls::default()).unwrap();
    for server in engines() {
        let node = Node::new(server.host());
        for prefix in ["%", "_", "') OR (1", "it:\\", "it:&x=1#"] {
            assert_eq!(client.running(&node, prefix).await.unwrap(), [], "{prefix}");
        }
    }
}

/// Tokens that some servers read as comments, strings or names, and others do not.
const FRAGMENTS: [&str; 26] = [
    "1", " + 2", "0", " OR 1", "(", ")", "'x'", "'", "`", "\n", " ", "--", "//", "/", "*", "/*", "*/", "#", "# ", "#!",
    "$", "$$", "$a$", "‘", "’", "“",
];

/// Texts made of [`FRAGMENTS`], and texts that once left their brackets on some server.
fn odd_expressions() -> impl Strategy<Value = Vec<String>> {
    let known = prop::sample::select(vec![
        "1 // )\n + 2",
        "$a$'$a$) OR (1 = 1 -- '",
        "length($$a   b$$)",
        "length(‘a  b’)",
        "1 /* /* */ ) OR (1 = 1 /* */ */",
        "1 /*/*/ + 1",
        "length('a  // -- b') # )\n",
    ]);
    let made = prop::collection::vec(prop::sample::select(FRAGMENTS.to_vec()), 1..8).prop_map(|parts| parts.concat());
    prop::collection::vec(prop_oneof![1 => known.prop_map(str::to_owned), 3 => made], 60)
}

/// An accepted expression has the same meaning for the server without its comments, and stays inside its brackets.
#[apply(both)]
fn accepted_expressions_mean_the_same_to_the_server(#[case] release: Release) {
    let server = Lab::shared(release).clickhouse(0);
    batches(3, &odd_expressions(), |texts| {
        for text in texts {
            let Ok(clean) = sql::Expression::parse(&text) else { continue };
            let bracketed = server.query(&format!("SELECT 0 AND ({clean})"));
            prop_assert!(bracketed.as_deref().unwrap_or("0\n") == "0\n", "{text:?} leaves its brackets: {bracketed:?}");
            // The text stands on its own lines, since it may end with a comment.
            if let Ok(meant) = server.query(&format!("SELECT toString((\n{text}\n))")) {
                let ours = server.query(&format!("SELECT toString(({clean}))"));
                prop_assert_eq!(ours.map_err(|error| error.to_string()), Ok(meant), "{:?} as {}", text, clean);
            }
        }
        Ok(())
    });
}
