//! What TLS connections to Redis trust and show.

use std::{fmt, fs, io, path::Path, sync::Arc};

use redis::RedisError;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::RedisTls;
use crate::{
    config::{CertificateFiles, SettingsError},
    crypto,
};

/// Certificates for connections to Redis. Files are read for each new connection, so that renewed
/// ones are used without a restart.
#[derive(Clone)]
pub(super) struct Tls {
    files: RedisTls,
    /// The authorities that the system trusts, which are many: read once.
    system: Arc<RootCertStore>,
}

/// Says nothing of the authorities, which would fill pages.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Fails when the files cannot be used as they are now, or when there is nobody to trust.
    pub(super) fn load(files: RedisTls) -> Result<Self, SettingsError> {
        let mut system = RootCertStore::empty();
        if files.authorities.is_none() {
            // Some that cannot be read leave the others.
            let _ =
                system.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if system.is_empty() {
                let fault = "required with TLS on a system that trusts no authority";
                return Err(SettingsError::about("REDIS_TLS_CA_FILE", fault));
            }
        }
        let tls = Self { files, system: Arc::new(system) };
        tls.config()?;
        Ok(tls)
    }

    /// Makes a connection a secret one, with a server that can prove to be `host`.
    pub(super) async fn secure(
        &self,
        host: &str,
        socket: TcpStream,
    ) -> Result<TlsStream<TcpStream>, RedisError> {
        let config = self.config().map_err(io::Error::other)?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(TlsConnector::from(Arc::new(config)).connect(name, socket).await?)
    }

    fn config(&self) -> Result<ClientConfig, SettingsError> {
        let authorities = match &self.files.authorities {
            Some(file) => Arc::new(authorities(file)?),
            None => Arc::clone(&self.system),
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| SettingsError::about("REDIS_SSL", error))?
            .with_root_certificates(authorities);
        match &self.files.certificate {
            Some(files) => {
                let (chain, key) = identity(files)?;
                let names = "REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE";
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| SettingsError::about(names, error))
            }
            None => Ok(builder.with_no_client_auth()),
        }
    }
}

fn authorities(file: &Path) -> Result<RootCertStore, SettingsError> {
    const NAME: &str = "REDIS_TLS_CA_FILE";
    let mut authorities = RootCertStore::empty();
    for certificate in certificates(NAME, file)? {
        let added = authorities.add(certificate);
        added.map_err(|error| fault(NAME, file, error))?;
    }
    Ok(authorities)
}

fn identity(
    files: &CertificateFiles,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), SettingsError> {
    const NAME: &str = "REDIS_TLS_KEY_FILE";
    let chain = certificates("REDIS_TLS_CERT_FILE", &files.certificate)?;
    let key = crypto::private_key(&read(NAME, &files.key)?);
    let none = || format!("{} holds no key in PEM", files.key.display());
    Ok((chain, key.ok_or_else(|| SettingsError::about(NAME, none()))?))
}

fn certificates(name: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let found = crypto::certificates(&read(name, file)?);
    let none = || format!("{} holds no certificates in PEM", file.display());
    found.ok_or_else(|| SettingsError::about(name, none()))
}

/// Small local files: reading them blocks for no longer than any other work here.
fn read(name: &str, file: &Path) -> Result<Vec<u8>, SettingsError> {
    fs::read(file).map_err(|error| fault(name, file, error))
}

fn fault(name: &str, file: &Path, error: impl fmt::Display) -> SettingsError {
    SettingsError::about(name, format!("{}: {error}", file.display()))
}
