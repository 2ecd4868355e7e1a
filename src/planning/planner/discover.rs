//! The partitions of the source: read from `system.parts` where that is exact, otherwise by a query.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::future::try_join_all;

use super::account::ShardCount;
use super::{Marks, Planner, Tallies};
use crate::client::{Error, Kind, Tally};
use crate::model::{Node, PartitionId, PartitionValue};
use crate::nodes::settings::wanted_for_source;
use crate::plan::{Found, Mark, ShardMark, ShardSize};
use crate::sql::{Selection, TableDefinition, key_elements, unquoted_elements};

impl Planner<'_> {
    /// Returns the partitions by the target's key, with rows and bytes on each source shard, in the order of their values.
    pub(super) async fn discover(&self) -> Result<(Vec<Found>, Vec<ShardCount>), Error> {
        let shards = try_join_all(
            self.survey.sources.iter().enumerate().map(|(shard, nodes)| self.discover_shard(shard, nodes)),
        )
        .await?;
        let shard_count = shards.len();
        // The order is for people; the value identifies a partition.
        let mut found: BTreeMap<(Vec<Sortable>, PartitionValue), Found> = BTreeMap::new();
        let (mut marks, mut seen) = (Vec::new(), Vec::new());
        for (shard, (tallies, marked, count)) in shards.into_iter().enumerate() {
            marks.push(marked);
            seen.push(count);
            for (tally, bytes) in tallies {
                let order = tally.value.0.iter().map(|text| Sortable::of(text)).collect();
                let entry = found.entry((order, tally.value.clone())).or_insert_with(|| Found {
                    name: self.name(&tally.shown),
                    value: tally.value.clone(),
                    id: tally.id.clone(),
                    shards: vec![ShardSize::default(); shard_count],
                    mark: None,
                    renews: false,
                });
                let size = &mut entry.shards[shard];
                size.rows += tally.rows;
                size.bytes += bytes;
            }
        }
        let mut found: Vec<Found> = found.into_values().collect();
        for partition in &mut found {
            partition.mark = mark_of(partition, &mut marks);
        }
        Ok((found, seen))
    }

    /// Returns the partitions of a source shard, from the first replica that answers.
    async fn discover_shard(&self, shard: usize, nodes: &[Arc<Node>]) -> Result<(Tallies, Marks, ShardCount), Error> {
        let mut first = None;
        for node in nodes {
            match self.discover_and_count(node, shard).await {
                Ok(found) => return Ok(found),
                Err(error) if error.is_unreachable() => {
                    self.pool.suspect(node);
                    first = first.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        // A shard of which no replica has the table is a fault of the survey.
        Err(first.unwrap_or_else(|| Error {
            node: format!("source shard {}", shard + 1),
            doing: "cannot list the partitions".into(),
            kind: Kind::Network("no replica answers".into()),
        }))
    }

    /// Returns the partitions of a source shard on a node: from its parts where these are exact, otherwise by a query.
    pub(super) async fn discover_on(&self, node: &Node, shard: usize) -> Result<(Tallies, Marks), Error> {
        let source = self.source_on(node).await?;
        let has_parts = source.engine.is_merge_tree();
        let parts = if has_parts { self.pool.client.parts(node, &source.name).await? } else { vec![] };
        let on_fly = self.pool.facts(node).await?.applies_mutations_on_fly();
        if has_parts
            && !on_fly
            && self.parts_are_exact(&source)
            && parts.iter().all(|part| part.exact)
            && let Some(tallies) = parts
                .iter()
                .map(|part| Some((self.tally_of_part(&part.name, &part.id, part.rows)?, part.bytes)))
                .collect::<Option<Tallies>>()
        {
            let ids = tallies.iter().filter_map(|(tally, _)| Some((tally.value.clone(), tally.id.clone()?)));
            let marks = self.marks_on(node, shard, Some(ids.collect())).await;
            return Ok((tallies, marks));
        }
        // The marks are read before the rows are counted, so that later rows count as a change.
        let marks = self.marks_on(node, shard, None).await;
        let (rows, bytes) = parts.iter().fold((0, 0), |(rows, bytes), part| (rows + part.rows, bytes + part.bytes));
        let row_bytes = if rows > 0 { bytes as f64 / rows as f64 } else { self.guessed_row_bytes() };
        let settings = self.pool.settings(node, &wanted_for_source(self.task)).await?;
        let all = Selection::all(self.survey.relation());
        let tallies = self.pool.client.tally(node, &all, &self.survey.key, &settings).await?;
        let sized = |tally: Tally| {
            let bytes = (tally.rows as f64 * row_bytes) as u64;
            (tally, bytes)
        };
        Ok((tallies.into_iter().map(sized).collect(), marks))
    }

    /// Returns the definition of the source table on this node. Engine and keys may differ between nodes.
    pub(super) async fn source_on(&self, node: &Node) -> Result<Cow<'_, TableDefinition>, Error> {
        let source = &self.survey.source;
        if self.survey.sources.iter().map(Vec::len).sum::<usize>() == 1 {
            return Ok(Cow::Borrowed(source));
        }
        let definition = self.pool.client.table(node, &source.name).await?;
        definition.map(Cow::Owned).ok_or_else(|| Error {
            node: node.to_string(),
            doing: format!("cannot read the definition of {}", source.name),
            kind: Kind::Answer("the table is not there any more".into()),
        })
    }

    /// Returns whether the source has the same partitions as the target, and the copy reads all their rows.
    fn parts_are_exact(&self, source: &TableDefinition) -> bool {
        let own = source.engine.partition_key().map(|key| key_elements(&key)).unwrap_or_default();
        let wanted: Vec<&str> = self.survey.key.iter().map(|element| element.expression.as_str()).collect();
        let reading = &self.survey.reading;
        !self.survey.skips_hidden_rows
            && reading.condition.is_none()
            && reading.columns.is_none()
            && own == wanted
            && self.survey.key.iter().all(|element| element.is_named_by_parts(own.len()))
    }

    /// Returns the rows of a part by its partition, or `None` where the name of the partition cannot be parsed.
    ///
    /// `system.parts.partition` is not quoted when the key has one element, and is a tuple of literals when it has more.
    fn tally_of_part(&self, name: &str, id: &PartitionId, rows: u64) -> Option<Tally> {
        let texts = match self.survey.key.len() {
            0 => Vec::new(),
            1 => vec![name.to_owned()],
            _ => unquoted_elements(name).ok()?,
        };
        let value = self.survey.key.iter().zip(&texts).map(|(element, text)| element.canonical(text.clone())).collect();
        (texts.len() == self.survey.key.len()).then(|| Tally {
            value: PartitionValue(value),
            shown: texts,
            id: Some(id.clone()),
            rows,
        })
    }

    /// Estimates the bytes of a row from the types of its columns.
    fn guessed_row_bytes(&self) -> f64 {
        let width = |type_name: &str| match type_name {
            "Int8" | "UInt8" | "Enum8" => 1.0,
            "Int16" | "UInt16" | "Enum16" | "Date" => 2.0,
            "Int32" | "UInt32" | "Float32" | "DateTime" => 4.0,
            "Int64" | "UInt64" | "Float64" | "DateTime64" => 8.0,
            _ => 24.0,
        };
        self.survey.source.columns.iter().map(|column| width(&column.type_name)).sum()
    }
}

/// A value for sorting: numbers by their value, texts after them.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Sortable {
    Number(i128),
    Text(String),
}

impl Sortable {
    fn of(text: &str) -> Self {
        text.parse().map(Self::Number).unwrap_or_else(|_| Self::Text(text.to_owned()))
    }
}

/// Returns the mark of a partition on all shards that hold its rows, or `None` where one of these shards has no mark.
fn mark_of(partition: &Found, shards: &mut [HashMap<PartitionValue, ShardMark>]) -> Option<Mark> {
    let mut marks = Vec::new();
    for (size, marked) in partition.shards.iter().zip(shards) {
        match marked.remove(&partition.value) {
            Some(mark) => marks.push(mark),
            None if size.rows > 0 => return None,
            None => {}
        }
    }
    (!marks.is_empty()).then_some(Mark(marks))
}
