//! The address and the access token of what is served over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::net::TcpListener;

use super::super::{Exit, Failure};
use crate::model::Secret;
use crate::web::access::Access;
use crate::web::server;

/// The address where HTTP is served, and the source of its access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Serving {
    /// The address. With port 0 the system chooses a port.
    pub(crate) listen: SocketAddr,
    /// The source of the token. Without it only a loopback address is allowed.
    pub(crate) token: Option<TokenSource>,
}

/// The source of a token. It is never on the command line, which other users can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenSource {
    /// The environment variable with the token.
    Env(String),
    /// The file with the token, which existed when the command line was read. Blanks around the token are ignored.
    File(PathBuf),
}

/// A token that cannot be read.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error("the environment variable {0} is not set, or is not text: it should hold the token")]
    Env(String),
    #[error("cannot read the token from {}", .0.display())]
    File(PathBuf, #[source] std::io::Error),
}

impl Serving {
    /// Begins to listen on the address. A wrong address or token is a fault of the command line.
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
