//! Decides what to do with one partition of one target node when a batch is published (docs/design.md, §3, I1 and
//! I2).

use thiserror::Error;

/// The facts about the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartitionFacts {
    /// Staged rows of ours on this node.
    pub(crate) staged: u64,
    /// Rows that the target table holds.
    pub(crate) present: u64,
    /// Whether the rows present are exactly the staged ones; `None` if that was not compared. With `append`: whether
    /// the staged rows are among them.
    pub(crate) same: Option<bool>,
    /// For `append`: rows that the partition held before the first row of ours was added.
    pub(crate) before: Option<u64>,
    /// Whether an earlier attempt at publishing may have got to this point. With `append`: whether an earlier one
    /// recorded `before`.
    pub(crate) retried: bool,
    /// Whether merges of the target may remove rows by design.
    pub(crate) merges_rows: bool,
    /// Whether a TTL of the target may remove rows.
    pub(crate) expires: bool,
}

/// The task's policy for rows that the partition held before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// The partition must be empty.
    Fail,
    /// Our rows replace them.
    Replace,
    /// Our rows are added to them.
    Append,
    /// The partition stays as it is.
    Skip,
}

/// The step to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Do nothing: our rows are present, or there are none.
    Nothing,
    /// Replace the present rows with ours.
    Replace,
    /// Add our rows.
    Append,
    /// Empty the partition: it is replaced as a whole, and this shard gets no rows of it.
    Drop,
    /// Compare the contents first.
    Compare,
    /// Leave the partition as it is, and report it.
    Leave,
    /// Stop: the present rows are not ours.
    Refuse(Refusal),
    /// Read the partition again: foreign rows have arrived since it was read, and it holds none of ours.
    CountAgain,
}

/// Why the rows of a partition are not put in place. The text follows the name of the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    /// With `append`: the number of rows that the partition held before is not recorded.
    #[error("what was there before the first row was added is not recorded")]
    NothingRecorded,
    /// With `append`: the partition holds neither the rows before nor these and ours.
    #[error(
        "it held {before} rows before, {staged} are to be added, and it holds {present}: whether ours are among them cannot be told"
    )]
    CannotBeTold {
        /// Rows that the partition held before the first row of ours was added.
        before: u64,
        /// Staged rows of ours.
        staged: u64,
        /// Rows that the partition holds.
        present: u64,
    },
    /// The partition was empty when the task was planned, and holds rows of others now.
    #[error("{present} rows that are not of this task appeared in it since the task was planned")]
    RowsOfOthers {
        /// Rows that the partition holds.
        present: u64,
    },
}

/// Decides the step for a partition.
pub(crate) fn decide(policy: Policy, facts: PartitionFacts) -> Step {
    let PartitionFacts { staged, present, same, before, retried, merges_rows, expires } = facts;
    match policy {
        Policy::Append => match before {
            _ if staged == 0 => Step::Nothing,
            None => Step::Refuse(Refusal::NothingRecorded),
            Some(before) if present == before => Step::Append,
            Some(_) if !retried => Step::CountAgain,
            // As many foreign rows may have arrived after an attempt that died before its first row.
            Some(before) if present == before + staged => compared(same, cannot_be_told(facts, before)),
            Some(before) => cannot_be_told(facts, before),
        },
        Policy::Replace => match (staged, present) {
            (0, 0) => Step::Nothing,
            (0, _) => Step::Drop,
            _ if retried && present == staged => compared(same, Step::Replace),
            _ => Step::Replace,
        },
        Policy::Fail | Policy::Skip => match (staged, present) {
            (0, _) => Step::Nothing,
            (_, 0) => Step::Replace,
            // The partition was empty when the task was planned; merges may have removed rows of ours since.
            (staged, present) if retried && (merges_rows || expires) && present <= staged => Step::Replace,
            (staged, present) if retried && present == staged => compared(same, refusal(policy, present)),
            (_, present) => refusal(policy, present),
        },
    }
}

fn cannot_be_told(PartitionFacts { staged, present, .. }: PartitionFacts, before: u64) -> Step {
    Step::Refuse(Refusal::CannotBeTold { before, staged, present })
}

fn compared(same: Option<bool>, otherwise: Step) -> Step {
    match same {
        None => Step::Compare,
        Some(true) => Step::Nothing,
        Some(false) => otherwise,
    }
}

fn refusal(policy: Policy, present: u64) -> Step {
    if policy == Policy::Skip { Step::Leave } else { Step::Refuse(Refusal::RowsOfOthers { present }) }
}

/// Returns whether the number of rows counted after publishing is correct.
pub(crate) fn is_complete(step: &Step, facts: PartitionFacts, counted: u64) -> bool {
    let expected = match (step, facts.before) {
        (Step::Leave, _) => return true,
        (Step::Drop, _) => 0,
        // Foreign rows stay if ours were added or are already present.
        (_, Some(before)) => before + facts.staged,
        (Step::Nothing, None) => facts.present,
        _ => facts.staged,
    };
    counted == expected || (counted < expected && (facts.expires || (facts.merges_rows && counted > 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(staged: u64, present: u64) -> PartitionFacts {
        PartitionFacts { staged, present, same: None, before: None, retried: false, merges_rows: false, expires: false }
    }

    #[test]
    fn an_empty_partition_is_filled_under_every_policy() {
        for policy in [Policy::Fail, Policy::Replace, Policy::Skip] {
            assert_eq!(decide(policy, facts(5, 0)), Step::Replace);
        }
        assert_eq!(decide(Policy::Append, PartitionFacts { before: Some(0), ..facts(5, 0) }), Step::Append);
    }

    #[test]
    fn existing_rows_are_kept_unless_the_policy_replaces_them() {
        assert!(matches!(decide(Policy::Fail, facts(5, 5)), Step::Refuse(_)), "equal numbers are not equal rows");
        assert_eq!(decide(Policy::Skip, facts(5, 5)), Step::Leave);
        assert_eq!(decide(Policy::Replace, facts(5, 5)), Step::Replace);
        assert_eq!(decide(Policy::Replace, facts(0, 7)), Step::Drop);
        assert_eq!(decide(Policy::Fail, facts(0, 7)), Step::Nothing);
        assert_eq!(decide(Policy::Append, PartitionFacts { before: Some(7), ..facts(5, 7) }), Step::Append);
        // As many rows as ours arrived just now: they are not ours.
        assert_eq!(decide(Policy::Append, PartitionFacts { before: Some(7), ..facts(5, 12) }), Step::CountAgain);
    }

    #[test]
    fn a_second_attempt_compares_rows_before_it_publishes() {
        let again = PartitionFacts { retried: true, ..facts(5, 5) };
        for policy in [Policy::Fail, Policy::Replace] {
            assert_eq!(decide(policy, again), Step::Compare);
            assert_eq!(decide(policy, PartitionFacts { same: Some(true), ..again }), Step::Nothing);
        }
        let other = PartitionFacts { same: Some(false), ..again };
        assert!(matches!(decide(Policy::Fail, other), Step::Refuse(_)));
        assert_eq!(decide(Policy::Replace, other), Step::Replace);
        let added = PartitionFacts { before: Some(7), retried: true, ..facts(5, 12) };
        assert_eq!(decide(Policy::Append, added), Step::Compare);
        assert_eq!(decide(Policy::Append, PartitionFacts { same: Some(true), ..added }), Step::Nothing);
        let of_others = decide(Policy::Append, PartitionFacts { same: Some(false), ..added });
        assert!(matches!(of_others, Step::Refuse(_)), "{of_others:?}");
        assert!(matches!(decide(Policy::Append, PartitionFacts { present: 9, ..added }), Step::Refuse(_)));
        assert!(matches!(decide(Policy::Append, PartitionFacts { before: None, ..added }), Step::Refuse(_)));
    }

    #[test]
    fn missing_rows_are_accepted_only_if_the_engine_merges_or_expires_them() {
        let summing = PartitionFacts { merges_rows: true, ..facts(5, 0) };
        assert!(is_complete(&Step::Replace, summing, 3));
        assert!(!is_complete(&Step::Replace, summing, 6));
        assert!(!is_complete(&Step::Replace, summing, 0));
        assert!(is_complete(&Step::Replace, PartitionFacts { expires: true, ..facts(5, 0) }, 0));
        assert!(!is_complete(&Step::Replace, facts(5, 0), 4));
        assert!(is_complete(&Step::Append, PartitionFacts { before: Some(7), ..facts(5, 7) }, 12));
        assert!(is_complete(&Step::Drop, facts(0, 7), 0));
    }
}
