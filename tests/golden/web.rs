//! The addresses of the dashboard, and their JSON.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{Method, Request};
use clickhouse_copier::coordinator::MemoryCoordinator;
use clickhouse_copier::report::status::Status;
use clickhouse_copier::task::GivenSecrets;
use clickhouse_copier::web::access::Access;
use clickhouse_copier::web::events::{About, EventLog};
use clickhouse_copier::web::page_updates::PageUpdates;
use clickhouse_copier::web::server::{dashboard, worker};
use clickhouse_copier::web::watch::{Rate, Reading, TaskSnapshot, TaskWatch, WatchedTask};
use clickhouse_copier::worker::view::View;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::task::LocalSet;
use tower_service::Service;

use super::facts::overview;
use super::run::{copy, servers};
use super::{check, json};

const ABOUTS: [About; 6] = [About::Task, About::Worker, About::Partition, About::Error, About::Server, About::Reading];

fn look(number: u64) -> Reading {
    let mut events = EventLog::default();
    for (at, about) in ABOUTS.into_iter().enumerate().take(number as usize) {
        events.note("2026-01-02T03:04:05Z", about, format!("event {at}"));
    }
    let seen = TaskSnapshot {
        at: OffsetDateTime::UNIX_EPOCH,
        overview: overview(),
        status: Status::of(&overview(), "/copy/hits"),
    };
    Reading {
        number,
        seen: Some(Arc::new(seen)),
        events: Arc::new(events),
        rates: Arc::new((1..=number as i64).map(|at| Rate { unix_millis: at, bytes_per_second: 5 }).collect()),
        ..Reading::default()
    }
}

#[test]
fn the_json_for_the_dashboard_page_keeps_its_form() {
    let (first, mut later) = (look(2), look(6));
    later.stale = Some("away".into());
    check("web-news.json", &json(&(PageUpdates::of(None, &first), PageUpdates::of(Some(&first), &later))));
}

async fn ask(router: &Router, method: Method, address: &str) -> (u16, String, Vec<u8>) {
    let request = Request::builder().method(method).uri(address).header(HOST, "127.0.0.1");
    let request = request.body(Body::empty()).expect("a request");
    let answer = router.clone().call(request).await.expect("an answer");
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("-").to_owned();
    let code = answer.status().as_u16();
    // A stream of events has no end.
    let body = if kind == "text/event-stream" {
        Vec::new()
    } else {
        to_bytes(answer.into_body(), 1 << 20).await.expect("a body").to_vec()
    };
    (code, kind, body)
}

/// Fields with random values or times.
fn masked(value: Value) -> Value {
    const MASKED: [&str; 7] = ["task", "seen_at", "at", "millis", "began_at", "copied_at", "published_at"];
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| {
                    let mask = MASKED.contains(&name.as_str()) && !value.is_null();
                    let value = if mask { Value::from("(masked)") } else { masked(value) };
                    (name, value)
                })
                .collect(),
        ),
        Value::Array(values) => Value::Array(values.into_iter().map(masked).collect()),
        other => other,
    }
}

async fn answers() {
    let (coordinator, servers) = (MemoryCoordinator::new(), servers().await);
    copy(Arc::new(coordinator.clone()), servers.clone(), "/copy/hits", false).await.expect("the copy succeeds");
    let place = WatchedTask {
        coordinator: Arc::new(coordinator),
        client: Arc::new(servers),
        secrets: Arc::new(GivenSecrets::default()),
        task_path: "/copy/hits".into(),
    };
    let listen: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let access = || Access::new(listen, None).expect("a loopback address is served");
    let (watch, reading) = TaskWatch::begin(place);
    let router = dashboard(watch, access());
    let of_worker = worker(View::default(), "host-1-aaaa".into(), "/copy/hits".into(), access());
    let asked = async {
        let mut lines = Vec::new();
        for (router, whose) in [(&router, "dashboard"), (&of_worker, "worker")] {
            for (method, address) in [
                (Method::GET, "/"),
                (Method::POST, "/login"),
                (Method::GET, "/style.css"),
                (Method::GET, "/page.js"),
                (Method::GET, "/healthz"),
                (Method::GET, "/metrics"),
                (Method::GET, "/api/status"),
                (Method::GET, "/api/partition?table=0&partition=1"),
                (Method::GET, "/api/partition?table=0&partition=99"),
                (Method::GET, "/api/events"),
                (Method::GET, "/api/stream"),
                (Method::GET, "/api/other"),
            ] {
                let (code, kind, body) = ask(router, method.clone(), address).await;
                lines.push(format!("{whose} {method} {address}: {code} {kind}"));
                let file = match (whose, address) {
                    ("dashboard", "/api/status") => "web-status.json",
                    ("dashboard", "/api/partition?table=0&partition=1") => "web-partition.json",
                    ("dashboard", "/api/events") => "web-events.json",
                    _ => continue,
                };
                let value: Value = serde_json::from_slice(&body).expect("JSON");
                // The texts of events contain the identity of the task.
                let words = |event: &mut Value| event["text"] = Value::from("(text)");
                let mut value = masked(value);
                value.as_array_mut().into_iter().flatten().for_each(words);
                check(file, &json(&value));
            }
        }
        check("web-addresses.txt", &lines.join("\n"));
    };
    tokio::select! {
        () = reading => panic!("the watch ends"),
        () = asked => {}
    }
}

#[test]
fn the_dashboard_keeps_its_addresses_and_answers() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    LocalSet::new().block_on(&runtime.expect("a runtime"), answers());
}
