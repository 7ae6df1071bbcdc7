//! The client that tests the health of a running service, for images without a shell.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::server::options::ListenOptions;

/// Timeout for the whole answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// A test of the health of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// The process serves requests.
    Live,
    /// Load balancers can send requests to the process.
    Ready,
}

impl Probe {
    const fn path(self) -> &'static str {
        match self {
            Self::Live => "/health/live",
            Self::Ready => "/health/ready",
        }
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Tests the service that listens with these options, on the admin listener if there is one.
///
/// # Errors
///
/// When the test fails, or the answer does not come in time: one line to be printed.
pub async fn ask(options: &ListenOptions, probe: Probe) -> Result<(), String> {
    let path = probe.path();
    let (host, port) = match &options.admin {
        Some(admin) => (&admin.host, admin.port),
        None => (&options.host, options.port),
    };
    let host = reachable(host);
    let answer = timeout(TIMEOUT, status(host, port, options.tls.is_some(), path));
    match answer.await {
        Ok(Ok(StatusCode::OK)) => Ok(()),
        Ok(Ok(status)) => Err(format!("{path} at {host} port {port} answers {status}")),
        Ok(Err(error)) => Err(format!("cannot request {path} at {host} port {port}: {error}")),
        Err(_) => Err(format!("{path} at {host} port {port} does not answer within {TIMEOUT:?}")),
    }
}

/// Returns the address of a service that listens at `host`, from the same machine.
fn reachable(host: &str) -> &str {
    match host.parse() {
        Ok(IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1",
        Ok(IpAddr::V6(address)) if address.is_unspecified() => "::1",
        _ => host,
    }
}

async fn status(host: &str, port: u16, tls: bool, path: &str) -> Result<StatusCode, AnyError> {
    let stream = TcpStream::connect((host, port)).await?;
    if tls {
        let name = ServerName::try_from(host.to_owned())?;
        let stream =
            TlsConnector::from(Arc::new(local_client_config()?)).connect(name, stream).await?;
        exchange(stream, path).await
    } else {
        exchange(stream, path).await
    }
}

async fn exchange<S>(stream: S, path: &str) -> Result<StatusCode, AnyError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(path).header("Host", "localhost").body(Empty::<Bytes>::new())?;
    Ok(sender.send_request(request).await?.status())
}

/// Returns a configuration for a service on the same machine, to which no secret is sent.
fn local_client_config() -> Result<ClientConfig, AnyError> {
    let provider = CryptoProvider::get_default().ok_or("no cryptography is installed")?;
    let verifier = Arc::new(AnyCertificate(provider.signature_verification_algorithms));
    let builder = ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier);
    Ok(builder.with_no_client_auth())
}

/// A verifier that accepts any certificate: its name is seldom the loopback address, and its file may
/// have been replaced since the start. The verifier still requires the key of the certificate.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn a_service_that_listens_on_all_addresses_is_tested_on_loopback() {
        for (host, expected) in [
            ("0.0.0.0", "127.0.0.1"),
            ("::", "::1"),
            ("0:0:0:0:0:0:0:0", "::1"),
            ("10.1.2.3", "10.1.2.3"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(reachable(host), expected);
        }
    }
}
