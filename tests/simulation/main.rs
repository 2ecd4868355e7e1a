//! Real workers with doubles of the servers and of the coordinator: no fault of any of them loses or doubles a row.
//!
//! A seed decides the servers, tables and rows ([`scene`]), the faults ([`faults`]), and the order of all requests: each request takes
//! a random time on tokio's paused clock. Each request of each worker goes through [`coordination`] or [`servers`]. After each request
//! the invariants I1 to I6 of `protocol` are checked ([`invariants`]).
//!
//! `SIMULATION_SEED=n` runs one seed and prints its faults; with `SIMULATION_STEPS=1` also its requests.
//! `SIMULATION_SEEDS=n` runs n seeds, beginning with `SIMULATION_FROM=n`.

mod coordination;
mod faults;
mod invariants;
mod probe;
mod requests;
mod scene;
mod servers;
mod workers;
mod world;
mod wrong_answers;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clickhouse_copier::coordinator::MemoryCoordinator;
use clickhouse_copier::operations::cleanup::{Cleaner, Request};
use clickhouse_copier::planning::errors::RunError;
use clickhouse_copier::runtime::random::Randomness;
use clickhouse_copier::runtime::signals::Interrupt;
use clickhouse_copier::task::{GivenSecrets, TaskText};
use clickhouse_copier::worker;
use clickhouse_copier::worker::context::WorkerOptions;
use clickhouse_copier::worker::ending::Ending;
use clickhouse_copier::worker::launch::Launch;
use clickhouse_copier::worker::limits::concurrency::Jobs;
use clickhouse_copier::worker::retry_policy::RetryPolicy;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

use coordination::SimulatedCoordinator;
use faults::{FAULTS, FaultCounts, RandomFaults};
use requests::Servers;
use scene::{Scene, Second};
use workers::SimulatedWorker;
use world::{DisabledGuard, SESSION, World, task_path};
use wrong_answers::{WRONG_ANSWERS, WrongAnswer};

const SEEDS: u64 = 400;
/// The number of seeds that are repeated with the tables of the local coordinator.
const SEEDS_OVER_SQLITE: u64 = 300;
/// How often a worker that ended is started again. A last worker without faults follows.
const LIVES: usize = 4;

/// Creates the coordinator: in memory or over SQLite.
type Nodes = fn() -> MemoryCoordinator;

/// The result of a seed.
struct Outcome {
    fired: FaultCounts,
    trace: (u64, u64),
    /// Whether every task was finished.
    finished: bool,
}

/// Returns the text of the file of a task.
fn description(scene: &Scene, task: usize) -> TaskText {
    TaskText::new(scene.task(task, None), "task.xml")
}

async fn work(
    world: Arc<World>,
    task: usize,
    name: String,
    worker: Arc<SimulatedWorker>,
    interrupt: Interrupt,
) -> Result<Ending, RunError> {
    let seed = world.faults().seed();
    let launch = Launch {
        coordinator: Arc::new(SimulatedCoordinator { world: world.clone(), worker: worker.clone() }),
        client: Arc::new(Servers { world: world.clone(), worker, promised: Mutex::default() }),
        secrets: Arc::new(GivenSecrets::default()),
        task_path: task_path(task),
        description: Some(description(&world.scene, task).parse(&GivenSecrets::default()).expect("a task")),
        upload_force: false,
        agreed: None,
        incremental: world.is_incremental(),
        worker_options: WorkerOptions {
            retry: RetryPolicy {
                piece_attempts: 5,
                publication_attempts: 5,
                rounds: 1,
                first_pause: Duration::from_millis(500),
            },
            stall_timeout: clickhouse_copier::client::STALL_TIMEOUT,
            copy_fault_probability: 0.0,
            move_fault_probability: 0.0,
            jobs: if world.scene.jobs == 3 { Jobs::Adaptive } else { Jobs::Fixed(world.scene.jobs) },
            safe_mode: false,
        },
        host: "here".into(),
        worker: name,
        randomness: Randomness::seeded(seed),
    };
    worker::run(launch, &interrupt, async || Ok(())).await.map(|summary| summary.ending)
}

/// Runs one worker process until it ends. Returns its result, or nothing if it crashed.
async fn run_worker(world: &Arc<World>, task: usize, name: String) -> Option<Result<Ending, RunError>> {
    let (sender, interrupt) = Interrupt::manual();
    let worker = SimulatedWorker::new(name.clone(), task, sender);
    world.add_worker(&worker);
    let mut work = spawn_local(work(world.clone(), task, name, worker.clone(), interrupt));
    tokio::select! {
        biased;
        ended = &mut work => {
            world.remove_worker(&worker);
            Some(ended.expect("no worker panics"))
        }
        () = worker.crashed() => {
            work.abort();
            let _ = work.await;
            world.remove_worker(&worker);
            let last_sign = world.faults().between(Duration::ZERO, SESSION);
            world.expire_later(worker.session_ids(), last_sign);
            None
        }
    }
}

/// Runs a worker, and starts it again as long as it ends before the task is finished.
async fn run_worker_repeatedly(world: Arc<World>, task: usize, slot: usize) {
    for life in 0..LIVES {
        let ended = run_worker(&world, task, format!("w{task}.{slot}.{life}{}", world.suffix())).await;
        if matches!(ended, Some(Ok(ending)) if ending.is_end()) {
            return;
        }
        let pause = world.faults().between(Duration::from_millis(10), Duration::from_secs(60));
        sleep(pause).await;
    }
}

/// Copies everything; then, in some seeds, changes the source and copies the changes.
async fn copy_all_passes(world: &Arc<World>) -> Result<bool, String> {
    let finished = copy_one_pass(world).await?;
    if !finished || world.scene.later.is_none() || !world.gone().is_empty() {
        return Ok(finished);
    }
    world.change_source().await;
    copy_one_pass(world).await
}

async fn copy_one_pass(world: &Arc<World>) -> Result<bool, String> {
    let mut workers = Vec::new();
    for task in 0..world.scene.tasks() {
        for slot in 0..world.scene.workers {
            workers.push(spawn_local(run_worker_repeatedly(world.clone(), task, slot)));
        }
    }
    for worker in workers {
        worker.await.map_err(|panic| panic.to_string())?;
    }
    world.stop_faults().await;
    let mut all_finished = true;
    for task in 0..world.scene.tasks() {
        let ended = run_worker(world, task, format!("w{task}.last{}", world.suffix())).await;
        let finished = matches!(ended, Some(Ok(Ending::Finished | Ending::WasFinished)));
        all_finished &= finished;
        if world.wrong_answer.is_some() {
            if finished {
                world.check_accounted()?;
            }
            continue;
        }
        world.check_end(task, matches!(ended, Some(Ok(ending)) if ending.is_end()))?;
        clean(world, task).await?;
        // A task may fail if a server is lost, or if rows of another task are in the target.
        let excused = !world.gone().is_empty() || world.scene.second == Second::Same;
        if !finished && !excused {
            return Err(format!(
                "the last worker of task {task} could not finish it: {ended:?}",
                ended = ended.map(|ended| ended.map_err(|error| error.to_string()))
            ));
        }
    }
    Ok(all_finished)
}

/// Cleans up after a task: removes tables that late statements created, and nothing else.
async fn clean(world: &Arc<World>, task: usize) -> Result<(), String> {
    let request = Request {
        coordinator: Arc::new(world.coordinator.clone()),
        client: Arc::new(world.client.clone()),
        secrets: Arc::new(GivenSecrets::default()),
        task_path: task_path(task),
        description: Some(description(&world.scene, task)),
        task_id: None,
        remove: true,
        host: "here".into(),
    };
    let (_sender, interrupt) = Interrupt::manual();
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
    world.check_clean(task)
}

fn simulate(seed: u64, nodes: Nodes, broken: Option<DisabledGuard>) -> Result<Outcome, String> {
    simulate_scene(
        seed,
        nodes,
        (broken, None),
        Scene::new(&mut RandomFaults::part(seed, 0)).with_later(&mut RandomFaults::part(seed, 2)),
    )
}

fn simulate_scene(
    seed: u64,
    nodes: Nodes,
    told: (Option<DisabledGuard>, Option<WrongAnswer>),
    scene: Scene,
) -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| error.to_string())?;
    LocalSet::new().block_on(&runtime, async {
        let world = World::new(scene, RandomFaults::new(RandomFaults::part(seed, 1)), nodes(), told).await;
        let mut violation = world.violation.subscribe();
        let finished = tokio::select! {
            biased;
            violated = violation.wait_for(Option::is_some) => {
                Err(violated.ok().and_then(|violation| violation.clone()).unwrap_or_default())
            }
            ended = copy_all_passes(&world) => ended,
        };
        let finished = finished.map_err(|why| format!(
            "seed {seed}: {why}\n  in {:?}\nrun it alone: SIMULATION_SEED={seed} cargo test --test simulation faults -- --nocapture",
            world.scene
        ))?;
        let outcome = Outcome { fired: world.faults().fired.clone(), trace: world.trace(), finished };
        Ok(outcome)
    })
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs seeds on all cores until one fails. Returns the faults that happened, and how many seeds finished all their tasks.
fn simulate_all(seeds: std::ops::Range<u64>, nodes: Nodes) -> Result<(FaultCounts, u64), String> {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let finished = AtomicU64::new(0);
    let results = Mutex::new((FaultCounts::new(), BTreeMap::new()));
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
fn faults_never_lose_or_double_a_row() {
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

/// The same seeds with the tables and statements of the local coordinator. All requests must be the same.
#[test]
fn faults_over_sqlite_never_lose_or_double_a_row() {
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
fn a_seed_gives_the_same_run_every_time() {
    for seed in 0..200 {
        let trace = || {
            simulate(seed, MemoryCoordinator::new, None)
                .map(|outcome| outcome.trace)
                .unwrap_or_else(|why| panic!("{why}"))
        };
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}

/// Tests the simulation itself: when a guard is disabled, a seed fails and names the violated invariant.
fn finds_violation_without(broken: DisabledGuard, by: &str) {
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
fn without_comparing_versions_the_simulation_finds_a_violation() {
    finds_violation_without(DisabledGuard::Comparing, "went back");
}

#[test]
fn without_separate_tables_for_each_attempt_the_simulation_finds_a_violation() {
    finds_violation_without(DisabledGuard::Fencing, "I4");
}

#[test]
fn without_counting_the_simulation_finds_a_violation() {
    finds_violation_without(DisabledGuard::Counting, "I3");
}

#[test]
fn without_keeping_staging_tables_the_simulation_finds_a_violation() {
    finds_violation_without(DisabledGuard::StagingKept, "I4");
}

#[test]
fn without_replacing_partitions_the_simulation_finds_a_violation() {
    finds_violation_without(DisabledGuard::Replacing, "I1");
}

/// Runs one task for one pass on servers that give wrong answers.
fn simulate_lie(
    seed: u64,
    wrong_answer: WrongAnswer,
    broken: Option<DisabledGuard>,
) -> Option<Result<Outcome, String>> {
    let scene = Scene::new(&mut RandomFaults::part(seed, 0));
    let alone = scene.second == Second::None;
    alone.then(|| simulate_scene(seed, MemoryCoordinator::new, (broken, Some(wrong_answer)), scene))
}

#[test]
fn wrong_answers_of_servers_are_detected() {
    for wrong_answer in WRONG_ANSWERS {
        let (mut found_out, mut finished) = (0, 0);
        for outcome in (0..40).filter_map(|seed| simulate_lie(seed, wrong_answer, None)) {
            match outcome.unwrap_or_else(|why| panic!("{wrong_answer:?}: {why}")) {
                Outcome { finished: true, .. } => finished += 1,
                _ => found_out += 1,
            }
        }
        println!("{wrong_answer:?}: found out in {found_out} seeds, without effect in {finished}");
        assert!(found_out > 5, "{wrong_answer:?} hardly ever has an effect");
    }
}

/// Without the account, a task on servers that give wrong answers finishes with other rows.
#[test]
fn without_the_account_the_simulation_finds_a_violation() {
    for wrong_answer in [WrongAnswer::HiddenPartition, WrongAnswer::LostPartition] {
        let mut outcomes =
            (0..150).filter_map(|seed| simulate_lie(seed, wrong_answer, Some(DisabledGuard::Accounting)));
        let violated = |outcome: &Result<Outcome, String>| matches!(outcome, Err(why) if why.contains("I7"));
        assert!(
            outcomes.any(|outcome| violated(&outcome)),
            "{wrong_answer:?}: without the account, I7 is never violated"
        );
    }
}
