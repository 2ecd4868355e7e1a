//! What is done with whole branches of the tree, over any session.

use std::collections::VecDeque;

use futures::future::{join_all, try_join_all};

use super::{Conflict, Error, Op, Session, path};

/// How many requests are under way at once when a branch is walked.
const TOGETHER: usize = 200;

/// How often a branch that others still write to, or a write without an answer, is tried again.
const ROUNDS: usize = 10;

/// Creates the node and all its parents where they are missing, persistent and empty. Tolerates others doing the same,
/// and answers lost on the way.
///
/// # Errors
/// As [`Session::commit`]; after several lost answers the last [`Error::Unknown`].
pub async fn ensure_path(session: &dyn Session, path: &str) -> Result<(), Error> {
    // From below: nodes near the root may be closed to us, and need not be touched when they exist.
    let mut missing = Vec::new();
    let mut next = Some(path);
    while let Some(at) = next {
        if session.get(at).await?.is_some() {
            break;
        }
        missing.push(at);
        // The root itself is there, or comes with the first node in it.
        next = path::parent(at).filter(|parent| *parent != "/");
    }
    for at in missing.into_iter().rev() {
        let mut round = 1;
        loop {
            match create_if_absent(session, at, Vec::new()).await {
                Ok(_) => break,
                // An empty node is the same whoever made it, so this write may be repeated.
                Err(Error::Unknown { .. }) if round < ROUNDS => round += 1,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Creates a persistent node and says whether it was made; `false`: there was one already, left as it was.
///
/// # Errors
/// As [`Session::commit`]; a missing parent is a [`Conflict::Missing`].
pub async fn create_if_absent(session: &dyn Session, path: &str, data: Vec<u8>) -> Result<bool, Error> {
    match session.commit(vec![Op::create(path, data)]).await {
        Ok(()) => Ok(true),
        Err(error) if error.conflict() == Some(Conflict::Exists) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Deletes a node and everything below it; nothing there is as good. Not atomic: others may see half of it, and after
/// an error some of it may be gone.
///
/// # Errors
/// As [`Session::commit`]; [`Conflict::NotEmpty`] when others keep creating nodes in it.
pub async fn delete_tree(session: &dyn Session, path: &str) -> Result<(), Error> {
    let mut round = 1;
    loop {
        match delete_once(session, path).await {
            Err(error) if round < ROUNDS && worth_another_round(&error) => round += 1,
            outcome => return outcome,
        }
    }
}

fn worth_another_round(error: &Error) -> bool {
    matches!(error, Error::Unknown { .. } | Error::Conflict { why: Conflict::NotEmpty, .. })
}

async fn delete_once(session: &dyn Session, path: &str) -> Result<(), Error> {
    // Parents come before their children here, and each level before the next: deleted in reverse, level by level.
    let mut levels = vec![vec![path.to_owned()]];
    while let Some(level) = levels.last().filter(|level| !level.is_empty()) {
        let mut below = Vec::new();
        for some in level.chunks(TOGETHER) {
            let found = try_join_all(some.iter().map(|node| session.children(node))).await?;
            for (node, names) in some.iter().zip(found) {
                below.extend(names.into_iter().flatten().map(|name| path::child(node, &name)));
            }
        }
        levels.push(below);
    }
    for level in levels.into_iter().rev() {
        let mut rest = VecDeque::from(level);
        while !rest.is_empty() {
            let some = rest.drain(..TOGETHER.min(rest.len()));
            let outcomes = join_all(some.map(|node| session.commit(vec![Op::delete(node, None)]))).await;
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
