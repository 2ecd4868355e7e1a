//! Certificates of a laboratory: its own authority, and the certificates that it has signed for servers.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

use crate::LabError;
use crate::clickhouse::write;

/// The certificate of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Certificate {
    /// Signed by the laboratory's authority, for the server's address.
    #[default]
    Good,
    /// The same, but expired.
    Expired,
    /// Valid for the host `other.example` only.
    OtherHost,
}

/// An authority with its files.
pub(crate) struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// The authority's certificate in its folder.
pub(crate) const AUTHORITY_FILE: &str = "ca.crt";

impl Authority {
    /// Makes an authority whose certificate is [`AUTHORITY_FILE`] in a folder.
    pub(crate) fn new(dir: &Path, name: &str) -> Result<Self, LabError> {
        let key = KeyPair::generate().map_err(LabError::Certificate)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).map_err(LabError::Certificate)?;
        write(&dir.join(AUTHORITY_FILE), &certificate.pem())?;
        Ok(Authority { dir: dir.to_path_buf(), issuer: Issuer::new(params, key) })
    }

    /// Writes `server.crt` and `server.key` into a server's folder.
    pub(crate) fn sign(&self, dir: &Path, ip: Ipv4Addr, kind: Certificate) -> Result<(), LabError> {
        let key = KeyPair::generate().map_err(LabError::Certificate)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "laboratory");
        params.subject_alt_names = match kind {
            Certificate::OtherHost => {
                vec![SanType::DnsName("other.example".try_into().map_err(LabError::Certificate)?)]
            }
            Certificate::Good | Certificate::Expired => vec![SanType::IpAddress(ip.into())],
        };
        if kind == Certificate::Expired {
            params.not_before = date_time_ymd(2018, 1, 1);
            params.not_after = date_time_ymd(2018, 12, 31);
        }
        let certificate = params.signed_by(&key, &self.issuer).map_err(LabError::Certificate)?;
        write(&dir.join("server.crt"), &certificate.pem())?;
        write(&dir.join("server.key"), &key.serialize_pem())
    }

    /// One file with what [`Authority::sign`] has written.
    pub(crate) fn key_and_certificate(&self, dir: &Path) -> Result<PathBuf, LabError> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).map_err(|source| LabError::File { action: "read", path, source })
        };
        let both = dir.join("server.pem");
        write(&both, &(read("server.key")? + &read("server.crt")?))?;
        Ok(both)
    }

    /// The authority's own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.join(AUTHORITY_FILE)
    }

    /// The elements for `config.xml`.
    pub(crate) fn server_xml(&self, dir: &Path) -> String {
        let escaped = |path: PathBuf| quick_xml::escape::escape(path.to_string_lossy().as_ref()).into_owned();
        format!(
            "<openSSL><server><certificateFile>{}</certificateFile><privateKeyFile>{}</privateKeyFile>\
             <verificationMode>none</verificationMode></server><client><caConfig>{}</caConfig>\
             <verificationMode>relaxed</verificationMode><loadDefaultCAFile>false</loadDefaultCAFile></client></openSSL>",
            escaped(dir.join("server.crt")),
            escaped(dir.join("server.key")),
            escaped(self.file()),
        )
    }
}

/// Makes the folder and the authority of a laboratory.
pub(crate) fn authority(root: &Path, name: &str) -> Result<Authority, LabError> {
    let dir = root.join(name);
    fs::create_dir(&dir).map_err(|source| LabError::File { action: "create", path: dir.clone(), source })?;
    Authority::new(&dir, name)
}
