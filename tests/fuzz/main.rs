//! Readers of what others wrote are given mutated inputs: text of task files and configurations, SQL, rows, records, answers of servers.
//! The readers and what they promise stand in `src/fuzzed.rs`. The same readers run under libFuzzer in `fuzz/`, which finds more in hours;
//! this runs everywhere in about a minute and always the same inputs, unless `FUZZ_SEED` says otherwise. `FUZZ_INPUTS=100` takes a
//! hundred times as many.
//!
//! An input that makes a reader panic is printed. One that ends the process or never ends is in the file that its target writes before
//! each input, `target/tmp/fuzz/<target>`; to give it to the reader again: `FUZZ_INPUT=FILE cargo test --test fuzz <target>`.

mod mutation;

use std::fmt::Write as _;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use clickhouse_copier::fuzzed::{TARGETS, Target};
use mutation::Mutator;
use nix::sys::resource::{Resource, setrlimit};
use nix::time::{ClockId, clock_gettime};

/// The seed of the inputs.
const SEED: u64 = 1;
/// The address space of the whole process. A reader that takes memory as an input tells it to ends the process.
const MEMORY: u64 = 4 << 30;
/// The processor time that a reader may take for an input, which is at most [`mutation::LONGEST`] bytes.
const SLOW: Duration = Duration::from_secs(10);
/// After so long without a new input a reader hangs.
const HANGS: Duration = Duration::from_secs(600);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

/// The files of a folder, in the order of their names.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect()
}

/// Gives a reader the inputs of its corpus, and so many that are made of them.
fn fuzz(name: &str, inputs: u64) {
    static LIMIT: Once = Once::new();
    LIMIT.call_once(|| setrlimit(Resource::RLIMIT_AS, MEMORY, MEMORY).unwrap());
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let mut run = Run::of(target);
    if let Some(file) = std::env::var_os("FUZZ_INPUT") {
        return run.read(&file.display().to_string(), &fs::read(&file).unwrap());
    }
    let corpus = files(&root().join("corpus").join(name));
    for (file, input) in &corpus {
        run.read(file, input);
    }
    let seed = number("FUZZ_SEED", SEED);
    println!("{name}: seed {seed}");
    let words = fs::read_to_string(root().join("dictionaries").join(format!("{name}.dict"))).unwrap_or_default();
    let mut mutator = Mutator::new(seed, corpus.into_iter().map(|(_, input)| input).collect(), &words);
    for at in 0..inputs * number("FUZZ_INPUTS", 1) {
        let input = mutator.input();
        run.read(&format!("input {at} of seed {seed}"), &input);
    }
}

/// A reader at work.
struct Run<'t> {
    target: &'t Target,
    /// Where each input is kept while it is read.
    file: PathBuf,
    /// Told of each input.
    watchdog: Sender<()>,
}

impl<'t> Run<'t> {
    fn of(target: &'t Target) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join(target.name);
        let (watchdog, told) = channel();
        let shown = file.display().to_string();
        std::thread::spawn(move || {
            loop {
                match told.recv_timeout(HANGS) {
                    Ok(()) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {
                        eprintln!("a reader hangs: its input is {shown}");
                        std::process::exit(1);
                    }
                }
            }
        });
        Self { target, file, watchdog }
    }

    fn read(&mut self, what: &str, input: &[u8]) {
        self.watchdog.send(()).unwrap();
        fs::write(&self.file, input).unwrap();
        let begun = processor_time();
        let read = catch_unwind(AssertUnwindSafe(|| (self.target.read)(input)));
        let taken = processor_time() - begun;
        let shown = || format!("{what}, {}: {}", self.file.display(), shown(input));
        assert!(read.is_ok(), "the reader of {} panics at {}", self.target.name, shown());
        assert!(taken < SLOW, "the reader of {} takes {taken:?} for {}", self.target.name, shown());
    }
}

/// The processor time of this thread: another test does not add to it.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn shown(input: &[u8]) -> String {
    let mut text = String::new();
    input.escape_ascii().take(2000).for_each(|c| write!(text, "{}", c as char).unwrap());
    text
}

/// A test for each target, with a number of inputs that take a few seconds.
macro_rules! targets {
    ($($name:ident $inputs:literal),* $(,)?) => {
        $(#[test]
        fn $name() {
            fuzz(stringify!($name), $inputs);
        })*

        #[test]
        fn every_fuzz_target_has_a_test_a_corpus_and_a_binary() {
            let tested = [$(stringify!($name)),*];
            // The binaries call these functions, and they are not built with the workspace.
            let called: [fn(&[u8]); TARGETS.len()] = [$(clickhouse_copier::fuzzed::$name),*];
            assert_eq!(called.len(), tested.len());
            let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
            for target in TARGETS {
                assert!(tested.contains(&target.name), "{}", target.name);
                assert!(!files(&root().join("corpus").join(target.name)).is_empty(), "{}", target.name);
                assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{}", target.name);
                let binary = root().join("targets").join(format!("{}.rs", target.name));
                assert!(fs::read_to_string(binary).unwrap().contains(&format!("fuzzed::{}(", target.name)));
            }
            assert_eq!(fs::read_dir(root().join("corpus")).unwrap().count(), TARGETS.len());
        }
    };
}

targets! {
    task_file 12_000,
    configuration 15_000,
    expression 15_000,
    engine 12_000,
    type_name 20_000,
    create_statement 12_000,
    native_stream 25_000,
    compressed_frames 30_000,
    record 25_000,
    plan 15_000,
    server_error 20_000,
    http_answer 2_000,
}
