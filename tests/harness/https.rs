//! HTTP over TLS, as a client that trusts one authority only.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::certificates::Authority;
use super::http::{self, Connection, Response};

/// The configuration by which a client trusts a server.
pub(super) type Trust = Arc<ClientConfig>;

/// A stream of bytes over TLS.
pub(crate) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Returns the configuration of a client that trusts the certificates of `authority`, and prefers
/// HTTP/2.
pub(super) fn trust(authority: &Authority) -> Trust {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(authority.file()).expect("its certificate");
    roots.add(certificate).expect("an authority");
    let mut config = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Opens a persistent connection, and returns the connection and the certificate of the server.
pub(super) fn open(
    address: SocketAddr,
    trust: &Trust,
) -> io::Result<(Connection<TlsStream>, Vec<u8>)> {
    let stream = connect(address, trust)?;
    let certificate = stream.conn.peer_certificates().and_then(|chain| chain.first());
    let certificate = certificate.map(|certificate| certificate.to_vec()).unwrap_or_default();
    Ok((Connection::over(stream), certificate))
}

/// Sends a request over TLS, as [`http::exchange`] does over TCP.
pub(super) fn exchange(address: SocketAddr, trust: &Trust, request: &[u8]) -> io::Result<Response> {
    http::exchange_over(connect(address, trust)?, request)
}

/// Returns the first message of a client.
pub(super) fn client_hello(address: SocketAddr, trust: &Trust) -> Vec<u8> {
    let name = ServerName::from(address.ip());
    let mut session = ClientConnection::new(Arc::clone(trust), name).expect("a session");
    let mut hello = vec![];
    session.write_tls(&mut hello).expect("bytes");
    hello
}

fn connect(address: SocketAddr, trust: &Trust) -> io::Result<TlsStream> {
    let mut socket = http::connect(address)?;
    let name = ServerName::from(address.ip());
    let mut session = ClientConnection::new(Arc::clone(trust), name).map_err(io::Error::other)?;
    while session.is_handshaking() {
        session.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(session, socket))
}
