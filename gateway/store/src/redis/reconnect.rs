//! One connection to a server, which a background task replaces when the connection is lost.
//!
//! No request waits for a connection: a link is live or not, and a request that finds no live link
//! fails at once. The task of a link works in a loop:
//!
//! 1. It connects, and probes the new connection with a call. After a failure it pauses and tries
//!    again.
//! 2. The link is live until the connection breaks, an answer is overdue, or the server is not the
//!    primary any more. An overdue answer counts because a connection to a host that has gone stays
//!    silent for ever.
//! 3. The task reports the loss, and connects again.

use std::{
    future::pending,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{Cmd, ConnectionInfo, RedisError, Value};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{
    advice::advice,
    breaker::{Breaker, ConnectionGuard},
    deadline::wait_for_answer,
    dial::{Connection, Dialer},
    task::Task,
};
use crate::redis_error::remember_attempt;

/// Pause after a failed attempt to connect. It is short, so that calls are sent soon after Redis is
/// back.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Shortest life of a connection that is replaced although it works.
const REPLACE_PAUSE: Duration = Duration::from_secs(1);

/// The address of a server, which can change; `None` while the address is unknown.
pub(super) type AddressReceiver = watch::Receiver<Option<ConnectionInfo>>;

/// The options that all links of one topology share, and the events of all these links.
#[derive(Debug)]
pub(super) struct LinkOptions {
    pub(super) dialer: Dialer,
    /// Longest wait for the answer to a probe.
    pub(super) answer_timeout: Duration,
    /// A call that changes nothing and resembles the calls of decisions.
    pub(super) probe: Cmd,
    /// True if only a primary may be used.
    pub(super) primaries_only: bool,
    /// Notified when a link is lost.
    pub(super) lost: Notify,
    /// The number of connections whose first probe was answered.
    pub(super) connections: AtomicU64,
}

/// One connection, with the task that replaces it.
#[derive(Debug)]
pub(super) struct Link {
    live: watch::Receiver<Option<LiveLink>>,
    /// Connects for as long as this link exists.
    _task: Task,
}

/// A connection that worked when it was last used. Clones share the connection.
#[derive(Debug, Clone)]
pub(super) struct LiveLink {
    pub(super) connection: Connection,
    since: Instant,
    signals: Arc<Signals>,
}

/// The signals from the calls on a connection to its reconnect task.
#[derive(Debug, Default)]
struct Signals {
    /// Set before the reconnect task runs, so that no further call is sent to a server that has just
    /// timed out.
    is_closed: AtomicBool,
    /// The connection works, but another connection may lead to a better server.
    stale: Notify,
    /// A call ended before its answer was overdue.
    doubt: Notify,
}

/// A call that waits for its answer.
///
/// If this guard is dropped before [`PendingCall::complete`], the connections to the server are
/// probed. Clients with a shorter timeout than this service would otherwise hide a silent server.
#[derive(Debug)]
pub(super) struct PendingCall<'l> {
    links: &'l [Arc<Link>],
}

/// The task of a link.
#[derive(Debug)]
struct Reconnect {
    /// The number of the link, in the log.
    number: usize,
    address: AddressReceiver,
    options: Arc<LinkOptions>,
    breaker: Arc<Breaker>,
    /// Publishes the connection while it is live.
    sender: watch::Sender<Option<LiveLink>>,
}

/// The reason why a link needs another connection.
enum End {
    Broken,
    Moved,
    Replaced(LiveLink),
}

impl<'l> PendingCall<'l> {
    /// Returns the guard of a call to the server of these links.
    pub(super) fn new(links: &'l [Arc<Link>]) -> Self {
        Self { links }
    }

    /// Ends the guard: the answer has arrived, or is overdue.
    pub(super) fn complete(mut self) {
        self.links = &[];
    }
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        for link in self.links {
            if let Some(link) = &*link.live.borrow() {
                link.signals.doubt.notify_one();
            }
        }
    }
}

impl Link {
    /// Starts to connect to the server at `address`. `number` is the link's number in the log.
    pub(super) fn start(
        number: usize,
        address: AddressReceiver,
        options: Arc<LinkOptions>,
        breaker: Arc<Breaker>,
    ) -> Self {
        let (sender, live) = watch::channel(None);
        let reconnect = Reconnect { number, address, options, breaker, sender };
        Self { live, _task: Task::spawn(reconnect.run()) }
    }

    /// Waits until there is a connection.
    pub(super) async fn wait_until_live(&self) {
        // The wait fails only if the task has ended, and the task runs as long as `self` exists.
        let _ = self.live.clone().wait_for(Option::is_some).await;
    }

    /// Returns the connection if there is one now.
    pub(super) fn live(&self) -> Option<LiveLink> {
        let is_open = |link: &&LiveLink| !link.signals.is_closed.load(Ordering::Relaxed);
        self.live.borrow().as_ref().filter(is_open).cloned()
    }

    /// Closes the connection if it existed at `time`.
    pub(super) fn close_if_older(&self, time: Instant) {
        if let Some(link) = &*self.live.borrow()
            && link.since <= time
        {
            link.close();
        }
    }
}

impl LiveLink {
    /// Makes the task replace the connection. Calls that wait on the connection can still be
    /// answered.
    pub(super) fn close(&self) {
        self.signals.is_closed.store(true, Ordering::Relaxed);
        self.connection.broken.notify_one();
    }

    /// Makes the task replace the connection as soon as there is another one.
    pub(super) fn replace(&self) {
        self.signals.stale.notify_one();
    }
}

impl Reconnect {
    /// Connects, and connects again after each loss. Does not return.
    async fn run(self) {
        let mut address = self.address.clone();
        let (mut link, mut guard) = self.connect(&mut address).await;
        loop {
            self.sender.send_replace(Some(link.clone()));
            let reason = match self.wait_for_end(&link, &address).await {
                End::Replaced(other) => {
                    link = other;
                    continue;
                }
                End::Broken => "a connection broke or stayed silent",
                End::Moved => "the primary is another server",
            };
            self.sender.send_replace(None);
            drop(guard);
            self.breaker.report_loss(self.number, reason);
            self.options.lost.notify_one();
            if link.since.elapsed() < RETRY_PAUSE {
                // Connections that break at once must not be made in a tight loop.
                sleep(RETRY_PAUSE).await;
            }
            (link, guard) = self.connect(&mut address).await;
        }
    }

    /// Waits until the link needs another connection.
    async fn wait_for_end(&self, link: &LiveLink, address: &AddressReceiver) -> End {
        let mut next_address = address.clone();
        let silence = async {
            loop {
                link.signals.doubt.notified().await;
                if self.probe(&link.connection).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = link.connection.broken.notified() => End::Broken,
            () = silence => End::Broken,
            // Never, for an address without a sender, which is constant.
            Ok(()) = next_address.changed() => End::Moved,
            other = self.replacement(link, address) => End::Replaced(other),
        }
    }

    /// Returns another connection once the link is stale.
    async fn replacement(&self, link: &LiveLink, address: &AddressReceiver) -> LiveLink {
        link.signals.stale.notified().await;
        sleep_until(link.since + REPLACE_PAUSE).await;
        loop {
            let server = address.borrow().clone();
            if let Some(server) = server
                && let Ok(other) = self.attempt(&server).await
            {
                return other;
            }
            sleep(REPLACE_PAUSE).await;
        }
    }

    /// Tries to connect until an attempt succeeds.
    async fn connect(&self, address: &mut AddressReceiver) -> (LiveLink, ConnectionGuard) {
        loop {
            let server = address.borrow_and_update().clone();
            let Some(server) = server else {
                // The Sentinel task logs why the primary is unknown, so nothing is logged here.
                if address.changed().await.is_err() {
                    pending::<()>().await;
                }
                continue;
            };
            match self.attempt(&server).await {
                Ok(link) => return (link, self.breaker.count_live(self.number)),
                Err(error) => {
                    let text = error.to_string();
                    self.breaker.report_attempt(self.number, &text, advice(&text));
                    remember_attempt(&error);
                    self.options.lost.notify_one();
                }
            }
            tokio::select! {
                () = sleep(RETRY_PAUSE) => {}
                Ok(()) = address.changed() => {}
            }
        }
    }

    async fn attempt(&self, server: &ConnectionInfo) -> Result<LiveLink, RedisError> {
        let connection = self.options.dialer.dial(server).await?;
        let guard = self.breaker.count_probing();
        let answer = self.probe(&connection).await;
        drop(guard);
        answer?;
        self.options.connections.fetch_add(1, Ordering::Relaxed);
        Ok(LiveLink { connection, since: Instant::now(), signals: Arc::default() })
    }

    /// Returns an error unless the server answers in time. While this process is late, the wait
    /// continues, because nothing is known of the server.
    async fn probe(&self, connection: &Connection) -> Result<(), RedisError> {
        let (time, driver_was_idle) = (self.options.answer_timeout, connection.calls.watch());
        let answer =
            wait_for_answer(time, None, driver_was_idle, self.send_probe(connection)).await;
        let silent = || io::Error::other("connected, but a probe was not answered in time");
        answer.unwrap_or_else(|_| Err(silent().into()))
    }

    /// Sends a call like those of decisions. An answer that is an error counts as an answer, because
    /// each call reports it.
    async fn send_probe(&self, connection: &Connection) -> Result<(), RedisError> {
        let calls = &connection.calls;
        calls.send(&self.options.probe).await?;
        if !self.options.primaries_only {
            return Ok(());
        }
        match calls.send(&redis::cmd("ROLE")).await?.extract_error() {
            Ok(Value::Array(role)) if role.first().is_some_and(is_primary) => Ok(()),
            // The user has no right to ROLE. On a replica each call fails with an error of its own.
            Err(error) if error.code() == Some("NOPERM") => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(io::Error::other("the server that Sentinels name is no primary").into()),
        }
    }
}

/// Returns whether the first part of the answer to ROLE is that of a primary.
fn is_primary(role: &Value) -> bool {
    matches!(role, Value::BulkString(name) if name == b"master")
}
