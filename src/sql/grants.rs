//! Parses `SHOW GRANTS`, and decides whether it allows what a copy needs.

use super::lex::{self, Spanned, Token};

/// A right on every table of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// To read rows.
    Select,
    /// To write rows; renamed and replaced tables need it too.
    Insert,
    /// To create staging tables.
    CreateTable,
    /// To drop them.
    DropTable,
    /// To replace partitions, and to drop them.
    AlterDelete,
    /// To create the database.
    CreateDatabase,
}

impl Privilege {
    /// Returns the words of GRANT.
    pub(crate) fn words(self) -> &'static str {
        self.names()[0]
    }

    /// Returns its name and those of all rights that include it.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Select => &["SELECT", "ALL"],
            Self::Insert => &["INSERT", "ALL"],
            Self::CreateTable => &["CREATE TABLE", "CREATE", "ALL"],
            Self::DropTable => &["DROP TABLE", "DROP", "ALL"],
            Self::AlterDelete => &["ALTER DELETE", "ALTER UPDATE DELETE", "ALTER TABLE", "ALTER", "ALL"],
            Self::CreateDatabase => &["CREATE DATABASE", "CREATE", "ALL"],
        }
    }
}

/// Returns whether lines of `SHOW GRANTS` give a right on a whole database. `None` if the lines cannot tell, because
/// they contain roles or something unknown.
pub(crate) fn gives(lines: &[String], privilege: Privilege, database: &str) -> Option<bool> {
    let mut given = false;
    let mut unclear = false;
    for line in lines {
        match read(line) {
            Some(GrantLine::Rights { gives, names, parse_target }) => {
                let named = names.iter().any(|name| privilege.names().contains(&name.as_str()));
                match parse_target.covers(database) {
                    _ if !named => {}
                    Coverage::Whole => given = gives,
                    // The right on some table was revoked, and the copy may need that table.
                    Coverage::Some if !gives => unclear = true,
                    Coverage::Some | Coverage::None => {}
                }
            }
            Some(GrantLine::Roles) | None => unclear = true,
        }
    }
    if unclear && !given { None } else { Some(given) }
}

enum GrantLine {
    Rights { gives: bool, names: Vec<String>, parse_target: GrantTarget },
    Roles,
}

struct GrantTarget {
    database: String,
    table: String,
}

#[derive(PartialEq, Eq)]
enum Coverage {
    Whole,
    Some,
    None,
}

impl GrantTarget {
    fn covers(&self, database: &str) -> Coverage {
        // From 24.10 on a name may end with a star.
        let start = self.database.strip_suffix('*');
        if self.database != database && !start.is_some_and(|start| database.starts_with(start)) {
            return Coverage::None;
        }
        if self.table == "*" { Coverage::Whole } else { Coverage::Some }
    }
}

/// Parses `GRANT SELECT, CREATE TABLE ON db.* TO user [WITH GRANT OPTION]`, `REVOKE … FROM user`, `GRANT role TO
/// user`.
fn read(line: &str) -> Option<GrantLine> {
    let found = lex::tokens(line).ok()?;
    let gives = match found.first()? {
        first if first.is_word(line, "GRANT") => true,
        first if first.is_word(line, "REVOKE") => false,
        _ => return None,
    };
    let end = found.iter().position(|t| t.depth == 0 && (t.is_word(line, "TO") || t.is_word(line, "FROM")))?;
    let Some(on) = found[..end].iter().position(|t| t.depth == 0 && t.is_word(line, "ON")) else {
        return Some(GrantLine::Roles);
    };
    let named = &line[found.get(1)?.start..found[on].start];
    // A right on some columns is no right on the table.
    let whole = |name: &String| !name.contains('(');
    let names = lex::split_commas(named).ok()?.into_iter().filter(whole).map(|name| name.to_uppercase()).collect();
    Some(GrantLine::Rights { gives, names, parse_target: parse_target(line, &found[on + 1..end])? })
}

fn parse_target(line: &str, tokens: &[Spanned]) -> Option<GrantTarget> {
    let dot = tokens.iter().position(|t| t.token == Token::Sign('.'));
    let text = |tokens: &[Spanned]| {
        tokens.iter().map(|t| t.text(line).trim_matches('`').replace("\\`", "`")).collect::<String>()
    };
    match dot {
        Some(dot) => Some(GrantTarget { database: text(&tokens[..dot]), table: text(&tokens[dot + 1..]) }),
        // ON *: everything.
        None if text(tokens) == "*" => Some(GrantTarget { database: "*".into(), table: "*".into() }),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_and_revokes_decide_what_an_account_may_do() {
        let granted = |lines: &[&str], privilege, database| {
            let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            gives(&lines, privilege, database)
        };
        use Privilege::*;
        for (lines, privilege, expected) in [
            (&["GRANT ALL ON *.* TO default WITH GRANT OPTION"][..], AlterDelete, Some(true)),
            (&["GRANT SELECT, CREATE TABLE ON web.* TO u"], CreateTable, Some(true)),
            (&["GRANT SELECT, CREATE TABLE ON web.* TO u"], Insert, Some(false)),
            (&["GRANT CREATE ON `web`.* TO u"], CreateDatabase, Some(true)),
            (&["GRANT INSERT ON web.hits TO u"], Insert, Some(false)),
            (&["GRANT INSERT(a, b) ON web.* TO u"], Insert, Some(false)),
            (&["GRANT INSERT ON we*.* TO u"], Insert, Some(true)),
            (&["GRANT INSERT ON other.* TO u"], Insert, Some(false)),
            (&["GRANT ALL ON *.* TO u", "REVOKE INSERT ON web.* FROM u"], Insert, Some(false)),
            (&["GRANT ALL ON *.* TO u", "REVOKE INSERT ON web.* FROM u"], Select, Some(true)),
            (&["GRANT copiers TO u"], Insert, None),
            (&["GRANT copiers TO u", "GRANT INSERT ON web.* TO u"], Insert, Some(true)),
            (&["something else"], Insert, None),
            (&[], Insert, Some(false)),
        ] {
            assert_eq!(granted(lines, privilege, "web"), expected, "{privilege:?} {lines:?}");
        }
    }
}
