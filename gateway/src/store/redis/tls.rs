//! What TLS connections to Redis trust and show.

use std::{fmt, fs, io, path::Path, sync::Arc};

use redis::RedisError;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{RedisSettingsError, RedisTls};
use crate::config::CertificateFiles;

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
    pub(super) fn load(files: RedisTls) -> Result<Self, RedisSettingsError> {
        let mut system = RootCertStore::empty();
        if files.authorities.is_none() {
            // Some that cannot be read leave the others.
            let _ =
                system.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if system.is_empty() {
                return Err(RedisSettingsError(
                    "REDIS_TLS_CA_FILE: required with TLS on a system that trusts no authority"
                        .to_owned(),
                ));
            }
        }
        let tls = Self { files, system: Arc::new(system) };
        tls.config().map_err(RedisSettingsError)?;
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

    fn config(&self) -> Result<ClientConfig, String> {
        let authorities = match &self.files.authorities {
            Some(file) => Arc::new(authorities(file)?),
            None => Arc::clone(&self.system),
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(authorities);
        match &self.files.certificate {
            Some(files) => {
                let (chain, key) = identity(files)?;
                let names = "REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE";
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| format!("{names}: {error}"))
            }
            None => Ok(builder.with_no_client_auth()),
        }
    }
}

fn authorities(file: &Path) -> Result<RootCertStore, String> {
    const NAME: &str = "REDIS_TLS_CA_FILE";
    let mut authorities = RootCertStore::empty();
    for certificate in certificates(NAME, file)? {
        let added = authorities.add(certificate);
        added.map_err(|error| format!("{NAME}: {}: {error}", file.display()))?;
    }
    Ok(authorities)
}

fn identity(
    files: &CertificateFiles,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    const NAME: &str = "REDIS_TLS_KEY_FILE";
    let chain = certificates("REDIS_TLS_CERT_FILE", &files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read(NAME, &files.key)?);
    // The parser's own message could repeat a part of the file.
    let key = key.map_err(|_| format!("{NAME}: {} holds no key in PEM", files.key.display()))?;
    Ok((chain, key))
}

fn certificates(name: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(name, file)?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let found = found.ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| format!("{name}: {} holds no certificates in PEM", file.display()))
}

/// Small local files: reading them blocks for no longer than any other work here.
fn read(name: &str, file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{name}: {}: {error}", file.display()))
}
