//! A table of one node: its definition, its computed columns, and the entries of its log that it has executed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::super::Kind;
use super::super::codes;
use super::expression::{Ast, parse, quoted};
use super::parts::{Part, Row};
use super::refused::refused;
use super::value::{Value, evaluate, hash, type_of};
use crate::model::{PartitionId, TableName};
use crate::sql::{Clause, Column, DefaultKind, KeyElement, Selection, TableDefinition, key_elements};

/// A row with names: stored columns and columns that are computed when read.
pub(super) type Named = BTreeMap<String, Value>;

/// The path and the name of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replica {
    pub(crate) path: String,
    pub(crate) name: String,
}

#[derive(Debug)]
pub(super) struct Table {
    pub(crate) definition: TableDefinition,
    pub(crate) table_log: u64,
    pub(crate) done: BTreeSet<usize>,
    pub(crate) replica: Option<Replica>,
    pub(crate) merges_stopped: bool,
    /// Displaced parts, with the time at which they leave the disk.
    pub(crate) displaced: Vec<(Arc<Part>, Instant)>,
    key: Vec<(KeyElement, Ast)>,
}

impl Table {
    pub(crate) fn new(definition: TableDefinition, table_log: u64, replica: Option<Replica>) -> Result<Table, Kind> {
        let types = types_of(&definition);
        let element = |expression: String| {
            let ast = parse(&expression)?;
            let type_name = type_of(&ast, &|name| types.get(name).cloned())?;
            Ok((KeyElement { expression, type_name }, ast))
        };
        let key = definition.engine.partition_key().map(|key| key_elements(&key)).unwrap_or_default();
        let key = key.into_iter().map(element).collect::<Result<Vec<_>, Kind>>()?;
        let (done, displaced) = (BTreeSet::new(), Vec::new());
        Ok(Table { definition, table_log, done, replica, merges_stopped: false, displaced, key })
    }

    pub(crate) fn stored(&self) -> impl Iterator<Item = &Column> {
        let is_stored = |column: &&Column| !matches!(column.default_kind, DefaultKind::Alias | DefaultKind::Ephemeral);
        self.definition.columns.iter().filter(is_stored)
    }

    pub(crate) fn types(&self) -> BTreeMap<String, String> {
        types_of(&self.definition)
    }

    /// Returns a row with the names of its columns.
    pub(crate) fn named(&self, row: &Row) -> Result<Named, Kind> {
        let read = |(column, text): (&Column, &String)| (column.name.clone(), Value::read(text, &column.type_name));
        let mut named: Named = self.stored().zip(row).map(read).collect();
        for column in self.definition.columns.iter().filter(|column| column.default_kind == DefaultKind::Alias) {
            let value = over(&parse(&column.default_expression)?, &named)?;
            named.insert(column.name.clone(), value);
        }
        Ok(named)
    }

    /// Returns a row to store, given the values of some columns; the others get their defaults.
    pub(crate) fn row(&self, mut given: Named) -> Result<Row, Kind> {
        let mut row = Vec::new();
        for column in self.stored() {
            let value = match given.get(&column.name) {
                Some(value) => value.clone(),
                None if column.default_expression.is_empty() => {
                    let number = Value::Text("0".into()).cast(&column.type_name)?;
                    if matches!(number, Value::Int(_)) { number } else { Value::Text(String::new()) }
                }
                None => over(&parse(&column.default_expression)?, &given)?,
            };
            let value = value.cast(&column.type_name)?;
            row.push(value.text());
            given.insert(column.name.clone(), value);
        }
        Ok(row)
    }

    /// Returns the partition of a row: readable like the server's ids if [`KeyElement::id`] gives an expression,
    /// otherwise a hash.
    pub(crate) fn partition(&self, row: &Row) -> Result<PartitionId, Kind> {
        if self.key.is_empty() {
            return Ok(PartitionId("all".into()));
        }
        let named = self.named(row)?;
        let readable: Option<Vec<String>> = self.key.iter().map(|(element, _)| element.id()).collect();
        let Some(ids) = readable else {
            let values = self.key.iter().map(|(_, ast)| Ok(over(ast, &named)?.text()));
            let values = values.collect::<Result<Vec<String>, Kind>>()?;
            return Ok(PartitionId(format!("{:032x}", hash(values.iter().map(String::as_str)))));
        };
        let ids = ids.iter().map(|id| Ok(over(&parse(id)?, &named)?.text()));
        Ok(PartitionId(ids.collect::<Result<Vec<String>, Kind>>()?.join("-")))
    }

    /// Returns `system.parts.partition` of a part with that row.
    pub(crate) fn partition_name(&self, row: &Row) -> Result<String, Kind> {
        let named = self.named(row)?;
        let texts = self.key.iter().map(|(element, ast)| Ok((element, over(ast, &named)?.text())));
        let texts = texts.collect::<Result<Vec<_>, Kind>>()?;
        Ok(match texts.as_slice() {
            [] => "tuple()".into(),
            [(_, one)] => one.clone(),
            many => {
                let many: Vec<String> = many.iter().map(|(element, text)| element.display(text)).collect();
                format!("({})", many.join(","))
            }
        })
    }

    /// Checks whether partitions of another table can be taken over; errors 122 and 36 like the server's.
    pub(crate) fn fits(&self, other: &Table) -> Result<(), Kind> {
        let columns = |table: &Table| -> Vec<(String, String)> {
            table.stored().map(|column| (column.name.clone(), column.type_name.clone())).collect()
        };
        let sorted = |mut columns: Vec<(String, String)>| {
            columns.sort();
            columns
        };
        if sorted(columns(self)) != sorted(columns(other)) {
            return Err(refused(codes::INCOMPATIBLE_COLUMNS, "Tables have different structure"));
        }
        let keys = |table: &Table| -> Vec<String> { table.key.iter().map(|(e, _)| e.expression.clone()).collect() };
        if keys(self) != keys(other) {
            return Err(refused(codes::BAD_ARGUMENTS, "Tables have different partition key"));
        }
        if self.definition.sorting_key != other.definition.sorting_key {
            return Err(refused(codes::BAD_ARGUMENTS, "Tables have different ordering"));
        }
        Ok(())
    }

    /// Returns a row of a table that has the same columns in another order.
    pub(crate) fn adopted(&self, from: &Table, row: &Row) -> Result<Row, Kind> {
        self.row(from.named(row)?)
    }
}

fn types_of(definition: &TableDefinition) -> BTreeMap<String, String> {
    definition.columns.iter().map(|column| (column.name.clone(), column.type_name.clone())).collect()
}

pub(super) fn over(ast: &Ast, row: &Named) -> Result<Value, Kind> {
    evaluate(ast, &|name| row.get(name).cloned())
}

/// A selection, compiled to test rows.
pub(super) struct Chooser {
    condition: Option<Ast>,
    columns: Option<Vec<(String, Ast)>>,
    conditions: Vec<Ast>,
}

impl Chooser {
    pub(crate) fn new(selection: &Selection) -> Result<Chooser, Kind> {
        let relation = &selection.relation;
        let columns = relation.columns.as_ref().map(|columns| {
            columns.iter().map(|(name, text)| Ok((name.clone(), parse(text)?))).collect::<Result<Vec<_>, Kind>>()
        });
        let condition = relation.condition.as_ref().map(|condition| parse(condition.as_str())).transpose()?;
        let conditions = selection.conditions().iter().map(|text| parse(text)).collect::<Result<_, _>>()?;
        Ok(Chooser { condition, columns: columns.transpose()?, conditions })
    }

    /// Returns the row with the selection's columns, if it is selected.
    pub(crate) fn choose(&self, row: Named) -> Result<Option<Named>, Kind> {
        if let Some(condition) = &self.condition
            && !over(condition, &row)?.is_true()
        {
            return Ok(None);
        }
        let row = match &self.columns {
            None => row,
            Some(columns) => {
                columns.iter().map(|(name, ast)| Ok((name.clone(), over(ast, &row)?))).collect::<Result<_, Kind>>()?
            }
        };
        for condition in &self.conditions {
            if !over(condition, &row)?.is_true() {
                return Ok(None);
            }
        }
        Ok(Some(row))
    }

    /// Returns the types of the selection's columns, and checks its conditions.
    pub(crate) fn types(&self, table: &Table) -> Result<BTreeMap<String, String>, Kind> {
        let own = table.types();
        let check = |ast: &Ast, types: &BTreeMap<String, String>| type_of(ast, &|name| types.get(name).cloned());
        if let Some(condition) = &self.condition {
            check(condition, &own)?;
        }
        let shown = match &self.columns {
            None => own,
            Some(columns) => columns
                .iter()
                .map(|(name, ast)| Ok((name.clone(), check(ast, &own)?)))
                .collect::<Result<BTreeMap<_, _>, Kind>>()?,
        };
        for condition in &self.conditions {
            check(condition, &shown)?;
        }
        Ok(shown)
    }
}

/// Parses a statement of [`TableDefinition::create`] or a similar one. Returns the definition, and whether it says IF
/// NOT EXISTS.
pub(super) fn read_create(name: &TableName, statement: &str) -> Result<(TableDefinition, bool), Kind> {
    let wrong = || refused(codes::SYNTAX_ERROR, format!("Syntax error: the double does not read: {statement}"));
    let engine_at = statement.rfind(") ENGINE = ").ok_or_else(wrong)?;
    let engine = &statement[engine_at + 2..];
    let mut definition = TableDefinition::read(name.clone(), engine, statement, Vec::new(), "")
        .map_err(|error| refused(codes::SYNTAX_ERROR, error.to_string()))?;
    let declared = definition.declarations.iter().filter_map(|text| column(text).transpose());
    definition.columns = declared.collect::<Result<_, Kind>>()?;
    let order = definition.engine.clause(Clause::OrderBy).map(str::to_owned).or_else(|| {
        let arguments = definition.engine.arguments.as_deref().unwrap_or_default();
        arguments.iter().find(|text| text.starts_with('(')).cloned()
    });
    definition.sorting_key = order.map(|order| key_elements(&order).join(", ")).unwrap_or_default();
    if definition.engine.is_merge_tree() && order_is_missing(&definition) {
        return Err(refused(codes::NUMBER_OF_ARGUMENTS_DOESNT_MATCH, "Storage MergeTree requires ORDER BY"));
    }
    Ok((definition, statement.to_ascii_uppercase().contains("IF NOT EXISTS")))
}

fn order_is_missing(definition: &TableDefinition) -> bool {
    definition.engine.clause(Clause::OrderBy).is_none() && !definition.engine.is_old_syntax()
}

/// Parses `` `name` Type [DEFAULT …] [COMMENT …] ``; returns `None` for an index and similar declarations.
fn column(declaration: &str) -> Result<Option<Column>, Kind> {
    let wrong = || refused(codes::SYNTAX_ERROR, format!("Syntax error in a column: {declaration}"));
    let text = declaration.trim();
    let (name, rest) = if text.starts_with('`') {
        let (name, length) = quoted(text, '`').ok_or_else(wrong)?;
        (name, text[length..].trim())
    } else {
        let (name, rest) = text.split_once(' ').ok_or_else(wrong)?;
        (name.to_owned(), rest.trim())
    };
    if ["INDEX", "PROJECTION", "CONSTRAINT"].contains(&name.as_str()) {
        return Ok(None);
    }
    let words = ["DEFAULT", "MATERIALIZED", "ALIAS", "CODEC", "COMMENT", "TTL"];
    let next = |text: &str| words.iter().filter_map(|word| text.find(&format!(" {word}"))).min();
    let end = next(rest).unwrap_or(rest.len());
    let (type_name, clauses) = (rest[..end].trim().to_owned(), rest[end..].trim());
    let default_kind = match clauses.split_whitespace().next() {
        Some("DEFAULT") => DefaultKind::Default,
        Some("MATERIALIZED") => DefaultKind::Materialized,
        Some("ALIAS") => DefaultKind::Alias,
        _ => DefaultKind::None,
    };
    let default_expression = match (default_kind, clauses.split_once(' ')) {
        (DefaultKind::None, _) | (_, None) => String::new(),
        (_, Some((_, text))) => text[..next(text).unwrap_or(text.len())].trim().to_owned(),
    };
    let comment = clauses.find("COMMENT '").and_then(|at| quoted(&clauses[at + 8..], '\''));
    let comment = comment.map(|(text, _)| text).unwrap_or_default();
    Ok(Some(Column { name, type_name, default_kind, default_expression, comment }))
}
