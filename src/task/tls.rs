//! `<openSSL><client>`: TLS options, in the words of the original's configuration file (and of every ClickHouse
//! server's).

use std::io;

use super::elements::ElementPath;
use super::fault::{Notice, Problem};
use super::walk::{Scope, Text};
use crate::model::{Identity, Secret, Tls};

/// Poco's modes. All modes that check anything check the same here.
const MODES: [(&str, bool); 4] = [("none", false), ("relaxed", true), ("strict", true), ("once", true)];
/// Whether an invalid certificate is accepted. On a console Poco asks a person.
const HANDLERS: [(&str, bool); 3] =
    [("AcceptCertificateHandler", true), ("RejectCertificateHandler", false), ("ConsoleCertificateHandler", false)];

pub(super) fn read(scope: &Scope<'_>) -> Tls {
    scope.only(ElementPath::OpenSsl);
    scope.child("client").map(|client| read_client(&client)).unwrap_or_default()
}

fn read_client(scope: &Scope<'_>) -> Tls {
    scope.only(ElementPath::Client);
    let authorities = pem(scope, "caConfig", "certificate", "CERTIFICATE-----");
    let system = scope.boolean("loadDefaultCAFile");
    if system == Some(false)
        && scope.child("caConfig").is_none()
        && let Some(element) = scope.child("loadDefaultCAFile")
    {
        element.fault(Problem::NoAuthority);
    }
    let mut verify = true;
    for unchecked in [mode_of(scope), handler_of(scope)].into_iter().flatten() {
        unchecked.warn(Notice::Unverified);
        verify = false;
    }
    Tls { authorities, system_too: system == Some(true), verify, identity: identity(scope) }
}

/// Returns the element that switches off all checks.
fn mode_of<'c>(scope: &Scope<'c>) -> Option<Scope<'c>> {
    let text = scope.text("verificationMode")?;
    let checked = text.choice(&MODES)?;
    (!checked).then_some(text.scope)
}

fn handler_of<'c>(scope: &Scope<'c>) -> Option<Scope<'c>> {
    let handler = scope.child("invalidCertificateHandler")?;
    handler.only(ElementPath::Handler);
    let text = handler.text("name")?;
    text.choice(&HANDLERS)?.then_some(text.scope)
}

fn identity(scope: &Scope<'_>) -> Option<Identity> {
    let certificates = pem(scope, "certificateFile", "certificate", "CERTIFICATE-----");
    let key = pem(scope, "privateKeyFile", "private key", "PRIVATE KEY-----");
    for (one, other) in [("certificateFile", "privateKeyFile"), ("privateKeyFile", "certificateFile")] {
        if scope.child(one).is_some() && scope.child(other).is_none() {
            scope.fault(Problem::Missing(other));
        }
    }
    Some(Identity { certificates: certificates?, key: Secret::new(key?) })
}

/// Returns the content of the file that an element names. The TLS library checks whether it is valid.
fn pem(scope: &Scope<'_>, name: &str, what: &'static str, mark: &str) -> Option<String> {
    let text: Text<'_> = scope.text(name)?;
    let path = text.trimmed();
    if path.is_empty() {
        text.fault(Problem::Empty);
        return None;
    }
    let content = text.scope.file(path)?;
    if !content.contains(mark) {
        text.fault(Problem::NotPem { path: path.to_owned(), what });
        return None;
    }
    Some(content)
}

/// Returns the certificate authorities of this machine, as PEM: the file that `SSL_CERT_FILE` names, or the system's
/// bundle.
///
/// # Errors
///
/// Returns the operating system's error; [`io::ErrorKind::NotFound`] if there is no such file.
pub(crate) fn system_authorities() -> io::Result<String> {
    let none = || io::Error::new(io::ErrorKind::NotFound, "no certificate authorities found; set SSL_CERT_FILE");
    let bundle = openssl_probe::probe().cert_file.ok_or_else(none)?;
    std::fs::read_to_string(&bundle)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", bundle.display())))
}
