//! Chooses where to cut a partition that is too large for one piece.

use crate::sql::{KeyElement, Slice, SliceBound};

/// Cuts the order of the keys into `count` ranges of about the same number of rows. Together they hold every row
/// exactly once. Returns fewer ranges if the sample has fewer different keys, and `None` if it cannot be cut at all.
pub(crate) fn ranges(columns: &[KeyElement], sample: &[Vec<String>], count: u64) -> Option<Vec<Slice>> {
    let mut bounds: Vec<SliceBound> = Vec::new();
    let mut last = sample.first()?;
    for n in 1..count {
        let at = (sample.len() as u64 * n / count) as usize;
        let Some(key) = sample.get(at) else { continue };
        // A bound equal to the first key or to the previous bound would leave a range empty.
        if key != last {
            bounds.push(key.clone());
            last = key;
        }
    }
    if bounds.is_empty() {
        return None;
    }
    let edges: Vec<Option<SliceBound>> =
        std::iter::once(None).chain(bounds.into_iter().map(Some)).chain(std::iter::once(None)).collect();
    let slice = |pair: &[Option<SliceBound>]| Slice::Range {
        columns: columns.to_vec(),
        from: pair[0].clone(),
        to: pair[1].clone(),
    };
    Some(edges.windows(2).map(slice).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn columns() -> Vec<KeyElement> {
        vec![KeyElement { expression: "a".into(), type_name: "UInt32".into() }]
    }

    fn key(n: u32) -> Vec<String> {
        vec![n.to_string()]
    }

    fn holds(slice: &Slice, n: u32) -> bool {
        let Slice::Range { from, to, .. } = slice else { return false };
        let number = |bound: &SliceBound| bound[0].parse::<u32>().unwrap();
        from.as_ref().is_none_or(|bound| n >= number(bound)) && to.as_ref().is_none_or(|bound| n < number(bound))
    }

    #[test]
    fn equal_keys_cannot_be_split_into_slices() {
        assert_eq!(ranges(&columns(), &[key(1), key(1), key(1)], 3), None);
        assert_eq!(ranges(&columns(), &[], 3), None);
    }

    proptest! {
        #[test]
        fn every_row_is_in_exactly_one_slice(mut keys in proptest::collection::vec(0u32..50, 1..200), count in 2u64..20, row in 0u32..60) {
            keys.sort_unstable();
            let sample: Vec<_> = keys.iter().map(|n| key(*n)).collect();
            if let Some(slices) = ranges(&columns(), &sample, count) {
                prop_assert!(slices.len() as u64 <= count);
                prop_assert_eq!(slices.iter().filter(|slice| holds(slice, row)).count(), 1);
            }
        }
    }
}
