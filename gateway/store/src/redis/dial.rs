//! Opens connections: the socket, TLS and the login.

use std::{io, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, ProtocolVersion, PushInfo, PushKind,
    RedisConnectionInfo, RedisError, aio::MultiplexedConnection,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::Notify,
    task::JoinSet,
    time::timeout,
};

use super::{
    driver_activity::DriverActivity,
    lookup::lookup,
    task::Task,
    tls::{Tls, TlsError},
    topology::RedisTls,
    write_batching::WriteBatching,
};

/// Longest wait for a connection, its TLS handshake and its login, unless single answers may take
/// longer. So short that an attempt that began just before Redis was back delays no recovery.
const SHORTEST_PATIENCE: Duration = Duration::from_millis(500);

/// The name of every connection in `CLIENT LIST` of a server.
const CLIENT_NAME: &str = "ratelimit-gateway";

/// How to reach servers.
#[derive(Debug)]
pub(super) struct Dialer {
    tls: Option<Tls>,
    patience: Duration,
    /// How many calls may wait to be written.
    queue: usize,
}

/// A connection whose login is done. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) calls: MultiplexedConnection,
    /// Notified when the connection breaks.
    pub(super) broken: Arc<Notify>,
    pub(super) activity: Arc<DriverActivity>,
    /// Reads and writes. Ends with the last clone, even when answers are outstanding.
    _driver: Arc<Task>,
}

impl Dialer {
    /// Fails when TLS is wanted and cannot be used.
    pub(super) fn new(
        tls: Option<RedisTls>,
        answer_timeout: Duration,
        queue: usize,
    ) -> Result<Self, TlsError> {
        let tls = tls.map(Tls::load).transpose()?;
        Ok(Self { tls, patience: answer_timeout.max(SHORTEST_PATIENCE), queue })
    }

    /// Connects to a server and logs in.
    pub(super) async fn dial(&self, server: &ConnectionInfo) -> Result<Connection, RedisError> {
        let attempt = timeout(self.patience, self.open(server)).await;
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
        let broken = Arc::new(Notify::new());
        let closed = Arc::clone(&broken);
        let activity = Arc::new(DriverActivity::default());
        let stream = WriteBatching::new(stream, Arc::clone(&activity));
        let config = AsyncConnectionConfig::new()
            // Calls have deadlines of their own.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(self.queue)
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    closed.notify_one();
                }
                Ok::<(), ()>(())
            });
        // Only RESP3 connections tell when they are closed while idle.
        let login = login.clone().set_protocol(ProtocolVersion::RESP3);
        let (mut calls, driver) =
            MultiplexedConnection::new_with_config(&login, stream, config).await?;
        let driver = Arc::new(Task::spawn(driver));
        // An answer that is an error does not matter: a user without the right to CLIENT has a
        // connection without a name.
        calls.send_packed_command(redis::cmd("CLIENT").arg("SETNAME").arg(CLIENT_NAME)).await?;
        Ok(Connection { calls, broken, activity, _driver: driver })
    }
}

/// Connects to the first address of a host that answers.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    for address in lookup(host, port).await? {
        attempts.spawn(TcpStream::connect(address));
    }
    let mut fault = io::Error::other("the host has no address");
    while let Some(attempt) = attempts.join_next().await {
        match attempt.unwrap_or_else(|error| Err(error.into())) {
            Ok(socket) => {
                // Commands are written as a whole: waiting to fill packets only delays them.
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(error) => fault = error,
        }
    }
    Err(fault)
}
