//! Tests of reading XML.

use proptest::prelude::*;

use super::xml::*;

/// Escapes like any XML writer, and writes `\r` as a reference, because a parser turns line ends into `\n`.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\r', "&#13;")
}

fn text_of(xml: &str) -> String {
    parse(xml).unwrap().text()
}

#[test]
fn references_and_cdata_are_decoded_and_comments_are_removed() {
    assert_eq!(text_of("<w>a &lt; 1 &amp;&amp; b &gt; '&#65;&#x42;'</w>"), "a < 1 && b > 'AB'");
    assert_eq!(text_of("<w>a<![CDATA[ < 1 & ]]>b</w>"), "a < 1 & b");
    assert_eq!(text_of("<w>a <!-- not < this -->b\n  AND c</w>"), "a b\n  AND c");
    assert_eq!(text_of("<w>&quot;&apos;</w>"), "\"'");
}

#[test]
fn elements_keep_their_lines_and_order() {
    let root = parse("\u{feff}<?xml version=\"1.0\"?>\n<r>\n <b x='1'/><a>\n</a>\n <b/></r>").unwrap();
    let found: Vec<_> = root.children().map(|e| (e.name.as_str(), e.line)).collect();
    assert_eq!((root.line, found), (2, vec![("b", 3), ("a", 3), ("b", 5)]));
    assert_eq!(root.children().next().unwrap().attribute("x"), Some("1"));
}

#[test]
fn malformed_xml_is_reported_with_line_and_column() {
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
fn too_many_attributes_and_elements_are_refused() {
    let attributes: String = (0..60_000).map(|n| format!(" a{n}='1'")).collect();
    let expected = "not XML: more than 64 attributes (line 1, column 1)";
    assert_eq!(parse(&format!("<a{attributes}/>")).unwrap_err().to_string(), expected);
    let elements = "<a/>".repeat(MAX_ELEMENTS);
    let message = parse(&format!("<r>{elements}</r>")).unwrap_err().to_string();
    assert!(message.starts_with("not XML: more than 500000 elements"), "{message}");
}

#[test]
fn deep_nesting_is_refused_without_a_crash() {
    let deep = "<a>".repeat(200_000);
    assert!(parse(&deep).unwrap_err().to_string().contains("nested too deeply"));
}

proptest! {
    #[test]
    fn no_text_makes_the_xml_parser_panic(text in ".*") {
        let _ = parse(&text);
    }

    #[test]
    fn no_malformed_xml_makes_the_xml_parser_panic(text in "([<>/&;#!a-c '\"=\\[\\]?-]|<a>|</a>|&lt;|<!--|-->|<!\\[CDATA\\[|]]>|\u{20ac}|\n){0,40}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_escaped_text_is_read_back_unchanged(text in "(?s).*") {
        prop_assert_eq!(text_of(&format!("<w>{}</w>", escape(&text))), text);
    }
}
