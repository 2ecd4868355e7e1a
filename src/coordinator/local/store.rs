//! The database file: statements to SQLite, and the meaning of its answers.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};

use super::super::{Conflict, NodeKind, Op, Stored, Version, path};
use super::state_dir::{FileMark, Number};

/// Marks a file as ours: "copy".
const APPLICATION: i32 = 0x636f_7079;
/// Version of the tables below.
const SCHEMA_VERSION: i32 = 1;
/// Number of changes kept for sessions that read late.
const MAX_LOG_ENTRIES: i64 = 10_000;

/// A node is found by its parent and its name; that index keeps a node's children together.
const TABLES: &str = "
    CREATE TABLE node (parent TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL, version INTEGER NOT NULL,
                       owner INTEGER, UNIQUE (parent, name));
    CREATE INDEX node_of_session ON node (owner) WHERE owner IS NOT NULL;
    CREATE TABLE session (number INTEGER PRIMARY KEY AUTOINCREMENT, process INTEGER NOT NULL);
    CREATE TABLE change (number INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL, path TEXT NOT NULL);
    CREATE TABLE origin (mark INTEGER NOT NULL);
    INSERT INTO node (parent, name, data, version) VALUES ('', '', x'', 0);
";

/// Why a request failed.
#[derive(Debug)]
pub(super) enum StoreError {
    /// The session has ended.
    Over,
    /// This step does not fit.
    Conflict(usize, Conflict),
    /// No coordinator supports this step.
    Refused(usize, &'static str),
    /// Others have been writing for too long.
    Busy,
    /// The disk is full.
    Full,
    /// The file cannot be used: the session ends, and a new one would fail too.
    FileProblem(FileProblem),
}

/// Why the file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FileProblem {
    /// SQLite reports that the content is damaged.
    Damaged(String),
    /// The file held records, and is gone or empty.
    Gone(String),
    /// It is not the file that was created here.
    Replaced,
    /// It belongs to another program.
    Foreign,
    /// Another version of this program created it.
    OtherForm(i32),
    /// The file system or the operating system reports an error.
    System(String),
}

impl FileProblem {
    /// Returns the cause, for the user.
    pub(crate) fn why(&self) -> String {
        match self {
            Self::Damaged(what) => format!("the file is damaged ({what})"),
            Self::Gone(what) => what.clone(),
            Self::Replaced => "it is another file than the one that was made in this folder".into(),
            Self::Foreign => "it is a file of another program".into(),
            Self::OtherForm(version) => format!("it was written by another version of this program (form {version})"),
            Self::System(what) => what.clone(),
        }
    }

    /// Returns what the user can do.
    pub(crate) fn todo(&self) -> &'static str {
        match self {
            Self::Damaged(_) | Self::Gone(_) | Self::Replaced => {
                "Stop all workers of this machine. Bring the folder back from a copy of it; or move the whole folder away, and the \
                 same command begins a new task. What was published stays on the target: the new task replaces it where the task \
                 file says <if_target_not_empty>replace</if_target_not_empty>. \"The state directory is lost\" in \
                 docs/troubleshooting.md has the steps"
            }
            Self::Foreign => "Choose another folder with --state-dir",
            Self::OtherForm(_) => "Use the version that began the task",
            Self::System(_) => "Mend that, then run the same command again",
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy) => Self::Busy,
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::FileProblem(FileProblem::Damaged(error.to_string()))
            }
            // Our tables or columns are missing, or hold values that we never write.
            Some(ErrorCode::Unknown | ErrorCode::TypeMismatch) | None => {
                Self::FileProblem(FileProblem::Damaged(error.to_string()))
            }
            _ => Self::FileProblem(FileProblem::System(error.to_string())),
        }
    }
}

impl From<FileProblem> for StoreError {
    fn from(broken: FileProblem) -> Self {
        Self::FileProblem(broken)
    }
}

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Created = 1,
    Set = 2,
    Deleted = 3,
}

/// A change in the log.
#[derive(Debug)]
pub(super) struct LoggedChange {
    pub(crate) number: i64,
    pub(crate) kind: Kind,
    pub(crate) path: String,
}

pub(super) struct Store(Connection);

impl Store {
    /// Opens the file, which exists, and gives it its form when it is empty. To be called by one process at a time.
    pub(crate) fn open(file: &Path, lock_timeout: Duration) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(file, flags)?;
        connection.busy_timeout(lock_timeout)?;
        let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            let what = format!("this file system can't share memory between processes (journal: {mode})");
            return Err(StoreError::FileProblem(FileProblem::System(what)));
        }
        // See the module for why not less.
        connection.pragma_update(None, "synchronous", "FULL")?;
        create_tables(&mut connection)?;
        Ok(Self(connection))
    }

    /// Returns a number that changes when another connection has written.
    pub(crate) fn data_version(&self) -> Result<i64, StoreError> {
        Ok(self.0.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?)
    }

    /// Returns the file's mark, which distinguishes it from a file created in its place. The numbers of files are
    /// reused, the mark is not.
    pub(crate) fn mark(&self) -> Result<FileMark, StoreError> {
        Ok(self.0.query_row("SELECT mark FROM origin", [], |row| row.get(0))?)
    }

    /// Begins a session. Others know of it once `lock_session`, which gets its number, has succeeded.
    pub(crate) fn begin<T>(
        &mut self,
        lock_session: impl FnOnce(Number, &[Number]) -> std::io::Result<T>,
    ) -> Result<(Number, T), StoreError> {
        let writing = self.write()?;
        let known = session_numbers(&writing)?;
        writing.execute("INSERT INTO session (process) VALUES (?)", [std::process::id()])?;
        let number = writing.last_insert_rowid();
        let lock = lock_session(number, &known)
            .map_err(|error| FileProblem::System(format!("cannot lock a file beside it: {error}")))?;
        writing.commit()?;
        Ok((number, lock))
    }

    /// Returns all open sessions.
    pub(crate) fn sessions(&self) -> Result<Vec<Number>, StoreError> {
        Ok(session_numbers(&self.0)?)
    }

    /// Ends a session, removes its nodes and returns whether the session existed.
    pub(crate) fn end(&mut self, session: Number) -> Result<bool, StoreError> {
        let writing = self.write()?;
        let owned = {
            let mut asked = writing.prepare_cached("SELECT parent, name FROM node WHERE owner = ?")?;
            let found = asked.query_map([session], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            found.collect::<Result<Vec<_>, _>>()?
        };
        for (parent, name) in owned {
            delete(&writing, &parent, &name)?;
        }
        let ended = writing.execute("DELETE FROM session WHERE number = ?", [session])? > 0;
        writing.commit()?;
        Ok(ended)
    }

    /// Runs queries at one instant for an open session.
    pub(crate) fn read<T>(
        &mut self,
        session: Number,
        ask: impl FnOnce(&Tree) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let reading = self.0.transaction()?;
        if !is_alive(&reading, session)? {
            return Err(StoreError::Over);
        }
        Ok(ask(&Tree(&reading))?)
    }

    /// Applies all steps or none.
    pub(crate) fn commit(&mut self, session: Number, ops: &[Op]) -> Result<(), StoreError> {
        let writing = self.write()?;
        if !is_alive(&writing, session)? {
            return Err(StoreError::Over);
        }
        for (at, op) in ops.iter().enumerate() {
            match step(&writing, session, op)? {
                Step::Done => {}
                Step::Conflict(why) => return Err(StoreError::Conflict(at, why)),
                Step::Refused(what) => return Err(StoreError::Refused(at, what)),
            }
        }
        Ok(writing.commit()?)
    }

    #[cfg(test)]
    pub(crate) fn limit_pages(&self, pages: u32) {
        self.0.pragma_update(None, "max_page_count", pages).expect("SQLite takes a limit");
    }

    /// Returns the changes after `seen`; `None` if they are so old that the log no longer holds them.
    pub(crate) fn changes(&self, seen: i64) -> Result<Option<Vec<LoggedChange>>, StoreError> {
        let mut asked =
            self.0.prepare_cached("SELECT number, kind, path FROM change WHERE number > ? ORDER BY number")?;
        let found = asked.query_map([seen], |row| {
            let kind = match row.get(1)? {
                1 => Kind::Created,
                2 => Kind::Set,
                _ => Kind::Deleted,
            };
            Ok(LoggedChange { number: row.get(0)?, kind, path: row.get(2)? })
        })?;
        let found = found.collect::<Result<Vec<_>, _>>()?;
        let whole = found.first().is_none_or(|first| first.number == seen + 1);
        Ok(whole.then_some(found))
    }

    fn write(&mut self) -> Result<Transaction<'_>, StoreError> {
        // Locks from the first statement on: a reader that begins to write can be refused if another was faster.
        Ok(self.0.transaction_with_behavior(TransactionBehavior::Immediate)?)
    }
}

/// The tree of nodes at one instant.
pub(super) struct Tree<'a>(&'a Connection);

impl Tree<'_> {
    pub(crate) fn get(&self, path: &str) -> rusqlite::Result<Option<Stored>> {
        let (parent, name) = split(path);
        let mut asked = self.0.prepare_cached("SELECT data, version, owner FROM node WHERE parent = ? AND name = ?")?;
        let stored = |row: &rusqlite::Row<'_>| {
            let owner: Option<Number> = row.get(2)?;
            Ok(Stored { data: row.get(0)?, version: row.get(1)?, ephemeral_owner: owner.map(session_name) })
        };
        asked.query_row([parent, name], stored).optional()
    }

    pub(crate) fn children(&self, path: &str) -> rusqlite::Result<Option<Vec<String>>> {
        if node(self.0, path)?.is_none() {
            return Ok(None);
        }
        // SQLite compares text byte by byte, as Rust does.
        let mut asked = self.0.prepare_cached("SELECT name FROM node WHERE parent = ? AND name != '' ORDER BY name")?;
        asked.query_map([path], |row| row.get(0))?.collect::<Result<_, _>>().map(Some)
    }

    /// Returns the number of the last change.
    pub(crate) fn last_change(&self) -> rusqlite::Result<i64> {
        self.0.prepare_cached("SELECT coalesce(max(number), 0) FROM change")?.query_row([], |row| row.get(0))
    }
}

/// What only the double needs.
#[cfg(any(test, feature = "doubles"))]
impl Store {
    /// A database in memory, of one connection.
    pub(crate) fn in_memory() -> Result<Self, StoreError> {
        let mut connection = Connection::open_in_memory()?;
        create_tables(&mut connection)?;
        Ok(Self(connection))
    }

    /// Begins a session of this number, unless it has.
    pub(crate) fn ensure_session(&mut self, session: Number) -> Result<(), StoreError> {
        self.0.prepare_cached("INSERT OR IGNORE INTO session (number, process) VALUES (?, 0)")?.execute([session])?;
        Ok(())
    }

    /// Runs queries at one instant, without a session.
    pub(crate) fn read_any<T>(&self, ask: impl FnOnce(&Tree) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        Ok(ask(&Tree(&self.0))?)
    }
}

#[cfg(any(test, feature = "doubles"))]
impl Tree<'_> {
    /// Returns the paths of all nodes.
    pub(crate) fn paths(&self) -> rusqlite::Result<Vec<String>> {
        let path = |row: &rusqlite::Row<'_>| {
            let (parent, name): (String, String) = (row.get(0)?, row.get(1)?);
            Ok(if name.is_empty() { "/".to_owned() } else { path::child(&parent, &name) })
        };
        self.0.prepare_cached("SELECT parent, name FROM node")?.query_map([], path)?.collect()
    }
}

/// Returns the name of a session.
pub(super) fn session_name(number: Number) -> String {
    format!("{number:#x}")
}

/// Creates the tables in an empty file; refuses a file of another program or version.
fn create_tables(connection: &mut Connection) -> Result<(), StoreError> {
    let forming = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let application: i32 = forming.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let create_tables: i32 = forming.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = forming.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
    match (application, create_tables) {
        (APPLICATION, SCHEMA_VERSION) => return Ok(()),
        (0, 0) if tables == 0 => {}
        (APPLICATION, newer) => {
            return Err(FileProblem::OtherForm(newer).into());
        }
        _ => return Err(FileProblem::Foreign.into()),
    }
    forming.execute_batch(TABLES)?;
    forming.execute("INSERT INTO origin (mark) VALUES (?)", [rand::random::<i64>()])?;
    forming.pragma_update(None, "application_id", APPLICATION)?;
    forming.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    Ok(forming.commit()?)
}

fn session_numbers(connection: &Connection) -> rusqlite::Result<Vec<Number>> {
    connection.prepare_cached("SELECT number FROM session")?.query_map([], |row| row.get(0))?.collect()
}

fn is_alive(connection: &Connection, session: Number) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM session WHERE number = ?")?.exists([session])
}

enum Step {
    Done,
    Conflict(Conflict),
    Refused(&'static str),
}

fn step(writing: &Transaction<'_>, session: Number, op: &Op) -> rusqlite::Result<Step> {
    let (parent, name) = split(op.path());
    let found = node(writing, op.path())?;
    let (version, data) = match op {
        Op::Create { data, kind, .. } => {
            if name.is_empty() {
                return Ok(Step::Conflict(Conflict::Exists));
            }
            let Some((_, above)) = node(writing, parent)? else { return Ok(Step::Conflict(Conflict::Missing)) };
            if found.is_some() {
                return Ok(Step::Conflict(Conflict::Exists));
            }
            if above.is_some() {
                return Ok(Step::Refused("an ephemeral node can have no children"));
            }
            let owner = (*kind == NodeKind::Ephemeral).then_some(session);
            writing
                .prepare_cached("INSERT INTO node (parent, name, data, version, owner) VALUES (?, ?, ?, 0, ?)")?
                .execute(params![parent, name, data, owner])?;
            log(writing, Kind::Created, op.path())?;
            return Ok(Step::Done);
        }
        Op::Set { version, data, .. } => (version, Some(data)),
        Op::Delete { version, .. } | Op::Check { version, .. } => (version, None),
    };
    let deletes = matches!(op, Op::Delete { .. });
    if deletes && name.is_empty() {
        return Ok(Step::Refused("the root can't be deleted"));
    }
    let Some((now, _)) = found else { return Ok(Step::Conflict(Conflict::Missing)) };
    if version.is_some_and(|version| version != now) {
        return Ok(Step::Conflict(Conflict::Version));
    }
    if let Some(data) = data {
        writing
            .prepare_cached("UPDATE node SET data = ?, version = version + 1 WHERE parent = ? AND name = ?")?
            .execute(params![data, parent, name])?;
        log(writing, Kind::Set, op.path())?;
    }
    if deletes {
        if writing.prepare_cached("SELECT 1 FROM node WHERE parent = ?")?.exists([op.path()])? {
            return Ok(Step::Conflict(Conflict::NotEmpty));
        }
        delete(writing, parent, name)?;
    }
    Ok(Step::Done)
}

fn delete(writing: &Transaction<'_>, parent: &str, name: &str) -> rusqlite::Result<()> {
    writing.prepare_cached("DELETE FROM node WHERE parent = ? AND name = ?")?.execute([parent, name])?;
    log(writing, Kind::Deleted, &path::child(parent, name))
}

fn log(writing: &Transaction<'_>, kind: Kind, path: &str) -> rusqlite::Result<()> {
    writing.prepare_cached("INSERT INTO change (kind, path) VALUES (?, ?)")?.execute(params![kind as i64, path])?;
    let number = writing.last_insert_rowid();
    if number % (MAX_LOG_ENTRIES / 10) == 0 {
        writing.prepare_cached("DELETE FROM change WHERE number <= ?")?.execute([number - MAX_LOG_ENTRIES])?;
    }
    Ok(())
}

/// Returns a node's version and owner.
fn node(connection: &Connection, path: &str) -> rusqlite::Result<Option<(Version, Option<Number>)>> {
    let (parent, name) = split(path);
    connection
        .prepare_cached("SELECT version, owner FROM node WHERE parent = ? AND name = ?")?
        .query_row([parent, name], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// Splits a path as it is stored: parent and name, both empty for the root.
fn split(path: &str) -> (&str, &str) {
    match path::parent(path) {
        Some(parent) => (parent, path.rsplit('/').next().unwrap_or(path)),
        None => ("", ""),
    }
}
