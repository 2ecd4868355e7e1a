//! Real workers over the doubles of both doors: whatever happens to them, to the servers and to the coordinator, no row is
//! lost or doubled.
//!
//! A seed decides what the world looks like ([`scene`]), what goes wrong in it and when ([`fates`]), and in which order
//! everything happens: requests take their time, each another one, on tokio's paused clock. Each request of each worker
//! goes through [`coordination`] or [`servers`]; what is there is checked after each of them ([`check`]: I1 to I6 of `protocol`).
//!
//! `SIMULATION_SEED=n` runs one seed alone and tells its faults, `SIMULATION_STEPS=1` its requests too;
//! `SIMULATION_SEEDS=n` runs so many, from `SIMULATION_FROM=n` on.

mod actor;
mod check;
mod coordination;
mod fates;
mod lies;
mod requests;
mod scene;
mod servers;
mod stage;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clickhouse_copier::coordinator::MemoryCoordinator;
use clickhouse_copier::operations::cleanup::{Cleaner, Request};
use clickhouse_copier::planning::errors::RunError;
use clickhouse_copier::runtime::random::Randomness;
use clickhouse_copier::runtime::signals::Interrupt;
use clickhouse_copier::task::GivenSecrets;
use clickhouse_copier::worker;
use clickhouse_copier::worker::context::WorkerOptions;
use clickhouse_copier::worker::ending::Ending;
use clickhouse_copier::worker::launch::Launch;
use clickhouse_copier::worker::limits::concurrency::Jobs;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

use actor::Actor;
use coordination::Coordination;
use fates::{FAULTS, Fates, Fired};
use lies::{LIES, Lie};
use requests::Servers;
use scene::{Scene, Second};
use stage::{Broken, SESSION, Stage, task_path};

const SEEDS: u64 = 400;
/// So many of them again over the tables of the local coordinator.
const SEEDS_OVER_SQLITE: u64 = 300;
/// So often a worker that ended is started again, before the last one that nothing happens to.
const LIVES: usize = 4;

/// Where the coordinator keeps its nodes.
type Nodes = fn() -> MemoryCoordinator;

/// What came of a seed.
struct Outcome {
    fired: Fired,
    trace: (u64, u64),
    /// Whether every task was finished.
    finished: bool,
}

async fn work(
    stage: Arc<Stage>,
    task: usize,
    name: String,
    actor: Arc<Actor>,
    interrupt: Interrupt,
) -> Result<Ending, RunError> {
    let seed = stage.fates().seed();
    let launch = Launch {
        coordinator: Arc::new(Coordination { stage: stage.clone(), actor: actor.clone() }),
        client: Arc::new(Servers { stage: stage.clone(), actor, promised: Mutex::default() }),
        secrets: Arc::new(GivenSecrets::default()),
        task_path: task_path(task),
        description: Some((stage.scene.task(task, None), "task.xml".into())),
        upload_force: false,
        agreed: None,
        incremental: stage.is_incremental(),
        worker_options: WorkerOptions {
            tries: 5,
            publication_tries: 5,
            rounds: 1,
            retry_delay: Duration::from_millis(500),
            stall_timeout: clickhouse_copier::client::STALL_TIMEOUT,
            copy_fault_probability: 0.0,
            move_fault_probability: 0.0,
            jobs: if stage.scene.jobs == 3 { Jobs::Adaptive } else { Jobs::Fixed(stage.scene.jobs) },
            safe_mode: false,
        },
        host: "here".into(),
        worker: name,
        randomness: Randomness::seeded(seed),
    };
    worker::run(launch, &interrupt, async || Ok(())).await.map(|summary| summary.ending)
}

/// One worker process, until it ends; what it said, unless it died.
async fn live(stage: &Arc<Stage>, task: usize, name: String) -> Option<Result<Ending, RunError>> {
    let (hand, interrupt) = Interrupt::by_hand();
    let actor = Actor::new(name.clone(), task, hand);
    stage.enter(&actor);
    let mut work = spawn_local(work(stage.clone(), task, name, actor.clone(), interrupt));
    tokio::select! {
        biased;
        ended = &mut work => {
            stage.bury(&actor);
            Some(ended.expect("no worker panics"))
        }
        () = actor.crashed() => {
            work.abort();
            let _ = work.await;
            stage.bury(&actor);
            let last_sign = stage.fates().between(Duration::ZERO, SESSION);
            stage.expire_later(actor.session_ids(), last_sign);
            None
        }
    }
}

/// A worker that somebody starts again when it has ended without the task being finished.
async fn lives(stage: Arc<Stage>, task: usize, slot: usize) {
    for life in 0..LIVES {
        let ended = live(&stage, task, format!("w{task}.{slot}.{life}{}", stage.suffix())).await;
        if matches!(ended, Some(Ok(ending)) if ending.is_end()) {
            return;
        }
        let pause = stage.fates().between(Duration::from_millis(10), Duration::from_secs(60));
        sleep(pause).await;
    }
}

/// Everything is copied; then, in some seeds, what has changed at the source since.
async fn all(stage: &Arc<Stage>) -> Result<bool, String> {
    let finished = copied(stage).await?;
    if !finished || stage.scene.later.is_none() || !stage.gone().is_empty() {
        return Ok(finished);
    }
    stage.change_source().await;
    copied(stage).await
}

async fn copied(stage: &Arc<Stage>) -> Result<bool, String> {
    let mut workers = Vec::new();
    for task in 0..stage.scene.tasks() {
        for slot in 0..stage.scene.workers {
            workers.push(spawn_local(lives(stage.clone(), task, slot)));
        }
    }
    for worker in workers {
        worker.await.map_err(|panic| panic.to_string())?;
    }
    stage.heal().await;
    let mut all_finished = true;
    for task in 0..stage.scene.tasks() {
        let ended = live(stage, task, format!("w{task}.last{}", stage.suffix())).await;
        let finished = matches!(ended, Some(Ok(Ending::Finished | Ending::WasFinished)));
        all_finished &= finished;
        if stage.lie.is_some() {
            if finished {
                stage.check_accounted()?;
            }
            continue;
        }
        stage.check_end(task, matches!(ended, Some(Ok(ending)) if ending.is_end()))?;
        clean(stage, task).await?;
        // Where a server is lost, or somebody else's rows are in the way, a task may say that it cannot go on.
        let excused = !stage.gone().is_empty() || stage.scene.second == Second::Same;
        if !finished && !excused {
            return Err(format!(
                "the last worker of task {task} could not finish it: {ended:?}",
                ended = ended.map(|ended| ended.map_err(|error| error.to_string()))
            ));
        }
    }
    Ok(all_finished)
}

/// Cleans up after a task: what late statements made goes, and nothing else.
async fn clean(stage: &Arc<Stage>, task: usize) -> Result<(), String> {
    let request = Request {
        coordinator: Arc::new(stage.coordinator.clone()),
        client: Arc::new(stage.client.clone()),
        secrets: Arc::new(GivenSecrets::default()),
        task_path: task_path(task),
        description: Some((stage.scene.task(task, None), "task.xml".into())),
        task_id: None,
        remove: true,
        host: "here".into(),
    };
    let (_hand, interrupt) = Interrupt::by_hand();
    let failed = |error: RunError| format!("cleaning up after task {task}: {error}");
    let mut cleaner = Cleaner::open(request).await.map_err(failed)?;
    let found = cleaner.find().await.map_err(failed)?;
    if found.id.is_some() {
        let removed = cleaner.remove(&found, &interrupt).await.map_err(failed)?;
        if !removed.failed.is_empty() {
            return Err(format!("cleaning up after task {task}: {:?}", removed.failed));
        }
    }
    cleaner.close().await;
    stage.check_clean(task)
}

fn simulate(seed: u64, nodes: Nodes, broken: Option<Broken>) -> Result<Outcome, String> {
    simulate_scene(
        seed,
        nodes,
        (broken, None),
        Scene::new(&mut Fates::part(seed, 0)).with_later(&mut Fates::part(seed, 2)),
    )
}

fn simulate_scene(
    seed: u64,
    nodes: Nodes,
    told: (Option<Broken>, Option<Lie>),
    scene: Scene,
) -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| error.to_string())?;
    LocalSet::new().block_on(&runtime, async {
        let stage = Stage::new(scene, Fates::new(Fates::part(seed, 1)), nodes(), told).await;
        let mut verdict = stage.verdict.subscribe();
        let finished = tokio::select! {
            biased;
            violated = verdict.wait_for(Option::is_some) => {
                Err(violated.ok().and_then(|violation| violation.clone()).unwrap_or_default())
            }
            ended = all(&stage) => ended,
        };
        let finished = finished.map_err(|why| format!(
            "seed {seed}: {why}\n  in {:?}\nrun it alone: SIMULATION_SEED={seed} cargo test --test simulation whatever -- --nocapture",
            stage.scene
        ))?;
        let outcome = Outcome { fired: stage.fates().fired.clone(), trace: stage.trace(), finished };
        Ok(outcome)
    })
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs seeds on all cores until one fails. Gives what fired, and how many seeds finished all their tasks.
fn simulate_all(seeds: std::ops::Range<u64>, nodes: Nodes) -> Result<(Fired, u64), String> {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let finished = AtomicU64::new(0);
    let results = Mutex::new((Fired::new(), BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let outcome = simulate(seed, nodes, None);
                    let mut results = results.lock().expect("nobody panics");
                    match outcome {
                        Ok(outcome) => {
                            finished.fetch_add(u64::from(outcome.finished), Ordering::Relaxed);
                            outcome
                                .fired
                                .iter()
                                .for_each(|(fault, count)| *results.0.entry(*fault).or_default() += count);
                        }
                        Err(why) => {
                            stop.store(true, Ordering::Relaxed);
                            results.1.insert(seed, why);
                        }
                    }
                }
            });
        }
    });
    let (fired, failures) = results.into_inner().expect("nobody panics");
    match failures.into_iter().next() {
        Some((_, why)) => Err(why),
        None => Ok((fired, finished.into_inner())),
    }
}

#[test]
fn whatever_happens_no_row_is_lost_or_doubled() {
    if let Some(seed) = from_environment("SIMULATION_SEED") {
        let outcome = simulate(seed, MemoryCoordinator::new, None).unwrap_or_else(|why| panic!("{why}"));
        println!("{:?}, {} requests, finished: {}", outcome.fired, outcome.trace.1, outcome.finished);
        return;
    }
    let seeds = from_environment("SIMULATION_SEEDS").unwrap_or(SEEDS);
    let from = from_environment("SIMULATION_FROM").unwrap_or(0);
    let (fired, finished) =
        simulate_all(from..from + seeds, MemoryCoordinator::new).unwrap_or_else(|why| panic!("{why}"));
    println!("{finished} of {seeds} seeds finished all tasks; {fired:?}");
    let rare: Vec<_> = FAULTS.iter().filter(|fault| fired.get(fault).copied().unwrap_or(0) < seeds / 100).collect();
    assert!(rare.is_empty(), "these faults hardly ever fire: {rare:?}");
    assert!(finished > seeds * 3 / 4, "only {finished} of {seeds} seeds finish");
}

/// The same seeds over the tables and statements of the local coordinator: not one request may be different.
#[test]
fn whatever_happens_over_sqlite_no_row_is_lost_or_doubled() {
    let (fired, finished) =
        simulate_all(0..SEEDS_OVER_SQLITE, MemoryCoordinator::over_sqlite).unwrap_or_else(|why| panic!("{why}"));
    println!("{finished} of {SEEDS_OVER_SQLITE} seeds finished all tasks; {fired:?}");
    assert!(finished > SEEDS_OVER_SQLITE * 3 / 4, "only {finished} of {SEEDS_OVER_SQLITE} seeds finish");
    for seed in 0..20 {
        let trace =
            |nodes| simulate(seed, nodes, None).map(|outcome| outcome.trace).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(trace(MemoryCoordinator::over_sqlite), trace(MemoryCoordinator::new), "seed {seed}");
    }
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    for seed in 0..200 {
        let trace = || {
            simulate(seed, MemoryCoordinator::new, None)
                .map(|outcome| outcome.trace)
                .unwrap_or_else(|why| panic!("{why}"))
        };
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}

/// The tests of the test: without a guard, a seed fails, and says which invariant does not hold.
fn is_missed(broken: Broken, by: &str) {
    let mut others = 0;
    for seed in 0..500 {
        match simulate(seed, MemoryCoordinator::new, Some(broken)) {
            Err(why) if why.contains(by) => return println!("{broken:?}: {why}"),
            Err(_) => others += 1,
            Ok(_) => {}
        }
    }
    panic!("without {broken:?}, {by} is never violated ({others} seeds fail otherwise)");
}

#[test]
fn comparing_versions_is_missed() {
    is_missed(Broken::Comparing, "went back");
}

#[test]
fn tables_of_an_attempt_alone_are_missed() {
    is_missed(Broken::Fencing, "I4");
}

#[test]
fn counting_is_missed() {
    is_missed(Broken::Counting, "I3");
}

#[test]
fn staging_tables_that_stay_are_missed() {
    is_missed(Broken::StagingKept, "I4");
}

#[test]
fn replacing_is_missed() {
    is_missed(Broken::Replacing, "I1");
}

/// A task over servers that lie, alone and for one pass.
fn simulate_lie(seed: u64, lie: Lie, broken: Option<Broken>) -> Option<Result<Outcome, String>> {
    let scene = Scene::new(&mut Fates::part(seed, 0));
    let alone = scene.second == Second::None;
    alone.then(|| simulate_scene(seed, MemoryCoordinator::new, (broken, Some(lie)), scene))
}

#[test]
fn servers_that_lie_are_found_out() {
    for lie in LIES {
        let (mut found_out, mut finished) = (0, 0);
        for outcome in (0..40).filter_map(|seed| simulate_lie(seed, lie, None)) {
            match outcome.unwrap_or_else(|why| panic!("{lie:?}: {why}")) {
                Outcome { finished: true, .. } => finished += 1,
                _ => found_out += 1,
            }
        }
        println!("{lie:?}: found out in {found_out} seeds, without effect in {finished}");
        assert!(found_out > 5, "{lie:?} hardly ever has an effect");
    }
}

/// Without the account, a task over servers that lie is finished with other rows.
#[test]
fn the_account_is_missed() {
    for lie in [Lie::HiddenPartition, Lie::Swallowed] {
        let mut outcomes = (0..150).filter_map(|seed| simulate_lie(seed, lie, Some(Broken::Accounting)));
        let violated = |outcome: &Result<Outcome, String>| matches!(outcome, Err(why) if why.contains("I7"));
        assert!(outcomes.any(|outcome| violated(&outcome)), "{lie:?}: without the account, I7 is never violated");
    }
}
