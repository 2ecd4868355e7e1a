//! The reader of engines.

use super::super::lex::{self, Spanned, Token};
use super::Engine;
use super::clause::Clause;

/// The reason why a text is not an engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EngineError {
    /// A bracket or a quote is not closed.
    #[error("{0}")]
    Unbalanced(String),
    /// The text does not start with a name.
    #[error("it does not start with the name of an engine")]
    NoName,
    /// A word is not a clause.
    #[error("\"{0}\" is not a clause of an engine (PARTITION BY, PRIMARY KEY, ORDER BY, SAMPLE BY, TTL, SETTINGS)")]
    NotAClause(String),
    /// A clause has no value, or is there twice.
    #[error("{0} is {1}")]
    BadClause(String, &'static str),
}

impl Engine {
    /// Reads `[ENGINE =] Name[(arguments)] [clauses] [;]`.
    pub(crate) fn parse(text: &str) -> Result<Self, EngineError> {
        // A text that was copied from a statement can end with a semicolon. The original accepted that.
        let sql = lex::without_comments(lex::without_end(text)).map_err(unbalanced)?;
        let tokens = lex::tokens(&sql).map_err(unbalanced)?;
        let (name, rest) = read_name(&sql, without_keyword(&sql, &tokens))?;
        let (arguments, rest) = read_arguments(&sql, rest)?;
        let clauses = read_clauses(&sql, rest)?;
        Ok(Self { name: name.to_owned(), arguments, clauses })
    }
}

/// Makes an error of brackets or quotes that are not closed.
fn unbalanced(error: impl ToString) -> EngineError {
    EngineError::Unbalanced(error.to_string())
}

/// Returns the tokens after `ENGINE =`, where the text begins so.
fn without_keyword<'a>(sql: &str, tokens: &'a [Spanned]) -> &'a [Spanned] {
    match tokens {
        [engine, equals, rest @ ..] if engine.is_word(sql, "ENGINE") && equals.token == Token::Sign('=') => rest,
        _ => tokens,
    }
}

/// Reads the name of the engine. Returns it with the tokens after it.
fn read_name<'a>(sql: &'a str, tokens: &'a [Spanned]) -> Result<(&'a str, &'a [Spanned]), EngineError> {
    let Some((first, rest)) = tokens.split_first() else { return Err(EngineError::NoName) };
    let name = match first.token {
        Token::Word => first.text(sql),
        // 26.x quotes a name that is also a keyword: ENGINE = `Null`.
        Token::Quoted => first.text(sql).trim_matches(['`', '"']),
        _ => return Err(EngineError::NoName),
    };
    let is_identifier = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if name.is_empty() || !is_identifier || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(EngineError::NoName);
    }
    Ok((name, rest))
}

/// Reads `(arguments)`, where the tokens begin so. Returns the arguments with the tokens after them.
fn read_arguments<'a>(sql: &str, tokens: &'a [Spanned]) -> Result<(Option<Vec<String>>, &'a [Spanned]), EngineError> {
    let Some(open) = tokens.first().filter(|first| first.token == Token::Sign('(')) else {
        return Ok((None, tokens));
    };
    let is_close = |token: &Spanned| token.token == Token::Sign(')') && token.depth == 0;
    let close = tokens.iter().position(is_close).unwrap_or(tokens.len() - 1);
    let arguments = lex::split_commas(&sql[open.end..tokens[close].start]).map_err(unbalanced)?;
    Ok((Some(arguments), &tokens[close + 1..]))
}

/// Reads the clauses, which must fill the rest of the text.
fn read_clauses(sql: &str, tokens: &[Spanned]) -> Result<Vec<(Clause, String)>, EngineError> {
    let mut starts: Vec<(usize, usize, Clause)> = Vec::new();
    for index in 0..tokens.len() {
        // The token after the words of a clause is its value. 18.16 prints ORDER BY comment without quotes.
        let is_value = starts.last().is_some_and(|(_, from, _)| index <= *from);
        if tokens[index].depth != 0 || is_value {
            continue;
        }
        let clause = Clause::ALL.iter().find(|(_, words)| {
            words.iter().enumerate().all(|(i, word)| tokens.get(index + i).is_some_and(|t| t.is_word(sql, word)))
        });
        if let Some((clause, words)) = clause {
            starts.push((index, index + words.len(), *clause));
        }
    }
    if let Some(first) = tokens.first()
        && starts.first().is_none_or(|(index, ..)| *index != 0)
    {
        return Err(EngineError::NotAClause(first.text(sql).to_owned()));
    }
    let mut clauses: Vec<(Clause, String)> = Vec::new();
    for (i, (_, from, clause)) in starts.iter().enumerate() {
        let to = starts.get(i + 1).map_or(tokens.len(), |(index, ..)| *index);
        if *from == to {
            return Err(EngineError::BadClause(clause.words(), "empty"));
        }
        if clauses.iter().any(|(earlier, _)| earlier == clause) {
            return Err(EngineError::BadClause(clause.words(), "there twice"));
        }
        clauses.push((*clause, sql[tokens[*from].start..tokens[to - 1].end].to_owned()));
    }
    Ok(clauses)
}
