//! Certificates of an authority that exists for one test only.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;

/// An authority that only the test trusts, and the directory of the certificates that it has
/// issued.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Deleted when this is dropped.
    directory: TempDir,
}

/// The PEM files of a certificate and its key.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = params("Test authority", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("an authority");
        let directory = TempDir::new().expect("a directory for certificates");
        fs::write(directory.path().join("ca.pem"), issuer.pem()).expect("its certificate");
        Self { issuer, directory }
    }

    /// The PEM file of the authority's own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Issues a certificate for a server at these names or addresses, under a file name of its
    /// own.
    pub(crate) fn server(&self, file: &str, hosts: &[&str]) -> Certificate {
        self.issue(file, hosts, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Issues a certificate for a client, under a file name of its own.
    pub(crate) fn client(&self, file: &str) -> Certificate {
        self.issue(file, &[], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, file: &str, hosts: &[&str], usage: ExtendedKeyUsagePurpose) -> Certificate {
        let mut params = params(file, hosts);
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = key();
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let path = |kind: &str| self.directory.path().join(format!("{file}.{kind}"));
        let written = |path: PathBuf, pem: String| {
            fs::write(&path, pem).expect("a PEM file");
            path
        };
        Certificate {
            certificate: written(path("crt"), certificate.pem()),
            key: written(path("key"), key.serialize_pem()),
        }
    }
}

impl Certificate {
    /// Replaces the files of `other` by this certificate and its key, as an operator renews a
    /// certificate.
    pub(crate) fn replace(&self, other: &Self) {
        let copy = |from: &Path, to: &Path| {
            fs::copy(from, to).expect("a PEM file is replaced");
        };
        copy(&self.certificate, &other.certificate);
        copy(&self.key, &other.key);
    }
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("valid names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}
