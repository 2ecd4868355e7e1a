//! What was measured, kept as JSON: the table and the plot are made of it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde::{Deserialize, Serialize};

use crate::usage::Usage;
use crate::{Outcome, plot, table};

/// All that was measured.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// Of the machine of the last measurement.
    pub cores: usize,
    /// Whether the servers' files were in memory then, and not on a disk.
    pub in_memory: bool,
    pub cases: Vec<Compared>,
    pub verification: Option<Verification>,
}

/// One case: medians of all runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Compared {
    pub case: String,
    pub title: String,
    /// Elements in the root of our task that the original did not get.
    pub elements: String,
    /// The most that ours is to take, as a part of the original's time.
    pub goal: f64,
    pub rows: u64,
    /// Uncompressed.
    pub bytes: u64,
    pub workers: u32,
    /// The number with which the original is fastest …
    pub original_workers: u32,
    /// … of these, each with the seconds of one run.
    pub tried: Vec<(u32, f64)>,
    /// Of each run, in order.
    pub ours_seconds: Vec<f64>,
    pub original_seconds: Vec<f64>,
    pub ours: Usage,
    pub original: Usage,
    /// One run of ours with two workers.
    pub two_of_ours: Usage,
}

impl Compared {
    /// Time of ours as a part of the original's.
    pub fn time(&self) -> f64 {
        self.ours.wall / self.original.wall
    }
}

/// Medians of the same copy with each `<verify>`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Verification {
    pub rows: u64,
    pub none: Usage,
    pub count: Usage,
    pub checksum: Usage,
}

impl Results {
    /// Nothing; with `UPDATE_DOCS` what was measured before, so that cases can be measured again one by one.
    pub fn read() -> Outcome<Results> {
        if !is_for_docs() {
            return Ok(Results::default());
        }
        match fs::read_to_string(folder().join("speed.json")) {
            Ok(text) => Ok(serde_json::from_str(&text)?),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Results::default()),
            Err(e) => Err(e.into()),
        }
    }

    /// Takes the place of an earlier measurement of the same case.
    pub fn add(&mut self, compared: Compared) {
        self.cases.retain(|old| old.case != compared.case);
        self.cases.push(compared);
        self.cases.sort_by(|a, b| a.case.cmp(&b.case));
    }

    /// Writes `speed.json`, `speed.md` and `speed.svg`; with `UPDATE_DOCS` the table of `docs/performance.md` instead of `speed.md`.
    pub fn write(&mut self) -> Outcome<()> {
        self.cores = std::thread::available_parallelism()?.get();
        self.in_memory = statfs(&std::env::temp_dir())?.filesystem_type() == TMPFS_MAGIC;
        let folder = folder();
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("speed.json"), serde_json::to_string_pretty(self)? + "\n")?;
        plot::draw(self, &folder.join("speed.svg"))?;
        let text = table::markdown(self);
        if is_for_docs() {
            return table::into_page(&text);
        }
        Ok(fs::write(folder.join("speed.md"), text)?)
    }
}

/// Where the results go.
pub fn folder() -> PathBuf {
    if is_for_docs() { root().join("docs") } else { Path::new(env!("CARGO_TARGET_TMPDIR")).join("speed") }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn is_for_docs() -> bool {
    std::env::var_os("UPDATE_DOCS").is_some()
}
