//! Paths of nodes.

use super::Error;

/// Refuses a path that ZooKeeper would refuse: it must be absolute, without empty, `.` or `..` names, without a slash
/// at its end and without control characters. All implementations use it, so that tests on one are valid for the
/// others.
pub(super) fn check(place: &str, path: &str) -> Result<(), Error> {
    let refused =
        |what: &str| Err(Error::Refused { place: place.into(), path: format!("{path:?}"), what: what.into() });
    if path == "/" {
        return Ok(());
    }
    let Some(names) = path.strip_prefix('/') else {
        return refused("a path must start with '/'");
    };
    for name in names.split('/') {
        match name {
            "" => return refused("a path can't have empty names in it"),
            "." | ".." => return refused("a path can't be relative"),
            _ => {}
        }
    }
    // The ranges are ZooKeeper's own, from its PathUtils.validatePath.
    let forbidden = |c: char| matches!(u32::from(c), 0x00..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..=0xffff);
    if names.chars().any(forbidden) {
        return refused("a path can't have control characters in it");
    }
    Ok(())
}

/// Returns the path of the parent; `None` for the root.
pub(super) fn parent(path: &str) -> Option<&str> {
    match path.rfind('/') {
        Some(0) if path.len() > 1 => Some("/"),
        Some(at) if at > 0 => Some(&path[..at]),
        _ => None,
    }
}

/// Returns the path of a child.
pub(super) fn child(path: &str, name: &str) -> String {
    if path == "/" { format!("/{name}") } else { format!("{path}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_except_the_root_has_a_parent() {
        assert_eq!(parent("/a/b"), Some("/a"));
        assert_eq!(parent("/a"), Some("/"));
        assert_eq!(parent("/"), None);
        assert_eq!((child("/", "a"), child("/a", "b")), ("/a".into(), "/a/b".into()));
    }

    #[test]
    fn malformed_paths_are_refused_and_named() {
        for good in ["/", "/a", "/a/b.c/…", "/.a"] {
            assert_eq!(check("here", good), Ok(()), "{good}");
        }
        for bad in ["", "a", "/a/", "//a", "/a//b", "/a/./b", "/..", "/a\0b", "/a\nb"] {
            let error = check("here", bad).unwrap_err().to_string();
            assert!(error.starts_with(&format!("here refuses {bad:?}: a path ")), "{error}");
        }
    }
}
