//! Parses XML into an ordered tree of elements with line numbers.
//!
//! It resolves references, CDATA and comments inside a text, so that all other modules see plain text.

use std::rc::Rc;

use quick_xml::XmlVersion;
use quick_xml::errors::{Error, IllFormedError};
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::fault::Problem;

/// The deepest nesting. A deeper file would only exhaust the stack.
pub(super) const MAX_DEPTH: usize = 64;

/// The largest number of attributes of an element.
const MAX_ATTRIBUTES: usize = 64;

/// The largest number of elements in a configuration: each takes some hundred bytes of memory.
pub(super) const MAX_ELEMENTS: usize = 500_000;

/// Elements whose texts are secret. If such a text is badly escaped, parts of it that the parser takes for elements
/// are secret too.
const SECRET_ELEMENTS: [&str; 3] = ["password", "secret", "identity"];

/// An element of a configuration.
#[derive(Debug, Clone)]
pub(super) struct Element {
    pub name: String,
    pub(crate) attributes: Vec<(String, String)>,
    /// All inner nodes, in order.
    pub(crate) nodes: Vec<Node>,
    /// Line of the start tag, from 1.
    pub(crate) line: u32,
    /// Index of the file that it was read from; 0 for the named one.
    pub(crate) file: usize,
    /// The environment variable that its content came from.
    pub(crate) variable: Option<Rc<str>>,
}

/// A node inside an element.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Element(Element),
    /// Text up to the next element, comment or CDATA section, with references resolved; untrimmed.
    Text(String),
    CData(String),
    /// A comment or a processing instruction.
    Other,
}

impl Element {
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the direct child elements, in order.
    pub(crate) fn children(&self) -> impl Iterator<Item = &Element> {
        self.nodes.iter().filter_map(|node| if let Node::Element(element) = node { Some(element) } else { None })
    }

    /// Returns the direct text, in order, untrimmed.
    pub(crate) fn text(&self) -> String {
        let texts = self.nodes.iter().filter_map(|node| match node {
            Node::Text(text) | Node::CData(text) => Some(text.as_str()),
            Node::Element(_) | Node::Other => None,
        });
        texts.collect()
    }

    fn push_text(&mut self, more: &str) {
        match self.nodes.last_mut() {
            Some(Node::Text(text)) => text.push_str(more),
            _ => self.nodes.push(Node::Text(more.to_owned())),
        }
    }
}

/// Removes XML white space from both ends.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\r', '\n'])
}

/// Parses a document that is a single file.
pub(super) fn parse(text: &str) -> Result<Element, Problem> {
    parse_file(text, 0)
}

/// Parses a document; its elements store the file's index.
pub(super) fn parse_file(text: &str, file: usize) -> Result<Element, Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader::from_str(text);
    let mut lines = Lines { text, position: 0, line: 1 };
    let mut builder = Builder { open: Vec::new(), root: None, count: 0, file };
    loop {
        let start = reader.buffer_position();
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(error) => return Err(not_xml(text, reader.error_position(), explain(&error, &builder.open))),
        };
        if matches!(event, Event::Eof) {
            break;
        }
        builder.take(event, lines.line_of(start)).map_err(|why| not_xml(text, start, why))?;
    }
    match builder.open.last() {
        Some(element) => {
            let why = format!("<{}> of line {} is not closed", element.name, element.line);
            Err(not_xml(text, text.len() as u64, why))
        }
        None => builder.root.ok_or(Problem::NoRoot),
    }
}

/// Builds the tree of a document.
struct Builder {
    /// The open elements, the outermost first.
    open: Vec<Element>,
    root: Option<Element>,
    /// The number of elements so far.
    count: usize,
    file: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, line: u32) -> Result<(), String> {
        match event {
            Event::Start(_) if self.open.len() >= MAX_DEPTH => Err("elements are nested too deeply".to_owned()),
            Event::Start(tag) => {
                let element = self.begin(&tag, line)?;
                self.open.push(element);
                Ok(())
            }
            Event::Empty(tag) => {
                let element = self.begin(&tag, line)?;
                self.close(element)
            }
            // The reader has checked that it closes the element that was opened last.
            Event::End(_) => self.open.pop().map_or(Ok(()), |element| self.close(element)),
            Event::Text(content) => {
                let content = content.xml10_content();
                match self.open.last_mut() {
                    Some(element) => element.push_text(&content),
                    None if trim(&content).is_empty() => {}
                    None => return Err(OUTSIDE.to_owned()),
                }
                Ok(())
            }
            Event::CData(content) => {
                self.inside()?.nodes.push(Node::CData(content.xml10_content().into_owned()));
                Ok(())
            }
            Event::GeneralRef(reference) => {
                let element = self.inside()?;
                match reference.resolve_char_ref() {
                    Ok(Some(character)) => element.push_text(character.encode_utf8(&mut [0; 4])),
                    Ok(None) => match resolve_predefined_entity(&reference) {
                        Some(resolved) => element.push_text(resolved),
                        None => return Err("an entity that is not defined (write & as &amp;)".to_owned()),
                    },
                    Err(_) => return Err("a character reference that is not one (write & as &amp;)".to_owned()),
                }
                Ok(())
            }
            Event::Comment(_) | Event::PI(_) => {
                if let Some(element) = self.open.last_mut() {
                    element.nodes.push(Node::Other);
                }
                Ok(())
            }
            Event::Decl(_) | Event::DocType(_) | Event::Eof => Ok(()),
        }
    }

    fn inside(&mut self) -> Result<&mut Element, String> {
        self.open.last_mut().ok_or_else(|| OUTSIDE.to_owned())
    }

    fn begin(&mut self, tag: &BytesStart<'_>, line: u32) -> Result<Element, String> {
        self.count += 1;
        if self.count > MAX_ELEMENTS {
            return Err(format!("more than {MAX_ELEMENTS} elements"));
        }
        let name = tag.name().into_inner().to_owned();
        if name.is_empty() {
            return Err("a < that begins no element (write it as &lt;)".to_owned());
        }
        // Paths use brackets for the numbers of repeated elements.
        if name.contains(['[', ']']) {
            return Err("a name of an element with a bracket in it (write < as &lt;)".to_owned());
        }
        // As in an example of ClickHouse's own documentation.
        if name.starts_with('-') {
            return Err("a comment must begin with <!--, not with <--".to_owned());
        }
        let attributes = attributes(tag)?;
        Ok(Element { name, attributes, nodes: Vec::new(), line, file: self.file, variable: None })
    }

    /// Adds a complete element to its parent, or makes it the root.
    fn close(&mut self, element: Element) -> Result<(), String> {
        match self.open.last_mut() {
            Some(parent) => parent.nodes.push(Node::Element(element)),
            None if self.root.is_some() => return Err("there is a second root element".to_owned()),
            None => self.root = Some(element),
        }
        Ok(())
    }
}

const OUTSIDE: &str = "there is text outside of the root element";

fn attributes(tag: &BytesStart<'_>) -> Result<Vec<(String, String)>, String> {
    let mut found: Vec<(String, String)> = Vec::new();
    // The reader's own check for repetitions takes time quadratic in their number.
    for attribute in tag.attributes().with_checks(false) {
        // The parser's details name positions inside the tag, which mean nothing to a reader of the file.
        let attribute = attribute.map_err(|_| MALFORMED.to_owned())?;
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|_| "a malformed reference in an attribute (write & as &amp;)".to_owned())?;
        let name = attribute.key.into_inner();
        if found.len() == MAX_ATTRIBUTES {
            return Err(format!("more than {MAX_ATTRIBUTES} attributes"));
        }
        if found.iter().any(|(other, _)| other == name) {
            return Err(MALFORMED.to_owned());
        }
        found.push((name.to_owned(), value.into_owned()));
    }
    Ok(found)
}

const MALFORMED: &str = "a malformed or repeated attribute";

/// Returns the direct children of the root, as written, each with its name. Empty if the text is not XML; the caller
/// has parsed it before.
pub(super) fn written_children(text: &str) -> Vec<(String, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader::from_str(text);
    let mut found: Vec<(String, &str)> = Vec::new();
    let mut begun: Option<(String, usize)> = None;
    let mut depth = 0;
    let at = |position: u64| usize::try_from(position).unwrap_or(text.len()).min(text.len());
    loop {
        let start = at(reader.buffer_position());
        match reader.read_event() {
            Ok(Event::Start(tag)) => {
                if depth == 1 {
                    begun = Some((tag.name().into_inner().to_owned(), start));
                }
                depth += 1;
            }
            Ok(Event::Empty(tag)) if depth == 1 => {
                let name = tag.name().into_inner().to_owned();
                found.extend(text.get(start..at(reader.buffer_position())).map(|written| (name, written)));
            }
            Ok(Event::End(_)) => {
                depth -= 1;
                if depth == 1
                    && let Some((name, start)) = begun.take()
                {
                    found.extend(text.get(start..at(reader.buffer_position())).map(|written| (name, written)));
                }
            }
            Ok(Event::Eof) | Err(_) => return found,
            Ok(_) => {}
        }
    }
}

fn explain(error: &Error, open: &[Element]) -> String {
    if open.iter().any(|element| SECRET_ELEMENTS.contains(&element.name.as_str())) {
        return "a tag or reference inside a secret is broken (write < as &lt; and & as &amp;)".to_owned();
    }
    match error {
        Error::IllFormed(IllFormedError::MismatchedEndTag { expected, found }) => {
            let line = open.last().map_or(0, |element| element.line);
            format!("</{found}> found where <{expected}> of line {line} should end")
        }
        Error::IllFormed(IllFormedError::UnmatchedEndTag(found)) => format!("</{found}> ends nothing"),
        Error::IllFormed(IllFormedError::UnclosedReference) => {
            "a & that begins no reference (write it as &amp;)".into()
        }
        other => other.to_string().replace('\n', " "),
    }
}

fn not_xml(text: &str, position: u64, why: String) -> Problem {
    // A position is inside the text, which is in memory.
    let mut position = usize::try_from(position).unwrap_or(text.len()).min(text.len());
    while !text.is_char_boundary(position) {
        position -= 1;
    }
    let before = &text[..position];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    let short = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Problem::NotXml { why, line: short(line), column: short(column) }
}

/// Counts lines forward only: positions are requested in order.
struct Lines<'t> {
    text: &'t str,
    /// The last position that was asked for.
    position: usize,
    line: u32,
}

impl Lines<'_> {
    fn line_of(&mut self, position: u64) -> u32 {
        let position = usize::try_from(position).unwrap_or(usize::MAX).min(self.text.len());
        if position > self.position {
            let new = self.text.as_bytes()[self.position..position].iter().filter(|&&byte| byte == b'\n').count();
            self.line = self.line.saturating_add(u32::try_from(new).unwrap_or(u32::MAX));
            self.position = position;
        }
        self.line
    }
}
