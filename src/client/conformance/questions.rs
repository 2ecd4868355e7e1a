//! Tests of the questions before a copy. The double has no views and no mutations; tests on real servers cover them.

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;
use crate::sql::Privilege;

pub async fn the_clock_of_a_server_is_near_ours(servers: &TestServers<'_>, inspector: &dyn Inspector) {
    let ours = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let theirs = inspector.clock(&servers.first).await.unwrap();
    assert!((theirs - ours).abs() < 5, "{theirs} and {ours}");
}

pub async fn questions_about_missing_objects_have_empty_answers(servers: &TestServers<'_>, inspector: &dyn Inspector) {
    servers.databases().await;
    let no = servers.name("no");
    assert_eq!(inspector.stored_bytes(&servers.first, &no).await.unwrap(), 0);
    assert_eq!(inspector.mutations(&servers.first, &no).await.unwrap(), []);
    assert_eq!(inspector.views_over(&servers.first, &no).await.unwrap(), []);
    assert_eq!(inspector.tables_of_engine(&servers.first, "NoSuchEngine").await.unwrap(), []);
    let disks = inspector.disks(&servers.first, "no_such_policy").await.unwrap();
    assert!(disks.is_none_or(|disks| disks.is_empty()));
    inspector.clusters(&servers.first).await.unwrap();
}

pub async fn only_tables_with_rows_have_stored_bytes(servers: &TestServers<'_>, inspector: &dyn Inspector) {
    servers.databases().await;
    let empty = servers.create(&servers.first, "e", ENGINE).await;
    let full = servers.filled("f", 3).await;
    assert_eq!(inspector.stored_bytes(&servers.first, &empty).await.unwrap(), 0);
    assert!(inspector.stored_bytes(&servers.first, &full).await.unwrap() > 0);
}

pub async fn tables_are_found_by_their_engine(servers: &TestServers<'_>, inspector: &dyn Inspector) {
    servers.databases().await;
    servers.create(&servers.first, "a", ENGINE).await;
    servers.create(&servers.first, "b", "ReplacingMergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, id)").await;
    let found = inspector.tables_of_engine(&servers.first, "ReplacingMergeTree").await.unwrap();
    let ours: Vec<TableName> = found.into_iter().filter(|name| name.database == servers.database).collect();
    assert_eq!(ours, [servers.name("b")]);
}

pub async fn an_account_with_all_privileges_lacks_none(servers: &TestServers<'_>, inspector: &dyn Inspector) {
    servers.databases().await;
    let rights = [
        Privilege::Select,
        Privilege::Insert,
        Privilege::CreateTable,
        Privilege::DropTable,
        Privilege::AlterDelete,
        Privilege::CreateDatabase,
    ];
    let answers = inspector.may(&servers.first, &servers.database, &rights).await.unwrap();
    assert_eq!(answers.len(), rights.len());
    assert!(!answers.contains(&Some(false)), "{answers:?}");
}
