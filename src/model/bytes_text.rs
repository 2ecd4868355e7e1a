//! Text for values that may hold any bytes. Plans store and compare this text.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Marks the text of bytes that are not UTF-8; hexadecimal digits follow. No language uses this character. A value
/// that begins with it is written in hexadecimal digits as well, so two values never have the same text.
const MARK: char = '\u{fffe}';

/// Returns the text of a value: the bytes themselves if they are UTF-8.
pub(crate) fn text_of_bytes(bytes: Vec<u8>) -> String {
    match String::from_utf8(bytes) {
        Ok(text) if !text.starts_with(MARK) => text,
        Ok(text) => in_digits(text.as_bytes()),
        Err(error) => in_digits(error.as_bytes()),
    }
}

/// Returns the bytes of a text that [`text_of_bytes`] returned.
pub(crate) fn bytes_of_text(text: &str) -> Cow<'_, [u8]> {
    let Some(digits) = text.strip_prefix(MARK) else { return Cow::Borrowed(text.as_bytes()) };
    let pair = |at: usize| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(pair).collect();
    // A text that `text_of_bytes` cannot have returned stands for itself.
    bytes.map_or(Cow::Borrowed(text.as_bytes()), Cow::Owned)
}

fn in_digits(bytes: &[u8]) -> String {
    bytes.iter().fold(MARK.to_string(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn utf_8_text_is_unchanged() {
        assert_eq!(text_of_bytes(b"it's \0 7".to_vec()), "it's \0 7");
        assert_eq!(text_of_bytes(vec![0xFF, 0x00]), "\u{fffe}FF00");
        assert_eq!(text_of_bytes("\u{fffe}FF00".as_bytes().to_vec()), "\u{fffe}EFBFBE46463030");
    }

    proptest! {
        #[test]
        fn different_values_have_different_texts(bytes in any::<Vec<u8>>()) {
            let text = text_of_bytes(bytes.clone());
            prop_assert_eq!(bytes_of_text(&text).into_owned(), bytes);
        }

        #[test]
        fn no_text_makes_the_decoder_panic(text in "\u{fffe}?[0-9A-Fé]{0,5}") {
            let _ = bytes_of_text(&text);
        }
    }
}
