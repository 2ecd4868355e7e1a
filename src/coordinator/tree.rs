//! Operations on whole branches of the tree, over any session.

use std::collections::VecDeque;

use futures::future::{join_all, try_join_all};

use super::{Conflict, Error, Op, Session, path};

/// The largest number of concurrent requests while a branch is read.
const MAX_CONCURRENT_REQUESTS: usize = 200;

/// How often to retry if others still write to the branch, or if a write was not answered.
const MAX_ROUNDS: usize = 10;

/// Creates the node and all missing parents, persistent and empty. Tolerates concurrent creation by others and lost
/// answers.
///
/// # Errors
/// As [`Session::commit`]; after several lost answers the last [`Error::Unknown`].
pub(crate) async fn ensure_path(session: &dyn Session, path: &str) -> Result<(), Error> {
    // Starts at the node: nodes near the root may be forbidden to us, and need not be touched if they exist.
    let mut missing = Vec::new();
    let mut next = Some(path);
    while let Some(at) = next {
        if session.get(at).await?.is_some() {
            break;
        }
        missing.push(at);
        // The root itself exists, or is created with the first node in it.
        next = path::parent(at).filter(|parent| *parent != "/");
    }
    for at in missing.into_iter().rev() {
        let mut round = 1;
        loop {
            match create_if_absent(session, at, Vec::new()).await {
                Ok(_) => break,
                // An empty node is the same whoever created it, so this write may be repeated.
                Err(Error::Unknown { .. }) if round < MAX_ROUNDS => round += 1,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Creates a persistent node and returns whether it was created; `false` means that one existed, which stays as it
/// was.
///
/// # Errors
/// As [`Session::commit`]; a missing parent is a [`Conflict::Missing`].
pub(crate) async fn create_if_absent(session: &dyn Session, path: &str, data: Vec<u8>) -> Result<bool, Error> {
    match session.commit(vec![Op::create(path, data)]).await {
        Ok(()) => Ok(true),
        Err(error) if error.conflict() == Some(Conflict::Exists) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Deletes a node and everything below it. A missing node is no error. Not atomic: others may see half of it, and
/// after an error some of it may be gone.
///
/// # Errors
/// As [`Session::commit`]; [`Conflict::NotEmpty`] if others keep creating nodes in it.
pub async fn delete_tree(session: &dyn Session, path: &str) -> Result<(), Error> {
    let mut round = 1;
    loop {
        match delete_once(session, path).await {
            Err(error) if round < MAX_ROUNDS && worth_another_round(&error) => round += 1,
            outcome => return outcome,
        }
    }
}

fn worth_another_round(error: &Error) -> bool {
    matches!(error, Error::Unknown { .. } | Error::Conflict { why: Conflict::NotEmpty, .. })
}

async fn delete_once(session: &dyn Session, path: &str) -> Result<(), Error> {
    // Parents come before their children here, and each level before the next; the deletion goes in reverse, level by
    // level.
    let mut levels = vec![vec![path.to_owned()]];
    while let Some(level) = levels.last().filter(|level| !level.is_empty()) {
        let mut below = Vec::new();
        for requested in level.chunks(MAX_CONCURRENT_REQUESTS) {
            let found = try_join_all(requested.iter().map(|node| session.children(node))).await?;
            for (node, names) in requested.iter().zip(found) {
                below.extend(names.into_iter().flatten().map(|name| path::child(node, &name)));
            }
        }
        levels.push(below);
    }
    for level in levels.into_iter().rev() {
        let mut remaining = VecDeque::from(level);
        while !remaining.is_empty() {
            let requested = remaining.drain(..MAX_CONCURRENT_REQUESTS.min(remaining.len()));
            let outcomes = join_all(requested.map(|node| session.commit(vec![Op::delete(node, None)]))).await;
            for outcome in outcomes {
                match outcome {
                    Err(error) if error.conflict() != Some(Conflict::Missing) => return Err(error),
                    _ => {}
                }
            }
        }
    }
    Ok(())
}
