//! Values that a conversion to the target's type would lose. They are counted at the source before anything is created; each source
//! shard is read once. Later checks cannot find them, since both sides are compared after the conversion.

use std::sync::Arc;

use futures::future::join_all;

use super::super::errors::Problem;
use super::Survey;
use crate::client::{Error, Loss};
use crate::model::{Node, PartitionValue};
use crate::nodes::pool::NodePool;
use crate::nodes::settings::wanted_for_source;
use crate::plan::Remark;
use crate::runtime::bounded::all_tables;
use crate::sql::{DefaultKind, LossTest, PartitionFilter, Selection, loss_test, quote};
use crate::task::{TableJob, Task};

/// The rows with a lost value.
#[derive(Clone, Default)]
struct Lost {
    /// The number of rows.
    rows: u64,
    /// One of the values.
    example: Option<LostValue>,
}

/// A value that a conversion would lose, and its node.
#[derive(Clone)]
struct LostValue {
    text: String,
    node: Arc<Node>,
}

/// The most characters of a type's name in a message.
const MAX_SHOWN_CHARS: usize = 60;

/// Counts the values that the conversions of all surveyed tables would lose. Returns a fault for each column where the task does
/// not allow that, and adds remarks to the surveys for the other columns.
pub(crate) async fn refuse_lossy_conversions(pool: &NodePool, task: &Task, surveys: &mut [Survey]) -> Vec<Problem> {
    let found = all_tables(surveys.iter().map(|survey| async {
        let enabled = survey.enabled.as_ref();
        let enabled = enabled.map(|texts| texts.iter().cloned().map(PartitionValue).collect());
        lossy_conversions(pool, task, survey, enabled).await
    }))
    .await;
    let mut faults = Vec::new();
    for (survey, (lost, remarks)) in surveys.iter_mut().zip(found) {
        faults.extend(lost);
        survey.remarks.extend(remarks.into_iter().map(Remark::new));
    }
    faults
}

/// Counts the values that conversions would lose in some partitions of one table. Returns faults and remarks.
pub(crate) async fn lossy_conversions(
    pool: &NodePool,
    task: &Task,
    survey: &Survey,
    partitions: Option<Vec<PartitionValue>>,
) -> (Vec<Problem>, Vec<String>) {
    let job = &task.tables[survey.job];
    let mut judged = Judged { job, faults: Vec::new(), remarks: Vec::new(), untold: Vec::new() };
    let unknown = job.allow_lossy_conversion.iter().filter(|name| survey.target.column(name).is_none());
    for name in unknown {
        judged.fault(format!("the target {} has no column {}", survey.target.name, quote::ident(name)));
    }
    let tests = tests(survey, job);
    if tests.is_empty() || partitions.as_ref().is_some_and(Vec::is_empty) {
        return (judged.faults, judged.remarks);
    }
    let mut rows = Selection::all(survey.relation());
    rows.partitions = partitions.map(|values| PartitionFilter { elements: survey.key.clone(), values });
    let counter = Counter { pool, task, rows: &rows };
    let shards = join_all(survey.sources.iter().map(|nodes| counter.count(nodes, &tests)));
    let mut totals = vec![Lost::default(); tests.len()];
    for shard in shards.await {
        match shard {
            Ok((node, losses)) => {
                for (total, loss) in totals.iter_mut().zip(losses) {
                    match loss {
                        Ok(loss) if loss.rows > 0 => {
                            total.rows += loss.rows;
                            total.example.get_or_insert(LostValue { text: loss.example, node: node.clone() });
                        }
                        Ok(_) => {}
                        Err((test, error)) => judged.untold(&test, &error),
                    }
                }
            }
            Err(error) => judged.faults.push(Problem::of_server(&error).in_table(&job.name)),
        }
    }
    for (test, lost) in tests.iter().zip(totals) {
        if let Some(LostValue { text, node }) = lost.example {
            judged.lost(test, lost.rows, &text, &node);
        }
    }
    (judged.faults, judged.remarks)
}

/// Returns the tests of the converted columns. Computed columns of the target are not converted.
fn tests(survey: &Survey, job: &TableJob) -> Vec<LossTest> {
    let stored = survey.target.columns.iter().filter(|column| {
        !matches!(column.default_kind, DefaultKind::Ephemeral | DefaultKind::Alias)
            && (column.default_kind.is_inserted() || job.copy_alias_and_materialized)
    });
    let converted = |column: &crate::sql::Column| {
        let stored =
            survey.source.column(&column.name).filter(|stored| stored.default_kind != DefaultKind::Ephemeral)?;
        loss_test(&column.name, &stored.type_name, &column.type_name)
    };
    stored.filter_map(converted).collect()
}

/// The result of a test, or the test that the server could not run, with its error.
type Counted = Result<Loss, (LossTest, Error)>;

/// The count on a source shard.
struct Counter<'a> {
    pool: &'a NodePool,
    task: &'a Task,
    rows: &'a Selection,
}

impl Counter<'_> {
    /// Runs all tests on the first replica that answers.
    async fn count(&self, nodes: &[Arc<Node>], tests: &[LossTest]) -> Result<(Arc<Node>, Vec<Counted>), Error> {
        let mut first = None;
        for node in nodes {
            match self.count_on(node, tests).await {
                Ok(found) => return Ok((node.clone(), found)),
                Err(error) if error.is_unreachable() => {
                    self.pool.suspect(node);
                    first = first.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        // The survey found a replica of each shard.
        Err(first.unwrap_or_else(|| Error {
            node: String::new(),
            doing: "cannot count what conversions lose".into(),
            kind: crate::client::Kind::Answer("no replica".into()),
        }))
    }

    async fn count_on(&self, node: &Node, tests: &[LossTest]) -> Result<Vec<Counted>, Error> {
        let settings = self.pool.settings(node, &wanted_for_source(self.task)).await?;
        let client = &self.pool.client;
        let error = match client.losses(node, self.rows, tests, &settings).await {
            Ok(losses) => return Ok(losses.into_iter().map(Ok).collect()),
            Err(error) if error.is_unreachable() => return Err(error),
            Err(error) => error,
        };
        // A test that the server cannot run must not hide the others.
        let mut found = Vec::new();
        for test in tests {
            match client.losses(node, self.rows, std::slice::from_ref(test), &settings).await {
                Ok(losses) => found.extend(losses.into_iter().map(Ok)),
                Err(error) if error.is_unreachable() => return Err(error),
                Err(error) => found.push(Err((test.clone(), error))),
            }
        }
        if found.iter().all(Result::is_ok) && found.len() > 1 { Err(error) } else { Ok(found) }
    }
}

/// The faults and remarks of a table job.
struct Judged<'a> {
    job: &'a TableJob,
    faults: Vec<Problem>,
    remarks: Vec<String>,
    /// The columns whose loss could not be counted.
    untold: Vec<String>,
}

impl Judged<'_> {
    fn fault(&mut self, problem: String) {
        self.faults.push(Problem::task(problem).in_table(&self.job.name).at_element("allow_lossy_conversion"));
    }

    fn allows(&self, test: &LossTest) -> bool {
        self.job.allow_lossy_conversion.contains(&test.column)
    }

    fn lost(&mut self, test: &LossTest, rows: u64, example: &str, node: &Node) {
        let (values, verb) = if rows == 1 {
            ("the value of 1 row".to_owned(), "does")
        } else {
            (format!("the values of {rows} rows"), "do")
        };
        let what = format!(
            "column {}: {values} of {} {verb} not survive the conversion from {} to {}, for example {} on {node}",
            test.column,
            self.job.source,
            short(&test.from),
            short(&test.to),
            quote::literal(example)
        );
        if self.allows(test) {
            return self.remarks.push(format!("{what}; allow_lossy_conversion lets them be copied"));
        }
        let name = &test.column;
        self.fault(format!(
            "{what}. Change the column's type in {}, or leave those rows out with <where_condition>, or have them copied as they \
             are converted: <allow_lossy_conversion>{name}</allow_lossy_conversion>",
            self.job.target
        ));
    }

    fn untold(&mut self, test: &LossTest, error: &Error) {
        // All shards return the same error.
        if self.untold.contains(&test.column) {
            return;
        }
        self.untold.push(test.column.clone());
        let what = format!(
            "column {}: values of {} cannot be converted from {} to {} and back: {error}",
            test.column,
            self.job.source,
            short(&test.from),
            short(&test.to)
        );
        if self.allows(test) {
            return self.remarks.push(what);
        }
        self.fault(format!("{what}. Change the column's type in {}", self.job.target));
    }
}

fn short(type_name: &str) -> String {
    if type_name.chars().count() <= MAX_SHOWN_CHARS {
        return type_name.to_owned();
    }
    let beginning: String = type_name.chars().take(MAX_SHOWN_CHARS).collect();
    format!("{beginning}…")
}
