//! TLS connections to Redis: the authorities to trust, and the certificate of this service.

use std::{fmt, io, path::Path, sync::Arc};

use redis::RedisError;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::topology::RedisTls;
use crate::{
    local_file,
    pem::{self, CertificateFiles},
};

/// Why connections cannot be made with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError {
    /// The option that cannot be used.
    pub option: TlsOption,
    /// The error, without the option.
    pub detail: String,
}

/// An option of connections with TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsOption {
    /// TLS as such.
    Protocol,
    /// The file of the authorities.
    Authorities,
    /// The file of the certificate.
    Certificate,
    /// The file of the key.
    Key,
    /// The certificate together with its key.
    CertificateAndKey,
}

impl TlsError {
    fn new(option: TlsOption, detail: impl fmt::Display) -> Self {
        Self { option, detail: detail.to_string() }
    }

    fn of_file(option: TlsOption, file: &Path, error: impl fmt::Display) -> Self {
        Self::new(option, format_args!("{}: {error}", file.display()))
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let option = match self.option {
            TlsOption::Protocol => "TLS",
            TlsOption::Authorities => "the authorities to trust",
            TlsOption::Certificate => "the certificate",
            TlsOption::Key => "the key of the certificate",
            TlsOption::CertificateAndKey => "the certificate and its key",
        };
        write!(f, "{option}: {}", self.detail)
    }
}

impl std::error::Error for TlsError {}

/// Certificates for connections to Redis. Files are read for each new connection, so that renewed
/// ones are used without a restart.
#[derive(Clone)]
pub(super) struct Tls {
    files: RedisTls,
    /// The authorities of the system, which are read once because there are many.
    system: Arc<RootCertStore>,
}

/// Leaves out the authorities, which would fill pages.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Returns an error when the files cannot be used now, or when the system trusts no authority.
    pub(super) fn load(files: RedisTls) -> Result<Self, TlsError> {
        let mut system = RootCertStore::empty();
        if files.authorities.is_none() {
            // An authority that cannot be read is left out.
            let _ =
                system.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if system.is_empty() {
                let detail = "required with TLS on a system that trusts no authority";
                return Err(TlsError::new(TlsOption::Authorities, detail));
            }
        }
        let tls = Self { files, system: Arc::new(system) };
        tls.config()?;
        Ok(tls)
    }

    /// Starts TLS on a connection, with a server that has a certificate for `host`.
    pub(super) async fn secure(
        &self,
        host: &str,
        socket: TcpStream,
    ) -> Result<TlsStream<TcpStream>, RedisError> {
        let config = self.config().map_err(io::Error::other)?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(TlsConnector::from(Arc::new(config)).connect(name, socket).await?)
    }

    fn config(&self) -> Result<ClientConfig, TlsError> {
        let authorities = match &self.files.authorities {
            Some(file) => Arc::new(authorities(file)?),
            None => Arc::clone(&self.system),
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::new(TlsOption::Protocol, error))?
            .with_root_certificates(authorities);
        match &self.files.certificate {
            Some(files) => {
                let (chain, key) = identity(files)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| TlsError::new(TlsOption::CertificateAndKey, error))
            }
            None => Ok(builder.with_no_client_auth()),
        }
    }
}

fn authorities(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut authorities = RootCertStore::empty();
    for certificate in certificates(TlsOption::Authorities, file)? {
        let outcome = authorities.add(certificate);
        outcome.map_err(|error| TlsError::of_file(TlsOption::Authorities, file, error))?;
    }
    Ok(authorities)
}

fn identity(
    files: &CertificateFiles,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = certificates(TlsOption::Certificate, &files.certificate)?;
    let key = pem::private_key(&read(TlsOption::Key, &files.key)?);
    let none = || format!("{} holds no key in PEM", files.key.display());
    Ok((chain, key.ok_or_else(|| TlsError::new(TlsOption::Key, none()))?))
}

fn certificates(option: TlsOption, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = pem::certificates(&read(option, file)?);
    let none = || format!("{} holds no certificates in PEM", file.display());
    certificates.ok_or_else(|| TlsError::new(option, none()))
}

/// Reads a small local file, which blocks for no longer than any other work here.
fn read(option: TlsOption, file: &Path) -> Result<Vec<u8>, TlsError> {
    local_file::read(file).map_err(|error| TlsError::of_file(option, file, error))
}
