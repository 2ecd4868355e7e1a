//! The TTL of a table, as conditions.

use super::super::lex;
use super::Engine;
use super::clause::Clause;

impl Engine {
    /// Returns conditions that hold for the rows that the TTL of the table removes, as of the day before today. Returns `None` for
    /// a TTL that no condition can express.
    pub(crate) fn expired(&self) -> Option<Vec<String>> {
        let Some(text) = self.clause(Clause::Ttl) else { return Some(Vec::new()) };
        let found: Option<Vec<Option<String>>> =
            lex::split_commas(text).ok()?.iter().map(|element| expired(element)).collect();
        found.map(|found| found.into_iter().flatten().collect())
    }
}

/// Returns `expression [DELETE] [WHERE condition]` of a TTL clause as a condition. Returns `Some(None)` for an element that moves or
/// recompresses rows, and `None` for one that groups rows.
///
/// The condition compares days, for two reasons: the expression can be a date, and a date beyond the range of DateTime must
/// not look like one long ago.
fn expired(element: &str) -> Option<Option<String>> {
    let found = lex::tokens(element).ok()?;
    let position = |word: &str| found.iter().position(|t| t.depth == 0 && t.is_word(element, word));
    if ["TO", "RECOMPRESS"].iter().any(|word| position(word).is_some()) {
        return Some(None);
    }
    if position("GROUP").is_some() {
        return None;
    }
    let (delete, condition) = (position("DELETE"), position("WHERE"));
    let end = delete.or(condition).map_or(element.len(), |index| found[index].start);
    let expired = format!("toDate({}) < today()", element[..end].trim());
    let condition = condition.map(|index| element[found[index].end..].trim());
    Some(Some(condition.map_or(expired.clone(), |condition| format!("{expired} AND ({condition})"))))
}
