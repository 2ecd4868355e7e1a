//! The check of the task's expressions (engine, condition, keys) by the source's server.

use std::sync::Arc;

use super::super::errors::Problem;
use super::{Holders, Surveyor};
use crate::model::Node;
use crate::plan::{Reading, Remark, Sharding, parse_partition};
use crate::sql::{
    self, Engine, Expression, KeyElement, Names, Relation, Selection, SlotFilter, SlotKey, SlotWidth, TableDefinition,
    UnsteadyKind, key_elements, names_column, unsteadiness,
};

/// The setting of a table that modern servers need for a partition key of floats.
const FLOATS_ALLOWED: &str = "allow_floating_point_partition_key";

impl Surveyor<'_> {
    pub(super) fn engine(&self) -> Result<Option<Engine>, Vec<Problem>> {
        let Some(text) = &self.job.engine else { return Ok(None) };
        match Engine::parse(text) {
            Ok(engine) => Ok(Some(engine)),
            Err(error) => Err(vec![self.task("engine", &error.to_string())]),
        }
    }

    pub(super) fn condition(&self) -> Result<Option<String>, Vec<Problem>> {
        let Some(text) = &self.job.where_condition else { return Ok(None) };
        match Expression::parse(text) {
            Ok(expression) => Ok(Some(expression.as_str().to_owned())),
            Err(error) => Err(vec![self.task("where_condition", &error.to_string())]),
        }
    }

    pub(super) async fn check_where(
        &self,
        node: &Node,
        source: &TableDefinition,
        sources: &Holders,
        remarks: &mut Vec<Remark>,
    ) -> Result<(), Vec<Problem>> {
        let Some(condition) = &self.job.where_condition else { return Ok(()) };
        let expression =
            Expression::parse(condition).map_err(|error| vec![self.task("where_condition", &error.to_string())])?;
        self.check_steady_condition(expression.as_str(), self.names_of_source(source, sources).await?, remarks)?;
        let rows =
            Selection::all(Relation { condition: Some(expression.clone()), ..Relation::plain(source.name.clone()) });
        self.types(node, Some(&rows), &["1".to_owned()], "where_condition").await?;
        let types = self
            .types(
                node,
                Some(&Selection::all(Relation::plain(source.name.clone()))),
                &[format!("({expression})")],
                "where_condition",
            )
            .await?;
        // A comparison with a LowCardinality column has a LowCardinality type too.
        let plain = |name: &String| {
            name.strip_prefix("LowCardinality(").and_then(|inner| inner.strip_suffix(')')).unwrap_or(name).to_owned()
        };
        match types.first().map(plain).as_deref() {
            Some("UInt8" | "Bool" | "Nullable(UInt8)" | "Nullable(Bool)" | "Nullable(Nothing)") => Ok(()),
            other => Err(vec![
                self.task("where_condition", &format!("it is not a condition but of type {}", other.unwrap_or("?"))),
            ]),
        }
    }

    /// Returns the target's partition key with its types. Also checks every other expression of its engine.
    pub(super) async fn keys(
        &self,
        node: &Node,
        relation: &Relation,
        target: &TableDefinition,
        names: &Names,
        left: &[String],
    ) -> Result<Vec<KeyElement>, Vec<Problem>> {
        let rows = Selection::all(relation.clone());
        let mut faults = Vec::new();
        for (place, text) in target.engine.expressions() {
            let is_partition = place == sql::Clause::PartitionBy.words() || target.engine.is_old_syntax();
            let unsteady = unsteadiness(&text, names);
            // Only expressions that decide about rows must give the same value each time. A sorting key does not.
            let found = unsteady.filter(|found| is_partition || found.kind == UnsteadyKind::Rows);
            faults.extend(found.map(|found| self.unsteady("engine", &format!("{place} {text}: "), &found)));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let asked = asked_of_source(target, left);
        if let Some(key) = self.types_of_keys(node, &rows, target, &asked).await {
            return self.supported(key);
        }
        // The server refused one of them. Check each one to find which.
        for (place, text) in asked {
            let checked = match Expression::parse(&text) {
                Ok(expression) => self
                    .types(node, Some(&rows), &[format!("({expression})")], &format!("engine: {place}"))
                    .await
                    .map(drop),
                Err(error) => Err(vec![self.task("engine", &format!("{place}: {error}"))]),
            };
            faults.extend(checked.err().into_iter().flatten());
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let elements = target.engine.partition_key().map(|key| key_elements(&key)).unwrap_or_default();
        if elements.is_empty() {
            return Ok(Vec::new());
        }
        let types = self.types(node, Some(&rows), &elements, "engine: PARTITION BY").await?;
        self.supported(typed(elements, types))
    }

    /// Returns the target's partition key with its types, and checks every expression of its engine, by one statement. Returns `None`
    /// where the server refuses any of them.
    async fn types_of_keys(
        &self,
        node: &Node,
        rows: &Selection,
        target: &TableDefinition,
        asked: &[(String, String)],
    ) -> Option<Vec<KeyElement>> {
        let checked: Result<Vec<String>, _> =
            asked.iter().map(|(_, text)| Expression::parse(text).map(|one| format!("({one})"))).collect();
        let elements = target.engine.partition_key().map(|key| key_elements(&key)).unwrap_or_default();
        let all: Vec<String> = elements.iter().cloned().chain(checked.ok()?).collect();
        if all.is_empty() {
            return Some(Vec::new());
        }
        let mut types = self.pool.client.types(node, Some(rows), &all).await.ok()?;
        types.truncate(elements.len());
        (types.len() == elements.len()).then(|| typed(elements, types))
    }

    /// Refuses partition keys of types that cannot be copied.
    fn supported(&self, key: Vec<KeyElement>) -> Result<Vec<KeyElement>, Vec<Problem>> {
        if let Some(nullable) = key.iter().find(|element| element.type_name.contains("Nullable(")) {
            return Err(vec![self.task(
                "engine",
                &format!("PARTITION BY {} may be NULL, which is not supported", nullable.expression),
            )]);
        }
        if let Some(other) = key.iter().find(|element| !element.is_supported()) {
            return Err(vec![self.task(
                "engine",
                &format!("PARTITION BY {} is of type {}, which is not supported", other.expression, other.type_name),
            )]);
        }
        Ok(key)
    }

    /// Refuses a new table with a key of floats where the server would not create it.
    pub(super) async fn check_floats(
        &self,
        key: &[KeyElement],
        target: &TableDefinition,
        missing: &[Arc<Node>],
    ) -> Result<(), Vec<Problem>> {
        let Some(float) = key.iter().find(|element| element.is_float()) else { return Ok(()) };
        if target.engine.setting(FLOATS_ALLOWED).is_some_and(|value| value != "0") {
            return Ok(());
        }
        for node in missing {
            let known = self.pool.merge_tree_settings(node).await;
            if known.map_err(|error| vec![self.server_error(&error)])?.contains(FLOATS_ALLOWED) {
                return Err(vec![self.task(
                    "engine",
                    &format!(
                        "PARTITION BY {} is of type {}, which {node} allows only with SETTINGS {FLOATS_ALLOWED} = 1: write it at \
                         the end of <engine>",
                        float.expression, float.type_name
                    ),
                )]);
            }
        }
        Ok(())
    }

    pub(super) async fn sharding(
        &self,
        node: &Node,
        relation: &Relation,
        source: &TableDefinition,
        columns: &[String],
        names: &Names,
        remarks: &mut Vec<Remark>,
    ) -> Result<Option<Sharding>, Vec<Problem>> {
        let target = self.task.target(self.job);
        let Some(text) = &self.job.sharding_key else { return Ok(None) };
        let key = Expression::parse(text).map_err(|error| vec![self.task("sharding_key", &error.to_string())])?;
        let rows = Selection::all(relation.clone());
        let unsteady = unsteadiness(key.as_str(), names);
        if let Some(found) = unsteady.as_ref().filter(|found| found.kind == UnsteadyKind::Rows) {
            return Err(vec![self.unsteady("sharding_key", "", found)]);
        }
        let types = self.types(node, Some(&rows), &[format!("({key})")], "sharding_key").await?;
        let type_name = types.into_iter().next().unwrap_or_default();
        let total = target.total_weight();
        let slots: Vec<_> = (0..target.shards.len()).map(|shard| target.slots(shard)).collect();
        let constant = self.pool.client.types(node, None, &[format!("({key})")]).await.is_ok();
        let Some(width) = SlotWidth::of(&type_name, constant) else {
            return Err(vec![
                self.task("sharding_key", &format!("it is of type {type_name}, but ClickHouse takes integers only")),
            ]);
        };
        // As a condition, a server accepts no function over several rows.
        let slot = SlotFilter { key: SlotKey { key: key.clone(), width, total }, slots: 0..1 };
        let as_condition = Selection { slots: Some(slot), ..rows.clone() };
        self.types(node, Some(&as_condition), &["1".to_owned()], "sharding_key").await?;
        if slots.iter().filter(|slots| !slots.is_empty()).count() < 2 {
            // Only one shard gets rows, so the key need not be evaluated.
            return Ok((slots.len() > 1).then(|| Sharding { key: "0".into(), width: SlotWidth(8), total, slots }));
        }
        let Some(unsteady) = unsteady else {
            return Ok(Some(Sharding { key: key.as_str().to_owned(), width, total, slots }));
        };
        // Each target shard filters the source itself, so a key with another value each time would lose and duplicate rows. A hash of
        // the whole row spreads rows as evenly, and is the same for every reader.
        let column_routes = source.columns.iter().filter(|column| columns.contains(&column.name));
        let hash = sql::row_hash(column_routes);
        remarks.push(Remark::new(format!(
            "sharding_key {key} is not a function of the row ({}): rows are spread evenly by a hash of all their columns instead",
            unsteady.reason()
        )));
        self.types(node, Some(&rows), std::slice::from_ref(&hash), "sharding_key").await?;
        Ok(Some(Sharding { key: hash, width: SlotWidth(64), total, slots }))
    }

    /// Checks that the source can compute the checksum of the transferred values. Adds a remark on columns that are compared as text.
    pub(super) async fn check_hashes(
        &self,
        node: &Node,
        relation: &Relation,
        reading: &Reading,
        columns: &[String],
        target: &TableDefinition,
        remarks: &mut Vec<Remark>,
    ) -> Result<(), Vec<Problem>> {
        let typed = columns.iter().enumerate().filter_map(|(at, name)| Some((at, target.column(name)?)));
        let (steady, other): (Vec<_>, Vec<_>) = typed.partition(|(at, _)| reading.is_steady(*at));
        let values = steady.iter().map(|(at, column)| (reading.values[*at].as_str(), column.type_name.as_str()));
        let hash = sql::values_hash(values);
        let rows = Selection::all(relation.clone());
        self.types(node, Some(&rows), &[hash], "verify").await?;
        if !other.is_empty() {
            let named: Vec<&str> = other.iter().map(|(_, column)| column.name.as_str()).collect();
            remarks.push(Remark::new(format!(
                "verify: columns with another value each time they are read are not compared: {}",
                named.join(", ")
            )));
        }
        let by_text = steady.iter().filter(|(_, column)| sql::is_hashed_by_text(&column.type_name));
        let named: Vec<String> = by_text.map(|(_, column)| format!("{} ({})", column.name, column.type_name)).collect();
        if !named.is_empty() {
            remarks.push(Remark::new(format!(
                "verify: these columns are compared by their text, or by the result of an aggregate function, since no hash of \
                 them is the same on every version: {}",
                named.join(", ")
            )));
        }
        Ok(())
    }

    pub(super) fn enabled(&self, key: &[KeyElement]) -> Result<Option<Vec<Vec<String>>>, Vec<Problem>> {
        let Some(names) = &self.job.enabled_partitions else { return Ok(None) };
        let mut enabled: Vec<Vec<String>> = Vec::new();
        let mut faults = Vec::new();
        for name in names {
            match parse_partition(name, key) {
                Ok(texts) if enabled.contains(&texts) => {}
                Ok(texts) => enabled.push(texts),
                Err(error) => faults.push(self.task("enabled_partitions", &format!("partition {name}: {error}"))),
            }
        }
        if faults.is_empty() { Ok(Some(enabled)) } else { Err(faults) }
    }

    /// Returns the types of expressions of the task. An error of the server is a fault of the task.
    pub(super) async fn types(
        &self,
        node: &Node,
        over: Option<&Selection>,
        expressions: &[String],
        element: &str,
    ) -> Result<Vec<String>, Vec<Problem>> {
        self.pool.client.types(node, over, expressions).await.map_err(|error| {
            vec![match &error.kind {
                crate::client::Kind::Server { code, message } if !error.is_denied() => {
                    self.task(element, &format!("{node} refuses it: code {code}: {message}"))
                }
                _ => self.server_error(&error),
            }]
        })
    }
}

/// Returns the expressions of an engine that the source can check, with their places. 18.16 cannot evaluate `tuple()`. Only the target can
/// evaluate expressions over columns that it computes.
fn asked_of_source(target: &TableDefinition, left: &[String]) -> Vec<(String, String)> {
    let asked = |(_, text): &(String, String)| {
        !key_elements(text).is_empty() && !left.iter().any(|column| names_column(text, column))
    };
    target.engine.expressions().into_iter().filter(asked).collect()
}

fn typed(expressions: Vec<String>, types: Vec<String>) -> Vec<KeyElement> {
    let element = |(expression, type_name)| KeyElement { expression, type_name };
    expressions.into_iter().zip(types).map(element).collect()
}
