//! Opens connections: the socket, TLS and the login.

use std::{io, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, ProtocolVersion, RedisConnectionInfo,
    RedisError, aio::MultiplexedConnection,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::Notify,
    task::JoinSet,
    time::timeout,
};

use super::{
    calls::Calls,
    driver::Driver,
    lent_stream::LentStream,
    lookup::lookup,
    task::Task,
    tls::{Tls, TlsError},
    topology::RedisTls,
};

/// Shortest timeout of an attempt to connect, with its TLS handshake and its login. The timeout is
/// short because an attempt that begins just before Redis is back delays the recovery.
const MIN_TIMEOUT: Duration = Duration::from_millis(500);

/// The name of every connection in `CLIENT LIST` of a server.
const CLIENT_NAME: &str = "ratelimit-gateway";

/// Opens connections with the options that all of them share.
#[derive(Debug)]
pub(super) struct Dialer {
    tls: Option<Tls>,
    timeout: Duration,
}

/// A connection after its login. Clones share the connection.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) calls: Calls,
    /// Notified when the connection breaks.
    pub(super) broken: Arc<Notify>,
    /// Reads and writes. The driver ends with the last clone, also when answers are outstanding.
    _driver: Arc<Task>,
}

impl Dialer {
    /// Returns an error when the files for TLS cannot be used.
    pub(super) fn new(tls: Option<RedisTls>, answer_timeout: Duration) -> Result<Self, TlsError> {
        let tls = tls.map(Tls::load).transpose()?;
        Ok(Self { tls, timeout: answer_timeout.max(MIN_TIMEOUT) })
    }

    /// Connects to a server and logs in.
    pub(super) async fn dial(&self, server: &ConnectionInfo) -> Result<Connection, RedisError> {
        let attempt = timeout(self.timeout, self.open(server)).await;
        attempt.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }

    async fn open(&self, server: &ConnectionInfo) -> Result<Connection, RedisError> {
        let login = server.redis_settings();
        match (server.addr(), &self.tls) {
            (ConnectionAddr::Tcp(host, port), _) => {
                self.log_in(login, connect(host, *port).await?).await
            }
            (ConnectionAddr::TcpTls { host, port, .. }, Some(tls)) => {
                let socket = connect(host, *port).await?;
                self.log_in(login, tls.secure(host, socket).await?).await
            }
            (ConnectionAddr::Unix(path), _) => {
                self.log_in(login, UnixStream::connect(path).await?).await
            }
            _ => Err(io::Error::from(io::ErrorKind::Unsupported).into()),
        }
    }

    async fn log_in<S>(
        &self,
        login: &RedisConnectionInfo,
        stream: S,
    ) -> Result<Connection, RedisError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // The client library logs in, and reads no byte after the last reply.
        let (stream, lent) = LentStream::lend(stream);
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let login = login.clone().set_protocol(ProtocolVersion::RESP3);
        drop(MultiplexedConnection::new_with_config(&login, lent, config).await?);
        let stream = stream.take_back();
        let stream = stream.ok_or_else(|| io::Error::other("the stream of a login is in use"))?;

        let (calls, broken) = (Calls::new(), Arc::new(Notify::new()));
        let (driver, closed) = (Driver::new(stream, calls.shared()), Arc::clone(&broken));
        let driver = Arc::new(Task::spawn(async move {
            driver.await;
            closed.notify_one();
        }));
        // An error as the answer is ignored: the connection of a user without the right to CLIENT
        // has no name.
        calls.send(redis::cmd("CLIENT").arg("SETNAME").arg(CLIENT_NAME)).await?;
        Ok(Connection { calls, broken, _driver: driver })
    }
}

/// Connects to all addresses of a host, and returns the first connection.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    for address in lookup(host, port).await? {
        attempts.spawn(TcpStream::connect(address));
    }
    let mut last_error = io::Error::other("the host has no address");
    while let Some(attempt) = attempts.join_next().await {
        match attempt.unwrap_or_else(|error| Err(error.into())) {
            Ok(socket) => {
                // Commands are written as a whole: a wait for full packets only delays them.
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}
