use super::*;

fn id(text: &str) -> PartitionId {
    PartitionId(text.into())
}

fn blocks(table: &str, parts: &[(&str, &str, u64)]) -> Blocks {
    let ids: Vec<PartitionId> = parts.iter().map(|(partition, ..)| id(partition)).collect();
    Blocks::of(table, ids.iter().zip(parts).map(|(id, (_, name, rows))| (id, *name, *rows)))
}

#[test]
fn a_merge_is_no_change_and_everything_else_is() {
    let before = blocks("t", &[("1", "1_1_1_0", 5), ("1", "1_3_3_0", 6), ("2", "2_2_2_0", 1)]);
    let merged = blocks("t", &[("1", "1_1_3_1", 11), ("2", "2_2_2_0", 1)]);
    assert!(merged.changed_since(&before).is_empty());
    for (changed, why) in [
        ([("1", "1_1_3_1", 10), ("2", "2_2_2_0", 1)], "a row is missing"),
        ([("1", "1_1_4_1", 11), ("2", "2_2_2_0", 1)], "another block"),
        ([("1", "1_1_3_1_7", 11), ("2", "2_2_2_0", 1)], "a mutation"),
        ([("1", "1_3_3_0", 11), ("2", "2_2_2_0", 1)], "the first block is missing"),
    ] {
        assert_eq!(blocks("t", &changed).changed_since(&before), BTreeSet::from([id("1")]), "{why}");
    }
    assert_eq!(blocks("t", &[("2", "2_2_2_0", 1)]).changed_since(&before), BTreeSet::from([id("1")]));
    let recreated = Blocks { table: "recreated".into(), ..before.clone() };
    assert_eq!(recreated.changed_since(&before).len(), 2);
}

#[test]
fn part_names_of_the_old_syntax_are_read() {
    assert_eq!(blocks_in("20180101_20180131_1_5_1"), (1, 5, 0));
    assert_eq!(blocks_in("20180101_20180131_1_5_1_7"), (1, 5, 7));
    assert_eq!(blocks_in("20180101_1_5_1_7"), (1, 5, 7));
    assert_eq!(blocks_in("all_1_5_1"), (1, 5, 0));
    assert_ne!(blocks_in("odd"), blocks_in("other"));
}

#[test]
fn rows_differ_only_if_the_source_did_not_change() {
    let still = blocks("t", &[("1", "1_1_1_0", 5)]);
    let moved = blocks("t", &[("1", "1_1_2_1", 6)]);
    let parts = |before: &Blocks, after: &Blocks| Some(ObservedParts { before: before.clone(), after: after.clone() });
    let observation = |listed, counted, parts| ShardObservation { listed, counted, parts };
    assert_eq!(judge_shard(&[observation(5, 5, parts(&still, &moved))]), ShardBalance::Even);
    assert_eq!(judge_shard(&[observation(5, 6, parts(&still, &still))]), ShardBalance::Differs);
    assert_eq!(judge_shard(&[observation(5, 6, parts(&still, &moved))]), ShardBalance::Moved);
    assert_eq!(judge_shard(&[observation(5, 6, None)]), ShardBalance::Moved);
    assert_eq!(judge_shard(&[observation(5, 6, None), observation(5, 7, None)]), ShardBalance::Moved);
    assert_eq!(judge_shard(&[observation(5, 6, None), observation(5, 6, None)]), ShardBalance::Differs);
    assert_eq!(judge_shard(&[]), ShardBalance::Moved);
}

#[test]
fn selected_rows_equal_counted_rows_or_the_source_changed() {
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
fn a_node_must_hold_the_added_rows_and_the_earlier_rows() {
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
fn the_rows_of_several_jobs_in_one_partition_are_added_up() {
    let job = |before, added| Expected { before, added, shrinks: false };
    let both = job(3, 10).and(job(13, 5));
    assert_eq!(both.rows(), 18);
    assert!(both.is_met_by(18) && !both.is_met_by(17) && !both.is_met_by(19));
    let shrinks = Expected { shrinks: true, ..both };
    assert!(shrinks.is_met_by(1) && !shrinks.is_met_by(19));
}
