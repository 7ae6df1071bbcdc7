//! Asks a running service for its health, for images that have no shell and no client.

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

/// Longest wait for the whole answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// A question about the health of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Whether the process serves requests at all.
    Live,
    /// Whether load balancers are to send requests to it.
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

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Asks the service that listens with these options, on the port for probes if it has one.
///
/// # Errors
///
/// When the answer is no, or does not come in time: one line to be printed.
pub async fn ask(options: &ListenOptions, probe: Probe) -> Result<(), String> {
    let path = probe.path();
    let (host, port) = match &options.admin {
        Some(admin) => (&admin.host, admin.port),
        None => (&options.host, options.port),
    };
    let host = reachable(host);
    let answer = timeout(PATIENCE, status(host, port, options.tls.is_some(), path));
    match answer.await {
        Ok(Ok(StatusCode::OK)) => Ok(()),
        Ok(Ok(status)) => Err(format!("{path} at {host} port {port} answers {status}")),
        Ok(Err(fault)) => Err(format!("{path} at {host} port {port} cannot be asked: {fault}")),
        Err(_) => Err(format!("{path} at {host} port {port} does not answer within {PATIENCE:?}")),
    }
}

/// Where a service that listens at `host` is found from the same machine.
fn reachable(host: &str) -> &str {
    match host.parse() {
        Ok(IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1",
        Ok(IpAddr::V6(address)) if address.is_unspecified() => "::1",
        _ => host,
    }
}

async fn status(host: &str, port: u16, tls: bool, path: &str) -> Result<StatusCode, Fault> {
    let stream = TcpStream::connect((host, port)).await?;
    if tls {
        let name = ServerName::try_from(host.to_owned())?;
        let stream = TlsConnector::from(Arc::new(trusting()?)).connect(name, stream).await?;
        exchange(stream, path).await
    } else {
        exchange(stream, path).await
    }
}

async fn exchange<S>(stream: S, path: &str) -> Result<StatusCode, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(path).header("Host", "localhost").body(Empty::<Bytes>::new())?;
    Ok(sender.send_request(request).await?.status())
}

/// For a service on the same machine that is told no secret.
fn trusting() -> Result<ClientConfig, Fault> {
    let provider = CryptoProvider::get_default().ok_or("no cryptography is installed")?;
    let verifier = Arc::new(AnyCertificate(provider.signature_verification_algorithms));
    let builder = ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier);
    Ok(builder.with_no_client_auth())
}

/// Takes any certificate: its name is seldom that of the loopback address, and the file that it
/// came from may have been replaced since. That the service holds its key is still verified.
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
    fn a_service_that_listens_everywhere_is_asked_at_home() {
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
