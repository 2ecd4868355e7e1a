//! `dashboard`: a task as a page, for as long as it is asked for.

use crate::client::http::served_connections;
use crate::web::serve::serve;
use crate::web::server;
use crate::web::watch::{Place, TaskWatch};

use super::super::args::address::doors_of;
use super::super::args::options::DashboardOptions;
use super::super::output::print;
use super::super::{Exit, Failure, Interrupt};

/// Serves until the first signal. A coordinator that is away is no reason to end, nor is a task that is not there yet: the page
/// says so.
pub(crate) async fn dashboard(options: DashboardOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
    let doors = doors_of(&options.address)?;
    let (listener, address, access) = options.serving.begin().await?;
    let task_path = options.address.task_path().to_owned();
    let secrets = options.address.secrets(None);
    let place = Place { coordinator: doors.coordinator, client: doors.client, secrets, task_path };
    let (watch, looks_out) = TaskWatch::begin(place);
    let router = server::dashboard(watch, access);
    print(&format!("The dashboard is at http://{address}/"))?;
    // Pages that look on end with who looks out, and the server waits for them.
    let (quiet, is_quiet) = tokio::sync::oneshot::channel::<()>();
    let look_out = async {
        tokio::select! {
            () = looks_out => {}
            () = interrupt.finish() => {}
        }
        drop(quiet);
    };
    let stop = async {
        let _ = is_quiet.await;
    };
    let most = served_connections(server::DASHBOARD_CONNECTIONS);
    tokio::join!(look_out, serve(listener, router, most, stop));
    Ok(Exit::Done)
}
