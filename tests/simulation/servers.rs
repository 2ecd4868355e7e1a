//! The servers as one worker sees them: [`World`](crate::world::World) decides how each statement is delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clickhouse_copier::client::{
    Digest, Error, PartList, PartSizes, Placing, ReplicaState, Running, ServerClient, ServerContext, ServerFacts,
    Settings, Tally, Transfer,
};
use clickhouse_copier::model::{Node, PartitionId, PartitionValue, TableName, Way};
use clickhouse_copier::sql::{Behind, Column, KeyElement, Selection, TableDefinition};

use crate::requests::Servers;
use crate::scene::source;
use crate::world::DisabledGuard;

#[async_trait::async_trait]
impl ServerClient for Servers {
    async fn server(&self, node: &Node) -> Result<ServerFacts, Error> {
        let node = &self.world.server_named(node);
        self.ask(node, "server", self.inner().server(node)).await
    }

    async fn context(&self, node: &Node) -> Result<ServerContext, Error> {
        let node = &self.world.server_named(node);
        self.ask(node, "context", self.inner().context(node)).await
    }

    async fn merge_tree_settings(&self, node: &Node) -> Result<BTreeSet<String>, Error> {
        let node = &self.world.server_named(node);
        self.ask(node, "merge_tree_settings", self.inner().merge_tree_settings(node)).await
    }

    async fn database_engine(&self, node: &Node, database: &str) -> Result<Option<String>, Error> {
        let node = &self.world.server_named(node);
        self.ask(node, "database_engine", self.inner().database_engine(node, database)).await
    }

    async fn table(&self, node: &Node, name: &TableName) -> Result<Option<TableDefinition>, Error> {
        let node = &self.world.server_named(node);
        self.ask(node, "table", self.inner().table(node, name)).await
    }

    async fn tables_with_prefix(&self, node: &Node, database: &str, prefix: &str) -> Result<Vec<String>, Error> {
        let node = &self.world.server_named(node);
        let mut names =
            self.ask(node, "tables_with_prefix", self.inner().tables_with_prefix(node, database, prefix)).await?;
        if self.world.broken == Some(DisabledGuard::Fencing) {
            names.iter_mut().for_each(|name| *name = self.world.with_recorded_attempt(self.worker.task, name));
        }
        Ok(names)
    }

    async fn replica_state(&self, node: &Node, name: &TableName) -> Result<Option<ReplicaState>, Error> {
        let node = &self.world.server_named(node);
        self.ask(node, "replica_state", self.inner().replica_state(node, name)).await
    }

    async fn reaches(&self, from: &Node, to: &Node) -> Result<(), Error> {
        self.ask(from, "reaches", self.inner().reaches(from, to)).await
    }

    async fn zookeeper_children(&self, node: &Node, path: &str) -> Result<Option<Vec<String>>, Error> {
        let node = &self.world.server_named(node);
        self.ask(node, "zookeeper_children", self.inner().zookeeper_children(node, path)).await
    }

    async fn parts(&self, node: &Node, name: &TableName) -> Result<Vec<PartSizes>, Error> {
        let node = &self.world.server_named(node);
        let parts = self.ask(node, "parts", self.inner().parts(node, &self.named(name))).await?;
        Ok(match self.world.wrong_answer {
            Some(wrong_answer) => wrong_answer.listed(name, parts),
            None => parts,
        })
    }

    async fn parts_behind(&self, node: &Node, behind: &Behind, settings: &Settings) -> Result<Vec<PartSizes>, Error> {
        self.inner().parts_behind(node, behind, settings).await
    }

    async fn part_list(&self, node: &Node, name: &TableName) -> Result<PartList, Error> {
        let node = &self.world.server_named(node);
        self.ask(node, "part_list", self.inner().part_list(node, name)).await
    }

    async fn displaced_parts(&self, node: &Node, name: &TableName, ids: &[PartitionId]) -> Result<u64, Error> {
        let node = &self.world.server_named(node);
        self.ask(node, "displaced_parts", self.inner().displaced_parts(node, name, ids)).await
    }

    async fn tally(
        &self,
        node: &Node,
        rows: &Selection,
        key: &[KeyElement],
        settings: &Settings,
    ) -> Result<Vec<Tally>, Error> {
        let node = &self.world.server_named(node);
        let mut rows = self.selected(rows);
        rows.relation.table = self.named(&rows.relation.table);
        let name = &rows.relation.table;
        let found = self.ask(node, "tally", self.inner().tally(node, &rows, key, settings)).await?;
        if self.world.broken == Some(DisabledGuard::Accounting) && *name == source() && key.is_empty() {
            let listed = self.parts(node, name).await?.iter().map(|part| part.rows).sum();
            return Ok(vec![Tally { value: PartitionValue(Vec::new()), shown: Vec::new(), id: None, rows: listed }]);
        }
        if self.lies(name)
            && let Some(promised) = self.promised.lock().expect("nobody panics").get(&(node.host.clone(), name.clone()))
        {
            let id = Some(PartitionId("all".into()));
            return Ok(vec![Tally { value: PartitionValue(Vec::new()), shown: Vec::new(), id, rows: *promised }]);
        }
        Ok(found)
    }

    async fn rows_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        only: Option<&[PartitionId]>,
    ) -> Result<BTreeMap<PartitionId, u64>, Error> {
        let node = &self.world.server_named(node);
        let name = &self.named(name);
        self.ask(node, "rows_by_partition", self.inner().rows_by_partition(node, name, only)).await
    }

    async fn count_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        only: Option<&[PartitionId]>,
        _: &Settings,
    ) -> Result<BTreeMap<PartitionId, u64>, Error> {
        let counted = self.rows_by_partition(node, name, only).await?;
        if self.world.broken != Some(DisabledGuard::Accounting) {
            return Ok(counted);
        }
        let promised = |id: &PartitionId| (id.clone(), self.world.promised_rows(&node.host, &id.0));
        Ok(only.into_iter().flatten().map(promised).collect())
    }

    async fn values_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        key: &[KeyElement],
    ) -> Result<Vec<(PartitionId, PartitionValue, u64)>, Error> {
        let node = &self.world.server_named(node);
        let name = &self.named(name);
        let mut found =
            self.ask(node, "values_by_partition", self.inner().values_by_partition(node, name, key)).await?;
        if self.lies(name) {
            for (id, _, rows) in &mut found {
                *rows = self.world.promised_rows(&node.host, &id.0);
            }
        }
        Ok(found)
    }

    async fn checksum(
        &self,
        node: &Node,
        name: &TableName,
        id: Option<&PartitionId>,
        columns: &[Column],
    ) -> Result<(u64, u64), Error> {
        let node = &self.world.server_named(node);
        self.ask(node, "checksum", self.inner().checksum(node, &self.named(name), id, columns)).await
    }

    async fn sampled_rows(
        &self,
        node: &Node,
        name: &TableName,
        sample: &TableName,
        id: &PartitionId,
        columns: &[Column],
    ) -> Result<u64, Error> {
        let node = &self.world.server_named(node);
        let (name, sample) = (self.named(name), self.named(sample));
        self.ask(node, "sampled_rows", self.inner().sampled_rows(node, &name, &sample, id, columns)).await
    }

    async fn digest(
        &self,
        node: &Node,
        rows: &Selection,
        key: &[KeyElement],
        hash: &str,
        settings: &Settings,
    ) -> Result<Vec<Digest>, Error> {
        let node = &self.world.server_named(node);
        let mut rows = self.selected(rows);
        rows.relation.table = self.named(&rows.relation.table);
        self.ask(node, "digest", self.inner().digest(node, &rows, key, hash, settings)).await
    }

    async fn sample_keys(
        &self,
        node: &Node,
        rows: &Selection,
        columns: &[KeyElement],
        every: u64,
        settings: &Settings,
    ) -> Result<Vec<Vec<String>>, Error> {
        let node = &self.world.server_named(node);
        self.ask(node, "sample_keys", self.inner().sample_keys(node, rows, columns, every, settings)).await
    }

    async fn types(&self, node: &Node, over: Option<&Selection>, expressions: &[String]) -> Result<Vec<String>, Error> {
        let node = &self.world.server_named(node);
        self.ask(node, "types", self.inner().types(node, over, expressions)).await
    }

    async fn evaluate(
        &self,
        node: &Node,
        over: &Selection,
        expressions: &[String],
        rows: u64,
        settings: &Settings,
    ) -> Result<(), Error> {
        let node = &self.world.server_named(node);
        self.ask(node, "evaluate", self.inner().evaluate(node, over, expressions, rows, settings)).await
    }

    async fn running(&self, node: &Node, prefix: &str) -> Result<Vec<Running>, Error> {
        let node = &self.world.server_named(node);
        self.ask(node, "running", self.inner().running(node, prefix)).await
    }

    async fn kill(&self, node: &Node, prefix: &str) -> Result<(), Error> {
        let node = &self.world.server_named(node);
        self.act(node, ("kill", prefix.to_owned()), Vec::new(), self.inner().kill(node, prefix)).await
    }

    async fn create_database(&self, node: &Node, database: &str, settings: &Settings) -> Result<(), Error> {
        let node = &self.world.server_named(node);
        self.act(
            node,
            ("create_database", database.to_owned()),
            Vec::new(),
            self.inner().create_database(node, database, settings),
        )
        .await
    }

    async fn create_table(
        &self,
        node: &Node,
        name: &TableName,
        statement: &str,
        settings: &Settings,
    ) -> Result<(), Error> {
        let node = &self.world.server_named(node);
        let (name, statement) = (self.named(name), self.text(statement));
        if self.world.broken == Some(DisabledGuard::Fencing) && name.table.starts_with("copier_") {
            // As a tool without numbers of attempts would do.
            self.inner().drop_table(node, &name, settings).await?;
        }
        let create = self.inner().create_table(node, &name, &statement, settings);
        self.act(node, ("create_table", name.to_string()), vec![name.clone()], create).await
    }

    async fn drop_table(&self, node: &Node, name: &TableName, settings: &Settings) -> Result<(), Error> {
        let node = &self.world.server_named(node);
        self.act(
            node,
            ("drop_table", self.named(name).to_string()),
            Vec::new(),
            self.inner().drop_table(node, &self.named(name), settings),
        )
        .await
    }

    async fn rename(&self, node: &Node, pairs: &[(TableName, TableName)]) -> Result<(), Error> {
        let node = &self.world.server_named(node);
        let pairs: Vec<_> = pairs.iter().map(|(from, to)| (self.named(from), self.named(to))).collect();
        let pairs: Vec<_> = pairs.into_iter().filter(|(from, to)| from != to).collect();
        let Some(of) = pairs.first().map(|(from, _)| from.to_string()) else { return Ok(()) };
        let makes = pairs.iter().map(|(_, to)| to.clone()).collect();
        self.act(node, ("rename", of), makes, self.inner().rename(node, &pairs)).await
    }

    async fn stop_merges(&self, node: &Node, name: &TableName) -> Result<(), Error> {
        let node = &self.world.server_named(node);
        self.act(
            node,
            ("stop_merges", self.named(name).to_string()),
            Vec::new(),
            self.inner().stop_merges(node, &self.named(name)),
        )
        .await
    }

    async fn sync_replica(&self, node: &Node, name: &TableName) -> Result<(), Error> {
        let node = &self.world.server_named(node);
        self.act(node, ("sync_replica", name.to_string()), Vec::new(), self.inner().sync_replica(node, name)).await
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
        let node = &self.world.server_named(node);
        let (into, from) = (&self.named(into), &self.named(from));
        let placing = if self.world.broken == Some(DisabledGuard::Replacing) { Placing::Attach } else { placing };
        let done = self.act(
            node,
            ("place", into.to_string()),
            Vec::new(),
            self.inner().place(node, placing, into, from, ids, settings),
        );
        done.await?;
        let swallowed = self.world.wrong_answer.and_then(|wrong_answer| {
            wrong_answer.lost_partition(&mut self.world.placed.lock().expect("nobody panics"), &node.host, into, ids)
        });
        if let Some(id) = swallowed {
            self.inner().drop_partitions(node, into, &[id], settings).await?;
        }
        if self.world.broken == Some(DisabledGuard::StagingKept) && !into.table.starts_with("copier_") {
            let batch: String = from.table.split_inclusive('_').take(4).collect();
            for table in self.inner().tables_with_prefix(node, &from.database, &batch).await? {
                self.inner().drop_table(node, &from.beside(table), settings).await?;
            }
            self.world.check_invariants().await;
        }
        Ok(())
    }

    async fn zookeeper_marks(&self, node: &Node) -> Result<BTreeSet<String>, Error> {
        let node = &self.world.server_named(node);
        self.ask(node, "zookeeper_marks", self.inner().zookeeper_marks(node)).await
    }

    async fn parts_lacking(&self, node: &Node, name: &TableName, columns: &[Column]) -> Result<u64, Error> {
        let node = &self.world.server_named(node);
        let name = self.named(name);
        self.ask(node, "parts_lacking", self.inner().parts_lacking(node, &name, columns)).await
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
        let node = &self.world.server_named(node);
        let (into, path) = (&self.named(into), self.text(path));
        let fetched = self.inner().fetch(node, into, &path, ids, query_id, settings);
        self.act(node, ("fetch", into.to_string()), Vec::new(), fetched).await
    }

    async fn drop_partitions(
        &self,
        node: &Node,
        name: &TableName,
        ids: &[PartitionId],
        settings: &Settings,
    ) -> Result<(), Error> {
        let node = &self.world.server_named(node);
        self.act(
            node,
            ("drop_partitions", name.to_string()),
            Vec::new(),
            self.inner().drop_partitions(node, name, ids, settings),
        )
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
        let node = &self.world.server_named(node);
        let from = &self.named(from);
        let insert = self.inner().insert_partition(node, into, from, columns, id, settings);
        self.act(node, ("insert_partition", into.to_string()), Vec::new(), insert).await
    }

    async fn transfer(&self, transfer: &Transfer) -> Result<(), Error> {
        let (into, rows) = (self.named(&transfer.into), self.selected(&transfer.rows));
        let mut transfer = Transfer { into, rows, ..transfer.clone() };
        transfer.to.iter_mut().for_each(|to| to.node = Arc::new(self.world.server_named(&to.node)));
        // On the server that gets its INSERT.
        let first = transfer.to.first().expect("somebody gets the rows");
        let (node, what) = match transfer.way {
            Way::Push => (&transfer.from.first().expect("somebody has the rows").node, "push"),
            Way::Pull => (&first.node, "pull"),
            Way::Relay | Way::Clone => (&first.node, "relay"),
        };
        let done =
            self.act(node, (what, transfer.into.to_string()), Vec::new(), self.inner().transfer(&transfer)).await;
        if self.world.broken == Some(DisabledGuard::Counting) {
            for (from, to) in transfer.pairs() {
                let rows = transfer.rows_for(to);
                let there = self.inner().tally(&from.node, &rows, &[], &Settings::new()).await?;
                let rows: u64 = there.iter().map(|tally| tally.rows).sum();
                let key = (to.node.host.clone(), transfer.into.clone());
                *self.promised.lock().expect("nobody panics").entry(key).or_default() += rows;
            }
            return Ok(());
        }
        done
    }
}
