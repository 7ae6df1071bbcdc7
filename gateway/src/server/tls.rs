//! TLS towards clients: a certificate and its key, which are read again when they change.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    Error, InconsistentKeys, RootCertStore, ServerConfig,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use store::pem::{self, CertificateFiles};

use crate::{startup_error::StartupError, watched_files::WatchedFiles};

/// The protocol over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, which gRPC needs.
    Http2,
}

impl Protocol {
    /// Returns the name in a handshake.
    const fn name(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// Reads the files, and reads them again whenever they change. New connections get the new
/// certificate; open connections keep theirs. With a file of authorities, a client may present a
/// certificate that one of them has issued; no client has to. Needs the runtime.
///
/// # Errors
///
/// When a file cannot be read, or the key is not that of the certificate.
pub fn watch(
    files: &CertificateFiles,
    authorities: Option<&PathBuf>,
    protocol: Protocol,
) -> Result<WatchedFiles<ServerConfig>, StartupError> {
    let (certificate, key) = (files.certificate.clone(), files.key.clone());
    match authorities {
        None => WatchedFiles::load([certificate, key], move |[certificate, key]| {
            config(certificate, key, None, protocol)
        })
        .map_err(|error| StartupError::about("TLS_CERT_FILE, TLS_KEY_FILE", error)),
        Some(authorities) => {
            let parse = move |[certificate, key, authorities]: [&[u8]; 3]| {
                config(certificate, key, Some(authorities), protocol)
            };
            WatchedFiles::load([certificate, key, authorities.clone()], parse).map_err(|error| {
                StartupError::about("TLS_CERT_FILE, TLS_KEY_FILE, AUTHZ_CLIENT_CA_FILE", error)
            })
        }
    }
}

fn config(
    certificate: &[u8],
    key: &[u8],
    authorities: Option<&[u8]>,
    protocol: Protocol,
) -> Result<ServerConfig, String> {
    let chain =
        pem::certificates(certificate).ok_or("the first file is not a certificate as PEM")?;
    let key = pem::private_key(key).ok_or("the second file is not a private key as PEM")?;
    let builder = ServerConfig::builder();
    let builder = match authorities {
        None => builder.with_no_client_auth(),
        Some(authorities) => builder.with_client_cert_verifier(verifier(authorities)?),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the key is not that of the certificate".to_owned()
        }
        other => format!("the certificate and its key cannot be used: {other}"),
    })?;
    config.alpn_protocols = vec![protocol.name().to_vec()];
    Ok(config)
}

/// Returns the verifier of the certificates of clients, which need none.
fn verifier(authorities: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let certificates =
        pem::certificates(authorities).ok_or("the third file is not certificates as PEM")?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let unusable = |error| format!("a certificate of an authority cannot be used: {error}");
        roots.add(certificate).map_err(unusable)?;
    }
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated().build();
    verifier.map_err(|error| format!("the authorities cannot be used: {error}"))
}
