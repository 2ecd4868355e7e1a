//! Wording of numbers and lists in messages.

/// Returns a count with its noun: `1 table`, `2 tables`.
pub(crate) fn counted(count: usize, one: &str) -> String {
    let plural = match one {
        "batch" => "batches".to_owned(),
        one => format!("{one}s"),
    };
    if count == 1 { format!("1 {one}") } else { format!("{count} {plural}") }
}

/// Returns the first few of some names as one text, for a sentence.
pub(crate) fn few<S: std::borrow::Borrow<str>>(names: &[S]) -> String {
    const LISTED: usize = 5;
    format!("{}{}", names[..names.len().min(LISTED)].join(", "), if names.len() > LISTED { ", …" } else { "" })
}
