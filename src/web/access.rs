//! Who may see what is served.
//!
//! # Guarantees
//! - Without a token only a loopback address is served, and only under a name of this machine: a page of somebody else whose
//!   name was made to point here (DNS rebinding) is refused.
//! - With a token everything but `/healthz` needs it: as `Authorization: Bearer …` from programs, as a cookie from browsers.
//! - The token is in no address that stays: `?token=…` is exchanged for the cookie at once.
//! - The cookie is made from the token, so a restart with the same token keeps browsers in; it does not tell the token.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, COOKIE, HOST};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::model::Secret;

/// What the cookie is called.
const NAME: &str = "clickhouse_copier";
/// A token that is shorter could be guessed.
const SHORTEST: usize = 16;

/// Why something would be served to whom it should not.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AccessError {
    /// Others could reach it.
    #[error("{0} can be reached from other machines: give a token, or listen on 127.0.0.1")]
    Open(SocketAddr),
    /// It could be guessed.
    #[error("the token has less than {SHORTEST} characters: make one, as with openssl rand -hex 16")]
    Short,
    /// It could not be sent in a header.
    #[error("the token may hold visible characters of ASCII only, and no blanks")]
    Odd,
}

/// Who is let in.
#[derive(Debug)]
pub struct Access(Option<Secret>);

/// Whether somebody is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Welcome,
    /// The token is missing or wrong.
    Stranger,
    /// The request was made to a name that is not this machine's.
    Misled,
}

impl Access {
    /// To what listens there.
    ///
    /// # Errors
    /// Where others could look without a token, or with one that is too short to keep them out.
    pub fn new(listen: SocketAddr, token: Option<Secret>) -> Result<Self, AccessError> {
        match &token {
            None if !listen.ip().to_canonical().is_loopback() => return Err(AccessError::Open(listen)),
            Some(token) if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) => return Err(AccessError::Odd),
            Some(token) if token.expose().len() < SHORTEST => return Err(AccessError::Short),
            None | Some(_) => {}
        }
        Ok(Self(token))
    }

    /// Whether a request is let in.
    pub fn judge(&self, headers: &HeaderMap) -> Verdict {
        let Some(token) = &self.0 else {
            let host = headers.get(HOST).and_then(|host| host.to_str().ok());
            return if host.is_some_and(is_here) { Verdict::Welcome } else { Verdict::Misled };
        };
        let given = headers.get(AUTHORIZATION).and_then(|header| header.to_str().ok()).and_then(bearer);
        let cookies = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
        let mut values = cookies.flat_map(|header| header.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let welcome = given.is_some_and(|given| equal(given, token.expose()))
            || values.any(|(name, value)| name == NAME && equal(value, &ticket(token)));
        if welcome { Verdict::Welcome } else { Verdict::Stranger }
    }

    /// What lets a browser in from now on, as the text of `Set-Cookie`. `None`: that is not the token.
    ///
    /// Not `Secure`: the server itself speaks plain HTTP. It lasts as long as the browser.
    pub fn cookie(&self, given: &str) -> Option<String> {
        let token = self.0.as_ref().filter(|token| equal(given.trim(), token.expose()))?;
        Some(format!("{NAME}={}; Path=/; HttpOnly; SameSite=Strict", ticket(token)))
    }
}

/// The same time whatever is given: hashes are of one length, and tell nothing by where they differ.
fn equal(given: &str, wanted: &str) -> bool {
    Sha256::digest(given).ct_eq(&Sha256::digest(wanted)).into()
}

fn ticket(token: &Secret) -> String {
    let hash = Sha256::new().chain_update("clickhouse-copier cookie\0").chain_update(token.expose()).finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A name that nobody else can make point here.
fn is_here(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn guarded() -> Access {
        Access::new(([0, 0, 0, 0], 8080).into(), Some(Secret::new(TOKEN))).unwrap()
    }

    #[test]
    fn others_are_let_in_with_a_token_only() {
        let new = |address: &str, token: Option<&str>| {
            Access::new(address.parse().unwrap(), token.map(Secret::new)).map(drop)
        };
        for loopback in ["127.0.0.1:80", "127.0.12.3:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert_eq!(new(loopback, None), Ok(()), "{loopback}");
        }
        for open in ["0.0.0.0:80", "[::]:80", "10.0.0.1:80"] {
            assert!(matches!(new(open, None), Err(AccessError::Open(_))), "{open}");
            assert_eq!(new(open, Some(TOKEN)), Ok(()));
            assert_eq!(new(open, Some("short")), Err(AccessError::Short));
            assert_eq!(new(open, Some("")), Err(AccessError::Short));
            assert_eq!(new(open, Some("0123456789 abcdef")), Err(AccessError::Odd));
        }
    }

    #[test]
    fn a_name_that_was_made_to_point_here_is_refused() {
        let access = Access::new(([127, 0, 0, 1], 8080).into(), None).unwrap();
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.0.0.1", "[::1]:8080", "[::1]"] {
            assert_eq!(access.judge(&headers(&[("host", host)])), Verdict::Welcome, "{host}");
        }
        for host in
            ["evil.example", "evil.example:8080", "localhost.evil.example", "10.0.0.1", "", "127.0.0.1.evil.example"]
        {
            assert_eq!(access.judge(&headers(&[("host", host)])), Verdict::Misled, "{host}");
        }
        assert_eq!(access.judge(&HeaderMap::new()), Verdict::Misled);
    }

    #[test]
    fn the_token_opens_and_nothing_else_does() {
        let access = guarded();
        let judge = |pairs: &[(&'static str, &str)]| access.judge(&headers(pairs));
        assert_eq!(judge(&[("authorization", "Bearer 0123456789abcdef")]), Verdict::Welcome);
        assert_eq!(judge(&[("authorization", "bearer 0123456789abcdef")]), Verdict::Welcome);
        for wrong in
            ["Bearer", "Bearer ", "Bearer 0123456789abcdeF", "Bearer 0123456789abcdef0", "Basic 0123456789abcdef"]
        {
            assert_eq!(judge(&[("authorization", wrong)]), Verdict::Stranger, "{wrong}");
        }
        assert_eq!(judge(&[("host", "localhost")]), Verdict::Stranger);
    }

    #[test]
    fn the_cookie_opens_outlives_a_restart_and_does_not_tell_the_token() {
        assert_eq!(guarded().cookie("0123456789abcdee"), None);
        let cookie = guarded().cookie(TOKEN).unwrap();
        for part in ["; HttpOnly", "; SameSite=Strict", "; Path=/"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        assert!(!cookie.contains(TOKEN), "{cookie}");
        let value = cookie.split(';').next().unwrap();
        let judge = |cookie: &str| guarded().judge(&headers(&[("cookie", cookie)]));
        assert_eq!(judge(&format!("a=b; {value}")), Verdict::Welcome);
        assert_eq!(judge(&format!("{NAME}={TOKEN}")), Verdict::Stranger);
        assert_eq!(judge("a=b"), Verdict::Stranger);
    }

    #[test]
    fn nothing_of_the_token_can_be_printed() {
        assert!(!format!("{:?}", guarded()).contains("0123"));
    }
}
