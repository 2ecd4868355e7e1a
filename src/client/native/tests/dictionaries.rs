//! Tests of valid and invalid dictionaries.

use super::*;

/// Returns a block of two rows, one for each receiver, with a dictionary of these parts: version, flags, number of
/// keys, keys of one byte, number of values, values.
fn dictionary(version: u64, flags: u64, number: u64, keys: &[u8], values: u64, numbers: &[u8]) -> Vec<u8> {
    dictionary_of("UInt8", [version, flags, number], keys, values, numbers)
}

fn dictionary_of(type_name: &str, head_of: [u64; 3], keys: &[u8], values: u64, numbers: &[u8]) -> Vec<u8> {
    let mut out = vec![2, 2];
    head(&mut out, "relayed slot", "UInt32");
    out.extend([0, 1u32].into_iter().flat_map(u32::to_le_bytes));
    head(&mut out, "c0", &format!("LowCardinality({type_name})"));
    head_of.into_iter().for_each(|number| out.extend(number.to_le_bytes()));
    out.extend(keys);
    out.extend(values.to_le_bytes());
    out.extend(numbers);
    out
}

/// Deals a stream of two receivers' rows that arrives in one piece or in two.
fn dealt(stream: &[u8], cut: usize) -> Result<Vec<Vec<u8>>, String> {
    let mut received = Received(vec![Vec::new(); 2]);
    let pieces = [&stream[..cut], &stream[cut..]].map(Bytes::copy_from_slice);
    let columns = ["c0".to_owned()];
    let dealer = Dealer::new(Pieces(pieces.into(), false), &mut received, &columns, &[0..1, 1..2]);
    let dealt = futures::executor::block_on(dealer.deal());
    dealt.map(|()| received.0).map_err(|error| format!("{error:?}"))
}

/// Keys that need too much memory are sent to all receivers, including those that arrived before this was known.
#[test]
fn dictionary_keys_that_are_too_large_for_memory_are_sent_to_all_receivers() {
    let mut keys = Vec::new();
    for number in 0..3u8 {
        put_varint(&mut keys, 4 << 20);
        keys.extend(vec![number; 4 << 20]);
    }
    let stream = dictionary_of("String", [1, 0x600, 3], &keys, 2, &[2, 1]);
    let received = dealt(&stream, 9 << 20).unwrap();
    for (received, number) in received.iter().zip([2u8, 1]) {
        let end = [&keys[..], &1u64.to_le_bytes(), &[number]].concat();
        assert!(received.ends_with(&end), "{number}");
    }
}

#[test]
fn a_dictionary_that_does_not_fit_its_values_is_an_error() {
    let dealt = |stream: &[u8]| dealt(stream, stream.len() / 2);
    // Three keys for two values: each receiver gets the first one, and the one that it uses.
    let received = dealt(&dictionary(1, 0x600, 3, b"abc", 2, &[1, 2])).unwrap();
    let end =
        |keys: &[u8]| [&[0, 6, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0], keys, &1u64.to_le_bytes()[..], &[1]].concat();
    assert!(received[0].ends_with(&end(b"ab")) && received[1].ends_with(&end(b"ac")), "{received:?}");
    // One key: the same for both.
    let received = dealt(&dictionary(1, 0x600, 1, b"a", 2, &[0, 0])).unwrap();
    let end = [&b"a"[..], &1u64.to_le_bytes()[..], &[0]].concat();
    assert!(received.iter().all(|received| received.ends_with(&end)), "{received:?}");
    for (stream, why) in [
        (dictionary(2, 0x600, 3, b"abc", 2, &[0, 2]), "version 2"),
        (dictionary(1, 0x500, 3, b"abc", 2, &[0, 2]), "flags 0x500"),
        (dictionary(1, 0x700, 3, b"abc", 2, &[0, 2]), "flags 0x700"),
        (dictionary(1, 0x604, 3, b"abc", 2, &[0, 2]), "flags 0x604"),
        (dictionary(1, 0x600, 3, b"abc", 1, &[0]), "not used by as many values"),
        (dictionary(1, 0x600, 3, b"abc", 2, &[0, 3]), "a number that its dictionary does not have"),
        (dictionary(1, 0x600, 1, b"a", 2, &[0, 1]), "a number that its dictionary does not have"),
        (dictionary(1, 0x601, 3, b"abc", 2, &[0, 0, 0, 1]), "a number that its dictionary does not have"),
        (dictionary(1, 0x600, 0, b"", 2, &[0, 0]), "a number that its dictionary does not have"),
        // Nothing is held for keys that never arrive.
        (dictionary(1, 0x600, u64::MAX, b"abc", 2, &[0, 2]), "in the middle of a block"),
    ] {
        let error = dealt(&stream).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}
