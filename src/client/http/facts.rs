//! Questions about a server itself.

use super::super::codes::{ACCESS_DENIED, UNKNOWN_IDENTIFIER};
use super::super::{Error, ServerContext, ServerFacts};
use super::{HttpServerClient, SHORT, TextPair, pairs};
use crate::model::Node;
use crate::sql;

/// Before this release, users cannot define functions.
const FIRST_WITH_USER_FUNCTIONS: (u32, u32) = (21, 10);
/// The server does not have the column, or the account may not read it.
const NO_ANSWER: [u32; 2] = [UNKNOWN_IDENTIFIER, ACCESS_DENIED];

impl HttpServerClient {
    /// Returns a server's version and settings.
    pub(super) async fn facts(&self, node: &Node) -> Result<ServerFacts, Error> {
        self.answers_now(node).await?;
        self.fresh_facts(node, SHORT).await
    }

    /// Checks quickly whether a server answers and accepts our account.
    pub(super) async fn answers_now(&self, node: &Node) -> Result<(), Error> {
        match self.reach(node).await {
            // The profile may forbid even this, which does not matter here.
            Err(error) if error.code().is_some() && !error.is_denied() => Ok(()),
            answer => answer,
        }
    }

    /// Returns a server's macros, time zones and user-defined functions.
    pub(super) async fn ask_context(&self, node: &Node) -> Result<ServerContext, Error> {
        let doing = "cannot ask the server what it is";
        let macros: Vec<TextPair> = match self.rows(node, doing, sql::MACROS, SHORT).await {
            // Modern servers show them only with a grant, and only some tables need them.
            Err(error) if error.is_denied() => Vec::new(),
            macros => macros?,
        };
        let profile = self.profile(node, SHORT).await?;
        let mut zones: Vec<TextPair> = self.rows(node, doing, sql::SESSION_ZONE, SHORT).await?;
        if profile.facts().settings.get("session_timezone").is_some_and(|zone| !zone.is_empty()) {
            zones.extend(self.rows::<TextPair>(node, doing, sql::SERVER_ZONE, SHORT).await?);
        }
        let mut functions: Vec<TextPair> = Vec::new();
        if profile.facts().release() >= FIRST_WITH_USER_FUNCTIONS {
            functions = match self.rows(node, doing, sql::USER_FUNCTIONS, SHORT).await {
                Err(error) if error.code().is_some_and(|code| NO_ANSWER.contains(&code)) => Vec::new(),
                other => other?,
            };
        }
        let body = |pair: TextPair| (pair.name, Some(pair.value).filter(|statement| !statement.is_empty()));
        Ok(ServerContext {
            macros: pairs(macros),
            zones: zones.into_iter().map(|pair| pair.name).collect(),
            functions: functions.into_iter().map(body).collect(),
        })
    }
}
