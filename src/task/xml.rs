//! XML → an ordered tree of elements with line numbers.
//!
//! References, CDATA and comments inside a text are resolved here, so that everybody else sees plain text.

use quick_xml::XmlVersion;
use quick_xml::errors::{Error, IllFormedError};
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::fault::Problem;

/// No configuration nests deeper; a file that does would only exhaust the stack.
const MAX_DEPTH: usize = 64;

/// Texts of these elements are secret, and so may be what a parser finds in them when they are badly escaped.
const SECRET_ELEMENTS: [&str; 3] = ["password", "secret", "identity"];

#[derive(Debug)]
pub(super) struct Element {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub children: Vec<Element>,
    /// All text directly inside, in order, untrimmed.
    pub text: String,
    pub line: u32,
}

impl Element {
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Removes blanks as XML knows them from both ends.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\r', '\n'])
}

pub(super) fn parse(text: &str) -> Result<Element, Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader::from_str(text);
    let mut lines = Lines { text, at: 0, line: 1 };
    let mut open: Vec<Element> = Vec::new();
    let mut root: Option<Element> = None;
    loop {
        let start = reader.buffer_position();
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(error) => return Err(not_xml(text, reader.error_position(), explain(&error, &open))),
        };
        let fail = |why: &str| Err(not_xml(text, start, why.to_owned()));
        match event {
            Event::Start(tag) if open.len() >= MAX_DEPTH => {
                let _ = tag;
                return fail("elements are nested too deeply");
            }
            Event::Start(tag) => match element(&tag, lines.line_of(start)) {
                Ok(element) => open.push(element),
                Err(why) => return fail(&why),
            },
            Event::Empty(tag) => match element(&tag, lines.line_of(start)) {
                Ok(element) => {
                    if !close(element, &mut open, &mut root) {
                        return fail("there is a second root element");
                    }
                }
                Err(why) => return fail(&why),
            },
            // The reader has checked that it is the end of the element that was opened last.
            Event::End(_) => {
                if let Some(element) = open.pop()
                    && !close(element, &mut open, &mut root)
                {
                    return fail("there is a second root element");
                }
            }
            Event::Text(content) => match open.last_mut() {
                Some(element) => element.text.push_str(&content.xml10_content()),
                None if trim(&content).is_empty() => {}
                None => return fail("there is text outside of the root element"),
            },
            Event::CData(content) => match open.last_mut() {
                Some(element) => element.text.push_str(&content.xml10_content()),
                None => return fail("there is text outside of the root element"),
            },
            Event::GeneralRef(reference) => {
                let Some(element) = open.last_mut() else {
                    return fail("there is text outside of the root element");
                };
                match reference.resolve_char_ref() {
                    Ok(Some(character)) => element.text.push(character),
                    Ok(None) => match resolve_predefined_entity(&reference) {
                        Some(resolved) => element.text.push_str(resolved),
                        None => return fail("an entity that is not defined (write & as &amp;)"),
                    },
                    Err(_) => return fail("a character reference that is not one (write & as &amp;)"),
                }
            }
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            Event::Eof => break,
        }
    }
    match open.last() {
        Some(element) => {
            let why = format!("<{}> of line {} is not closed", element.name, element.line);
            Err(not_xml(text, text.len() as u64, why))
        }
        None => root.ok_or(Problem::NoRoot),
    }
}

/// The elements right below the root, as they are written, each with its name. None where the text is not XML; whoever asks
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

/// Hangs a complete element into its parent, or makes it the root; false when there is a root already.
fn close(element: Element, open: &mut [Element], root: &mut Option<Element>) -> bool {
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None if root.is_some() => return false,
        None => *root = Some(element),
    }
    true
}

fn element(tag: &BytesStart<'_>, line: u32) -> Result<Element, String> {
    let name = tag.name().into_inner().to_owned();
    if name.is_empty() {
        return Err("a < that begins no element (write it as &lt;)".to_owned());
    }
    let mut attributes = Vec::new();
    for attribute in tag.attributes() {
        // Details of the parser name positions inside the tag and mean nothing to a reader of the file.
        let attribute = attribute.map_err(|_| "a malformed or repeated attribute".to_owned())?;
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|_| "a malformed reference in an attribute (write & as &amp;)".to_owned())?;
        attributes.push((attribute.key.into_inner().to_owned(), value.into_owned()));
    }
    Ok(Element { name, attributes, children: Vec::new(), text: String::new(), line })
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

/// Counts lines forward only: positions are asked for in order.
struct Lines<'t> {
    text: &'t str,
    at: usize,
    line: u32,
}

impl Lines<'_> {
    fn line_of(&mut self, position: u64) -> u32 {
        let position = usize::try_from(position).unwrap_or(usize::MAX).min(self.text.len());
        if position > self.at {
            let new = self.text.as_bytes()[self.at..position].iter().filter(|&&byte| byte == b'\n').count();
            self.line = self.line.saturating_add(u32::try_from(new).unwrap_or(u32::MAX));
            self.at = position;
        }
        self.line
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What any XML writer does, and `\r` as a reference, because a reader turns line ends into `\n`.
    fn escape(text: &str) -> String {
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\r', "&#13;")
    }

    fn text_of(xml: &str) -> String {
        parse(xml).unwrap().text
    }

    #[test]
    fn references_cdata_and_comments_leave_the_text_as_it_was_meant() {
        assert_eq!(text_of("<w>a &lt; 1 &amp;&amp; b &gt; '&#65;&#x42;'</w>"), "a < 1 && b > 'AB'");
        assert_eq!(text_of("<w>a<![CDATA[ < 1 & ]]>b</w>"), "a < 1 & b");
        assert_eq!(text_of("<w>a <!-- not < this -->b\n  AND c</w>"), "a b\n  AND c");
        assert_eq!(text_of("<w>&quot;&apos;</w>"), "\"'");
    }

    #[test]
    fn elements_know_their_lines_and_order() {
        let root = parse("\u{feff}<?xml version=\"1.0\"?>\n<r>\n <b x='1'/><a>\n</a>\n <b/></r>").unwrap();
        let found: Vec<_> = root.children.iter().map(|e| (e.name.as_str(), e.line)).collect();
        assert_eq!((root.line, found), (2, vec![("b", 3), ("a", 3), ("b", 5)]));
        assert_eq!(root.children[0].attribute("x"), Some("1"));
    }

    #[test]
    fn what_is_not_xml_is_said_with_line_and_column() {
        for (xml, expected) in [
            ("", "the file is empty: the root element <clickhouse> is missing"),
            ("  <!-- only this -->", "the file is empty: the root element <clickhouse> is missing"),
            ("plain", "not XML: there is text outside of the root element (line 1, column 1)"),
            ("<a>\n <b>\n</a>", "not XML: </a> found where <b> of line 2 should end (line 3, column 1)"),
            ("<a>\n <b>", "not XML: <b> of line 2 is not closed (line 2, column 5)"),
            ("<a>x && y</a>", "not XML: a & that begins no reference (write it as &amp;) (line 1, column 6)"),
            ("<a>ж &nbsp;</a>", "not XML: an entity that is not defined (write & as &amp;) (line 1, column 6)"),
            ("<a/><b/>", "not XML: there is a second root element (line 1, column 5)"),
            ("<a b='1' b='2'/>", "not XML: a malformed or repeated attribute (line 1, column 1)"),
            (
                "<password>se<cr>et</password>",
                "not XML: a tag or reference inside a secret is broken (write < as &lt; and & as &amp;) \
                 (line 1, column 19)",
            ),
        ] {
            assert_eq!(parse(xml).unwrap_err().to_string(), expected, "{xml}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_not_a_crash() {
        let deep = "<a>".repeat(200_000);
        assert!(parse(&deep).unwrap_err().to_string().contains("nested too deeply"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = parse(&text);
        }

        #[test]
        fn no_almost_xml_makes_it_panic(text in "([<>/&;#!a-c '\"=\\[\\]?-]|<a>|</a>|&lt;|<!--|-->|<!\\[CDATA\\[|]]>|\u{20ac}|\n){0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn any_text_survives_escaping(text in "(?s).*") {
            prop_assert_eq!(text_of(&format!("<w>{}</w>", escape(&text))), text);
        }
    }
}
