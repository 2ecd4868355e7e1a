//! The form of a record in a node: JSON, compressed where it is long. ZooKeeper takes less than 1 MiB in a node, and the record of a
//! task with thousands of tables is longer.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::LedgerError;

/// The first bytes of a compressed record. No JSON text begins with them.
const MARK: &[u8] = b"LZ4\n";
/// The most bytes of a record that is stored without compression.
const MAX_PLAIN_BYTES: usize = 128 << 10;
/// The most bytes of a record that is read.
const MAX_RECORD_BYTES: usize = 256 << 20;

/// Returns the form in which a record is stored.
///
/// The types of records always have a JSON form. If one had none, the stored text would be empty, and reading it would fail.
pub(crate) fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    let text = serde_json::to_vec(value).unwrap_or_default();
    if text.len() <= MAX_PLAIN_BYTES {
        return text;
    }
    [MARK, lz4_flex::block::compress_prepend_size(&text).as_slice()].concat()
}

/// Reads a record of a node.
pub(crate) fn parsed<T: DeserializeOwned>(path: &str, data: &[u8]) -> Result<T, LedgerError> {
    let damaged = |why: String| LedgerError::Damaged { path: path.to_owned(), why };
    let unpacked;
    let text = match data.strip_prefix(MARK) {
        None => data,
        Some(packed) => {
            unpacked = unpacked_text(packed).map_err(damaged)?;
            unpacked.as_slice()
        }
    };
    serde_json::from_slice(text).map_err(|error| damaged(error.to_string()))
}

fn unpacked_text(packed: &[u8]) -> Result<Vec<u8>, String> {
    // Decompression allocates as many bytes as the head says.
    let head = packed.first_chunk().map_or(0, |head| u32::from_le_bytes(*head) as usize);
    if head > MAX_RECORD_BYTES {
        return Err(format!("it would have {head} bytes"));
    }
    lz4_flex::block::decompress_size_prepended(packed).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::coordinator::COMMIT_LIMIT;

    #[test]
    fn the_record_of_two_thousand_tables_with_long_names_fits_a_node() {
        let name = |number: usize| format!("a_rather_long_name_of_a_table_as_people_have_them_{number}");
        let inputs: BTreeMap<String, String> = (0..20_000)
            .map(|number| (format!("tables/{}/element_{}", name(number / 10), number % 10), name(number / 10)))
            .collect();
        let stored = encoded(&inputs);
        assert!(serde_json::to_vec(&inputs).unwrap().len() > 2 * COMMIT_LIMIT && stored.len() < COMMIT_LIMIT / 2);
        assert_eq!(parsed::<BTreeMap<String, String>>("/t", &stored).unwrap(), inputs);
    }

    #[test]
    fn a_short_record_is_json_and_a_damaged_one_is_an_error() {
        assert_eq!(encoded(&vec![1, 2]), b"[1,2]");
        for damaged in [&b"LZ4\n"[..], b"LZ4\n\x02\0\0\0\xff", b"LZ4\n\xff\xff\xff\xff\x10a", b""] {
            assert!(matches!(parsed::<Vec<u8>>("/t", damaged), Err(LedgerError::Damaged { .. })), "{damaged:?}");
        }
    }
}
