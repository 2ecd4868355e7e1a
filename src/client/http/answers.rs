//! Parses a server's errors. No other module reads a server's error text.

use std::sync::{Arc, Mutex, PoisonError};

use nix::libc;

use super::super::codes::{ALL_CONNECTION_TRIES_FAILED, NO_REMOTE_SHARD_AVAILABLE, UNKNOWN_TABLE};
use super::super::{Error, Kind};
use super::tls;
use crate::model::{Node, Secret};
use crate::sql::quote;

/// Shorter passwords are not hidden: their letters occur in any text.
const MIN_HIDDEN_LENGTH: usize = 3;
const HIDDEN: &str = "[hidden]";
/// Answers of gateways whose server does not answer them.
const GATEWAY: [&str; 3] = ["502 Bad Gateway", "503 Service Unavailable", "504 Gateway Time"];

/// Parses errors, and hides the passwords of all nodes that got a request. A statement contains no other secrets.
#[derive(Clone, Default)]
pub(super) struct Answers {
    secrets: Arc<Mutex<Vec<Secret>>>,
}

impl Answers {
    /// Hides this secret in every answer from now on.
    pub(super) fn keep_secret(&self, secret: &Secret) {
        if secret.expose().chars().count() < MIN_HIDDEN_LENGTH {
            return;
        }
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        if !secrets.contains(secret) {
            secrets.push(secret.clone());
        }
    }

    pub(super) fn translated(&self, node: &Node, doing: &str, error: clickhouse::error::Error) -> Error {
        use clickhouse::error::Error as E;
        let kind = match error {
            E::BadResponse(text) => match self.server_error(&text) {
                // A load balancer has lost its server: the statement may continue there, and the next request may
                // succeed.
                Kind::Answer(line) if GATEWAY.iter().any(|status| text.contains(status)) => {
                    Kind::Network(format!("a gateway answered for the server: {line}"))
                }
                kind => kind,
            },
            E::Network(cause) => match tls::tls_error(cause.as_ref()) {
                Some(why) => Kind::Tls(why),
                None => Kind::Network(self.without_secrets(&deepest(cause.as_ref()))),
            },
            E::TimedOut => Kind::Network("the connection timed out".into()),
            other => Kind::Answer(first_line(&self.without_secrets(&other.to_string()))),
        };
        Error { node: node.to_string(), doing: doing.to_owned(), kind }
    }

    /// Parses `Code: N, e.displayText() = DB::Exception: TEXT, e.what() = DB::Exception` (18.16) or `Code: N.
    /// DB::Exception: TEXT (NAME) (version …)` (later); docs/clickhouse-behaviour.md, §10.
    pub(super) fn server_error(&self, text: &str) -> Kind {
        let Some(rest) = text.find("Code: ").map(|at| &text[at + 6..]) else {
            return Kind::Answer(first_line(&self.without_secrets(text)));
        };
        if let Some((code, cause)) = innermost(rest) {
            return Kind::Server { code, message: first_line(&self.without_secrets(cause)) };
        }
        let Some(code) = leading_code(rest) else {
            return Kind::Answer(first_line(&self.without_secrets(text)));
        };
        let message = rest
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .trim_start_matches(['.', ',', ' '])
            .trim_start_matches("e.displayText() = ")
            .trim_start_matches("DB::Exception: ");
        let message = message.split(", e.what()").next().unwrap_or(message);
        let message = message.split(". Stack trace").next().unwrap_or(message);
        Kind::Server { code, message: telling_line(&self.without_secrets(message)) }
    }

    /// Hides passwords. A server before 22.12 repeats the statement in its error, and with it the password of
    /// `remote()` (docs/clickhouse-behaviour.md, §11); others repeat parts of it. It hides passwords both in their
    /// plain form and as they are quoted in a statement. This happens before the text is cut, because half a password
    /// is a secret too.
    fn without_secrets(&self, text: &str) -> String {
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut forms: Vec<String> = secrets.iter().flat_map(|secret| forms(secret.expose())).collect();
        drop(secrets);
        // One may be a part of another.
        forms.sort_unstable_by_key(|form| std::cmp::Reverse(form.len()));
        let text = forms.iter().fold(text.to_owned(), |text, form| text.replace(form.as_str(), HIDDEN));
        match text.find("remote(").or_else(|| text.find("remoteSecure(")) {
            Some(at) => format!("{}remote(…)", &text[..at]),
            None => text,
        }
    }
}

/// Returns a secret in its plain form, and as it is quoted in a literal.
fn forms(secret: &str) -> [String; 2] {
    let literal = quote::literal(secret);
    [secret.to_owned(), literal[1..literal.len() - 1].to_owned()]
}

/// Returns the code with which a text begins.
fn leading_code(text: &str) -> Option<u32> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..digits].parse().ok()
}

/// Codes of a log of connection attempts: they only say that no attempt to reach a server succeeded.
const LOGS: [u32; 2] = [ALL_CONNECTION_TRIES_FAILED, NO_REMOTE_SHARD_AVAILABLE];
/// The text that such a log contains instead of the code of a missing table.
const NO_TABLE: &str = "There is no table ";

/// Returns the code and the text of the last attempt's error, if an error is a log of attempts to reach another
/// server: `Code: 519. … Log: Code: 279. … Log: Code: 210. DB::NetException: Connection refused (…)` (25.8). `text`
/// begins after the first `Code: `.
fn innermost(text: &str) -> Option<(u32, &str)> {
    if !leading_code(text).is_some_and(|code| LOGS.contains(&code)) {
        return None;
    }
    text.lines().rev().map(str::trim).find_map(|line| {
        if line.starts_with(NO_TABLE) {
            return Some((UNKNOWN_TABLE, line));
        }
        let (code, cause) = line.strip_prefix("Code: ")?.split_once([',', '.'])?;
        let cause = cause.trim_start().trim_start_matches("e.displayText() = ");
        let cause = ["DB::NetException: ", "DB::Exception: "].iter().find_map(|kind| cause.strip_prefix(kind))?;
        let cause = cause.split(", e.what()").next().unwrap_or(cause);
        let code = code.parse().ok()?;
        (!LOGS.contains(&code)).then_some((code, cause))
    })
}

/// Returns the first line. If it only announces a log of connection attempts, returns the error of the first attempt.
fn telling_line(message: &str) -> String {
    let first = first_line(message);
    let attempt = message.lines().skip(1).find(|line| line.starts_with("Code: ")).filter(|_| first.ends_with("Log:"));
    match attempt {
        Some(attempt) => format!("{} {}", first.trim_end_matches(" Log:"), first_line(attempt)),
        None => first,
    }
}

fn first_line(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("(nothing)").trim();
    match line.char_indices().nth(500) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

/// Returns whether a connection ended before its answer.
pub(super) fn is_connection_gone(error: &clickhouse::error::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    let ended = |error: &std::io::Error| matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset);
    causes(error).any(|cause| {
        let closed = cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message);
        closed || cause.downcast_ref::<std::io::Error>().is_some_and(ended)
    })
}

/// Returns whether the connection failed because this process, or this machine, has too many open files.
pub(super) fn is_out_of_descriptors(error: &clickhouse::error::Error) -> bool {
    let many = |error: &std::io::Error| matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
    causes(error).any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(many))
}

/// Returns the causes of a connection's error.
fn causes(error: &clickhouse::error::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let first = match error {
        clickhouse::error::Error::Network(cause) => Some(cause.as_ref() as &(dyn std::error::Error + 'static)),
        _ => None,
    };
    std::iter::successors(first, |one| one.source())
}

fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_and_the_first_line_are_found_in_old_and_new_errors() {
        for (text, code, message) in [
            (
                "Code: 60, e.displayText() = DB::Exception: Table d.t doesn't exist., e.what() = DB::Exception",
                60,
                "Table d.t doesn't exist.",
            ),
            (
                "Code: 60. DB::Exception: Table d.t does not exist. (UNKNOWN_TABLE) (version 24.8.4.13)\n",
                60,
                "Table d.t does not exist. (UNKNOWN_TABLE) (version 24.8.4.13)",
            ),
            (
                "Code: 210, e.displayText() = DB::NetException: Connection refused (in query: INSERT INTO FUNCTION remote('h', 'd', 't', 'u', 'secret') SELECT 1), e.what()",
                210,
                "DB::NetException: Connection refused (in query: INSERT INTO FUNCTION remote(…)",
            ),
        ] {
            assert!(
                matches!(Answers::default().server_error(text), Kind::Server { code: c, message: m } if c == code && m == message),
                "{text}"
            );
        }
        assert!(matches!(Answers::default().server_error("<html>proxy</html>"), Kind::Answer(_)));
    }

    #[test]
    fn an_error_of_a_gateway_is_a_network_error() {
        let translated = |text: &str| {
            let error = clickhouse::error::Error::BadResponse(text.to_owned());
            Answers::default().translated(&Node::new("h"), "cannot", error)
        };
        for text in [
            "<html>\n<h1>502 Bad Gateway</h1>",
            "503 Service Unavailable",
            "504 Gateway Time-out",
            "504 Gateway Timeout",
        ] {
            assert!(
                matches!(translated(text).kind, Kind::Network(line) if line.contains("a gateway answered")),
                "{text}"
            );
        }
        assert!(matches!(translated("<html>404 Not Found</html>").kind, Kind::Answer(_)));
        let own = "Code: 60. DB::Exception: Table d.`502 Bad Gateway` does not exist.";
        assert!(matches!(translated(own).kind, Kind::Server { code: 60, .. }));
    }

    #[test]
    fn the_cause_is_the_last_attempt_in_a_log_of_attempts() {
        let refused =
            "Code: 210. DB::NetException: Connection refused (10.0.0.1:9000). (NETWORK_ERROR) (version 25.8.2.1)";
        let log = |attempt: &str| {
            format!(
                "Code: 519. DB::NetException: All attempts to get table structure failed. Log: \n\n\
                 Code: 279. DB::NetException: All connection tries failed. Log: \n\n{attempt}\n\n\
                 . (ALL_CONNECTION_TRIES_FAILED) (version 25.8.2.1)\n\n. (NO_REMOTE_SHARD_AVAILABLE) (version 25.8.2.1)\n"
            )
        };
        let missing = "There is no table `d`.`t` on server: 10.0.0.1:9000";
        let old =
            "Code: 209, e.displayText() = DB::NetException: Timeout: connect timed out: 10.0.0.1:9000, e.what() = x";
        for (text, expected_code, expected_message) in [
            (log(refused), 210, &refused[29..]),
            (log(missing), 60, missing),
            (log(old), 209, "Timeout: connect timed out: 10.0.0.1:9000"),
            ("Code: 279. DB::NetException: All tries failed".to_owned(), 279, "DB::NetException: All tries failed"),
        ] {
            let Kind::Server { code, message } = Answers::default().server_error(&text) else { panic!("{text}") };
            assert_eq!((code, message.as_str()), (expected_code, expected_message));
        }
    }

    #[test]
    fn passwords_are_hidden_in_every_form_in_messages() {
        let answers = Answers::default();
        for secret in ["swordfish", "it's \\ quoted", "swordfish-2", "", "ab"] {
            answers.keep_secret(&Secret::new(secret));
        }
        let long = "x".repeat(495);
        for (text, message) in [
            ("Cannot parse input near 'swordfish' ab", "Cannot parse input near '[hidden]' ab".to_owned()),
            ("near 'swordfish-2'", "near '[hidden]'".to_owned()),
            (r"near 'it\'s \\ quoted', it's \ quoted", "near '[hidden]', [hidden]".to_owned()),
            (&format!("{long}swordfish"), format!("{long}[hidd…")),
            ("first\nswordfish", "first".to_owned()),
        ] {
            let text = format!("Code: 27. DB::Exception: {text}");
            let Kind::Server { code: 27, message: found } = answers.server_error(&text) else { panic!("{text}") };
            assert_eq!(found, message);
        }
        let error = clickhouse::error::Error::Custom("a proxy says: swordfish".into());
        assert!(!answers.translated(&Node::new("h"), "cannot", error).to_string().contains("swordfish"));
    }
}
