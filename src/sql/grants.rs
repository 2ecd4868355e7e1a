//! What `SHOW GRANTS` says, and whether it allows what we need.

use super::lex::{self, Spanned, Token};

/// A right on every table of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// To read rows.
    Select,
    /// To write rows: what is renamed or replaced needs it too.
    Insert,
    /// To make staging tables.
    CreateTable,
    /// To remove them.
    DropTable,
    /// To put partitions in the place of others, and to drop them.
    AlterDelete,
    /// To make the database.
    CreateDatabase,
}

impl Privilege {
    /// As GRANT has it.
    pub fn words(self) -> &'static str {
        self.names()[0]
    }

    /// It and all that include it.
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

/// Whether lines of `SHOW GRANTS` give a right on a whole database. `None`: they do not tell, since there are roles among them,
/// or something that is not understood.
pub fn gives(lines: &[String], privilege: Privilege, database: &str) -> Option<bool> {
    let mut given = false;
    let mut unclear = false;
    for line in lines {
        match read(line) {
            Some(Line::Rights { gives, names, place }) => {
                let named = names.iter().any(|name| privilege.names().contains(&name.as_str()));
                match place.covers(database) {
                    _ if !named => {}
                    Cover::Whole => given = gives,
                    // Some table of it was taken away: which one we would use nobody knows.
                    Cover::Some if !gives => unclear = true,
                    Cover::Some | Cover::None => {}
                }
            }
            Some(Line::Roles) | None => unclear = true,
        }
    }
    if unclear && !given { None } else { Some(given) }
}

enum Line {
    Rights { gives: bool, names: Vec<String>, place: Place },
    Roles,
}

struct Place {
    database: String,
    table: String,
}

#[derive(PartialEq, Eq)]
enum Cover {
    Whole,
    Some,
    None,
}

impl Place {
    fn covers(&self, database: &str) -> Cover {
        // From 24.10 on a name may end with a star.
        let start = self.database.strip_suffix('*');
        if self.database != database && !start.is_some_and(|start| database.starts_with(start)) {
            return Cover::None;
        }
        if self.table == "*" { Cover::Whole } else { Cover::Some }
    }
}

/// `GRANT SELECT, CREATE TABLE ON db.* TO user [WITH GRANT OPTION]`, `REVOKE … FROM user`, `GRANT role TO user`.
fn read(line: &str) -> Option<Line> {
    let found = lex::tokens(line).ok()?;
    let gives = match found.first()? {
        first if first.is_word(line, "GRANT") => true,
        first if first.is_word(line, "REVOKE") => false,
        _ => return None,
    };
    let end = found.iter().position(|t| t.depth == 0 && (t.is_word(line, "TO") || t.is_word(line, "FROM")))?;
    let Some(on) = found[..end].iter().position(|t| t.depth == 0 && t.is_word(line, "ON")) else {
        return Some(Line::Roles);
    };
    let named = &line[found.get(1)?.start..found[on].start];
    // A right on some columns is none on the table.
    let whole = |name: &String| !name.contains('(');
    let names = lex::split_commas(named).ok()?.into_iter().filter(whole).map(|name| name.to_uppercase()).collect();
    Some(Line::Rights { gives, names, place: place(line, &found[on + 1..end])? })
}

fn place(line: &str, tokens: &[Spanned]) -> Option<Place> {
    let dot = tokens.iter().position(|t| t.token == Token::Sign('.'));
    let text = |tokens: &[Spanned]| {
        tokens.iter().map(|t| t.text(line).trim_matches('`').replace("\\`", "`")).collect::<String>()
    };
    match dot {
        Some(dot) => Some(Place { database: text(&tokens[..dot]), table: text(&tokens[dot + 1..]) }),
        // ON *: everything.
        None if text(tokens) == "*" => Some(Place { database: "*".into(), table: "*".into() }),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_read_as_the_server_means_them() {
        let told = |lines: &[&str], privilege, database| {
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
            assert_eq!(told(lines, privilege, "web"), expected, "{privilege:?} {lines:?}");
        }
    }
}
