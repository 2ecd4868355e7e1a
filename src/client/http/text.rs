//! Texts of values that may hold any bytes, as a server sends them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::model::text_of_bytes;
use crate::sql::KeyElement;

/// The text of a value: see [`text_of_bytes`].
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of a String")
            }

            fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Text, E> {
                Ok(Text(text_of_bytes(bytes)))
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Text, E> {
                self.visit_byte_buf(bytes.to_vec())
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

/// Returns the plain texts.
pub(super) fn texts(found: Vec<Text>) -> Vec<String> {
    found.into_iter().map(|text| text.0).collect()
}

/// Returns the texts of the values of a key, in the form that is equal on every version. There may be more of them
/// than the key has elements.
pub(super) fn values_of(key: &[KeyElement], found: Vec<Text>) -> Vec<String> {
    let canonical = |(at, text): (usize, String)| match key.get(at) {
        Some(element) => element.canonical(text),
        None => text,
    };
    texts(found).into_iter().enumerate().map(canonical).collect()
}
