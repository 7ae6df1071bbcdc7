//! A connection of a caller.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use envoy::services::Connected;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep},
};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use crate::{authz::proxies::Peer, telemetry::GaugeGuard};

/// The bytes with which each client begins (RFC 9113, 3.4). From then on HTTP/2 detects a client that
/// has gone.
const PREFACE_BYTES: usize = 24;

/// The stream of a connection, without TLS or with it.
pub(super) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A connection, which fails when the client does not begin in time.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    peer: Peer,
    /// The bytes that the client must still send, and the time for them.
    preface: Option<(usize, Pin<Box<Sleep>>)>,
    #[expect(dead_code, reason = "it counts the connection until its end")]
    open: (GaugeGuard, OwnedSemaphorePermit),
}

impl Connection {
    /// Returns a connection whose client must begin within this time.
    pub(super) fn new(
        stream: Stream,
        time: Duration,
        open: (GaugeGuard, OwnedSemaphorePermit),
    ) -> Self {
        let (socket, chain) = match &stream {
            Either::Left(socket) => (socket, None),
            Either::Right(stream) => (stream.get_ref().0, stream.get_ref().1.peer_certificates()),
        };
        let address = socket.peer_addr().ok().map(|address| address.ip());
        let has_certificate = chain.is_some_and(|chain| !chain.is_empty());
        let peer = Peer { address, has_certificate };
        let preface = Some((PREFACE_BYTES, Box::pin(sleep(time))));
        Self { stream, peer, preface, open }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    /// Returns the other end, which calls find among their extensions.
    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        if let Some((missing, timer)) = &mut self.preface {
            *missing = missing.saturating_sub(bytes);
            if *missing == 0 {
                self.preface = None;
            } else if timer.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
