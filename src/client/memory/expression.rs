//! Parses the expressions that tasks and tables of a simulation use.

use super::super::Kind;
use super::super::codes;
use super::refused::refused;

/// An expression. Operators are calls of the functions with ClickHouse's names (`plus`, `equals`, …).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ast {
    Number(i128),
    Text(String),
    Column(String),
    Call(String, Vec<Ast>),
    Tuple(Vec<Ast>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Number(i128),
    Text(String),
    Word(String),
    Quoted(String),
    Sign(&'static str),
}

const SIGNS: &[&str] = &["<=", ">=", "!=", "<>", "==", "<", ">", "=", "(", ")", ",", "+", "-", "*", "/", "%", "."];

/// Parses one expression; returns error 62 like the server.
pub(super) fn parse(text: &str) -> Result<Ast, Kind> {
    let tokens = tokens(text)?;
    let mut parser = Parser { text, tokens: &tokens, at: 0 };
    let ast = parser.either()?;
    if parser.at == tokens.len() { Ok(ast) } else { Err(syntax(text)) }
}

fn syntax(text: &str) -> Kind {
    refused(codes::SYNTAX_ERROR, format!("Syntax error: the double does not read: {text}"))
}

fn tokens(text: &str) -> Result<Vec<Token>, Kind> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(c) = rest.chars().next() {
        let length = if c == '\'' || c == '`' {
            let (inside, length) = quoted(rest, c).ok_or_else(|| syntax(text))?;
            found.push(if c == '\'' { Token::Text(inside) } else { Token::Quoted(inside) });
            length
        } else if c.is_alphanumeric() || c == '_' {
            let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let word = &rest[..length];
            found.push(word.parse().map_or_else(|_| Token::Word(word.to_owned()), Token::Number));
            length
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign)).ok_or_else(|| syntax(text))?;
            found.push(Token::Sign(sign));
            sign.len()
        };
        rest = rest[length..].trim_start();
    }
    Ok(found)
}

/// Returns the quoted text at the beginning, and its length including the quotes.
pub(super) fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut inside = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => inside.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                '0' => '\0',
                other => other,
            }),
            c if c == quote => return Some((inside, at + 1)),
            c => inside.push(c),
        }
    }
    None
}

struct Parser<'a> {
    text: &'a str,
    tokens: &'a [Token],
    at: usize,
}

impl Parser<'_> {
    fn sign(&mut self, wanted: &[&'static str]) -> Option<&'static str> {
        let Some(Token::Sign(sign)) = self.tokens.get(self.at) else { return None };
        wanted.contains(sign).then(|| {
            self.at += 1;
            *sign
        })
    }

    fn word(&mut self, wanted: &str) -> bool {
        let is = matches!(self.tokens.get(self.at), Some(Token::Word(word)) if word.eq_ignore_ascii_case(wanted));
        self.at += usize::from(is);
        is
    }

    fn need(&mut self, sign: &'static str) -> Result<(), Kind> {
        self.sign(&[sign]).map(drop).ok_or_else(|| syntax(self.text))
    }

    fn either(&mut self) -> Result<Ast, Kind> {
        let mut left = self.both()?;
        while self.word("OR") {
            left = call("or", [left, self.both()?]);
        }
        Ok(left)
    }

    fn both(&mut self) -> Result<Ast, Kind> {
        let mut left = self.not()?;
        while self.word("AND") {
            left = call("and", [left, self.not()?]);
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Ast, Kind> {
        if self.word("NOT") { Ok(call("not", [self.not()?])) } else { self.comparison() }
    }

    fn comparison(&mut self) -> Result<Ast, Kind> {
        let left = self.sum()?;
        if self.word("IN") {
            self.need("(")?;
            let members = self.list()?;
            return Ok(call("in", [left, Ast::Tuple(members)]));
        }
        let Some(sign) = self.sign(&["<=", ">=", "!=", "<>", "==", "<", ">", "="]) else { return Ok(left) };
        let name = match sign {
            "<=" => "lessOrEquals",
            ">=" => "greaterOrEquals",
            "<" => "less",
            ">" => "greater",
            "=" | "==" => "equals",
            _ => "notEquals",
        };
        Ok(call(name, [left, self.sum()?]))
    }

    fn sum(&mut self) -> Result<Ast, Kind> {
        let mut left = self.product()?;
        while let Some(sign) = self.sign(&["+", "-"]) {
            left = call(if sign == "+" { "plus" } else { "minus" }, [left, self.product()?]);
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Ast, Kind> {
        let mut left = self.unary()?;
        while let Some(sign) = self.sign(&["*", "/", "%"]) {
            let name = match sign {
                "*" => "multiply",
                "/" => "intDiv",
                _ => "modulo",
            };
            left = call(name, [left, self.unary()?]);
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Ast, Kind> {
        if self.sign(&["-"]).is_some() { Ok(call("negate", [self.unary()?])) } else { self.primary() }
    }

    fn primary(&mut self) -> Result<Ast, Kind> {
        let Some(token) = self.tokens.get(self.at) else { return Err(syntax(self.text)) };
        self.at += 1;
        match token {
            Token::Number(number) => Ok(Ast::Number(*number)),
            Token::Text(text) => Ok(Ast::Text(text.clone())),
            Token::Quoted(name) => Ok(Ast::Column(name.clone())),
            Token::Word(name) if self.sign(&["("]).is_some() => {
                if name.eq_ignore_ascii_case("CAST") {
                    return self.cast();
                }
                Ok(Ast::Call(name.clone(), self.list()?))
            }
            Token::Word(name) => Ok(Ast::Column(name.clone())),
            Token::Sign("(") => {
                let mut members = self.list()?;
                Ok(if members.len() == 1 { members.remove(0) } else { Ast::Tuple(members) })
            }
            Token::Sign(_) => Err(syntax(self.text)),
        }
    }

    /// Parses the elements before a closing bracket, and the bracket.
    fn list(&mut self) -> Result<Vec<Ast>, Kind> {
        let mut members = Vec::new();
        if self.sign(&[")"]).is_some() {
            return Ok(members);
        }
        loop {
            members.push(self.either()?);
            if self.sign(&[")"]).is_some() {
                return Ok(members);
            }
            self.need(",")?;
        }
    }

    /// Parses `x AS Type)` or `x, 'Type')`; the first form takes only types without arguments.
    fn cast(&mut self) -> Result<Ast, Kind> {
        let operand = self.either()?;
        let type_name = if self.word("AS") {
            let Some(Token::Word(name)) = self.tokens.get(self.at) else { return Err(syntax(self.text)) };
            self.at += 1;
            name.clone()
        } else {
            self.need(",")?;
            let Some(Token::Text(name)) = self.tokens.get(self.at) else { return Err(syntax(self.text)) };
            self.at += 1;
            name.clone()
        };
        self.need(")")?;
        Ok(Ast::Call(format!("to{type_name}"), vec![operand]))
    }
}

fn call<const N: usize>(name: &str, arguments: [Ast; N]) -> Ast {
    Ast::Call(name.to_owned(), arguments.into())
}
