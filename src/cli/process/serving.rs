//! What is served over HTTP: where, and to whom.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::net::TcpListener;

use super::super::{Exit, Failure};
use crate::model::Secret;
use crate::web::access::Access;
use crate::web::server;

/// Where something is served, and where the token is that opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// The address; with port 0 the system chooses one.
    pub listen: SocketAddr,
    /// Without it a loopback address is served only.
    pub token: Option<TokenSource>,
}

/// Where a token is: never on the command line, which others can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// In this environment variable.
    Env(String),
    /// In this file, which existed when the command line was read; blanks around it do not count.
    File(PathBuf),
}

/// A token that is not there.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error("the environment variable {0} is not set, or is not text: it should hold the token")]
    Env(String),
    #[error("cannot read the token from {}", .0.display())]
    File(PathBuf, #[source] std::io::Error),
}

impl Serving {
    /// Takes the address. What is found wrong with it is a fault of the command line.
    pub(crate) async fn begin(&self) -> Result<(TcpListener, SocketAddr, Access), Failure> {
        let token = self.token.as_ref().map(TokenSource::read).transpose().map_err(bad)?;
        let access = Access::new(self.listen, token).map_err(bad)?;
        let (listener, address) = server::listen(self.listen).await?;
        Ok((listener, address, access))
    }
}

impl TokenSource {
    fn read(&self) -> Result<Secret, TokenError> {
        let text = match self {
            Self::Env(name) => std::env::var(name).map_err(|_| TokenError::Env(name.clone()))?,
            Self::File(path) => std::fs::read_to_string(path).map_err(|error| TokenError::File(path.clone(), error))?,
        };
        Ok(Secret::new(text.trim()))
    }
}

fn bad(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::new(Exit::BadInput, error)
}
