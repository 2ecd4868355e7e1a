//! Each question and each deed, as a statement and the shape of its answer.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use clickhouse::Row;
use serde::Deserialize;

use crate::model::{Node, PartitionId, PartitionValue, TableName, Way};
use crate::sql::{self, Column, EventColumns, KeyElement, PolicyKind, Selection, TableDefinition};

use super::super::{
    Digest, Error, Kind, PartList, PartSizes, Placing, ReplicaState, Running, ServerClient, ServerContext, ServerFacts,
    Settings, Tally, Transfer,
};
use super::bound::{Bound, own_id};
use super::permits::Share;
use super::text::{Text, texts, values_of};
use super::{COUNTING, Header, HttpServerClient, QUICK, SHORT, SYNC};

#[derive(Row, Deserialize)]
struct CountRow {
    id: String,
    rows: u64,
}

#[derive(Row, Deserialize)]
struct TallyRow {
    values: Vec<Text>,
    shown: Vec<Text>,
    ids: Vec<String>,
    rows: u64,
}

#[derive(Row, Deserialize)]
struct DigestRow {
    values: Vec<Text>,
    rows: u64,
    sum: u64,
}

#[derive(Row, Deserialize)]
struct ValuesRow {
    id: String,
    values: Vec<Text>,
    rows: u64,
}

#[derive(Row, Deserialize)]
struct RunningRow {
    query_id: String,
    elapsed: f64,
    read_rows: u64,
    written_rows: u64,
    moved: u64,
}

#[derive(Row, Deserialize)]
struct ChecksumRow {
    rows: u64,
    sum: u64,
}

#[derive(Row, Deserialize)]
struct KeyRow {
    values: Vec<Text>,
}

impl HttpServerClient {
    /// Runs a statement of a transfer on one node that sends its settings on to others.
    async fn send(
        &self,
        transfer: &Transfer,
        (node, others): (&Node, &[&Node]),
        statement: &str,
        settings: &Settings,
        query_id: &str,
    ) -> Result<(), Error> {
        let (needed, behind) = self.settings_between(node, others, SHORT).await?;
        let client = needed.iter().fold(self.client(node), |client, (name, value)| client.with_setting(name, value));
        let statement = format!("{statement}{behind}");
        let bound = Bound::Transfer { query_id, course: &transfer.course };
        self.execute_by(client, (node, &transfer.doing()), &statement, settings, bound).await
    }

    /// What a statement says of values by partition.
    async fn values(
        &self,
        node: &Node,
        name: &TableName,
        statement: &str,
        key: &[KeyElement],
    ) -> Result<Vec<(PartitionId, PartitionValue, u64)>, Error> {
        let doing = format!("cannot count the rows of {name}");
        let rows: Vec<ValuesRow> = self.rows(node, &doing, statement, COUNTING).await?;
        let valued = |row: ValuesRow| (PartitionId(row.id), PartitionValue(values_of(key, row.values)), row.rows);
        Ok(rows.into_iter().map(valued).collect())
    }
}

#[async_trait]
impl ServerClient for HttpServerClient {
    async fn server(&self, node: &Node) -> Result<ServerFacts, Error> {
        self.facts(node).await
    }

    async fn answers(&self, node: &Node) -> Result<(), Error> {
        match self.is_fresh(node) {
            true => self.answers_now(node).await,
            false => self.facts(node).await.map(drop),
        }
    }

    async fn context(&self, node: &Node) -> Result<ServerContext, Error> {
        self.ask_context(node).await
    }

    async fn merge_tree_settings(&self, node: &Node) -> Result<BTreeSet<String>, Error> {
        let doing = "cannot ask which settings tables can have";
        let names: Vec<String> = self.rows(node, doing, sql::MERGE_TREE_SETTINGS, SHORT).await?;
        Ok(names.into_iter().collect())
    }

    async fn database_engine(&self, node: &Node, database: &str) -> Result<Option<String>, Error> {
        self.engine_of_database(node, database).await
    }

    async fn table(&self, node: &Node, name: &TableName) -> Result<Option<TableDefinition>, Error> {
        self.definition(node, name).await
    }

    async fn tables_with_prefix(&self, node: &Node, database: &str, prefix: &str) -> Result<Vec<String>, Error> {
        let doing = format!("cannot list the tables of {database}");
        self.definitions(node, &doing, &sql::tables_with_prefix(database, prefix)).await
    }

    async fn replica_state(&self, node: &Node, name: &TableName) -> Result<Option<ReplicaState>, Error> {
        self.state_of_replica(node, name).await
    }

    async fn reaches(&self, from: &Node, to: &Node) -> Result<(), Error> {
        let doing = format!("cannot speak to {to} from there");
        self.answers.keep_secret(&to.password);
        let (needed, behind) = self.settings_between(from, &[to], SHORT).await?;
        let client = needed.iter().fold(self.client(from), |client, (name, value)| client.with_setting(name, value));
        let statement = format!("{}{behind}", sql::reach(to));
        let _permit = self.permits.several(Share::Question, [from, to], 1).await;
        self.execute_by(client, (from, &doing), &statement, &Settings::new(), Bound::Within(SHORT)).await
    }

    async fn zookeeper_children(&self, node: &Node, path: &str) -> Result<Option<Vec<String>>, Error> {
        let doing = format!("cannot look at {path} in the server's ZooKeeper");
        match self.rows(node, &doing, &sql::zookeeper_children(path), SHORT).await {
            Err(error) if error.code() == Some(999) && error.to_string().to_lowercase().contains("no node") => Ok(None),
            // Modern servers answer the same for a node without children and for none; its parent tells.
            Ok(children) if children.is_empty() => match path.rsplit_once('/') {
                Some((parent, name)) if !name.is_empty() => {
                    let parent = if parent.is_empty() { "/" } else { parent };
                    let siblings: Vec<String> =
                        match self.rows(node, &doing, &sql::zookeeper_children(parent), SHORT).await {
                            Err(error) if error.code() == Some(999) => return Ok(None),
                            siblings => siblings?,
                        };
                    Ok(siblings.iter().any(|sibling| sibling == name).then_some(children))
                }
                _ => Ok(Some(children)),
            },
            other => other.map(Some),
        }
    }

    async fn zookeeper_marks(&self, node: &Node) -> Result<BTreeSet<String>, Error> {
        let doing = "cannot look at the root of the server's ZooKeeper";
        let marks: Vec<String> = self.rows(node, doing, sql::ZOOKEEPER_MARKS, SHORT).await?;
        Ok(marks.into_iter().collect())
    }

    async fn parts_lacking(&self, node: &Node, name: &TableName, columns: &[Column]) -> Result<u64, Error> {
        let doing = format!("cannot read which columns the parts of {name} have");
        let rows: Vec<u64> = self.rows(node, &doing, &sql::parts_lacking(name, columns), SHORT).await?;
        Ok(rows.into_iter().sum())
    }

    async fn parts(&self, node: &Node, name: &TableName) -> Result<Vec<PartSizes>, Error> {
        self.sizes_of_parts(node, name).await
    }

    async fn part_list(&self, node: &Node, name: &TableName) -> Result<PartList, Error> {
        self.list_of_parts(node, name).await
    }

    async fn displaced_parts(&self, node: &Node, name: &TableName, ids: &[PartitionId]) -> Result<u64, Error> {
        let doing = format!("cannot read the displaced parts of {name}");
        let rows: Vec<u64> = self.rows(node, &doing, &sql::displaced_parts(name, ids), SHORT).await?;
        Ok(rows.into_iter().sum())
    }

    async fn tally(
        &self,
        node: &Node,
        rows: &Selection,
        key: &[KeyElement],
        settings: &Settings,
    ) -> Result<Vec<Tally>, Error> {
        let doing = format!("cannot count the rows of {}", rows.relation.table);
        let found: Vec<TallyRow> = self.rows_with(node, &doing, &sql::tally(rows, key), COUNTING, settings).await?;
        let tally = |row: TallyRow| {
            // An unpartitioned table is one partition, named so by every version.
            let id = if key.is_empty() {
                Some(PartitionId("all".into()))
            } else {
                (!row.ids.is_empty()).then(|| PartitionId(row.ids.join("-")))
            };
            let value = PartitionValue(values_of(key, row.values));
            Tally { value, shown: texts(row.shown), id, rows: row.rows }
        };
        Ok(found.into_iter().map(tally).filter(|tally| tally.rows > 0).collect())
    }

    async fn rows_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        only: Option<&[PartitionId]>,
    ) -> Result<BTreeMap<PartitionId, u64>, Error> {
        self.count_by_partition(node, name, only, &Settings::new()).await
    }

    async fn count_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        only: Option<&[PartitionId]>,
        settings: &Settings,
    ) -> Result<BTreeMap<PartitionId, u64>, Error> {
        if only.is_some_and(<[PartitionId]>::is_empty) {
            return Ok(BTreeMap::new());
        }
        let doing = format!("cannot count the rows of {name}");
        let statement = sql::rows_by_partition(name, only);
        let rows: Vec<CountRow> = self.rows_with(node, &doing, &statement, COUNTING, settings).await?;
        Ok(rows.into_iter().map(|row| (PartitionId(row.id), row.rows)).collect())
    }

    async fn values_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        key: &[KeyElement],
    ) -> Result<Vec<(PartitionId, PartitionValue, u64)>, Error> {
        self.values(node, name, &sql::values_by_partition(name, key), key).await
    }

    async fn value_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        key: &[KeyElement],
    ) -> Result<Vec<(PartitionId, PartitionValue, u64)>, Error> {
        self.values(node, name, &sql::value_by_partition(name, key), key).await
    }

    async fn checksum(
        &self,
        node: &Node,
        name: &TableName,
        id: Option<&PartitionId>,
        columns: &[Column],
    ) -> Result<(u64, u64), Error> {
        let doing = format!("cannot compute the checksum of {name}");
        let rows: Vec<ChecksumRow> = self.rows(node, &doing, &sql::checksum(name, id, columns), COUNTING).await?;
        Ok(rows.into_iter().fold((0, 0), |(rows, sum), row| (rows + row.rows, sum.wrapping_add(row.sum))))
    }

    async fn sampled_rows(
        &self,
        node: &Node,
        name: &TableName,
        sample: &TableName,
        id: &PartitionId,
        columns: &[Column],
    ) -> Result<u64, Error> {
        let doing = format!("cannot look for rows of {sample} in {name}");
        let rows: Vec<u64> = self.rows(node, &doing, &sql::sampled_rows(name, sample, id, columns), COUNTING).await?;
        Ok(rows.into_iter().sum())
    }

    async fn digest(
        &self,
        node: &Node,
        rows: &Selection,
        key: &[KeyElement],
        hash: &str,
        settings: &Settings,
    ) -> Result<Vec<Digest>, Error> {
        let doing = format!("cannot compute the checksum of rows of {}", rows.relation.table);
        let statement = sql::digest(rows, key, hash);
        let found: Vec<DigestRow> = self.rows_with(node, &doing, &statement, COUNTING, settings).await?;
        let digest = |row: DigestRow| {
            let value = PartitionValue(values_of(key, row.values));
            Digest { value, rows: row.rows, sum: row.sum }
        };
        Ok(found.into_iter().map(digest).filter(|digest| digest.rows > 0).collect())
    }

    async fn sample_keys(
        &self,
        node: &Node,
        rows: &Selection,
        columns: &[KeyElement],
        every: u64,
        settings: &Settings,
    ) -> Result<Vec<Vec<String>>, Error> {
        let doing = format!("cannot sample the keys of {}", rows.relation.table);
        let statement = sql::sample_keys(rows, columns, every);
        let found: Vec<KeyRow> = self.rows_with(node, &doing, &statement, COUNTING, settings).await?;
        Ok(found.into_iter().map(|row| values_of(columns, row.values)).collect())
    }

    async fn types(&self, node: &Node, over: Option<&Selection>, expressions: &[String]) -> Result<Vec<String>, Error> {
        let (doing, statement) = match over {
            Some(rows) => (
                format!("cannot evaluate {} over {}", expressions.join(", "), rows.relation.table),
                sql::types(rows, expressions),
            ),
            None => (format!("cannot evaluate {}", expressions.join(", ")), sql::types_without_table(expressions)),
        };
        let text = self.text(node, &doing, &statement, "JSON", SHORT, &Settings::new()).await?;
        let header: Header = serde_json::from_slice(&text).map_err(|error| Error {
            node: node.to_string(),
            doing,
            kind: Kind::Answer(error.to_string()),
        })?;
        Ok(header.meta.into_iter().map(|column| column.type_name).collect())
    }

    async fn evaluate(
        &self,
        node: &Node,
        over: &Selection,
        expressions: &[String],
        rows: u64,
        settings: &Settings,
    ) -> Result<(), Error> {
        let doing = format!("cannot convert rows of {}", over.relation.table);
        let statement = sql::first_rows(over, expressions, rows);
        self.text(node, &doing, &statement, "Null", SHORT, settings).await.map(drop)
    }

    async fn policies(&self, node: &Node, name: &TableName, kind: PolicyKind) -> Result<Vec<String>, Error> {
        self.hiding_policies(node, name, kind).await
    }

    async fn running(&self, node: &Node, prefix: &str) -> Result<Vec<Running>, Error> {
        let columns = self.columns_within(node, "processes", QUICK).await?;
        let has = |column: &str| columns.iter().any(|name| name == column);
        let events = match () {
            () if has("ProfileEvents.Values") => EventColumns::Arrays,
            () if has("ProfileEvents") => EventColumns::Map,
            () => EventColumns::None,
        };
        let rows: Vec<RunningRow> =
            self.rows(node, "cannot list running statements", &sql::running(prefix, events), QUICK).await?;
        let running = |row: RunningRow| Running {
            query_id: row.query_id,
            elapsed: row.elapsed,
            read_rows: row.read_rows,
            written_rows: row.written_rows,
            moved: row.moved,
        };
        Ok(rows.into_iter().map(running).collect())
    }

    async fn is_at_work(&self, node: &Node, prefix: &str) -> Result<bool, Error> {
        let counts: Vec<u64> = self.rows(node, "cannot list running statements", &sql::at_work(prefix), QUICK).await?;
        Ok(counts.into_iter().sum::<u64>() > 0)
    }

    async fn kill(&self, node: &Node, prefix: &str) -> Result<(), Error> {
        let none = Settings::new();
        self.execute(node, "cannot end a statement", &sql::kill(prefix), &none, Bound::Within(QUICK)).await
    }

    async fn create_database(&self, node: &Node, database: &str, settings: &Settings) -> Result<(), Error> {
        let doing = format!("cannot create database {database}");
        self.execute(node, &doing, &sql::create_database(database), settings, Bound::Within(SHORT)).await
    }

    async fn create_table(
        &self,
        node: &Node,
        name: &TableName,
        statement: &str,
        settings: &Settings,
    ) -> Result<(), Error> {
        self.execute(node, &format!("cannot create table {name}"), statement, settings, Bound::Within(SHORT)).await
    }

    async fn drop_table(&self, node: &Node, name: &TableName, settings: &Settings) -> Result<(), Error> {
        let doing = format!("cannot drop table {name}");
        self.execute(node, &doing, &sql::drop_table(name), settings, Bound::Within(SHORT)).await
    }

    async fn rename(&self, node: &Node, pairs: &[(TableName, TableName)]) -> Result<(), Error> {
        if pairs.is_empty() {
            return Ok(());
        }
        let doing = format!("cannot rename table {}", pairs[0].0);
        self.execute(node, &doing, &sql::rename(pairs), &Settings::new(), Bound::Within(SHORT)).await
    }

    async fn stop_merges(&self, node: &Node, name: &TableName) -> Result<(), Error> {
        let doing = format!("cannot stop merges of {name}");
        self.execute(node, &doing, &sql::stop_merges(name), &Settings::new(), Bound::Within(SHORT)).await
    }

    async fn sync_replica(&self, node: &Node, name: &TableName) -> Result<(), Error> {
        let doing = format!("cannot wait for the replica of {name}");
        self.execute(node, &doing, &sql::sync_replica(name), &Settings::new(), Bound::Within(SYNC)).await
    }

    async fn place(
        &self,
        node: &Node,
        placing: Placing,
        into: &TableName,
        from: &TableName,
        ids: &[PartitionId],
        settings: &Settings,
    ) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let doing = format!("cannot publish partitions of {from} in {into}");
        let statement = match placing {
            Placing::Attach => sql::attach_partitions(into, from, ids),
            Placing::Replace => sql::replace_partitions(into, from, ids),
        };
        self.execute(node, &doing, &statement, settings, Bound::Parts(&own_id())).await
    }

    async fn fetch(
        &self,
        node: &Node,
        into: &TableName,
        path: &str,
        ids: &[PartitionId],
        query_id: &str,
        settings: &Settings,
    ) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let doing = format!("cannot fetch parts at {path} in ZooKeeper into {into}");
        let fetch = sql::fetch_partitions(into, path, ids);
        self.execute(node, &doing, &fetch, settings, Bound::Parts(query_id)).await?;
        self.execute(node, &doing, &sql::attach_fetched(into, ids), settings, Bound::Parts(query_id)).await
    }

    async fn drop_partitions(
        &self,
        node: &Node,
        name: &TableName,
        ids: &[PartitionId],
        settings: &Settings,
    ) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let doing = format!("cannot drop partitions of {name}");
        self.execute(node, &doing, &sql::drop_partitions(name, ids), settings, Bound::Parts(&own_id())).await
    }

    async fn insert_partition(
        &self,
        node: &Node,
        into: &TableName,
        from: &TableName,
        columns: &[String],
        id: &PartitionId,
        settings: &Settings,
    ) -> Result<(), Error> {
        let doing = format!("cannot insert partition {id} of {from} into {into}");
        self.execute(node, &doing, &sql::insert_partition(into, from, columns, id), settings, Bound::Parts(&own_id()))
            .await
    }

    async fn transfer(&self, transfer: &Transfer) -> Result<(), Error> {
        let Transfer { into, columns, values, .. } = transfer;
        if transfer.way == Way::Clone {
            return Err(transfer.parts_do_not());
        }
        let nodes = transfer.from.iter().map(|from| &from.node).chain(transfer.to.iter().map(|to| &to.node));
        let connections = if transfer.way == Way::Relay { 1 + transfer.to.len() } else { 1 };
        let _permit = {
            let _waits = transfer.course.wait();
            self.permits.several(Share::Transfer, nodes.map(AsRef::as_ref), connections).await
        };
        if transfer.way == Way::Relay {
            return self.relay(transfer).await;
        }
        for (from, to) in transfer.pairs() {
            self.answers.keep_secret(&from.node.password);
            self.answers.keep_secret(&to.node.password);
        }
        if transfer.way == Way::Push
            && let Some(remote) = transfer.dealt_into()
        {
            let statement = sql::push_dealt(&remote, values, &transfer.rows);
            let others: Vec<&Node> = transfer.to.iter().map(|to| to.node.as_ref()).collect();
            for from in &transfer.from {
                self.send(transfer, (&from.node, &others), &statement, &from.settings, transfer.query_id()).await?;
            }
            return Ok(());
        }
        for (from, to) in transfer.pairs() {
            let rows = transfer.rows_for(to);
            let (node, other, statement, settings) = match transfer.way {
                Way::Pull => (&to.node, &from.node, sql::pull(&from.node, into, columns, values, &rows), &to.settings),
                _ => (&from.node, &to.node, sql::push(&to.node, into, values, &rows), &from.settings),
            };
            self.send(transfer, (node, &[other]), &statement, settings, &to.query_id).await?;
        }
        Ok(())
    }
}
