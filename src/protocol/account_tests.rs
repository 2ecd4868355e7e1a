use super::*;

fn id(text: &str) -> PartitionId {
    PartitionId(text.into())
}

fn blocks(table: &str, parts: &[(&str, &str, u64)]) -> Blocks {
    let ids: Vec<PartitionId> = parts.iter().map(|(partition, ..)| id(partition)).collect();
    Blocks::of(table, ids.iter().zip(parts).map(|(id, (_, name, rows))| (id, *name, *rows)))
}

#[test]
fn a_merge_changes_nothing_and_all_else_does() {
    let before = blocks("t", &[("1", "1_1_1_0", 5), ("1", "1_3_3_0", 6), ("2", "2_2_2_0", 1)]);
    let merged = blocks("t", &[("1", "1_1_3_1", 11), ("2", "2_2_2_0", 1)]);
    assert!(merged.changed_since(&before).is_empty());
    for (changed, why) in [
        ([("1", "1_1_3_1", 10), ("2", "2_2_2_0", 1)], "a row went"),
        ([("1", "1_1_4_1", 11), ("2", "2_2_2_0", 1)], "another block"),
        ([("1", "1_1_3_1_7", 11), ("2", "2_2_2_0", 1)], "a mutation"),
        ([("1", "1_3_3_0", 11), ("2", "2_2_2_0", 1)], "the first block is gone"),
    ] {
        assert_eq!(blocks("t", &changed).changed_since(&before), BTreeSet::from([id("1")]), "{why}");
    }
    assert_eq!(blocks("t", &[("2", "2_2_2_0", 1)]).changed_since(&before), BTreeSet::from([id("1")]));
    let anew = Blocks { table: "made anew".into(), ..before.clone() };
    assert_eq!(anew.changed_since(&before).len(), 2);
}

#[test]
fn names_of_the_old_syntax_are_read() {
    assert_eq!(blocks_in("20180101_20180131_1_5_1"), (1, 5, 0));
    assert_eq!(blocks_in("20180101_20180131_1_5_1_7"), (1, 5, 7));
    assert_eq!(blocks_in("20180101_1_5_1_7"), (1, 5, 7));
    assert_eq!(blocks_in("all_1_5_1"), (1, 5, 0));
    assert_ne!(blocks_in("odd"), blocks_in("other"));
}

#[test]
fn a_difference_is_one_only_where_the_source_held_still() {
    let still = blocks("t", &[("1", "1_1_1_0", 5)]);
    let moved = blocks("t", &[("1", "1_1_2_1", 6)]);
    let look = |listed, counted, parts| Look { listed, counted, parts };
    assert_eq!(weigh(&[look(5, 5, Some((still.clone(), moved.clone())))]), Weighed::Even);
    assert_eq!(weigh(&[look(5, 6, Some((still.clone(), still.clone())))]), Weighed::Differs);
    assert_eq!(weigh(&[look(5, 6, Some((still, moved)))]), Weighed::Moved);
    assert_eq!(weigh(&[look(5, 6, None)]), Weighed::Moved);
    assert_eq!(weigh(&[look(5, 6, None), look(5, 7, None)]), Weighed::Moved);
    assert_eq!(weigh(&[look(5, 6, None), look(5, 6, None)]), Weighed::Differs);
    assert_eq!(weigh(&[]), Weighed::Moved);
}

#[test]
fn what_was_selected_is_what_was_counted_or_the_source_changed() {
    let judge = |planned, selected, change, now| judge_source(SourceFacts { planned, selected, change, now });
    assert_eq!(judge(10, 10, Change::None, None), SourceVerdict::Even);
    assert_eq!(judge(10, 9, Change::None, None), SourceVerdict::Differs);
    assert_eq!(judge(10, 10, Change::Unknown, None), SourceVerdict::CountAgain);
    assert_eq!(judge(10, 10, Change::Unknown, Some(10)), SourceVerdict::Even);
    assert_eq!(judge(10, 10, Change::Unknown, Some(12)), SourceVerdict::Moved(2));
    assert_eq!(judge(10, 9, Change::Unknown, None), SourceVerdict::CountAgain);
    assert_eq!(judge(10, 9, Change::Unknown, Some(10)), SourceVerdict::Differs);
    assert_eq!(judge(10, 12, Change::Unknown, Some(12)), SourceVerdict::Even);
    assert_eq!(judge(10, 10, Change::Copied, None), SourceVerdict::CountAgain);
    assert_eq!(judge(10, 10, Change::Copied, Some(13)), SourceVerdict::Moved(3));
    assert_eq!(judge(10, 13, Change::Copied, Some(13)), SourceVerdict::Even, "it changed before it was copied");
    assert_eq!(judge(10, 10, Change::Copied, Some(10)), SourceVerdict::Moved(0), "other rows, as many");
    assert_eq!(judge(10, 10, Change::Elsewhere, Some(10)), SourceVerdict::Even);
    assert_eq!(judge(10, 10, Change::Elsewhere, Some(11)), SourceVerdict::Moved(1));
}

#[test]
fn a_node_must_hold_what_was_put_there_and_what_stayed() {
    let placed = Placed {
        ids: vec![id("1"), id("2"), id("3")],
        added: BTreeMap::from([("a".into(), vec![5, 0, 0])]),
        before: BTreeMap::from([("a".into(), BTreeMap::from([(id("1"), 2), (id("3"), 0)]))]),
    };
    let rows: Vec<(&str, u64)> =
        placed.on("a").into_iter().map(|(id, expected)| (id.0.as_str(), expected.rows())).collect();
    assert_eq!(rows, [("1", 7), ("3", 0)], "partition 2 is not filled there");
    assert!(placed.on("b").is_empty());
}

#[test]
fn several_jobs_that_fill_one_partition_are_added_up() {
    let job = |before, added| Expected { before, added, shrinks: false };
    let both = job(3, 10).and(job(13, 5));
    assert_eq!(both.rows(), 18);
    assert!(both.is_met_by(18) && !both.is_met_by(17) && !both.is_met_by(19));
    let shrinks = Expected { shrinks: true, ..both };
    assert!(shrinks.is_met_by(1) && !shrinks.is_met_by(19));
}
