//! Connects a link, tries the connection, watches over it and replaces it.

use std::{future::pending, io, sync::Arc, time::Duration};

use redis::{Cmd, ConnectionInfo, RedisError, Value};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{
    advice::advice,
    breaker::{Breaker, Counted},
    deadline::wait_for_answer,
    dial::{Connection, Dialer},
    link::LiveLink,
};
use crate::redis_error::remember_attempt;

/// Pause after a failed attempt to connect: short, so that service is back soon after Redis is.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Shortest life of a connection that is replaced although it works.
const REPLACE_PAUSE: Duration = Duration::from_secs(1);

/// What all links to servers of one kind have in common.
#[derive(Debug)]
pub(super) struct Upkeep {
    pub(super) dialer: Dialer,
    /// Longest wait for the answer to a probe.
    pub(super) answer_timeout: Duration,
    /// A call that changes nothing, and that decisions resemble.
    pub(super) probe: Cmd,
    /// Whether a server that is not a primary is of no use.
    pub(super) primaries_only: bool,
    /// Notified when a link is lost.
    pub(super) lost: Notify,
}

/// Where a server is, which can change; `None` while nobody knows.
pub(super) type Whereabouts = watch::Receiver<Option<ConnectionInfo>>;

/// What keeps a link up.
#[derive(Debug)]
pub(super) struct Keeper {
    /// The number of the link, in the log.
    pub(super) number: usize,
    pub(super) server: Whereabouts,
    pub(super) upkeep: Arc<Upkeep>,
    pub(super) breaker: Arc<Breaker>,
    /// Where the connection is shown while it is live.
    pub(super) sender: watch::Sender<Option<LiveLink>>,
}

/// Why a link needs another connection.
enum End {
    Broken,
    Moved,
    Replaced(LiveLink),
}

impl Keeper {
    /// Connects, and connects again, without end.
    pub(super) async fn keep_connected(self) {
        let mut server = self.server.clone();
        let (mut link, mut counted) = self.connect(&mut server).await;
        loop {
            self.sender.send_replace(Some(link.clone()));
            let reason = match self.end_of(&link, &mut server).await {
                End::Replaced(other) => {
                    link = other;
                    continue;
                }
                End::Broken => "a connection broke or stayed silent",
                End::Moved => "the primary is another server",
            };
            self.sender.send_replace(None);
            drop(counted);
            self.breaker.note_loss(self.number, reason);
            self.upkeep.lost.notify_one();
            if link.since.elapsed() < RETRY_PAUSE {
                // What breaks as soon as it is made must not be made without end.
                sleep(RETRY_PAUSE).await;
            }
            (link, counted) = self.connect(&mut server).await;
        }
    }

    /// Waits until a connection is of no more use.
    async fn end_of(&self, link: &LiveLink, server: &mut Whereabouts) -> End {
        let mut elsewhere = server.clone();
        let replacement = async {
            link.signals.stale.notified().await;
            sleep_until(link.since + REPLACE_PAUSE).await;
            loop {
                let place = server.borrow().clone();
                if let Some(place) = place
                    && let Ok(other) = self.attempt(&place).await
                {
                    return other;
                }
                sleep(REPLACE_PAUSE).await;
            }
        };
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
            // Without a sender the server stays where it is.
            Ok(()) = elsewhere.changed() => End::Moved,
            other = replacement => End::Replaced(other),
        }
    }

    /// Tries until it succeeds.
    async fn connect(&self, server: &mut Whereabouts) -> (LiveLink, Counted) {
        loop {
            let place = server.borrow_and_update().clone();
            let Some(place) = place else {
                // Who does not know where it is, says why.
                if server.changed().await.is_err() {
                    pending::<()>().await;
                }
                continue;
            };
            match self.attempt(&place).await {
                Ok(link) => return (link, self.breaker.live(self.number)),
                Err(error) => {
                    let fault = error.to_string();
                    let advice = advice(&fault);
                    self.breaker.note(self.number, &fault, advice);
                    remember_attempt(&error);
                    self.upkeep.lost.notify_one();
                }
            }
            tokio::select! {
                () = sleep(RETRY_PAUSE) => {}
                Ok(()) = server.changed() => {}
            }
        }
    }

    async fn attempt(&self, server: &ConnectionInfo) -> Result<LiveLink, RedisError> {
        let connection = self.upkeep.dialer.dial(server).await?;
        let counted = self.breaker.probe();
        let answer = self.probe(&connection).await;
        drop(counted);
        answer?;
        Ok(LiveLink { connection, since: Instant::now(), signals: Arc::default() })
    }

    /// Whether the server answers in time. A late process waits on, until that is certain.
    async fn probe(&self, connection: &Connection) -> Result<(), RedisError> {
        let (time, driver_was_idle) = (self.upkeep.answer_timeout, connection.activity.watch());
        let answer = wait_for_answer(time, None, driver_was_idle, self.ask(connection)).await;
        let silent = || io::Error::other("connected, but a probe was not answered in time");
        answer.unwrap_or_else(|_| Err(silent().into()))
    }

    /// Whether the server answers calls like those of decisions. An error will do: it says that
    /// the server is quick, and each call is told what is wrong.
    async fn ask(&self, connection: &Connection) -> Result<(), RedisError> {
        let mut calls = connection.calls.clone();
        calls.send_packed_command(&self.upkeep.probe).await?;
        if !self.upkeep.primaries_only {
            return Ok(());
        }
        let role = redis::cmd("ROLE").query_async::<Vec<Value>>(&mut calls).await;
        match role.as_deref() {
            Ok([Value::BulkString(role), ..]) if role == b"master" => Ok(()),
            // A user who may not ask is told by each call that a server is no primary.
            Err(error) if error.code() == Some("NOPERM") => Ok(()),
            Err(error) => Err(error.clone()),
            Ok(_) => Err(io::Error::other("the server that Sentinels name is no primary").into()),
        }
    }
}
