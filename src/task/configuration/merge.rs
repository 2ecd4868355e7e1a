//! Merges one configuration file into another: two trees of elements → one.
//!
//! Elements are paired by name and attributes, each at most once, in the order written. The second element of a pair
//! is merged into the first, or replaces it (`replace`), or removes it (`remove`). Elements without a pair are added
//! at the end. When a second element is merged into the first, the first loses its text.

use std::collections::{HashMap, VecDeque};

use super::super::xml::{Element, Node, trim};
use super::{Rules, SUBSTITUTIONS};

/// `remove` and `replace` on one element.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Clash {
    pub(crate) name: String,
    pub(crate) line: u32,
    pub(crate) file: usize,
}

/// The key by which elements are paired.
type Identity = (String, Vec<(String, String)>);

pub(super) fn merge(base: &mut Element, piece: Element, rules: Rules) -> Result<(), Clash> {
    let mut slots: Vec<Option<Node>> = std::mem::take(&mut base.nodes).into_iter().map(Some).collect();
    merge_slots(&mut slots, piece.nodes, rules)?;
    base.nodes = slots.into_iter().flatten().collect();
    Ok(())
}

/// Merges nodes into the content of an element. A removed node leaves an empty slot, so that positions stay; added
/// nodes go after all slots.
pub(super) fn merge_slots(slots: &mut Vec<Option<Node>>, with: Vec<Node>, rules: Rules) -> Result<(), Clash> {
    let mut pairs: HashMap<Identity, VecDeque<usize>> = HashMap::new();
    for (position, slot) in slots.iter_mut().enumerate() {
        match slot {
            Some(Node::Text(text)) if !trim(text).is_empty() => *slot = None,
            Some(Node::Element(element)) => pairs.entry(identity(element)).or_default().push_back(position),
            _ => {}
        }
    }
    for node in with {
        let Node::Element(mut new) = node else {
            slots.push(Some(node));
            continue;
        };
        let (remove, replace) = (new.attribute("remove").is_some(), new.attribute("replace").is_some());
        if remove && replace {
            return Err(Clash { name: new.name, line: new.line, file: new.file });
        }
        let pair = pairs.get_mut(&identity(&new)).and_then(VecDeque::pop_front);
        match pair.and_then(|position| slots.get_mut(position)) {
            Some(slot) if remove => *slot = None,
            Some(slot) if replace => {
                if rules == Rules::Old {
                    new.attributes.retain(|(name, _)| name != "replace");
                }
                *slot = Some(Node::Element(new));
            }
            Some(Some(Node::Element(old))) => merge_pair(old, new, rules)?,
            _ if remove => {}
            _ => {
                if rules == Rules::Modern {
                    clear_marks(&mut new);
                }
                slots.push(Some(Node::Element(new)));
            }
        }
    }
    Ok(())
}

fn merge_pair(old: &mut Element, mut new: Element, rules: Rules) -> Result<(), Clash> {
    let says_something = new.nodes.iter().any(|node| match node {
        Node::Text(text) => !trim(text).is_empty(),
        Node::CData(_) => true,
        Node::Element(_) | Node::Other => false,
    });
    if rules == Rules::Modern {
        if !new.nodes.is_empty() {
            old.attributes.retain(|(name, _)| !SUBSTITUTIONS.contains(&name.as_str()));
        }
        for (name, value) in std::mem::take(&mut new.attributes) {
            old.attributes.retain(|(other, _)| *other != name);
            old.attributes.push((name, value));
        }
    }
    // A fault of its text belongs to the file that contains the text.
    if says_something || new.nodes.is_empty() {
        (old.line, old.file) = (new.line, new.file);
    }
    merge(old, new, rules)
}

fn identity(element: &Element) -> Identity {
    let counts = |name: &str| !["replace", "remove"].contains(&name) && !SUBSTITUTIONS.contains(&name);
    let mut attributes: Vec<_> = element.attributes.iter().filter(|(name, _)| counts(name)).cloned().collect();
    attributes.sort();
    (element.name.clone(), attributes)
}

/// Removes the marks of an added element, which has nothing to replace or remove.
fn clear_marks(element: &mut Element) {
    element.nodes.retain_mut(|node| {
        let Node::Element(child) = node else { return true };
        child.attributes.retain(|(name, _)| name != "replace");
        if child.attribute("remove").is_some() {
            return false;
        }
        clear_marks(child);
        true
    });
}
