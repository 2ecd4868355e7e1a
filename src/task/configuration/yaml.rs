//! Parses a configuration file in YAML into the tree of elements that ClickHouse makes of it.
//!
//! A mapping's keys become elements, a list repeats its element, `"@name"` is an attribute and `#text` is the text
//! next to attributes. The root element is `<clickhouse>`. Scalars are taken as written.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::super::fault::Problem;
use super::super::xml::{Element, MAX_DEPTH, MAX_ELEMENTS, Node};

/// A value and the line where it begins.
#[derive(Debug, Clone)]
struct Yaml {
    kind: Kind,
    line: u32,
}

#[derive(Debug, Clone)]
enum Kind {
    Null,
    Scalar(String),
    List(Vec<Yaml>),
    /// In the order written; a key may occur twice.
    Mapping(Vec<(String, Yaml)>),
}

/// Why a document cannot be parsed, with line and column.
type Unread = (String, u32, u32);

pub(super) fn parse(text: &str, file: usize) -> Result<Element, Problem> {
    let not_yaml = |(why, line, column)| Problem::NotYaml { why, line, column };
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), count: 0 };
    let value = reader.document().map_err(not_yaml)?;
    let mut root = element("clickhouse", 1, file);
    if let Kind::List(_) = value.kind {
        // Releases treat it differently.
        return Err(not_yaml(("a list at the root".to_owned(), value.line, 1)));
    }
    fill(&mut root, value, file).map_err(not_yaml)?;
    Ok(root)
}

fn element(name: &str, line: u32, file: usize) -> Element {
    Element { name: name.to_owned(), attributes: Vec::new(), nodes: Vec::new(), line, file, variable: None }
}

/// Puts a value that is no list into an element.
fn fill(parent: &mut Element, value: Yaml, file: usize) -> Result<(), Unread> {
    let members = match value.kind {
        Kind::Null => return Ok(()),
        Kind::Scalar(text) => {
            parent.nodes.push(Node::Text(text));
            return Ok(());
        }
        // A list in a list repeats the same element.
        Kind::List(_) => return Err(("a list directly in a list".to_owned(), value.line, 1)),
        Kind::Mapping(members) => members,
    };
    for (key, member) in members {
        match (key.strip_prefix('@'), member.kind) {
            (Some(name), Kind::Scalar(text)) => {
                parent.attributes.retain(|(other, _)| other != name);
                parent.attributes.push((name.to_owned(), text));
            }
            (None, Kind::Scalar(text)) if key == "#text" => parent.nodes.push(Node::Text(text)),
            (_, Kind::List(list)) if list.is_empty() => {
                parent.nodes.push(Node::Element(element(&key, member.line, file)))
            }
            (_, Kind::List(list)) => {
                for value in list {
                    let mut child = element(&key, value.line, file);
                    fill(&mut child, value, file)?;
                    parent.nodes.push(Node::Element(child));
                }
            }
            (_, kind) => {
                let mut child = element(&key, member.line, file);
                fill(&mut child, Yaml { kind, line: member.line }, file)?;
                parent.nodes.push(Node::Element(child));
            }
        }
    }
    Ok(())
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Yaml>,
    /// The number of values so far, including those of aliases.
    count: usize,
}

impl Reader<'_> {
    fn document(&mut self) -> Result<Yaml, Unread> {
        loop {
            match self.next()? {
                (Event::StreamStart | Event::Nothing, _) => {}
                (Event::StreamEnd, span) => return Ok(Yaml { kind: Kind::Null, line: line(span) }),
                _ => break, // the start of the document
            }
        }
        let (event, span) = self.next()?;
        let value = self.value(event, span, 0)?;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(value),
                (Event::DocumentStart(_), span) => return Err(place("a second document".to_owned(), span)),
                _ => {}
            }
        }
    }

    fn value(&mut self, event: Event<'_>, span: Span, depth: usize) -> Result<Yaml, Unread> {
        if depth >= MAX_DEPTH {
            return Err(place("values are nested too deeply".to_owned(), span));
        }
        self.counted(1, span)?;
        let (kind, anchor) = match event {
            Event::Scalar(text, ScalarStyle::Plain, anchor, None)
                if ["", "~", "null", "Null", "NULL"].contains(&text.as_ref()) =>
            {
                (Kind::Null, anchor)
            }
            Event::Scalar(text, _, anchor, _) => (Kind::Scalar(text.into_owned()), anchor),
            Event::SequenceStart(anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.mapping(depth)?, anchor),
            Event::Alias(anchor) => {
                let Some(value) = self.anchors.get(&anchor).cloned() else {
                    return Err(place("an alias of a value that is not complete".to_owned(), span));
                };
                self.counted(size(&value), span)?;
                return Ok(value);
            }
            _ => return Err(place("a value is missing".to_owned(), span)),
        };
        let value = Yaml { kind, line: line(span) };
        if anchor != 0 {
            self.counted(size(&value), span)?;
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    fn list(&mut self, depth: usize) -> Result<Kind, Unread> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Kind::List(list)),
                (event, span) => list.push(self.value(event, span, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Kind, Unread> {
        let mut members = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Kind::Mapping(members));
            }
            let key = match self.value(event, span, depth + 1)?.kind {
                Kind::Scalar(key) if key == "<<" => {
                    return Err(place("<< is not supported: write the keys out".to_owned(), span));
                }
                Kind::Scalar(key) if !key.is_empty() => key,
                _ => return Err(place("a key that is no text".to_owned(), span)),
            };
            let (event, span) = self.next()?;
            members.push((key, self.value(event, span, depth + 1)?));
        }
    }

    fn next(&mut self) -> Result<(Event<'static>, Span), Unread> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((owned(event), span)),
            Some(Err(error)) => Err(scan_error(&error)),
            None => Err(("the document ends too early".to_owned(), 0, 0)),
        }
    }

    fn counted(&mut self, more: usize, span: Span) -> Result<(), Unread> {
        self.count += more;
        if self.count > MAX_ELEMENTS {
            return Err(place(format!("more than {MAX_ELEMENTS} values"), span));
        }
        Ok(())
    }
}

/// Returns the event without borrowing from the text.
fn owned(event: Event<'_>) -> Event<'static> {
    match event {
        Event::Scalar(text, style, anchor, tag) => Event::Scalar(
            text.into_owned().into(),
            style,
            anchor,
            tag.map(|tag| std::borrow::Cow::Owned(tag.into_owned())),
        ),
        Event::SequenceStart(anchor, _) => Event::SequenceStart(anchor, None),
        Event::MappingStart(anchor, _) => Event::MappingStart(anchor, None),
        Event::Nothing => Event::Nothing,
        Event::StreamStart => Event::StreamStart,
        Event::StreamEnd => Event::StreamEnd,
        Event::DocumentStart(explicit) => Event::DocumentStart(explicit),
        Event::DocumentEnd => Event::DocumentEnd,
        Event::Alias(anchor) => Event::Alias(anchor),
        Event::SequenceEnd => Event::SequenceEnd,
        Event::MappingEnd => Event::MappingEnd,
    }
}

/// Returns the number of values in a value, including itself.
fn size(value: &Yaml) -> usize {
    1 + match &value.kind {
        Kind::Null | Kind::Scalar(_) => 0,
        Kind::List(list) => list.iter().map(size).sum(),
        Kind::Mapping(members) => members.iter().map(|(_, value)| size(value)).sum(),
    }
}

fn short(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn line(span: Span) -> u32 {
    short(span.start.line())
}

fn place(why: String, span: Span) -> Unread {
    (why, line(span), short(span.start.col() + 1))
}

fn scan_error(error: &ScanError) -> Unread {
    let marker = error.marker();
    (error.info().to_owned(), short(marker.line()), short(marker.col() + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::outline;
    use super::*;

    fn lines(yaml: &str) -> Vec<String> {
        outline(&parse(yaml, 0).unwrap_or_else(|problem| panic!("{problem}")))
    }

    #[test]
    fn yaml_keys_lists_and_at_signs_become_elements_and_attributes() {
        let yaml = "zookeeper:\n  node:\n    - \"@index\": 1\n      host: a\n      port: 0x10\n    - {host: b, secure: yes}\n  \
                    root: ~\nlogger: {level: 'null'}\nmacros:\n  \"@replace\": \"1\"\n  \"#text\": \"x\"\nempty: []\n";
        assert_eq!(
            lines(yaml),
            [
                "clickhouse",
                "clickhouse/zookeeper",
                "clickhouse/zookeeper/node index=\"1\"",
                "clickhouse/zookeeper/node/host: a",
                "clickhouse/zookeeper/node/port: 0x10",
                "clickhouse/zookeeper/node",
                "clickhouse/zookeeper/node/host: b",
                "clickhouse/zookeeper/node/secure: yes",
                "clickhouse/zookeeper/root",
                "clickhouse/logger",
                "clickhouse/logger/level: null",
                "clickhouse/macros replace=\"1\": x",
                "clickhouse/empty",
            ]
        );
        assert_eq!(lines("a: &x {b: 1}\nc: *x\n")[3..], ["clickhouse/c".to_owned(), "clickhouse/c/b: 1".to_owned()]);
        assert_eq!(lines("# nothing\n"), ["clickhouse"]);
    }

    #[test]
    fn yaml_that_clickhouse_reads_otherwise_is_refused_with_its_line() {
        let bomb: String = (1..30).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1)).collect();
        for (yaml, expected) in [
            ("- a: 1\n".to_owned(), "not YAML: a list at the root (line 1, column 1)"),
            ("a:\n  - - 1\n".to_owned(), "not YAML: a list directly in a list (line 2, column 1)"),
            (
                "a: &x {b: 1}\nc:\n  <<: *x\n".to_owned(),
                "not YAML: << is not supported: write the keys out (line 3, column 3)",
            ),
            ("a: 1\n---\nb: 2\n".to_owned(), "not YAML: a second document (line 2, column 1)"),
            ("[1]: 2\n".to_owned(), "not YAML: a key that is no text (line 1, column 1)"),
            (format!("a0: &a0 x\n{bomb}"), "not YAML: more than 500000 values (line 17, column 6)"),
            (format!("a: {}", "[".repeat(200)), "not YAML: values are nested too deeply (line 1, column 67)"),
        ] {
            let message = parse(&yaml, 0).unwrap_err().to_string();
            assert_eq!(message, expected, "{}", &yaml[..yaml.len().min(60)]);
        }
        assert!(parse("a: [1", 0).unwrap_err().to_string().starts_with("not YAML: "));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_yaml_parser_panic(text in "([-:?&*!|>'\"%@#a1 ,{}\\[\\]]|\n|\n  ){0,40}") {
            let _ = parse(&text, 0);
        }
    }
}
