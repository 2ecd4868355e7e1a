//! The check of time zones: whether the servers share one, and otherwise which expressions of a task depend on it.
//!
//! The target's servers decide which partition a row belongs to. Where their zone is not the zone of the source, the source
//! computes keys over columns that carry the target's zone. Keys that cannot be computed in this way are refused.

use std::collections::BTreeMap;

use super::super::errors::Problem;
use super::{Holders, Surveyor};
use crate::plan::{Matched, Remark};
use crate::sql::{
    self, Column, DefaultKind, TableDefinition, TimedColumn, TimedColumns, columns_without_zone,
    conversion_depends_on_zone, quote, zone_dependence,
};

/// The time zones of the nodes of a table job.
pub(super) struct Zones {
    /// The nodes in each zone.
    nodes: BTreeMap<String, Vec<String>>,
    /// The zone of all nodes of the target, if they share one.
    target: Option<String>,
}

impl Zones {
    fn differ(&self) -> bool {
        self.nodes.len() > 1
    }

    /// Returns the zones with their nodes, as a part of a sentence.
    fn listed(&self) -> String {
        let shown = |nodes: &Vec<String>| match nodes.as_slice() {
            [first, _, more @ ..] if !more.is_empty() => format!("{first} and {} more", nodes.len() - 1),
            all => all.join(", "),
        };
        self.nodes.iter().map(|(zone, nodes)| format!("{zone} ({})", shown(nodes))).collect::<Vec<_>>().join(", ")
    }
}

/// The advice for zones that differ.
const TODO: &str =
    "Write a zone into it, such as toDate(t, 'UTC'), or give the servers and accounts the same <timezone>";

impl Surveyor<'_> {
    /// Reads the zone of every node.
    pub(super) async fn zones(&self, sources: &Holders, targets: &Holders) -> Result<Zones, Vec<Problem>> {
        let mut nodes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut of_target: BTreeMap<String, String> = BTreeMap::new();
        for (is_target, holders) in [(false, sources), (true, targets)] {
            for node in holders.iter().flatten() {
                let found = self.pool.context(node).await;
                for zone in &found.map_err(|error| vec![self.server_error(&error)])?.zones {
                    let canonical = sql::canonical_zone(zone);
                    let known = nodes.entry(canonical.clone()).or_default();
                    if !known.contains(&node.address()) {
                        known.push(node.address());
                    }
                    if is_target {
                        of_target.insert(canonical, zone.clone());
                    }
                }
            }
        }
        for settings in [self.task.settings.for_pull(), self.task.settings.for_push()] {
            if let Some(zone) = settings.get("session_timezone").filter(|zone| !zone.is_empty()) {
                let known = nodes.entry(sql::canonical_zone(zone)).or_default();
                known.push("session_timezone in <settings>".to_owned());
                of_target.insert(sql::canonical_zone(zone), zone.clone());
            }
        }
        let target = if of_target.len() == 1 { of_target.into_values().next() } else { None };
        Ok(Zones { nodes, target })
    }

    /// Refuses expressions that depend on the zone where the zones differ. Lets the source compute keys in the target's zone where
    /// possible.
    pub(super) fn check_zones(
        &self,
        zones: &Zones,
        source: &TableDefinition,
        target: &TableDefinition,
        matched: Matched,
        remarks: &mut Vec<Remark>,
    ) -> Result<Matched, Vec<Problem>> {
        if !zones.differ() {
            return Ok(matched);
        }
        let raw = timed_columns(source);
        let mut faults = self.conversions_in_zones(zones, source, target, &raw);
        let condition = self.job.where_condition.as_deref().and_then(|text| zone_dependence(text, &raw));
        if let Some(word) = condition {
            let problem =
                format!("{word} depends on the time zone, and the servers' zones differ: {}. {TODO}", zones.listed());
            faults.push(self.task("where_condition", &problem));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        self.keys_in_zones(zones, raw, target, matched, remarks)
    }

    /// Returns the conversions and computed columns whose values depend on the zone.
    fn conversions_in_zones(
        &self,
        zones: &Zones,
        source: &TableDefinition,
        target: &TableDefinition,
        raw: &TimedColumns,
    ) -> Vec<Problem> {
        let carries = self.job.copy_alias_and_materialized;
        let mut faults = Vec::new();
        let stored =
            target.columns.iter().filter(|c| !matches!(c.default_kind, DefaultKind::Alias | DefaultKind::Ephemeral));
        for column in stored {
            let why = match source.column(&column.name) {
                Some(source_column) if column.default_kind.is_inserted() || carries => {
                    conversion_depends_on_zone(&source_column.type_name, &column.type_name).then(|| {
                        format!(
                            "it is {} there and {} here, and is converted",
                            source_column.type_name, column.type_name
                        )
                    })
                }
                _ => zone_dependence(&column.default_expression, raw).map(|word| format!("it is computed from {word}")),
            };
            if let Some(why) = why {
                faults.push(self.servers(&format!(
                    "column {} of the target {}: {why}, which depends on the time zone, and the servers' zones differ: {}. Make \
                     it a plain column of the source's type, or give the servers the same <timezone>",
                    column.name,
                    target.name,
                    zones.listed()
                )));
            }
        }
        faults
    }

    fn keys_in_zones(
        &self,
        zones: &Zones,
        mut seen: TimedColumns,
        target: &TableDefinition,
        matched: Matched,
        remarks: &mut Vec<Remark>,
    ) -> Result<Matched, Vec<Problem>> {
        for column in &target.columns {
            seen.insert(column.name.clone(), timed_column(column));
        }
        let partition = target.engine.partition_key().map(|key| (format!("PARTITION BY {key}"), "engine", key));
        let sharding = self.job.sharding_key.clone().map(|key| (key.clone(), "sharding_key", key));
        let keys: Vec<(String, &str, String)> = partition.into_iter().chain(sharding).collect();
        let dependent: Vec<_> = keys.iter().filter(|(.., key)| zone_dependence(key, &seen).is_some()).collect();
        if dependent.is_empty() {
            return Ok(matched);
        }
        let open: Vec<String> = dependent.iter().flat_map(|(.., key)| columns_without_zone(key, &seen)).collect();
        let mut matched = matched;
        if let Some(zone) = &zones.target {
            for name in open.iter().filter(|name| matched.columns.contains(name)) {
                let Some(column) = seen.get_mut(name) else { continue };
                column.type_name = format!("DateTime({})", quote::literal(zone));
            }
            matched = matched.in_zone(&open, target, zone);
        }
        let refused = |(shown, element, key): &&(String, &str, String)| {
            let word = zone_dependence(key, &seen)?;
            let problem = format!(
                "{shown}: {word} depends on the time zone, and the servers' zones differ: {}. {TODO}",
                zones.listed()
            );
            Some(self.task(element, &problem))
        };
        let faults: Vec<Problem> = dependent.iter().filter_map(refused).collect();
        if !faults.is_empty() {
            return Err(faults);
        }
        let shown: Vec<&str> = dependent.iter().map(|(shown, ..)| shown.as_str()).collect();
        remarks.push(Remark::new(format!(
            "{} is computed in the target's time zone {}, since the servers' zones differ: {}. The source cannot skip rows by it, \
             and reads the whole table for each batch: large batch_bytes make it faster",
            shown.join(" and "),
            zones.target.as_deref().unwrap_or("?"),
            zones.listed()
        )));
        Ok(matched)
    }
}

fn timed_columns(table: &TableDefinition) -> TimedColumns {
    table.columns.iter().map(|column| (column.name.clone(), timed_column(column))).collect()
}

fn timed_column(column: &Column) -> TimedColumn {
    let is_computed = column.default_kind == DefaultKind::Alias;
    let computed = is_computed.then(|| column.default_expression.clone());
    TimedColumn { type_name: column.type_name.clone(), computed }
}
