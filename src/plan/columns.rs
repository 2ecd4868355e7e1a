//! Decides which columns are transferred, and how the source is read with the target's columns.

use super::Reading;
use crate::sql::{Column, DefaultKind, TableDefinition, names_column, quote};

/// The result of matching a source with a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Matched {
    /// The columns that the target stores, in its order.
    pub(crate) columns: Vec<String>,
    /// How the source returns them; without a condition.
    pub(crate) reading: Reading,
    /// Every column of the target with its expression over the source, even if the source is read directly.
    expressions: Vec<(String, String)>,
}

impl Matched {
    /// Gives some columns a time zone, so that expressions over them do not depend on the server's time zone. The
    /// transferred values stay the same.
    pub(crate) fn in_zone(mut self, names: &[String], target: &TableDefinition, zone: &str) -> Self {
        let zone = quote::literal(zone);
        let columns = &self.columns;
        let is_zoned = |name: &String| names.contains(name) && columns.contains(name);
        for (name, expression) in &mut self.expressions {
            if is_zoned(name) {
                *expression = format!("toTimeZone({expression}, {zone})");
            }
        }
        let value = |name: &String| match target.column(name) {
            Some(column) if is_zoned(name) => format!("CAST({} AS {})", quote::ident(name), column.type_name),
            _ => quote::ident(name),
        };
        self.reading.values = columns.iter().map(value).collect();
        self.reading.columns = Some(self.expressions.clone());
        self
    }
}

/// Returns the columns of the target that it can compute itself, by its own expressions, when rows are staged. A
/// column does not qualify if an expression that selects rows (`keys`) names it. `carry_computed`: whether computed
/// columns of the source are transferred.
pub(crate) fn computed_columns<'a>(
    source: &TableDefinition,
    target: &'a TableDefinition,
    carry_computed: bool,
    keys: &[String],
) -> Vec<&'a Column> {
    let is_computed = |column: &&Column| {
        let source_column = source
            .column(&column.name)
            .is_some_and(|source_column| source_column.default_kind != DefaultKind::Ephemeral);
        match column.default_kind {
            DefaultKind::Default => !source_column,
            DefaultKind::Materialized => !source_column || !carry_computed,
            _ => false,
        }
    };
    let decides = |column: &&Column| keys.iter().any(|key| names_column(key, &column.name));
    target.columns.iter().filter(is_computed).filter(|column| !decides(column)).collect()
}

/// Matches columns by name. The stored columns of the target get their values when rows are staged: from the source's
/// column, converted if the types differ; or by the target's own expression, computed at the source, if the column is
/// MATERIALIZED (unless `carry_computed`) or if the source lacks it. The columns in `left` are not transferred: the
/// target computes them.
///
/// # Errors
///
/// Returns a sentence for each column that one side lacks.
pub(crate) fn match_columns(
    source: &TableDefinition,
    target: &TableDefinition,
    carry_computed: bool,
    left: &[String],
) -> Result<Matched, Vec<String>> {
    let mut columns = Vec::new();
    let mut values = Vec::new();
    let mut expressions = Vec::new();
    let mut problems = Vec::new();
    let mut replaced = false;
    let transferred = |column: &&Column| column.default_kind != DefaultKind::Ephemeral && !left.contains(&column.name);
    for column in target.columns.iter().filter(transferred) {
        let name = quote::ident(&column.name);
        let source_column =
            source.column(&column.name).filter(|source_column| source_column.default_kind != DefaultKind::Ephemeral);
        let computed = column.computed();
        let (value, same) = match source_column {
            Some(source_column) if column.default_kind.is_inserted() || carry_computed => {
                let same = source_column.type_name == column.type_name;
                (if same { name } else { format!("CAST({name} AS {})", column.type_name) }, same)
            }
            // Both sides compute it alike: a key may read the source's stored column.
            Some(source_column) => {
                let same = source_column.default_kind == column.default_kind
                    && source_column.default_expression == column.default_expression
                    && source_column.type_name == column.type_name;
                (computed, same)
            }
            None if column.default_kind == DefaultKind::None => {
                problems.push(format!(
                    "column {} of the target {} is not in the source {}",
                    column.name, target.name, source.name
                ));
                continue;
            }
            // Only the target computes it; a key may need it.
            None => (computed, false),
        };
        replaced |= !same;
        expressions.push((column.name.clone(), value.clone()));
        if column.default_kind != DefaultKind::Alias {
            columns.push(column.name.clone());
            values.push(value);
        }
    }
    for column in source.columns.iter().filter(|column| column.default_kind.is_inserted()) {
        if target.column(&column.name).is_none() {
            problems.push(format!(
                "column {} of the source {} is not in the target {}: its values would be lost",
                column.name, source.name, target.name
            ));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    if replaced {
        // The relation returns them under their names.
        values = columns.iter().map(|name| quote::ident(name)).collect();
    }
    let readable = source.columns.iter().filter(|column| column.default_kind != DefaultKind::Ephemeral);
    let raw = readable.map(|column| column.name.clone()).collect();
    let relation_columns = replaced.then(|| expressions.clone());
    let reading = Reading { columns: relation_columns, raw, values, condition: None, left: left.to_vec() };
    Ok(Matched { columns, reading, expressions })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TableName;

    fn table(name: &str, columns: &[(&str, &str, DefaultKind, &str)]) -> TableDefinition {
        let columns = columns
            .iter()
            .map(|(name, type_name, default_kind, expression)| Column {
                name: (*name).into(),
                type_name: (*type_name).into(),
                default_kind: *default_kind,
                default_expression: (*expression).into(),
                comment: String::new(),
            })
            .collect();
        TableDefinition::read(TableName::new("d", name), "Memory", "", columns, "").unwrap()
    }

    const A: (&str, &str, DefaultKind, &str) = ("a", "Int8", DefaultKind::None, "");
    const M: (&str, &str, DefaultKind, &str) = ("m", "Int16", DefaultKind::Materialized, "a + 1");

    #[test]
    fn columns_of_equal_tables_are_read_unchanged_and_materialized_columns_are_computed() {
        let matched = match_columns(&table("s", &[A, M]), &table("t", &[A, M]), false, &[]).unwrap();
        assert_eq!(matched.columns, ["a", "m"]);
        assert_eq!(matched.reading.columns, None);
        assert_eq!(matched.reading.values, ["`a`", "CAST(a + 1 AS Int16)"]);
        let column_routes = match_columns(&table("s", &[A, M]), &table("t", &[A, M]), true, &[]).unwrap();
        assert_eq!(column_routes.reading.values, ["`a`", "`m`"]);
    }

    #[test]
    fn columns_of_another_type_or_only_in_the_target_are_computed_by_expressions() {
        let target = table("t", &[("a", "String", DefaultKind::None, ""), M, ("x", "Int8", DefaultKind::Alias, "1")]);
        let matched = match_columns(&table("s", &[A]), &target, false, &[]).unwrap();
        assert_eq!(matched.columns, ["a", "m"]);
        assert_eq!(matched.reading.values, ["`a`", "`m`"]);
        let expressions = matched.reading.columns.unwrap();
        assert_eq!(expressions[0], ("a".into(), "CAST(`a` AS String)".into()));
        assert_eq!(expressions[2], ("x".into(), "CAST(1 AS Int8)".into()));
    }

    #[test]
    fn conditions_see_columns_in_a_time_zone_and_the_transfer_keeps_their_type() {
        let t = ("t", "DateTime", DefaultKind::None, "");
        let target = table("t", &[A, t]);
        let matched = match_columns(&table("s", &[A, t]), &target, false, &[]).unwrap();
        let zoned = matched.in_zone(&["t".to_owned()], &target, "Asia/Shanghai").reading;
        let expressions = [("a", "`a`"), ("t", "toTimeZone(`t`, 'Asia/Shanghai')")].map(|(a, b)| (a.into(), b.into()));
        assert_eq!(zoned.columns.unwrap(), expressions);
        assert_eq!(zoned.values, ["`a`", "CAST(`t` AS DateTime)"]);
    }

    #[test]
    fn the_target_computes_only_columns_that_no_key_uses() {
        let extra = ("x", "String", DefaultKind::Default, "dictGet('d', 'name', a)");
        let (source, target) = (table("s", &[A]), table("t", &[A, extra, M]));
        let names = |source: &TableDefinition, carry: bool, key: &str| {
            let columns = computed_columns(source, &target, carry, &[key.to_owned()]);
            columns.into_iter().map(|column| column.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&source, false, "a"), ["x", "m"]);
        assert_eq!(names(&source, false, "cityHash64(`m`, 'x')"), ["x"]);
        assert_eq!(names(&table("s", &[A, extra, M]), false, "a"), ["m"]);
        assert_eq!(names(&table("s", &[A, extra, M]), true, "a"), [""; 0]);
        let matched = match_columns(&source, &target, false, &["x".to_owned()]).unwrap();
        assert_eq!((matched.columns, matched.reading.left), (vec!["a".into(), "m".into()], vec!["x".into()]));
    }

    #[test]
    fn a_column_that_one_side_lacks_is_named() {
        let lacking = |source: &[_], target: &[_]| {
            match_columns(&table("s", source), &table("t", target), false, &[]).unwrap_err()
        };
        assert_eq!(lacking(&[M], &[A, M]), ["column a of the target d.t is not in the source d.s"]);
        assert_eq!(
            lacking(&[A], &[M]),
            ["column a of the source d.s is not in the target d.t: its values would be lost"]
        );
    }
}
