//! The verb `plan`: makes the plan that a run would make, with the tables that it would create and the routes of its rows. Creates
//! nothing.

use std::sync::Arc;

use crate::client::ServerClient;
use crate::nodes::pool::NodePool;
use crate::plan::Document;
use crate::planning::document::document;
use crate::planning::errors::RunError;
use crate::planning::plan_all::plan_all;
use crate::planning::survey::{refuse_lossy_conversions, survey};
use crate::planning::task_file::parse;
use crate::task::{SecretSource, TaskText};

/// Makes the plan of a task file, as its first run would.
///
/// # Errors
/// The errors that the run would fail with.
pub(crate) async fn make_plan(
    client: Arc<dyn ServerClient>,
    secrets: &dyn SecretSource,
    text: TaskText,
    host: String,
) -> Result<Document, RunError> {
    let task = parse(text, secrets)?.task;
    let pool = NodePool::new(client, host);
    let mut surveys = survey(&pool, &task).await.map_err(RunError::Problems)?;
    let lost = refuse_lossy_conversions(&pool, &task, &mut surveys).await;
    if !lost.is_empty() {
        return Err(RunError::Problems(lost));
    }
    let plans = plan_all(&pool, &task, &surveys, false, &[]).await?;
    document(&pool, &task, &surveys, plans).await
}
