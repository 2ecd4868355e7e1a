//! The conformance suite of server clients. [`client_conformance!`](crate::client_conformance) makes a test of
//! each function here for one implementation. The functions panic if the implementation fails.

mod questions;
mod tables;
mod transfers;

use std::sync::Arc;

use super::*;
use crate::model::Way;
use crate::sql::{Relation, quote};

pub use questions::*;
pub use tables::*;
pub use transfers::*;

/// Defines the tests of the suite for one implementation. The argument is the name of an `async fn(test: &str) ->
/// (impl ServerClient, [Arc<Node>; 2], String)` that returns a client, two of its nodes, and a database that does not
/// exist yet. Each list of tests is preceded by the transfers that work between the nodes.
#[doc(hidden)]
#[macro_export]
macro_rules! client_conformance {
    ($make:ident) => {
        $crate::client_conformance!($make, [Push, Pull, Relay]:
            databases_and_tables_are_created_listed_renamed_and_dropped,
            missing_and_existing_tables_are_errors_with_their_codes,
            a_transfer_without_its_table_is_an_error_with_its_code,
            a_transfer_gives_each_column_its_value,
            a_transfer_without_rows_succeeds,
            a_table_definition_is_read_as_it_was_created,
            simultaneous_questions_about_many_tables_are_answered_as_single_ones,
            all_ways_to_count_rows_agree,
            a_transfer_writes_the_selected_rows_to_their_shard,
            a_relay_sends_each_row_to_the_node_of_its_slot,
            slices_contain_every_row_once,
            attach_adds_rows_and_replace_replaces_them,
            replace_from_an_empty_partition_empties_the_partition,
            a_replicated_table_accepts_the_same_part_once,
            parts_are_fetched_unchanged,
            expressions_have_types_or_error_codes,
            a_node_reaches_another,
            a_statement_that_has_ended_is_not_running,
            a_mark_is_visible_only_on_its_own_server,
        );
    };
    ($make:ident, $ways:tt: $($test:ident,)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                let (client, [first, second], database) = $make(stringify!($test)).await;
                $crate::client::conformance::$test(&$crate::client::conformance::TestServers {
                    client: &client, first, second, database, ways: &$crate::client_conformance!(@ways $ways),
                }).await;
            }
        )*
    };
    (@ways [$($way:ident),*]) => { [$($crate::model::Way::$way),*] };
}

/// Defines the tests of the questions before a copy: the client is an [`Inspector`] too.
#[doc(hidden)]
#[macro_export]
macro_rules! inspector_conformance {
    ($make:ident) => {
        $crate::inspector_conformance!($make:
            the_clock_of_a_server_is_near_ours,
            questions_about_missing_objects_have_empty_answers,
            only_tables_with_rows_have_stored_bytes,
            tables_are_found_by_their_engine,
            an_account_with_all_privileges_lacks_none,
        );
    };
    ($make:ident: $($test:ident,)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                let (client, [first, second], database) = $make(stringify!($test)).await;
                let ways = &[$crate::model::Way::Relay];
                let servers = $crate::client::conformance::TestServers { client: &client, first, second, database, ways };
                $crate::client::conformance::$test(&servers, &client).await;
            }
        )*
    };
}

/// The client and the nodes that a test of the suite uses.
pub struct TestServers<'a> {
    pub client: &'a dyn ServerClient,
    pub first: Arc<Node>,
    pub second: Arc<Node>,
    pub database: String,
    /// The transfers that work; the first one fills tables.
    pub ways: &'a [Way],
}

const COLUMNS: &str = "(`d` Date, `id` UInt32, `s` String DEFAULT 'none')";
const ENGINE: &str = "MergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, id)";

fn none() -> Settings {
    Settings::new()
}

fn month() -> Vec<KeyElement> {
    vec![KeyElement { expression: "toYYYYMM(d)".into(), type_name: "UInt32".into() }]
}

fn id(text: &str) -> PartitionId {
    PartitionId(text.into())
}

#[track_caller]
fn code<T: std::fmt::Debug>(outcome: Result<T, Error>, expected: u32) {
    assert_eq!(outcome.as_ref().err().and_then(Error::code), Some(expected), "{outcome:?}");
}

impl TestServers<'_> {
    fn name(&self, table: &str) -> TableName {
        TableName::new(&self.database, table)
    }

    async fn databases(&self) {
        for node in [&self.first, &self.second] {
            self.client.create_database(node, &self.database, &none()).await.unwrap();
        }
    }

    async fn create(&self, node: &Node, table: &str, engine: &str) -> TableName {
        let name = self.name(table);
        let statement = format!("CREATE TABLE {} {COLUMNS} ENGINE = {engine}", quote::table(&name));
        self.client.create_table(node, &name, &statement, &none()).await.unwrap();
        name
    }

    /// Returns a transfer of all rows of a table of the first node.
    fn copy(&self, from: &TableName, to: &Arc<Node>, into: &TableName) -> Transfer {
        Transfer {
            way: self.ways[0],
            from: vec![Origin::of(&self.first)],
            to: vec![Destination::of_all(to, format!("{}:{}:{}", self.database, into.table, to.port))],
            dealt: None,
            into: into.clone(),
            columns: ["d", "id", "s"].map(str::to_owned).into(),
            values: ["`d`", "`id`", "`s`"].map(str::to_owned).into(),
            rows: Selection::all(Relation::plain(from.clone())),
            compress: true,
            throttles: Vec::new(),
            course: Arc::default(),
        }
    }

    /// Creates a table with this number of rows: ids from 0 on, alternately in January and February 2018.
    ///
    /// A client can write rows only by transferring rows: each row comes from the one in `system.one`.
    async fn filled(&self, table: &str, rows: u32) -> TableName {
        let name = self.create(&self.first, table, ENGINE).await;
        for number in 0..rows {
            self.add(&name, number).await;
        }
        name
    }

    async fn add(&self, into: &TableName, number: u32) {
        let month = if number.is_multiple_of(2) { "2018-01-0" } else { "2018-02-0" };
        let seed = TableName::new("system", "one");
        let values = vec![
            format!("toDate('{month}{}')", 1 + number % 7),
            format!("toUInt32({number})"),
            format!("toString({number})"),
        ];
        let mut transfer = Transfer { values, ..self.copy(&seed, &self.first, into) };
        transfer.to[0].query_id += &format!(":{number}");
        self.client.transfer(&transfer).await.unwrap();
    }

    async fn rows(&self, node: &Node, table: &TableName) -> Vec<(String, u64)> {
        let rows = self.client.rows_by_partition(node, table, None).await.unwrap();
        rows.into_iter().map(|(id, rows)| (id.0, rows)).collect()
    }
}

fn counts(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
    pairs.iter().map(|(id, rows)| ((*id).to_owned(), *rows)).collect()
}
