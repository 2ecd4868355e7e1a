//! What a run would do: the survey and the plan that it makes, what it would create, and how rows would travel. Creates nothing.

use std::sync::Arc;

use crate::client::ServerClient;
use crate::plan::Document;
use crate::task::SecretSource;

use crate::nodes::pool::NodePool;
use crate::planning::document::document;
use crate::planning::errors::RunError;
use crate::planning::plan_all::plan_all;
use crate::planning::survey::{refuse_lossy_conversions, survey};
use crate::planning::task_file::parse;

/// Plans the task of a file as its first run would.
///
/// # Errors
/// What that run would fail with.
pub async fn foresee(
    client: Arc<dyn ServerClient>,
    secrets: &dyn SecretSource,
    (text, file): (&str, &str),
    host: String,
) -> Result<Document, RunError> {
    let task = parse(text, file, secrets)?;
    let pool = NodePool::new(client, host);
    let mut surveys = survey(&pool, &task).await.map_err(RunError::from_faults)?;
    let lost = refuse_lossy_conversions(&pool, &task, &mut surveys).await;
    if !lost.is_empty() {
        return Err(RunError::from_faults(lost));
    }
    let plans = plan_all(&pool, &task, &surveys, false, &[]).await?;
    document(&pool, &task, &surveys, plans).await
}
