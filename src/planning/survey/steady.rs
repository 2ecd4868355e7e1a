//! The check that the task's expressions give one value for each row, the same on every server.

use super::super::errors::Problem;
use super::{Holders, Surveyor};
use crate::plan::Remark;
use crate::sql::{DefaultKind, Names, TableDefinition, Unsteady, UnsteadyKind, unsteadiness};

impl Surveyor<'_> {
    /// Returns the names that keys can use: the target's columns in the form of the copy, and user-defined functions.
    pub(super) async fn names(
        &self,
        source: &TableDefinition,
        target: &TableDefinition,
        sources: &Holders,
        targets: &Holders,
    ) -> Result<Names, Vec<Problem>> {
        let carries = self.job.copy_alias_and_materialized;
        let mut names = self.names_of_source(source, sources).await?;
        for column in &target.columns {
            let computed = match source.column(&column.name) {
                Some(_) if column.default_kind.is_inserted() || carries => continue,
                _ if column.default_expression.is_empty() => None,
                _ => Some(column.default_expression.clone()),
            };
            names.columns.insert(column.name.clone(), computed);
        }
        self.add_functions(&mut names, targets).await?;
        Ok(names)
    }

    /// Returns the names that the condition can use: the source's columns, and user-defined functions of the source.
    pub(super) async fn names_of_source(
        &self,
        source: &TableDefinition,
        sources: &Holders,
    ) -> Result<Names, Vec<Problem>> {
        let computed = |kind: DefaultKind| kind == DefaultKind::Alias;
        let columns = source.columns.iter().map(|column| {
            (column.name.clone(), computed(column.default_kind).then(|| column.default_expression.clone()))
        });
        let mut names = Names { columns: columns.collect(), ..Names::default() };
        self.add_functions(&mut names, sources).await?;
        Ok(names)
    }

    async fn add_functions(&self, names: &mut Names, holders: &Holders) -> Result<(), Vec<Problem>> {
        for node in holders.iter().flatten() {
            let found = self.pool.context(node).await;
            for (name, body) in &found.map_err(|error| vec![self.server_error(&error)])?.functions {
                let known = names.functions.entry(name.clone()).or_insert_with(|| body.clone());
                // Two servers have different functions with one name, so its body is unknown.
                if known != body {
                    *known = None;
                }
            }
        }
        Ok(())
    }

    /// Returns the fault of an expression that does not give one value for each row.
    pub(super) fn unsteady(&self, element: &str, place: &str, found: &Unsteady) -> Problem {
        let todo = match found.kind {
            UnsteadyKind::Rows => {
                "Each row must have one value: take it out, or copy from a table that has the rows already"
            }
            UnsteadyKind::Value => {
                "The rows are read more than once: write the value itself, or a function of the columns"
            }
            UnsteadyKind::Parts => "Use the table's own columns",
        };
        self.task(element, &format!("{place}{}. {todo}", found.reason()))
    }

    /// Checks a condition. Accepts a condition that depends on the time, with a remark: if the set of rows changes during the copy, the
    /// counts show it.
    pub(super) fn check_steady_condition(
        &self,
        condition: &str,
        mut names: Names,
        remarks: &mut Vec<Remark>,
    ) -> Result<(), Vec<Problem>> {
        let asks_clock = unsteadiness(condition, &names);
        names.clock_stands = true;
        match (unsteadiness(condition, &names), asks_clock) {
            (Some(found), _) => Err(vec![self.unsteady("where_condition", "", &found)]),
            (None, Some(clock)) => {
                remarks.push(Remark::new(format!(
                    "where_condition: {} gives other rows at another time; where the copy runs past that, it fails by its counts. \
                     Write the time itself",
                    clock.word
                )));
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }
}
