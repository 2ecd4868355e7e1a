//! Tokens of ClickHouse's SQL: enough to split a text at its top level, and to check that it is balanced.

use crate::model::text_of_bytes;

/// The deepest nesting of brackets. Servers have a limit too (`max_parser_depth`, 1000), which counts more than
/// brackets.
pub(crate) const MAX_BRACKETS: usize = 256;

/// The kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// A bare word: an identifier, a keyword or a number.
    Word,
    /// An identifier in backticks or double quotes.
    Quoted,
    /// A string literal.
    Text,
    /// Any other single character.
    Sign(char),
}

/// A token, its position, and the number of open brackets around it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spanned {
    pub(crate) token: Token,
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// A bracket itself has the depth outside it.
    pub(crate) depth: usize,
}

impl Spanned {
    pub(crate) fn text<'a>(&self, sql: &'a str) -> &'a str {
        &sql[self.start..self.end]
    }

    pub(crate) fn is_word(&self, sql: &str, word: &str) -> bool {
        self.token == Token::Word && self.text(sql).eq_ignore_ascii_case(word)
    }
}

/// Why a text is not a sequence of balanced tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LexError {
    #[error("a quote {0} is not closed")]
    OpenQuote(char),
    #[error("a comment is not closed")]
    OpenComment,
    #[error("a bracket {0} is not closed")]
    OpenBracket(char),
    #[error("a bracket {0} closes nothing")]
    StrayBracket(char),
    /// A parser of an expression recurses as deep as its brackets.
    #[error("brackets are nested more than {MAX_BRACKETS} deep")]
    TooDeep,
    #[error("a semicolon ends the statement")]
    Semicolon,
    /// Newer servers start a text with it (`$$…$$`), or take it for a letter; older ones refuse it.
    #[error("a $ stands outside of quotes: write a text between ' and ', a name between ` and `")]
    Dollar,
    /// Newer servers take it for a quote; older ones refuse it.
    #[error("a curly quote {0} stands outside of quotes: write ' or \"")]
    CurlyQuote(char),
    /// Newer servers end it at the second end, older ones at the first.
    #[error("a comment begins in a comment: servers do not agree where it ends")]
    NestedComment,
}

/// Splits a text into tokens, without comments and white space.
pub(crate) fn tokens(sql: &str) -> Result<Vec<Spanned>, LexError> {
    match tokens_before_semicolon(sql)? {
        (_, Some(_)) => Err(LexError::Semicolon),
        (found, None) => Ok(found),
    }
}

/// Splits a text up to its first semicolon, and returns the semicolon's position. Without a semicolon all brackets
/// must be closed.
fn tokens_before_semicolon(sql: &str) -> Result<(Vec<Spanned>, Option<usize>), LexError> {
    let bytes = sql.as_bytes();
    let mut found = Vec::new();
    let mut open: Vec<char> = Vec::new();
    let mut position = 0;
    while position < bytes.len() {
        let rest = &sql[position..];
        let Some(c) = rest.chars().next() else { break };
        if c.is_whitespace() {
            position += c.len_utf8();
            continue;
        }
        if let Some(length) = comment(rest)? {
            position += length;
            continue;
        }
        let start = position;
        let depth = open.len();
        let token = match c {
            '\'' | '`' | '"' => {
                position += quoted(rest, c)?;
                if c == '\'' { Token::Text } else { Token::Quoted }
            }
            c if is_word(c) => {
                position += rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
                Token::Word
            }
            ';' => return Ok((found, Some(position))),
            '$' => return Err(LexError::Dollar),
            '‘' | '’' | '“' | '”' => return Err(LexError::CurlyQuote(c)),
            c => {
                position += c.len_utf8();
                Token::Sign(c)
            }
        };
        let mut token = Spanned { token, start, end: position, depth };
        if let Token::Sign(c) = token.token {
            match c {
                '(' | '[' | '{' if open.len() == MAX_BRACKETS => return Err(LexError::TooDeep),
                '(' | '[' | '{' => open.push(c),
                ')' | ']' | '}' => {
                    if open.pop() != Some(opening(c)) {
                        return Err(LexError::StrayBracket(c));
                    }
                    token.depth = open.len();
                }
                _ => {}
            }
        }
        found.push(token);
    }
    match open.last() {
        Some(c) => Err(LexError::OpenBracket(*c)),
        None => Ok((found, None)),
    }
}

/// Returns the text without its final semicolons, and without the white space and comments after them.
pub(crate) fn without_end(sql: &str) -> &str {
    let Ok((_, Some(end))) = tokens_before_semicolon(sql) else { return sql };
    let rest = sql[end..].replace(';', " ");
    if tokens(&rest).is_ok_and(|found| found.is_empty()) { &sql[..end] } else { sql }
}

/// Returns the text without its comments and trimmed, with one blank for blanks and comments between tokens.
/// Everything else stays as written.
pub(crate) fn without_comments(sql: &str) -> Result<String, LexError> {
    Ok(joined(sql, &tokens(sql)?))
}

/// Returns some tokens, with one blank for blanks and comments between two of them.
fn joined(sql: &str, tokens: &[Spanned]) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut last = None;
    for token in tokens {
        if let Some(end) = last
            && token.start > end
        {
            out.push(' ');
        }
        out.push_str(token.text(sql));
        last = Some(token.end);
    }
    out
}

/// Splits a text at the commas outside all brackets. The parts have no comments.
pub(crate) fn split_commas(sql: &str) -> Result<Vec<String>, LexError> {
    let found = tokens(sql)?;
    let is_comma = |t: &Spanned| t.depth == 0 && t.token == Token::Sign(',');
    let parts: Vec<String> = found.split(is_comma).map(|part| written(sql, part)).collect();
    Ok(if found.is_empty() { Vec::new() } else { parts })
}

/// Returns some tokens as written, without comments between them: a comment would swallow the text that follows.
fn written(sql: &str, tokens: &[Spanned]) -> String {
    let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else { return String::new() };
    let has_comment = tokens.windows(2).any(|pair| !sql[pair[0].end..pair[1].start].trim().is_empty());
    if has_comment { joined(sql, tokens) } else { sql[first.start..last.end].to_owned() }
}

/// Returns a sorting key without the directions of its elements: `(a, b DESC)` becomes `(a, b)`. Directions are not
/// part of an expression.
pub(crate) fn without_directions(key: &str) -> String {
    // A comment before a direction would swallow the text after it.
    let Ok(clean) = without_comments(key) else { return key.to_owned() };
    let key = clean.as_str();
    let Ok(found) = tokens(key) else { return clean };
    let ends_element = |next: Option<&Spanned>| next.is_none_or(|t| matches!(t.token, Token::Sign(',' | ')')));
    // A word after a comma or a bracket is a column of that name.
    let starts_element = |index: usize| index == 0 || matches!(found[index - 1].token, Token::Sign(',' | '('));
    let mut out = String::with_capacity(key.len());
    let mut copied = 0;
    for (index, token) in found.iter().enumerate() {
        let is_direction = token.is_word(key, "DESC") || token.is_word(key, "ASC");
        if is_direction && ends_element(found.get(index + 1)) && !starts_element(index) {
            out.push_str(key[copied..token.start].trim_end());
            copied = token.end;
        }
    }
    out + &key[copied..]
}

/// Returns the text of a string literal; for bytes that are not UTF-8, the text of [`text_of_bytes`].
pub(crate) fn unquote(literal: &str) -> String {
    let inside = literal.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap_or(literal);
    let mut out: Vec<u8> = Vec::with_capacity(inside.len());
    let mut chars = inside.chars().peekable();
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' => match chars.next() {
                Some('x') => match hexadecimal(&chars.clone().take(2).collect::<String>()) {
                    Some(byte) => {
                        chars.nth(1);
                        out.push(byte);
                        continue;
                    }
                    None => 'x',
                },
                Some(escaped) => unescaped(escaped),
                None => continue,
            },
            '\'' if chars.peek() == Some(&'\'') => chars.next().unwrap_or(c),
            c => c,
        };
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    text_of_bytes(out)
}

/// Returns the byte that two hexadecimal digits stand for.
fn hexadecimal(digits: &str) -> Option<u8> {
    let is_pair = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u8::from_str_radix(digits, 16).ok().filter(|_| is_pair)
}

/// Returns the character that an escape after a backslash stands for.
fn unescaped(c: char) -> char {
    match c {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        '0' => '\0',
        'a' => '\u{7}',
        'b' => '\u{8}',
        'e' => '\u{1b}',
        'f' => '\u{c}',
        'v' => '\u{b}',
        other => other,
    }
}

/// Returns the elements of a literal or of a tuple of literals, without their quotes.
pub(crate) fn unquoted_elements(text: &str) -> Result<Vec<String>, LexError> {
    let found = tokens(text)?;
    let start = usize::from(found.first().is_some_and(|t| t.is_word(text, "tuple")));
    let is_tuple = found.get(start).is_some_and(|t| t.token == Token::Sign('('))
        && found.last().is_some_and(|t| t.token == Token::Sign(')') && t.depth == 0);
    let inside = if is_tuple { &text[found[start].end..found[found.len() - 1].start] } else { text };
    Ok(split_commas(inside)?
        .into_iter()
        .map(|part| if part.starts_with('\'') { unquote(&part) } else { part })
        .collect())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn opening(c: char) -> char {
    match c {
        ')' => '(',
        ']' => '[',
        _ => '{',
    }
}

/// Returns the length of the comment that a text starts with.
fn comment(rest: &str) -> Result<Option<usize>, LexError> {
    if ["--", "//", "#!", "# "].iter().any(|start| rest.starts_with(start)) {
        return Ok(Some(rest.find('\n').unwrap_or(rest.len())));
    }
    let Some(inside) = rest.strip_prefix("/*") else { return Ok(None) };
    let end = inside.find("*/").ok_or(LexError::OpenComment)?;
    // The star of the end may belong to a second beginning: `/*/*/`.
    if inside[..=end].contains("/*") {
        return Err(LexError::NestedComment);
    }
    Ok(Some(end + 4))
}

/// Returns the length of the quoted token that a text starts with. A backslash escapes; a doubled quote stands for
/// itself.
fn quoted(rest: &str, quote: char) -> Result<usize, LexError> {
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == quote {
            match chars.peek() {
                Some((_, next)) if *next == quote => {
                    chars.next();
                }
                _ => return Ok(at + c.len_utf8()),
            }
        }
    }
    Err(LexError::OpenQuote(quote))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_inside_brackets_and_quotes_do_not_split() {
        assert_eq!(split_commas("a, f(b, c), 'x,y', `d,e`").unwrap(), ["a", "f(b, c)", "'x,y'", "`d,e`"]);
        for nothing in ["  ", "-- a, b", "/* a */"] {
            assert_eq!(split_commas(nothing).unwrap(), Vec::<String>::new());
        }
        assert_eq!(split_commas("a, ").unwrap(), ["a", ""]);
    }

    #[test]
    fn comments_are_removed_from_the_elements_of_a_list() {
        assert_eq!(
            split_commas("a -- b\n, c  +  /* d */ e, '/* f */'  ||  g").unwrap(),
            ["a", "c + e", "'/* f */'  ||  g"]
        );
        assert_eq!(without_directions("a -- first\n DESC, b"), "a, b");
    }

    #[test]
    fn brackets_that_would_exhaust_the_stack_are_refused() {
        let nested = |depth: usize| format!("{}1{}", "f(".repeat(depth), ")".repeat(depth));
        assert!(tokens(&nested(MAX_BRACKETS)).is_ok());
        assert_eq!(tokens(&nested(MAX_BRACKETS + 1)).unwrap_err(), LexError::TooDeep);
        assert_eq!(tokens(&"[".repeat(1_000_000)).unwrap_err(), LexError::TooDeep);
        let deepest = nested(MAX_BRACKETS);
        assert_eq!(super::super::zone_dependence(&deepest, &Default::default()), None);
        assert!(super::super::unsteadiness(&deepest, &Default::default()).is_none());
    }

    #[test]
    fn a_quoted_literal_is_read_back_as_its_text() {
        for text in ["", "it's", "\\", "a\nb\tc\0", "Привет"] {
            assert_eq!(unquote(&super::super::quote::literal(text)), text);
        }
        assert_eq!(unquote("'it''s'"), "it's");
        assert_eq!(unquote(r"'\x41\xzz\x4'"), "Axzzx4");
        for bytes in [&b"\xFF\0"[..], b"\x1b[2J", b"\xC3\xA9'\\\xC3"] {
            let text = text_of_bytes(bytes.to_vec());
            assert_eq!(unquote(&super::super::quote::value_literal(&text, 0)), text);
        }
    }

    #[test]
    fn asc_and_desc_are_removed_and_columns_with_these_names_stay() {
        for (key, bare) in [
            ("a", "a"),
            ("a DESC", "a"),
            ("(a, lower(b) DESC, c asc)", "(a, lower(b), c)"),
            ("tuple(desc, `b` DESC)", "tuple(desc, `b`)"),
            ("(desc DESC, asc)", "(desc, asc)"),
        ] {
            assert_eq!(without_directions(key), bare);
        }
    }

    #[test]
    fn comments_are_removed_and_quoted_text_stays() {
        assert_eq!(without_comments("a -- x'\n +/* ( */ b").unwrap(), "a + b");
        assert_eq!(without_comments("a/**/b").unwrap(), "a b");
        assert_eq!(without_comments("a // x )\n + b # y\n/*/ */").unwrap(), "a + b");
        assert_eq!(without_comments("'a  // $$ ‘ -- b' + `c  #! d`").unwrap(), "'a  // $$ ‘ -- b' + `c  #! d`");
    }

    #[test]
    fn unbalanced_brackets_and_quotes_are_refused() {
        assert_eq!(tokens("(a").unwrap_err(), LexError::OpenBracket('('));
        assert_eq!(tokens("a)").unwrap_err(), LexError::StrayBracket(')'));
        assert_eq!(tokens("'a\\'").unwrap_err(), LexError::OpenQuote('\''));
        assert_eq!(tokens("a; drop").unwrap_err(), LexError::Semicolon);
        assert_eq!(tokens("/* a").unwrap_err(), LexError::OpenComment);
    }

    #[test]
    fn syntax_that_releases_read_in_different_ways_is_refused() {
        for (text, error) in [
            ("$$a   b$$", LexError::Dollar),
            ("$a$'$a$) OR (1 = 1 -- '", LexError::Dollar),
            ("a$b", LexError::Dollar),
            ("x = ‘a’", LexError::CurlyQuote('‘')),
            ("“x” = 1", LexError::CurlyQuote('“')),
            ("1 /* /* */ ) OR (1 = 1 /* */ */", LexError::NestedComment),
            ("1 /*/*/", LexError::NestedComment),
        ] {
            assert_eq!(tokens(text).unwrap_err(), error, "{text}");
        }
    }
}
