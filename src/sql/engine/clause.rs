//! The clauses of an engine.

/// The clauses that can follow the name of an engine, in the order in which they are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Clause {
    /// `PARTITION BY`
    PartitionBy,
    /// `PRIMARY KEY`
    PrimaryKey,
    /// `ORDER BY`
    OrderBy,
    /// `SAMPLE BY`
    SampleBy,
    /// `TTL`
    Ttl,
    /// `SETTINGS`
    Settings,
    /// `COMMENT`
    Comment,
}

impl Clause {
    /// Every clause with its words.
    pub(super) const ALL: [(Clause, &'static [&'static str]); 7] = [
        (Clause::PartitionBy, &["PARTITION", "BY"]),
        (Clause::PrimaryKey, &["PRIMARY", "KEY"]),
        (Clause::OrderBy, &["ORDER", "BY"]),
        (Clause::SampleBy, &["SAMPLE", "BY"]),
        (Clause::Ttl, &["TTL"]),
        (Clause::Settings, &["SETTINGS"]),
        (Clause::Comment, &["COMMENT"]),
    ];

    /// Returns the words of the clause: `ORDER BY`.
    pub(crate) fn words(self) -> String {
        Self::ALL.iter().find(|(clause, _)| *clause == self).map(|(_, words)| words.join(" ")).unwrap_or_default()
    }
}
