//! What a server says of itself.

use crate::model::Node;
use crate::sql;

use super::super::{Error, ServerContext, ServerFacts};
use super::{HttpServerClient, SHORT, TextPair, pairs};

/// PreviousPasses then users can define functions.
const FIRST_WITH_USER_FUNCTIONS: (u32, u32) = (21, 10);
/// The server knows no such column, or does not let the account read it.
const NO_ANSWER: [u32; 2] = [47, 497];

impl HttpServerClient {
    /// Asks a server for its version and settings.
    pub(super) async fn facts(&self, node: &Node) -> Result<ServerFacts, Error> {
        self.answers_now(node).await?;
        self.fresh_facts(node, SHORT).await
    }

    /// Finds out quickly whether a server answers and lets our account in.
    pub(super) async fn answers_now(&self, node: &Node) -> Result<(), Error> {
        match self.reach(node).await {
            // The profile may forbid even this, which is no matter here.
            Err(error) if error.code().is_some() && !error.is_denied() => Ok(()),
            answer => answer,
        }
    }

    /// Asks a server for its macros, time zones and functions of users.
    pub(super) async fn ask_context(&self, node: &Node) -> Result<ServerContext, Error> {
        let doing = "cannot ask the server what it is";
        let macros: Vec<TextPair> = match self.rows(node, doing, sql::MACROS, SHORT).await {
            // Modern servers show them with a grant only, and only some tables need them.
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
