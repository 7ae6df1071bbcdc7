//! TLS handshakes of clients.

use std::{io, time::Duration};

use rustls::ServerConfig;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::turns::Turns;
use crate::{
    telemetry::{self, SlowPart},
    watched_files::WatchedFiles,
};

/// Handshakes, of which a few run at once: one takes as long as many requests.
#[derive(Debug)]
pub(crate) struct Handshakes {
    turns: Turns,
    timeout: Duration,
}

impl Handshakes {
    /// Returns handshakes with this timeout, of which `at_once` run at once.
    pub(crate) fn new(at_once: usize, timeout: Duration) -> Self {
        Self { turns: Turns::new(at_once), timeout }
    }

    /// Returns the stream of a connection after its handshake, or `None` if the handshake fails.
    pub(crate) async fn take(
        &self,
        config: &WatchedFiles<ServerConfig>,
        stream: TcpStream,
    ) -> Option<TlsStream<TcpStream>> {
        let handshake = TlsAcceptor::from(config.current()).accept(stream);
        match timeout(self.timeout, self.turns.take(handshake)).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                // A probe that only connects has begun no handshake.
                if error.kind() != io::ErrorKind::UnexpectedEof {
                    telemetry::count_failed_handshake();
                }
                tracing::debug!(%error, "no TLS connection");
                None
            }
            Err(_) => {
                telemetry::count_slow_connection(SlowPart::Handshake);
                None
            }
        }
    }
}
