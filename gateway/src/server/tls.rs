//! TLS towards clients: a certificate and its key, which are read again when they change.

use rustls::{Error, InconsistentKeys, ServerConfig};
use store::pem::{self, CertificateFiles};

use crate::{startup_error::StartupError, watched_files::WatchedFiles};

/// The name of the protocol over TLS in a handshake.
const ALPN: &[u8] = b"http/1.1";

/// Reads the files, and reads them again whenever they change. New connections get the new
/// certificate; open connections keep theirs. Needs the runtime.
///
/// # Errors
///
/// When a file cannot be read, or the key is not that of the certificate.
pub fn watch(files: &CertificateFiles) -> Result<WatchedFiles<ServerConfig>, StartupError> {
    WatchedFiles::load([files.certificate.clone(), files.key.clone()], config)
        .map_err(|error| StartupError::about("TLS_CERT_FILE, TLS_KEY_FILE", error))
}

fn config([certificate, key]: [&[u8]; 2]) -> Result<ServerConfig, String> {
    let chain =
        pem::certificates(certificate).ok_or("the first file is not a certificate as PEM")?;
    let key = pem::private_key(key).ok_or("the second file is not a private key as PEM")?;
    let builder = ServerConfig::builder().with_no_client_auth();
    let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the key is not that of the certificate".to_owned()
        }
        other => format!("the certificate and its key cannot be used: {other}"),
    })?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}
