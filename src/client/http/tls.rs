//! HTTPS: trusted authorities, and readable TLS errors.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::model::Tls;
use crate::task::system_authorities;

/// A certificate or key that cannot be used. The text names the element of the configuration.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TlsError {
    /// A certificate authority of the configuration.
    #[error("<caConfig>: a certificate cannot be read: {0}")]
    Authorities(String),
    /// The copier's certificate.
    #[error("<certificateFile>: a certificate cannot be read: {0}")]
    Certificate(String),
    /// The key of that certificate. The text does not show the content of the key.
    #[error("<privateKeyFile>: the key cannot be read: it must be in PEM form, without a passphrase")]
    Key,
    /// A key that belongs to another certificate, or of an unknown kind.
    #[error("<certificateFile> and <privateKeyFile> do not fit: {0}")]
    Identity(rustls::Error),
    /// An error of the library itself.
    #[error("TLS cannot be used: {0}")]
    Library(rustls::Error),
}

/// Returns a connector for HTTP and HTTPS.
pub(super) fn connector(tls: &Tls) -> Result<HttpsConnector<HttpConnector>, TlsError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_keepalive(Some(super::KEEPALIVE));
    Ok(HttpsConnectorBuilder::new().with_tls_config(config(tls)?).https_or_http().enable_http1().wrap_connector(tcp))
}

fn config(tls: &Tls) -> Result<ClientConfig, TlsError> {
    // Named explicitly, because a program with several providers must choose one.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Library)?;
    let builder = if tls.verify {
        builder.with_root_certificates(authorities(tls)?)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate(provider)))
    };
    let Some(identity) = &tls.identity else { return Ok(builder.with_no_client_auth()) };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(identity.certificates.as_bytes()).collect();
    let chain = chain.map_err(|error| TlsError::Certificate(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.expose().as_bytes()).map_err(|_| TlsError::Key)?;
    builder.with_client_auth_cert(chain, key).map_err(TlsError::Identity)
}

fn authorities(tls: &Tls) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    if let Some(pem) = &tls.authorities {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| TlsError::Authorities(error.to_string()))?;
            store.add(certificate).map_err(|error| TlsError::Authorities(error.to_string()))?;
        }
    }
    if tls.trusts_system() {
        // A task without <secure> needs no authorities. With <secure>, the first connection reports that nobody is
        // trusted.
        match system_authorities() {
            Ok(pem) => {
                store.add_parsable_certificates(CertificateDer::pem_slice_iter(pem.as_bytes()).flatten());
            }
            Err(error) => tracing::debug!("no server is trusted over HTTPS: {error}"),
        }
    }
    Ok(store)
}

/// A verifier that accepts any certificate, because the configuration says so. It still checks that the holder has
/// the certificate's key.
#[derive(Debug)]
struct AcceptAnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Returns the TLS error as a sentence that says what to do; `None` if TLS is not the cause.
pub(super) fn tls_error(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut error = error;
    let found = loop {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            break found;
        }
        // An io::Error does not return its inner error from `source`, and may hold another one.
        error = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(held) => held,
            None => error.source()?,
        };
    };
    Some(match found {
        rustls::Error::InvalidCertificate(why) => certificate(why),
        rustls::Error::InvalidMessage(_) => {
            "the server does not speak TLS on this port (is http_port its https_port? Leave <secure> out for a plain one)"
                .to_owned()
        }
        rustls::Error::AlertReceived(alert) => {
            format!("the server refused our side of TLS: {alert:?} (does it ask for a certificate? See <certificateFile>)")
        }
        other => format!("TLS failed: {other}"),
    })
}

fn certificate(why: &CertificateError) -> String {
    let shown = |why: &dyn fmt::Display| why.to_string();
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is not from an authority that is trusted here (name the authority's file in <openSSL><client>\
             <caConfig> of the file that --config names)"
                .to_owned()
        }
        CertificateError::NotValidForName => wrong_name(""),
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            wrong_name(" but for none: it has no subjectAltName")
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            wrong_name(&format!(" but for {}", presented.join(", ")))
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("its certificate has expired: renew it on the server ({})", shown(why))
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("its certificate is not valid yet: is the clock of this machine right? ({})", shown(why))
        }
        CertificateError::Revoked => "its certificate has been revoked".to_owned(),
        other => format!("its certificate is not accepted: {other}"),
    }
}

fn wrong_name(instead: &str) -> String {
    format!("its certificate is not for this host{instead} (write <host> as the certificate does)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Identity, Secret};

    #[test]
    fn an_error_in_a_tls_file_names_its_element_and_does_not_show_the_key() {
        let authorities = Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned());
        let error = config(&Tls { authorities, ..Tls::default() }).unwrap_err().to_string();
        assert!(error.starts_with("<caConfig>"), "{error}");
        let identity = Identity { certificates: String::new(), key: Secret::new("-----BEGIN KEY-----hush") };
        let error = config(&Tls { identity: Some(identity), ..Tls::default() }).unwrap_err().to_string();
        assert!(error.starts_with("<privateKeyFile>") && !error.contains("hush"), "{error}");
    }
}
