//! `dashboard`: serves a page about a task until a signal ends it.

use super::super::args::address::clients_of;
use super::super::args::options::DashboardOptions;
use super::super::output::print;
use super::super::{Exit, Failure, Interrupt};
use crate::client::http::served_connections;
use crate::web::serve::serve;
use crate::web::server;
use crate::web::watch::{TaskWatch, WatchedTask};

/// Serves until the first signal. An unreachable coordinator or a missing task does not end it: the page reports that.
pub(crate) async fn dashboard(options: DashboardOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
    let clients = clients_of(&options.address)?;
    let (listener, address, access) = options.serving.begin().await?;
    let task_path = options.address.task_path().to_owned();
    let secrets = options.address.secrets(None);
    let place = WatchedTask { coordinator: clients.coordinator, client: clients.client, secrets, task_path };
    let (watch, reading) = TaskWatch::begin(place);
    let router = server::dashboard(watch, access);
    print(&format!("The dashboard is at http://{address}/"))?;
    // Open pages end with the task that reads, and the server waits for them.
    let (ended, has_ended) = tokio::sync::oneshot::channel::<()>();
    let read_until_signal = async {
        tokio::select! {
            () = reading => {}
            () = interrupt.finish() => {}
        }
        drop(ended);
    };
    let stop = async {
        let _ = has_ended.await;
    };
    let max_connections = served_connections(server::DASHBOARD_CONNECTIONS);
    tokio::join!(read_until_signal, serve(listener, router, max_connections, stop));
    Ok(Exit::Done)
}
