//! How things are told.

/// `1 table`, `2 tables`.
pub fn counted(count: usize, one: &str) -> String {
    let plural = match one {
        "batch" => "batches".to_owned(),
        one => format!("{one}s"),
    };
    if count == 1 { format!("1 {one}") } else { format!("{count} {plural}") }
}
