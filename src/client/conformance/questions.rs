//! What is asked before a copy. What the double has none of (views, mutations) is asked of real servers by tests of their own.

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;
use crate::sql::Privilege;

pub async fn a_clock_is_near_ours(at: &Place<'_>, inspector: &dyn Inspector) {
    let ours = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let theirs = inspector.clock(&at.one).await.unwrap();
    assert!((theirs - ours).abs() < 5, "{theirs} and {ours}");
}

pub async fn what_is_not_there_is_empty_and_no_error(at: &Place<'_>, inspector: &dyn Inspector) {
    at.databases().await;
    let no = at.name("no");
    assert_eq!(inspector.stored_bytes(&at.one, &no).await.unwrap(), 0);
    assert_eq!(inspector.mutations(&at.one, &no).await.unwrap(), []);
    assert_eq!(inspector.views_over(&at.one, &no).await.unwrap(), []);
    assert_eq!(inspector.tables_of_engine(&at.one, "NoSuchEngine").await.unwrap(), []);
    let disks = inspector.disks(&at.one, "no_such_policy").await.unwrap();
    assert!(disks.is_none_or(|disks| disks.is_empty()));
    inspector.clusters(&at.one).await.unwrap();
}

pub async fn stored_bytes_are_those_of_rows(at: &Place<'_>, inspector: &dyn Inspector) {
    at.databases().await;
    let empty = at.create(&at.one, "e", ENGINE).await;
    let full = at.filled("f", 3).await;
    assert_eq!(inspector.stored_bytes(&at.one, &empty).await.unwrap(), 0);
    assert!(inspector.stored_bytes(&at.one, &full).await.unwrap() > 0);
}

pub async fn tables_are_found_by_their_engine(at: &Place<'_>, inspector: &dyn Inspector) {
    at.databases().await;
    at.create(&at.one, "a", ENGINE).await;
    at.create(&at.one, "b", "ReplacingMergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, id)").await;
    let found = inspector.tables_of_engine(&at.one, "ReplacingMergeTree").await.unwrap();
    let ours: Vec<TableName> = found.into_iter().filter(|name| name.database == at.database).collect();
    assert_eq!(ours, [at.name("b")]);
}

pub async fn an_account_that_may_do_all_lacks_nothing(at: &Place<'_>, inspector: &dyn Inspector) {
    at.databases().await;
    let rights = [
        Privilege::Select,
        Privilege::Insert,
        Privilege::CreateTable,
        Privilege::DropTable,
        Privilege::AlterDelete,
        Privilege::CreateDatabase,
    ];
    let answers = inspector.may(&at.one, &at.database, &rights).await.unwrap();
    assert_eq!(answers.len(), rights.len());
    assert!(!answers.contains(&Some(false)), "{answers:?}");
}
