//! Certificates and keys in PEM files.

use std::path::PathBuf;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM file with the chain of certificates.
    pub certificate: PathBuf,
    /// PEM file with the key of the first certificate.
    pub key: PathBuf,
}

/// Returns the certificates in PEM, at least one, or `None` when there is none or one is malformed.
#[must_use]
pub fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    certificates.ok().filter(|certificates| !certificates.is_empty())
}

/// Returns the first private key in PEM. The error of the parser is dropped on purpose: its message
/// could repeat a part of the key.
#[must_use]
pub fn private_key(pem: &[u8]) -> Option<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem).ok()
}
