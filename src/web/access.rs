//! Decides who may read what is served.
//!
//! # Guarantees
//! - Without a token only a loopback address is served, and only under a name of this machine. A foreign page whose
//!   name resolves to this machine (DNS rebinding) is refused.
//! - With a token every address except `/healthz` needs it: as `Authorization: Bearer …` from programs, as a cookie
//!   from browsers.
//! - The token stays in no address: `?token=…` is exchanged for the cookie at once.
//! - The cookie is derived from the token, so browsers stay logged in after a restart with the same token. The cookie
//!   does not reveal the token.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, COOKIE, HOST};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::model::Secret;

/// The name of the cookie.
const COOKIE_NAME: &str = "clickhouse_copier";
/// The fewest characters of a token. A shorter token could be guessed.
const MIN_TOKEN_LENGTH: usize = 16;

/// The reason why serving would be unsafe.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AccessError {
    /// Other machines could reach the address without a token.
    #[error("{0} can be reached from other machines: give a token, or listen on 127.0.0.1")]
    Open(SocketAddr),
    /// The token could be guessed.
    #[error("the token has less than {MIN_TOKEN_LENGTH} characters: make one, as with openssl rand -hex 16")]
    Short,
    /// The token could not be sent in a header.
    #[error("the token may hold visible characters of ASCII only, and no blanks")]
    Odd,
}

/// The access rule of a server.
#[derive(Debug)]
pub struct Access(Option<Secret>);

/// The decision on a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessDecision {
    /// The request is allowed.
    Allowed,
    /// The token is missing or wrong.
    NotSignedIn,
    /// The request was made to a name that is not a name of this machine.
    OtherHost,
}

impl Access {
    /// Makes the rule for a server at this address.
    ///
    /// # Errors
    /// Fails if other machines could read without a token, or if the token is too short or has characters that a header
    /// cannot hold.
    pub fn new(listen: SocketAddr, token: Option<Secret>) -> Result<Self, AccessError> {
        match &token {
            None if !listen.ip().to_canonical().is_loopback() => return Err(AccessError::Open(listen)),
            Some(token) if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) => return Err(AccessError::Odd),
            Some(token) if token.expose().len() < MIN_TOKEN_LENGTH => return Err(AccessError::Short),
            None | Some(_) => {}
        }
        Ok(Self(token))
    }

    /// Returns whether a request is allowed.
    pub(crate) fn judge(&self, headers: &HeaderMap) -> AccessDecision {
        let Some(token) = &self.0 else {
            let host = headers.get(HOST).and_then(|host| host.to_str().ok());
            return if host.is_some_and(is_here) { AccessDecision::Allowed } else { AccessDecision::OtherHost };
        };
        let given = headers.get(AUTHORIZATION).and_then(|header| header.to_str().ok()).and_then(bearer);
        let cookies = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
        let mut values = cookies.flat_map(|header| header.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let is_allowed = given.is_some_and(|given| equal(given, token.expose()))
            || values.any(|(name, value)| name == COOKIE_NAME && equal(value, &cookie_value(token)));
        if is_allowed { AccessDecision::Allowed } else { AccessDecision::NotSignedIn }
    }

    /// Returns the text of `Set-Cookie` for a browser that gave the token. Returns `None` if the token is wrong.
    ///
    /// The cookie is not `Secure`: the server itself speaks plain HTTP. The cookie lasts until the browser is closed.
    pub(crate) fn cookie(&self, given: &str) -> Option<String> {
        let token = self.0.as_ref().filter(|token| equal(given.trim(), token.expose()))?;
        Some(format!("{COOKIE_NAME}={}; Path=/; HttpOnly; SameSite=Strict", cookie_value(token)))
    }
}

/// Compares in constant time: the hashes have the same length, and the position of a difference reveals nothing.
fn equal(given: &str, wanted: &str) -> bool {
    Sha256::digest(given).ct_eq(&Sha256::digest(wanted)).into()
}

fn cookie_value(token: &Secret) -> String {
    let hash = Sha256::new().chain_update("clickhouse-copier cookie\0").chain_update(token.expose()).finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Returns whether the host is a name of this machine that nobody else can make resolve here.
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
    fn an_address_that_others_can_reach_needs_a_token() {
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
    fn a_request_with_a_foreign_host_header_is_refused() {
        let access = Access::new(([127, 0, 0, 1], 8080).into(), None).unwrap();
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.0.0.1", "[::1]:8080", "[::1]"] {
            assert_eq!(access.judge(&headers(&[("host", host)])), AccessDecision::Allowed, "{host}");
        }
        for host in
            ["evil.example", "evil.example:8080", "localhost.evil.example", "10.0.0.1", "", "127.0.0.1.evil.example"]
        {
            assert_eq!(access.judge(&headers(&[("host", host)])), AccessDecision::OtherHost, "{host}");
        }
        assert_eq!(access.judge(&HeaderMap::new()), AccessDecision::OtherHost);
    }

    #[test]
    fn only_the_token_authorises_a_request() {
        let access = guarded();
        let judge = |pairs: &[(&'static str, &str)]| access.judge(&headers(pairs));
        assert_eq!(judge(&[("authorization", "Bearer 0123456789abcdef")]), AccessDecision::Allowed);
        assert_eq!(judge(&[("authorization", "bearer 0123456789abcdef")]), AccessDecision::Allowed);
        for wrong in
            ["Bearer", "Bearer ", "Bearer 0123456789abcdeF", "Bearer 0123456789abcdef0", "Basic 0123456789abcdef"]
        {
            assert_eq!(judge(&[("authorization", wrong)]), AccessDecision::NotSignedIn, "{wrong}");
        }
        assert_eq!(judge(&[("host", "localhost")]), AccessDecision::NotSignedIn);
    }

    #[test]
    fn the_cookie_is_valid_after_a_restart_and_does_not_contain_the_token() {
        assert_eq!(guarded().cookie("0123456789abcdee"), None);
        let cookie = guarded().cookie(TOKEN).unwrap();
        for part in ["; HttpOnly", "; SameSite=Strict", "; Path=/"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        assert!(!cookie.contains(TOKEN), "{cookie}");
        let value = cookie.split(';').next().unwrap();
        let judge = |cookie: &str| guarded().judge(&headers(&[("cookie", cookie)]));
        assert_eq!(judge(&format!("a=b; {value}")), AccessDecision::Allowed);
        assert_eq!(judge(&format!("{COOKIE_NAME}={TOKEN}")), AccessDecision::NotSignedIn);
        assert_eq!(judge("a=b"), AccessDecision::NotSignedIn);
    }

    #[test]
    fn debug_output_does_not_show_the_token() {
        assert!(!format!("{:?}", guarded()).contains("0123"));
    }
}
