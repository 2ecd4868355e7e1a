//! Properties of the parsers of SQL, for fuzzing; see [`crate::fuzzed`].

use std::collections::BTreeMap;

use super::lex::{self, Spanned, Token};
use super::{
    Column, DefaultKind, Engine, Expression, KeyElement, Names, Privilege, Syntax, TableDefinition, TimedColumn, quote,
};
use crate::model::TableName;

/// Checks the lexer, and the questions about an expression.
pub(crate) fn expression(input: &[u8]) {
    let text = &String::from_utf8_lossy(input);
    ask_about(text);
    let Ok(found) = lex::tokens(text) else {
        assert!(Expression::parse(text).is_err(), "an expression that is no sequence of tokens: {text:?}");
        return;
    };
    assert_covered(text, &found);
    let clean = lex::without_comments(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    assert_same_tokens(text, &found, &clean);
    let parts = lex::split_commas(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    let texts =
        |text: &str| -> Vec<String> { tokens_of(text).iter().map(|token| token.text(text).to_owned()).collect() };
    let clean_parts = lex::split_commas(&clean).unwrap_or_else(|error| panic!("{clean:?}: {error}"));
    assert_eq!(parts.len(), clean_parts.len(), "{text:?}");
    assert_eq!(texts(&parts.join(" , ")), texts(&clean), "{text:?}");
    for token in found.iter().filter(|token| token.token == Token::Text) {
        let value = lex::unquote(token.text(text));
        assert_eq!(lex::unquote(&quote::value_literal(&value, 0)), value, "{text:?}");
    }
    match Expression::parse(text) {
        Ok(parsed) => assert_eq!(Expression::parse(parsed.as_str()).as_ref(), Ok(&parsed), "{text:?}"),
        Err(error) => assert!(found.is_empty(), "{text:?}: {error}"),
    }
}

/// Calls every question about a text, whether it is an expression or not.
fn ask_about(text: &str) {
    let columns = vec!["a".to_owned(), "b c".to_owned()];
    let zoned = TimedColumn { type_name: "DateTime".into(), computed: Some(text.to_owned()) };
    let timed = BTreeMap::from([("a".to_owned(), zoned)]);
    super::unsteadiness(text, &Names::default());
    super::names_column(text, "a");
    super::names_dictionary(text);
    super::zone_dependence(text, &timed);
    super::columns_without_zone(text, &timed);
    super::key_elements(text);
    let _ = super::unquoted_elements(text);
    let bare = lex::without_directions(text);
    if let Ok(found) = lex::tokens(text) {
        let is_direction = |token: &Spanned| ["ASC", "DESC"].iter().any(|word| token.is_word(text, word));
        let kept = tokens_of(&bare).len();
        let directions = found.iter().filter(|token| is_direction(token)).count();
        assert!(kept <= found.len() && kept + directions >= found.len(), "{text:?} became {bare:?}");
    }
    let ended = lex::without_end(text);
    assert!(text.starts_with(ended), "{text:?}");
    if let Ok(expression) = Expression::parse(text) {
        expression.uses_only(&columns);
        expression.is_function_of_the_row();
    }
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    super::gives(&lines, Privilege::Select, "d");
}

fn tokens_of(text: &str) -> Vec<Spanned> {
    lex::tokens(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

/// Checks that tokens follow each other, that only blanks and comments are between them, and that their brackets
/// balance.
fn assert_covered(text: &str, found: &[Spanned]) {
    let mut position = 0;
    let mut open = Vec::new();
    for token in found {
        assert!(token.start >= position && token.end > token.start, "{token:?} of {text:?}");
        assert!(is_blank(&text[position..token.start]), "{token:?} of {text:?}");
        position = token.end;
        let written = token.text(text);
        match token.token {
            Token::Sign(sign) => {
                assert!(written.chars().eq([sign]), "{token:?} of {text:?}");
                if let Some(opening) = [('(', ')'), ('[', ']'), ('{', '}')].iter().find(|pair| pair.1 == sign) {
                    assert_eq!(open.pop(), Some(opening.0), "{text:?}");
                }
                assert_eq!(token.depth, open.len(), "{token:?} of {text:?}");
                if "([{".contains(sign) {
                    open.push(sign);
                }
            }
            Token::Text | Token::Quoted => {
                assert!(written.len() >= 2 && written.chars().next() == written.chars().next_back(), "{written:?}");
                assert_eq!(token.depth, open.len(), "{token:?} of {text:?}");
            }
            Token::Word => assert_eq!(token.depth, open.len(), "{token:?} of {text:?}"),
        }
    }
    assert!(is_blank(&text[position..]) && open.is_empty(), "{text:?}");
}

/// Returns whether a text consists of blanks and comments.
fn is_blank(mut text: &str) -> bool {
    loop {
        text = text.trim_start();
        let end = if text.is_empty() {
            return true;
        } else if let Some(inside) = text.strip_prefix("/*") {
            // Not the star of the beginning: `/*/`.
            inside.find("*/").map(|index| index + 4)
        } else if ["--", "//", "#!", "# "].iter().any(|start| text.starts_with(start)) {
            Some(text.find('\n').unwrap_or(text.len()))
        } else {
            None
        };
        let Some(end) = end else { return false };
        text = &text[end..];
    }
}

/// Checks that a text without its comments has the same tokens, with a blank wherever something was between two of
/// them.
fn assert_same_tokens(text: &str, found: &[Spanned], clean: &str) {
    let again = tokens_of(clean);
    assert_eq!(found.len(), again.len(), "{text:?} became {clean:?}");
    for (before, after) in found.iter().zip(&again) {
        assert_eq!((before.token, before.text(text)), (after.token, after.text(clean)), "{text:?} became {clean:?}");
        assert_eq!(before.depth, after.depth, "{text:?} became {clean:?}");
    }
    for (before, after) in found.windows(2).zip(again.windows(2)) {
        let between = usize::from(before[0].end < before[1].start);
        assert_eq!(after[1].start - after[0].end, between, "{text:?} became {clean:?}");
    }
    assert_eq!(lex::without_comments(clean).as_deref(), Ok(clean), "{text:?}");
}

/// Checks an engine, which can be printed and parsed again.
pub(crate) fn engine(input: &[u8]) {
    let Ok(engine) = Engine::parse(&String::from_utf8_lossy(input)) else { return };
    assert_engine_again(&engine);
    engine.expressions();
    engine.expired();
    engine.setting("index_granularity");
    engine.partition_key();
    engine.without_replication();
    for derived in [
        engine.staging(),
        engine.passage("/p", "r"),
        engine.for_new_table(&TableName::new("d", "t"), "00000000-0000-0000-0000-000000000000", true),
        engine.in_database(Some("Replicated")),
        engine.with_settings_among(&["index_granularity".to_owned()].into()).0,
    ] {
        assert_engine_again(&derived);
    }
}

fn assert_engine_again(engine: &Engine) {
    let mut sorted = engine.clone();
    sorted.clauses.sort_by_key(|(clause, _)| *clause);
    let printed = engine.to_string();
    match Engine::parse(&printed) {
        Ok(mut again) => {
            again.clauses.sort_by_key(|(clause, _)| *clause);
            assert_eq!(again, sorted, "{printed:?}");
        }
        Err(error) => panic!("{printed:?}: {error}"),
    }
}

/// Checks the name of a type, or of two.
pub(crate) fn type_name(input: &[u8]) {
    let text = &String::from_utf8_lossy(input);
    let (from, to) = text.split_once('\n').unwrap_or((text, text));
    let parts = super::types::parts_of(from);
    if !parts.inner.is_empty() {
        assert!(!super::types::is_too_deep(from), "{from:?}");
        if ["Nullable", "LowCardinality", "Array", "Map"].contains(&parts.name) {
            let again = format!("{}({})", parts.name, parts.inner.join(", "));
            assert_eq!(super::types::parts_of(&again).inner, parts.inner, "{from:?}");
        }
    }
    super::loss_test("c", from, to);
    super::conversion_depends_on_zone(from, to);
    super::is_hashed_by_text(from);
    super::canonical_zone(from);
    let element = KeyElement { expression: "k".into(), type_name: from.to_owned() };
    element.is_supported();
    element.compared();
    element.value();
    element.message_text();
    element.shown();
    element.id();
    element.group();
    let value = element.canonical(to.to_owned());
    let literal = element.literal(&value);
    if element.is_supported() && lex::tokens(from).is_ok() {
        assert!(lex::tokens(&literal).is_ok(), "{from:?}: {to:?} is written as {literal:?}");
    }
    element.display(to);
    element.shown_of_written(to);
    element.is_meant(to, to, &value);
    element.accepts(to);
    element.is_cuttable();
}

/// Checks a table's CREATE statement: the statements made from it can be parsed again, and describe the same table.
pub(crate) fn create_statement(input: &[u8]) {
    let text = &String::from_utf8_lossy(input);
    let full = engine_of(text);
    let name = TableName::new("d", "t");
    let Ok(bare) = TableDefinition::read(name.clone(), full, text, Vec::new(), "") else { return };
    let columns = bare.declarations.iter().filter_map(|text| column(text)).collect();
    let Ok(table) = TableDefinition::read(name.clone(), full, text, columns, "k") else { return };
    table.constraints();
    table.has_ttl();
    table.reads();
    table.stored();
    table.plain_declarations();
    table.against_parts_in(&bare);
    for definition in [table.clone(), table.within(Syntax::of((18, 16))).0] {
        if definition.declarations.is_empty() || definition.declarations.iter().any(String::is_empty) {
            continue;
        }
        let statement = definition.create(&name, &definition.engine);
        let engine = definition.engine.to_string();
        let again = TableDefinition::read(name.clone(), &engine, &statement, definition.columns.clone(), "k");
        let again = again.unwrap_or_else(|error| panic!("{statement:?}: {error}"));
        assert_eq!(again.declarations, definition.declarations, "{statement:?}");
    }
    let names: Vec<String> = table.columns.iter().map(|column| column.name.clone()).collect();
    let staging = table.create_staging(&name, &names);
    let passage = table.create_passage(&name, &names, "/p", "r");
    for statement in staging.iter().chain(&passage) {
        assert!(lex::tokens(statement).is_ok(), "{statement:?}");
    }
}

/// Returns the text after `ENGINE =` outside of all brackets.
fn engine_of(text: &str) -> &str {
    let found = lex::tokens(text).unwrap_or_default();
    let engine = found
        .windows(2)
        .find(|pair| pair[0].depth == 0 && pair[0].is_word(text, "ENGINE") && pair[1].token == Token::Sign('='));
    engine.map_or("", |pair| &text[pair[1].end..])
}

/// Returns the column that a declaration would create.
fn column(declaration: &str) -> Option<Column> {
    let found = lex::tokens(declaration).ok()?;
    let name = found.first().filter(|token| matches!(token.token, Token::Word | Token::Quoted))?;
    let kind = match found.get(2).map(|token| token.text(declaration)) {
        Some("DEFAULT") => DefaultKind::Default,
        Some("MATERIALIZED") => DefaultKind::Materialized,
        Some("ALIAS") => DefaultKind::Alias,
        Some("EPHEMERAL") => DefaultKind::Ephemeral,
        _ => DefaultKind::None,
    };
    Some(Column {
        name: name.text(declaration).trim_matches('`').to_owned(),
        type_name: declaration[name.end..].trim().to_owned(),
        default_kind: kind,
        default_expression: found.get(3).map_or(String::new(), |token| declaration[token.start..].to_owned()),
        comment: String::new(),
    })
}
