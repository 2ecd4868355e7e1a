//! Each question and each deed of the door.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::super::{
    Digest, Error, Kind, PartList, PartName, PartSizes, Placing, ReplicaState, Running, ServerClient, ServerContext,
    ServerFacts, Settings, Tally, Transfer,
};
use super::MemoryServerClient;
use super::expression::parse;
use super::refused::refused;
use super::table::{Chooser, Named, Table, over};
use super::value::{hash, type_of};
use super::world::{World, deduplicates};
use crate::model::{Node, PartitionId, PartitionValue, TableName, Way};
use crate::sql::{Column, KeyElement, MOST_SAMPLED, Selection, TableDefinition};

/// The chosen rows of a table, with names.
fn chosen(world: &World, node: &str, selection: &Selection) -> Result<Vec<Named>, Kind> {
    let table = world.table(node, &selection.relation.table)?;
    let chooser = Chooser::new(selection)?;
    chooser.types(table)?;
    let mut rows = Vec::new();
    for row in world.rows(table) {
        rows.extend(chooser.choose(table.named(&row)?)?);
    }
    Ok(rows)
}

fn texts(expressions: impl IntoIterator<Item = String>, row: &Named) -> Result<Vec<String>, Kind> {
    expressions.into_iter().map(|text| Ok(over(&parse(&text)?, row)?.text())).collect()
}

/// The hash of each row of a table, or of a partition of it.
fn row_hashes(world: &World, table: &Table, id: Option<&PartitionId>, columns: &[Column]) -> Result<Vec<u64>, Kind> {
    let mut hashes = Vec::new();
    for part in world.parts(table).iter().filter(|part| id.is_none_or(|id| &part.id == id)) {
        for row in &part.rows {
            let named = table.named(row)?;
            let inserted = columns.iter().filter(|column| column.default_kind.is_inserted());
            let texts: Option<Vec<String>> =
                inserted.map(|column| named.get(&column.name).map(super::value::Value::text)).collect();
            let texts = texts.ok_or_else(|| refused(47, "Unknown identifier"))?;
            hashes.push(hash(texts.iter().map(String::as_str)));
        }
    }
    Ok(hashes)
}

#[async_trait]
impl ServerClient for MemoryServerClient {
    async fn server(&self, node: &Node) -> Result<ServerFacts, Error> {
        self.question(node, "cannot connect".into(), |world, node| {
            let settings = world.server(node)?.settings.clone();
            Ok(ServerFacts { version: "18.16.1".into(), settings, ..ServerFacts::default() })
        })
        .await
    }

    async fn context(&self, node: &Node) -> Result<ServerContext, Error> {
        self.question(node, "cannot ask the server what it is".into(), |world, node| {
            let (macros, zones) = (world.server(node)?.macros.clone(), vec!["UTC".to_owned()]);
            Ok(ServerContext { macros, zones, ..ServerContext::default() })
        })
        .await
    }

    async fn merge_tree_settings(&self, node: &Node) -> Result<BTreeSet<String>, Error> {
        let doing = "cannot ask which settings tables can have".to_owned();
        self.question(node, doing, |_, _| Ok(BTreeSet::from(["index_granularity".to_owned()]))).await
    }

    async fn database_engine(&self, node: &Node, database: &str) -> Result<Option<String>, Error> {
        let doing = format!("cannot look for database {database}");
        let engine = |known: bool| known.then(|| "Ordinary".to_owned());
        self.question(node, doing, |world, node| Ok(engine(world.server(node)?.databases.contains_key(database)))).await
    }

    async fn table(&self, node: &Node, name: &TableName) -> Result<Option<TableDefinition>, Error> {
        let doing = format!("cannot read the definition of {name}");
        self.question(node, doing, |world, node| match world.table(node, name) {
            Ok(table) => Ok(Some(table.definition.clone())),
            Err(Kind::Server { code: 60 | 81, .. }) => Ok(None),
            Err(other) => Err(other),
        })
        .await
    }

    async fn tables_with_prefix(&self, node: &Node, database: &str, prefix: &str) -> Result<Vec<String>, Error> {
        let doing = format!("cannot list the tables of {database}");
        self.question(node, doing, |world, node| {
            let tables = world.server(node)?.databases.get(database);
            let names = tables.into_iter().flat_map(BTreeMap::keys);
            Ok(names.filter(|name| name.starts_with(prefix)).cloned().collect())
        })
        .await
    }

    async fn replica_state(&self, node: &Node, name: &TableName) -> Result<Option<ReplicaState>, Error> {
        let doing = format!("cannot read the state of the replica of {name}");
        self.question(node, doing, |world, node| {
            let replica = world.table(node, name).ok().and_then(|table| table.replica.clone());
            Ok(replica.map(|replica| ReplicaState {
                path: replica.path,
                name: replica.name,
                readonly: false,
                queue: 0,
            }))
        })
        .await
    }

    async fn reaches(&self, from: &Node, to: &Node) -> Result<(), Error> {
        let doing = format!("cannot speak to {to} from there");
        let to = to.address();
        self.question(from, doing, |world, from| {
            world.may_write(from).map_err(|_| refused(164, "Table functions are forbidden in readonly mode"))?;
            world.speaks(from, &to)
        })
        .await
    }

    async fn zookeeper_children(&self, node: &Node, path: &str) -> Result<Option<Vec<String>>, Error> {
        let doing = format!("cannot look at {path} in the server's ZooKeeper");
        self.question(node, doing, |world, _| {
            if let Some(replica) = path.strip_suffix("/parts") {
                return Ok(world.parts_at(replica).map(|numbers| numbers.iter().map(u64::to_string).collect()));
            }
            let table = path.strip_suffix("/replicas").and_then(|path| world.paths.get(path));
            Ok(table.map(|(_, names)| names.iter().cloned().collect()))
        })
        .await
    }

    async fn zookeeper_marks(&self, node: &Node) -> Result<BTreeSet<String>, Error> {
        let doing = "cannot look at the root of the server's ZooKeeper".to_owned();
        self.question(node, doing, |_, _| Ok(BTreeSet::from(["the only one".to_owned()]))).await
    }

    async fn parts_lacking(&self, node: &Node, name: &TableName, columns: &[Column]) -> Result<u64, Error> {
        let doing = format!("cannot read which columns the parts of {name} have");
        self.question(node, doing, |world, node| {
            let Ok(table) = world.table(node, name) else { return Ok(0) };
            let has = |of: &Column| table.definition.column(&of.name).is_some_and(|own| own.type_name == of.type_name);
            // Nobody adds columns to the tables of the double.
            Ok(if columns.iter().all(has) { 0 } else { world.parts(table).len() as u64 })
        })
        .await
    }

    async fn parts(&self, node: &Node, name: &TableName) -> Result<Vec<PartSizes>, Error> {
        let doing = format!("cannot read the parts of {name}");
        self.question(node, doing, |world, node| {
            let Ok(table) = world.table(node, name) else { return Ok(Vec::new()) };
            let mut sizes: BTreeMap<PartitionId, PartSizes> = BTreeMap::new();
            for part in world.parts(table) {
                let Some(first) = part.rows.first() else { continue };
                let new = PartSizes {
                    id: part.id.clone(),
                    name: table.partition_name(first)?,
                    rows: 0,
                    bytes: 0,
                    exact: true,
                    patched: false,
                };
                let entry = sizes.entry(part.id.clone()).or_insert(new);
                entry.rows += part.rows.len() as u64;
                entry.bytes += part.rows.iter().flatten().map(|text| text.len() as u64).sum::<u64>();
            }
            Ok(sizes.into_values().collect())
        })
        .await
    }

    async fn part_list(&self, node: &Node, name: &TableName) -> Result<PartList, Error> {
        let doing = format!("cannot read the parts of {name}");
        self.question(node, doing, |world, node| {
            let Ok(table) = world.table(node, name) else { return Ok(PartList::default()) };
            let parts = world.parts(table).into_iter().map(|part| PartName {
                id: part.id.clone(),
                name: format!("{}_{number}_{number}_0", part.id, number = part.number),
                rows: part.rows.len() as u64,
                hash: part.content(),
            });
            Ok(PartList { table: name.to_string(), parts: parts.collect() })
        })
        .await
    }

    async fn displaced_parts(&self, node: &Node, name: &TableName, ids: &[PartitionId]) -> Result<u64, Error> {
        let doing = format!("cannot read the displaced parts of {name}");
        self.question(node, doing, |world, node| {
            let now = tokio::time::Instant::now();
            let Ok(table) = world.table_mut(node, name) else { return Ok(0) };
            table.displaced.retain(|(_, leaves)| *leaves > now);
            Ok(table.displaced.iter().filter(|(part, _)| ids.contains(&part.id)).count() as u64)
        })
        .await
    }

    async fn tally(
        &self,
        node: &Node,
        rows: &Selection,
        key: &[KeyElement],
        _: &Settings,
    ) -> Result<Vec<Tally>, Error> {
        let doing = format!("cannot count the rows of {}", rows.relation.table);
        self.question(node, doing, |world, node| {
            let mut found: BTreeMap<Vec<String>, Tally> = BTreeMap::new();
            for row in chosen(world, node, rows)? {
                let value = texts(key.iter().map(KeyElement::value), &row)?;
                if let Some(tally) = found.get_mut(&value) {
                    tally.rows += 1;
                    continue;
                }
                let shown = texts(key.iter().map(KeyElement::shown), &row)?;
                let ids: Option<Vec<String>> = key.iter().map(KeyElement::id).collect();
                let id = match ids {
                    Some(ids) if ids.is_empty() => Some("all".to_owned()),
                    Some(ids) => Some(texts(ids, &row)?.join("-")),
                    None => None,
                };
                let tally = Tally { value: PartitionValue(value.clone()), shown, id: id.map(PartitionId), rows: 1 };
                found.insert(value, tally);
            }
            Ok(found.into_values().collect())
        })
        .await
    }

    async fn rows_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        only: Option<&[PartitionId]>,
    ) -> Result<BTreeMap<PartitionId, u64>, Error> {
        if only.is_some_and(<[PartitionId]>::is_empty) {
            return Ok(BTreeMap::new());
        }
        let doing = format!("cannot count the rows of {name}");
        self.question(node, doing, |world, node| {
            let mut found = BTreeMap::new();
            for part in world.parts(world.table(node, name)?) {
                if only.is_none_or(|only| only.contains(&part.id)) && !part.rows.is_empty() {
                    *found.entry(part.id.clone()).or_default() += part.rows.len() as u64;
                }
            }
            Ok(found)
        })
        .await
    }

    async fn values_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        key: &[KeyElement],
    ) -> Result<Vec<(PartitionId, PartitionValue, u64)>, Error> {
        let doing = format!("cannot count the rows of {name}");
        self.question(node, doing, |world, node| {
            let table = world.table(node, name)?;
            let mut found: BTreeMap<(PartitionId, PartitionValue), u64> = BTreeMap::new();
            for part in world.parts(table) {
                for row in &part.rows {
                    let value = texts(key.iter().map(KeyElement::value), &table.named(row)?)?;
                    *found.entry((part.id.clone(), PartitionValue(value))).or_default() += 1;
                }
            }
            Ok(found.into_iter().map(|((id, value), rows)| (id, value, rows)).collect())
        })
        .await
    }

    async fn checksum(
        &self,
        node: &Node,
        name: &TableName,
        id: Option<&PartitionId>,
        columns: &[Column],
    ) -> Result<(u64, u64), Error> {
        let doing = format!("cannot compute the checksum of {name}");
        self.question(node, doing, |world, node| {
            let hashes = row_hashes(world, world.table(node, name)?, id, columns)?;
            let sum = hashes.iter().fold(0, |sum: u64, hash| sum.wrapping_add(*hash));
            let rows = hashes.len() as u64;
            Ok((rows, sum))
        })
        .await
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
        self.question(node, doing, |world, node| {
            let of = |name| row_hashes(world, world.table(node, name)?, Some(id), columns);
            let (mut wanted, held) = (of(sample)?, of(name)?);
            wanted.sort_unstable();
            wanted.truncate(MOST_SAMPLED);
            let wanted: BTreeSet<u64> = wanted.into_iter().collect();
            Ok(held.into_iter().filter(|hash| wanted.contains(hash)).collect::<BTreeSet<_>>().len() as u64)
        })
        .await
    }

    async fn digest(
        &self,
        node: &Node,
        rows: &Selection,
        key: &[KeyElement],
        hash: &str,
        _: &Settings,
    ) -> Result<Vec<Digest>, Error> {
        let doing = format!("cannot compute the checksum of rows of {}", rows.relation.table);
        self.question(node, doing, |world, node| {
            let hash = parse(hash)?;
            let mut found: BTreeMap<Vec<String>, Digest> = BTreeMap::new();
            for row in chosen(world, node, rows)? {
                let value = texts(key.iter().map(KeyElement::value), &row)?;
                let new = Digest { value: PartitionValue(value.clone()), rows: 0, sum: 0 };
                let entry = found.entry(value).or_insert(new);
                let number = over(&hash, &row)?.text();
                let number: u64 = number.parse().map_err(|_| refused(43, "the hash is no number"))?;
                entry.rows += 1;
                entry.sum = entry.sum.wrapping_add(number);
            }
            Ok(found.into_values().collect())
        })
        .await
    }

    /// Every `every`th row in the order of the keys.
    async fn sample_keys(
        &self,
        node: &Node,
        rows: &Selection,
        columns: &[KeyElement],
        every: u64,
        _: &Settings,
    ) -> Result<Vec<Vec<String>>, Error> {
        let doing = format!("cannot sample the keys of {}", rows.relation.table);
        self.question(node, doing, |world, node| {
            let mut keyed = Vec::new();
            for row in chosen(world, node, rows)? {
                let key = columns.iter().map(|column| over(&parse(&column.expression)?, &row));
                let key = key.collect::<Result<Vec<_>, Kind>>()?;
                keyed.push((key, texts(columns.iter().map(KeyElement::value), &row)?));
            }
            keyed.sort();
            Ok(keyed.into_iter().step_by(every.max(1) as usize).map(|(_, texts)| texts).collect())
        })
        .await
    }

    async fn types(&self, node: &Node, over: Option<&Selection>, expressions: &[String]) -> Result<Vec<String>, Error> {
        let doing = format!("cannot evaluate {}", expressions.join(", "));
        self.question(node, doing, |world, node| {
            let types = match over {
                Some(rows) => Chooser::new(rows)?.types(world.table(node, &rows.relation.table)?)?,
                None => BTreeMap::new(),
            };
            expressions.iter().map(|text| type_of(&parse(text)?, &|name| types.get(name).cloned())).collect()
        })
        .await
    }

    async fn evaluate(
        &self,
        node: &Node,
        over: &Selection,
        expressions: &[String],
        rows: u64,
        _: &Settings,
    ) -> Result<(), Error> {
        let doing = format!("cannot convert rows of {}", over.relation.table);
        self.question(node, doing, |world, node| {
            for row in chosen(world, node, over)?.iter().take(rows as usize) {
                texts(expressions.iter().cloned(), row)?;
            }
            Ok(())
        })
        .await
    }

    async fn running(&self, node: &Node, prefix: &str) -> Result<Vec<Running>, Error> {
        self.question(node, "cannot list running statements".into(), |world, node| {
            let queries = world.server(node)?.queries.values().filter(|query| query.id.starts_with(prefix));
            let running = queries.filter(|query| !query.id.is_empty()).map(|query| Running {
                query_id: query.id.clone(),
                elapsed: query.since.elapsed().as_secs_f64(),
                read_rows: query.rows,
                written_rows: query.rows,
                moved: 0,
            });
            Ok(running.collect())
        })
        .await
    }

    async fn kill(&self, node: &Node, prefix: &str) -> Result<(), Error> {
        let prefix = prefix.to_owned();
        self.deed(node, ("kill", prefix.clone()), "cannot end a statement".into(), move |world, node| {
            let queries = world.servers.get_mut(node).into_iter().flat_map(|server| server.queries.values_mut());
            for query in queries.filter(|query| !query.id.is_empty() && query.id.starts_with(&prefix)) {
                query.killed = true;
            }
            Ok(())
        })
        .await
    }

    async fn create_database(&self, node: &Node, database: &str, _: &Settings) -> Result<(), Error> {
        let (doing, database) = (format!("cannot create database {database}"), database.to_owned());
        self.deed(node, ("create_database", database.clone()), doing, |world, node| {
            if let Some(server) = world.servers.get_mut(node) {
                server.databases.entry(database).or_default();
            }
            Ok(())
        })
        .await
    }

    async fn create_table(&self, node: &Node, name: &TableName, statement: &str, _: &Settings) -> Result<(), Error> {
        let doing = format!("cannot create table {name}");
        let (name, statement) = (name.clone(), statement.to_owned());
        self.deed(node, ("create_table", name.to_string()), doing, move |world, node| {
            world.create(node, &name, &statement)
        })
        .await
    }

    async fn drop_table(&self, node: &Node, name: &TableName, _: &Settings) -> Result<(), Error> {
        let (doing, name) = (format!("cannot drop table {name}"), name.clone());
        self.deed(node, ("drop_table", name.to_string()), doing, move |world, node| world.drop(node, &name)).await
    }

    async fn rename(&self, node: &Node, pairs: &[(TableName, TableName)]) -> Result<(), Error> {
        let Some((first, _)) = pairs.first() else { return Ok(()) };
        let (doing, of, pairs) = (format!("cannot rename table {first}"), first.to_string(), pairs.to_vec());
        self.deed(node, ("rename", of), doing, move |world, node| world.rename(node, &pairs)).await
    }

    async fn stop_merges(&self, node: &Node, name: &TableName) -> Result<(), Error> {
        let (doing, name) = (format!("cannot stop merges of {name}"), name.clone());
        self.deed(node, ("stop_merges", name.to_string()), doing, move |world, node| {
            world.table_mut(node, &name)?.merges_stopped = true;
            Ok(())
        })
        .await
    }

    async fn sync_replica(&self, node: &Node, name: &TableName) -> Result<(), Error> {
        let (doing, name) = (format!("cannot wait for the replica of {name}"), name.clone());
        self.deed(node, ("sync_replica", name.to_string()), doing, move |world, node| world.sync(node, &name)).await
    }

    async fn place(
        &self,
        node: &Node,
        placing: Placing,
        into: &TableName,
        from: &TableName,
        ids: &[PartitionId],
        _: &Settings,
    ) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let doing = format!("cannot publish partitions of {from} in {into}");
        let (into, from, ids) = (into.clone(), from.clone(), ids.to_vec());
        self.deed(node, ("place", into.to_string()), doing, move |world, node| {
            world.place(node, &into, &from, &ids, placing == Placing::Replace)
        })
        .await
    }

    async fn fetch(
        &self,
        node: &Node,
        into: &TableName,
        path: &str,
        ids: &[PartitionId],
        _: &str,
        _: &Settings,
    ) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let doing = format!("cannot fetch parts at {path} in ZooKeeper into {into}");
        let (into, path, ids) = (into.clone(), path.to_owned(), ids.to_vec());
        self.deed(node, ("fetch", into.to_string()), doing, move |world, node| world.fetch(node, &into, &path, &ids))
            .await
    }

    async fn drop_partitions(
        &self,
        node: &Node,
        name: &TableName,
        ids: &[PartitionId],
        _: &Settings,
    ) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let (doing, name, ids) = (format!("cannot drop partitions of {name}"), name.clone(), ids.to_vec());
        self.deed(node, ("drop_partitions", name.to_string()), doing, move |world, node| {
            world.drop_partitions(node, &name, &ids)
        })
        .await
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
        let (into, from, columns, id) = (into.clone(), from.clone(), columns.to_vec(), id.clone());
        let deduplicate = deduplicates(settings);
        self.deed(node, ("insert_partition", into.to_string()), doing, move |world, node| {
            let (target, source) = (world.table(node, &into)?, world.table(node, &from)?);
            let mut rows = Vec::new();
            for part in world.parts(source).iter().filter(|part| part.id == id) {
                for row in &part.rows {
                    let mut named = source.named(row)?;
                    named.retain(|name, _| columns.contains(name));
                    rows.push(target.row(named)?);
                }
            }
            world.insert(node, &into, rows, deduplicate)
        })
        .await
    }

    async fn transfer(&self, transfer: &Transfer) -> Result<(), Error> {
        match transfer.way {
            Way::Clone => Err(transfer.parts_do_not()),
            _ => self.send(transfer.clone()).await,
        }
    }
}
