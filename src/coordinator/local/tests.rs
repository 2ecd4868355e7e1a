use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::{Change, Conflict, Op};
use super::*;

async fn new_coordinator(test: &str) -> (TempCoordinator, String) {
    (TempCoordinator::new(), format!("/{test}"))
}

/// A coordinator with its state directory, which is removed with it.
struct TempCoordinator {
    local: LocalCoordinator,
    _folder: tempfile::TempDir,
}

impl TempCoordinator {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { local: LocalCoordinator::new(folder.path().join("state")), _folder: folder }
    }
}

#[async_trait]
impl Coordinator for TempCoordinator {
    async fn session(&self) -> Result<Arc<dyn Session>, Error> {
        self.local.session().await
    }

    fn place(&self) -> String {
        self.local.place()
    }
}

crate::coordinator_conformance!(new_coordinator);

/// Waits for a change and returns how long it took.
async fn fired(change: Change) -> (Result<(), Error>, Duration) {
    let began = Instant::now();
    let fired = tokio::time::timeout(Duration::from_secs(10), change.fired())
        .await
        .expect("the watch fires within ten seconds");
    (fired, began.elapsed())
}

/// Two coordinators share only the folder, as two processes do.
#[tokio::test]
async fn changes_are_reported_to_other_coordinators_of_the_same_folder() {
    let temp = TempCoordinator::new();
    let other = LocalCoordinator::new(temp.local.file().parent().unwrap());
    let (one, two) = (temp.session().await.unwrap(), other.session().await.unwrap());
    assert_ne!(one.id(), two.id());
    for round in 0..20 {
        let path = format!("/{round}");
        let (_, node) = one.watch(&path).await.unwrap();
        let (_, names) = one.watch_children("/").await.unwrap();
        // The node is gone again when the first session reads, but the change must be reported.
        two.commit(vec![Op::create(&path, ""), Op::delete(&path, 0)]).await.unwrap();
        for (fired, took) in [fired(node).await, fired(names).await] {
            fired.unwrap();
            assert!(took < Duration::from_secs(2), "{took:?}");
        }
    }
    two.commit(vec![Op::ephemeral("/lock", "")]).await.unwrap();
    let taken = one.commit(vec![Op::ephemeral("/lock", "")]).await.unwrap_err();
    assert_eq!(taken.conflict(), Some(Conflict::Exists));
}

/// A reader that needs older changes than the log contains gets no changes.
#[test]
fn a_shortened_log_of_changes_is_reported_as_incomplete() {
    let folder = tempfile::tempdir().unwrap();
    let state_dir = StateDir::new(folder.path());
    drop(state_dir.open().unwrap());
    let mut store = store::Store::open(state_dir.file(), LOCK_TIMEOUT).unwrap();
    let (session, ()) = store.begin(|_, _| Ok(())).unwrap();
    let sets = |count| vec![Op::set("/", "", None); count];
    store.commit(session, &sets(5_000)).unwrap();
    assert_eq!(store.changes(0).unwrap().unwrap().len(), 5_000);
    store.commit(session, &sets(6_500)).unwrap();
    assert!(store.changes(0).unwrap().is_none());
    assert!(store.changes(999).unwrap().is_none());
    assert_eq!(store.changes(1_000).unwrap().unwrap().len(), 10_500);
    assert_eq!(store.changes(11_500).unwrap().unwrap().len(), 0);
}

/// A session that others ended can neither write nor read, however late it notices that.
#[test]
fn a_session_that_others_ended_cannot_write() {
    let folder = tempfile::tempdir().unwrap();
    let state_dir = StateDir::new(folder.path());
    drop(state_dir.open().unwrap());
    let open = || store::Store::open(state_dir.file(), LOCK_TIMEOUT).unwrap();
    let (mut frozen, mut other) = (open(), open());
    let (session, ()) = frozen.begin(|_, _| Ok(())).unwrap();
    frozen.commit(session, &[Op::ephemeral("/lock", "")]).unwrap();
    assert!(other.end(session).unwrap());
    assert!(!other.end(session).unwrap());
    let written = frozen.commit(session, &[Op::create("/late", "")]);
    assert!(matches!(written, Err(store::StoreError::Over)), "{written:?}");
    let read = frozen.read(session, |tree| tree.get("/lock"));
    assert!(matches!(read, Err(store::StoreError::Over)), "{read:?}");
    assert_eq!(other.read_any(|tree| tree.children("/")).unwrap(), Some(vec![]));
}

/// SQLite refuses to grow the file here, as it does when the disk is full.
#[tokio::test]
async fn a_full_disk_changes_nothing_and_is_named_as_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let state_dir = StateDir::new(folder.path());
    drop(state_dir.open().unwrap());
    let mut store = store::Store::open(state_dir.file(), LOCK_TIMEOUT).unwrap();
    let (session, ()) = store.begin(|_, _| Ok(())).unwrap();
    let large = || vec![Op::create("/a", ""), Op::create("/b", vec![0; 100_000])];
    store.limit_pages(20);
    let failure = store.commit(session, &large()).unwrap_err();
    let error = session_thread::error("/state", "/b", failure);
    assert!(matches!(&error, Error::Refused { what, .. } if what.contains("no room left on its disk")), "{error}");
    assert_eq!(store.read_any(|tree| tree.children("/")).unwrap(), Some(vec![]));
    store.limit_pages(10_000);
    store.commit(session, &large()).unwrap();
}

#[tokio::test]
async fn other_users_cannot_read_the_state_file() {
    let temp = TempCoordinator::new();
    let _session = temp.session().await.unwrap();
    let file = temp.local.file();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    for ending in ["", "-wal", "-shm"] {
        let file = format!("{}{ending}", file.display());
        assert_eq!(mode(Path::new(&file)), 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_removed_state_file_ends_the_session_and_is_not_created_again() {
    let temp = TempCoordinator::new();
    let session = temp.session().await.unwrap();
    session.commit(vec![Op::create("/a", "")]).await.unwrap();
    let (_, never) = session.watch("/a").await.unwrap();
    std::fs::remove_dir_all(temp.local.file().parent().unwrap()).unwrap();
    let lost = session.commit(vec![Op::set("/a", "", None)]).await.unwrap_err();
    assert!(lost.to_string().contains("the file is gone") && !lost.is_retriable(), "{lost}");
    assert_eq!(fired(never).await.0, Err(lost));
    assert!(session.is_lost());
    let refused = temp.session().await.err().unwrap().to_string();
    assert!(refused.contains("removed while this worker ran"), "{refused}");
    // The same if somebody has created another file.
    drop(LocalCoordinator::new(temp.local.file().parent().unwrap()).session().await.unwrap());
    let refused = temp.session().await.err().unwrap().to_string();
    assert!(refused.contains("another file than"), "{refused}");
}

/// A worker that waits gets the error too, and does not open sessions again and again.
#[tokio::test]
async fn a_damaged_state_file_ends_every_open_session() {
    let temp = TempCoordinator::new();
    let session = temp.session().await.unwrap();
    let nodes = (0..200).map(|i| Op::create(format!("/{i}"), vec![b'x'; 2000])).collect();
    session.commit(nodes).await.unwrap();
    // All content moves from the log into the file.
    let writer = rusqlite::Connection::open(temp.local.file()).unwrap();
    writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let (_, never) = session.watch("/7").await.unwrap();
    damage(&temp.local.file());
    let reading = async || {
        for i in 0..200 {
            session.get(&format!("/{i}")).await?;
        }
        session.commit(vec![Op::set("/7", "", None)]).await
    };
    let lost = reading().await.unwrap_err();
    assert!(matches!(&lost, Error::Unusable { why, .. } if why.contains("damaged")), "{lost}");
    assert!(lost.to_string().contains("<if_target_not_empty>replace") && !lost.is_retriable(), "{lost}");
    assert_eq!(fired(never).await.0, Err(lost.clone()));
    assert_eq!(session.lost().await, lost);
    drop(writer);
}

/// Overwrites everything after the header of a database.
fn damage(file: &Path) {
    let bytes = std::fs::metadata(file).unwrap().len();
    let mut open = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    std::io::Seek::seek(&mut open, std::io::SeekFrom::Start(100)).unwrap();
    open.write_all(&vec![0xa5; usize::try_from(bytes).unwrap() - 100]).unwrap();
}

/// A task that starts without records would not know what it has published.
#[tokio::test]
async fn a_lost_or_replaced_state_file_is_refused() {
    let temp = TempCoordinator::new();
    let (file, folder) = (temp.local.file(), temp.local.file().parent().unwrap().to_owned());
    let open = async || LocalCoordinator::new(&folder).session().await.map(|_| ());
    let session = temp.session().await.unwrap();
    session.commit(vec![Op::create("/a", "")]).await.unwrap();
    session.close().await;
    let whole = std::fs::read(&file).unwrap();
    let without_log = || ["-wal", "-shm"].map(|end| std::fs::remove_file(format!("{}{end}", file.display())).ok());
    without_log();
    std::fs::write(&file, "").unwrap();
    let emptied = open().await.unwrap_err();
    std::fs::remove_file(&file).unwrap();
    let removed = open().await.unwrap_err();
    for error in [emptied, removed] {
        assert!(matches!(&error, Error::Unusable { why, .. } if why.contains("empty or was removed")), "{error}");
    }
    // The file of another folder.
    let other = TempCoordinator::new();
    other.session().await.unwrap().close().await;
    std::fs::copy(other.local.file(), &file).unwrap();
    let replaced = open().await.unwrap_err();
    assert!(matches!(&replaced, Error::Unusable { why, .. } if why.contains("another file")), "{replaced}");
    // The folder's own file is accepted again.
    without_log();
    std::fs::write(&file, whole).unwrap();
    open().await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_not_a_state_file_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let refused = async |text: &[u8]| {
        std::fs::write(folder.path().join(LocalCoordinator::FILE), text).unwrap();
        LocalCoordinator::new(folder.path()).session().await.err().unwrap().to_string()
    };
    let message = refused(&[b'x'; 5000]).await;
    assert!(message.contains("not a database"), "{message}");
    let foreign = rusqlite::Connection::open(folder.path().join("foreign")).unwrap();
    foreign.execute_batch("CREATE TABLE t (a)").unwrap();
    let message = refused(&std::fs::read(folder.path().join("foreign")).unwrap()).await;
    assert!(message.contains("another program"), "{message}");
    foreign.execute_batch(&format!("PRAGMA application_id = {}; PRAGMA user_version = 9", 0x636f_7079)).unwrap();
    let message = refused(&std::fs::read(folder.path().join("foreign")).unwrap()).await;
    assert!(message.contains("another version"), "{message}");

    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = LocalCoordinator::new(&file).session().await.err().unwrap();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

/// Another process with a session in a folder; it has created the ephemeral node `/lock`.
struct Holder {
    child: Child,
    output: BufReader<ChildStdout>,
}

const FOLDER: &str = "CLICKHOUSE_COPIER_TEST_STATE_DIR";
/// How long a frozen process's session lives in these tests.
const SHORT: Duration = Duration::from_millis(500);

impl Holder {
    fn new(folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "coordinator::local::tests::holder", "--ignored", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut holder = Self { child, output };
        holder.wait_for("holding");
        holder
    }

    /// Waits for a line that contains a word, and returns the text after the word.
    fn wait_for(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the process ended without {word:?}");
            if let Some((_, text)) = line.split_once(word) {
                return text.trim().to_owned();
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The test that a [`Holder`] runs as its process.
#[tokio::test]
#[ignore = "a process for other tests"]
async fn holder() {
    let folder = std::env::var(FOLDER).expect("started by another test");
    let session = LocalCoordinator::new(folder).with_frozen(SHORT).session().await.unwrap();
    session.commit(vec![Op::ephemeral("/lock", "")]).await.unwrap();
    println!("holding");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    println!(
        "late write: {:?}",
        session.commit(vec![Op::create("/late", "")]).await.map_err(|error| error.to_string())
    );
}

#[tokio::test]
async fn ephemeral_nodes_of_a_killed_process_are_deleted_at_once() {
    let temp = TempCoordinator::new();
    let session = temp.session().await.unwrap();
    for _ in 0..5 {
        let mut holder = Holder::new(temp.local.file().parent().unwrap());
        let (held, gone) = session.watch("/lock").await.unwrap();
        assert!(held.unwrap().ephemeral_owner.is_some());
        holder.child.kill().unwrap();
        let (outcome, took) = fired(gone).await;
        outcome.unwrap();
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert_eq!(session.get("/lock").await.unwrap(), None);
    }
    // No session was open when this process died.
    let holder = Holder::new(temp.local.file().parent().unwrap());
    session.close().await;
    drop(holder);
    assert_eq!(temp.session().await.unwrap().get("/lock").await.unwrap(), None);
}

#[tokio::test]
async fn a_frozen_process_loses_its_session_and_notices_that_when_it_continues() {
    let temp = TempCoordinator::new();
    let folder = temp.local.file().parent().unwrap().to_owned();
    let session = LocalCoordinator::new(&folder).with_frozen(SHORT).session().await.unwrap();
    let mut holder = Holder::new(&folder);
    let (_, gone) = session.watch("/lock").await.unwrap();
    // It keeps its session for much longer than a frozen process may.
    assert!(tokio::time::timeout(SHORT * 3, gone.fired()).await.is_err());
    let (_, gone) = session.watch("/lock").await.unwrap();
    holder.signal(Signal::SIGSTOP);
    fired(gone).await.0.unwrap();
    session.commit(vec![Op::ephemeral("/lock", "")]).await.unwrap();
    holder.child.stdin.as_mut().unwrap().write_all(b"go on\n").unwrap();
    holder.signal(Signal::SIGCONT);
    let late_write = holder.wait_for("late write:");
    assert!(late_write.contains("is over"), "{late_write}");
    assert_eq!(session.get("/late").await.unwrap(), None);
    assert_eq!(session.get("/lock").await.unwrap().unwrap().ephemeral_owner, Some(session.id()));
}
