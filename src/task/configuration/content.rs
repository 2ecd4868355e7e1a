//! Puts included content into the element that includes it.

use std::rc::Rc;

use super::super::xml::{Element, Node, parse, trim};
use super::SUBSTITUTIONS;

/// Returns whether a node is blank: white space or a comment.
pub(super) fn is_blank(node: &Node) -> bool {
    match node {
        Node::Text(text) => trim(text).is_empty(),
        Node::Other => true,
        Node::CData(_) | Node::Element(_) => false,
    }
}

/// Adds included content to an element, or replaces its content.
pub(super) fn take_in(element: &mut Element, included: Element) {
    element.attributes.retain(|(name, _)| !SUBSTITUTIONS.contains(&name.as_str()));
    if element.attribute("replace").is_some() {
        element.attributes.retain(|(name, _)| name != "replace");
        element.nodes.clear();
    }
    for (name, value) in included.attributes {
        element.attributes.retain(|(other, _)| *other != name);
        element.attributes.push((name, value));
    }
    if element.nodes.iter().all(is_blank) {
        (element.line, element.file) = (included.line, included.file);
    }
    element.nodes.extend(included.nodes);
    element.variable = included.variable;
}

/// Returns the value of a variable as content of an element. Servers parse it as XML; a single & is kept.
pub(super) fn of_variable(value: &str, name: &str, element: &Element) -> Option<Element> {
    let mut found = match parse(&format!("<from_env>{value}</from_env>")) {
        Ok(found) => found,
        Err(_) if value.contains('<') => return None,
        Err(_) => Element {
            name: String::new(),
            attributes: Vec::new(),
            nodes: vec![Node::Text(value.to_owned())],
            line: 0,
            file: 0,
            variable: None,
        },
    };
    mark(&mut found, &Rc::from(name), element);
    Some(found)
}

fn mark(found: &mut Element, variable: &Rc<str>, place: &Element) {
    (found.line, found.file, found.variable) = (place.line, place.file, Some(Rc::clone(variable)));
    for node in &mut found.nodes {
        if let Node::Element(child) = node {
            mark(child, variable, place);
        }
    }
}

pub(super) fn size(element: &Element) -> usize {
    1 + element.children().map(size).sum::<usize>()
}
