//! Sends the account of a node with each request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clickhouse::Client;

use crate::model::Node;

/// Adds the account of a node to a client.
///
/// `X-ClickHouse-User` and `X-ClickHouse-Key` carry what an HTTP header can hold: any letter of any script, but no
/// line feed, no other control character, no blank at the ends, which servers cut off, and no `=?`, which starts an
/// encoded word for the library that reads headers in a server (18.16: "wrong password"). Other accounts go as
/// `Authorization: Basic`, in which the user ends at the first colon. The URL never contains them, because logs and
/// proxies keep URLs. Every version since 18.16 understands both.
pub(super) fn enter(client: Client, node: &Node) -> Client {
    let (user, password) = (node.user.as_str(), node.password.expose());
    if [user, password].into_iter().all(fits_a_header) || user.contains(':') {
        return client.with_user(user).with_password(password);
    }
    client.with_header("Authorization", format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

fn fits_a_header(text: &str) -> bool {
    text.trim() == text && !text.chars().any(char::is_control) && !text.contains("=?")
}
