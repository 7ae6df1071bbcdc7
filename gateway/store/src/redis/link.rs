//! One connection to a server that is kept up in the background.
//!
//! No request ever waits for a connection: a link is either live or it is not, and a request that
//! finds no live link fails at once. A link is given up when the server closes it and when an
//! answer does not come in time, because a connection to a host that has gone stays silent
//! forever. It is live again when a new connection was made and a probe was answered on it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use redis::aio::MultiplexedConnection;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    breaker::Breaker,
    dial::Connection,
    keeper::{Keeper, Upkeep, Whereabouts},
    task::Task,
};

/// A place for one connection, filled again whenever it was lost.
#[derive(Debug)]
pub(super) struct Link {
    live: watch::Receiver<Option<LiveLink>>,
    /// Connects, and connects again, for as long as this link exists.
    _keeper: Task,
}

/// A connection that worked when last used. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct LiveLink {
    pub(super) connection: Connection,
    pub(super) since: Instant,
    pub(super) signals: Arc<Signals>,
}

/// What those who use a connection tell its keeper.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// The connection is not to be used any more, though its keeper may not have noticed yet: on a
    /// busy machine, calls could otherwise follow each other into a server that is known as silent.
    given_up: AtomicBool,
    /// The connection works, but another one may lead to a better server.
    pub(super) stale: Notify,
    /// A call to the server was given up before its answer was overdue.
    pub(super) doubt: Notify,
}

/// A call that waits for its answer. If it is dropped before, all connections to its server are
/// tried: callers who are less patient than this service would otherwise hide that it is silent.
#[derive(Debug)]
pub(super) struct Unanswered<'l> {
    links: &'l [Arc<Link>],
}

impl<'l> Unanswered<'l> {
    /// A call to the server to which these links lead.
    pub(super) fn new(links: &'l [Arc<Link>]) -> Self {
        Self { links }
    }

    /// There is an answer, or it is overdue.
    pub(super) fn settle(mut self) {
        self.links = &[];
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        for link in self.links {
            if let Some(link) = &*link.live.borrow() {
                link.signals.doubt.notify_one();
            }
        }
    }
}

impl Link {
    /// Starts to connect. The log tells links apart by their `number`.
    pub(super) fn keep(
        number: usize,
        server: Whereabouts,
        upkeep: Arc<Upkeep>,
        breaker: Arc<Breaker>,
    ) -> Self {
        let (sender, live) = watch::channel(None);
        let work = Keeper { number, server, upkeep, breaker, sender }.keep_connected();
        Self { live, _keeper: Task::spawn(work) }
    }

    /// Waits until there is a connection.
    pub(super) async fn wait_until_live(&self) {
        // An error says that the task has ended, which it does not as long as `self` exists.
        let _ = self.live.clone().wait_for(Option::is_some).await;
    }

    /// The connection, if there is one now.
    pub(super) fn live(&self) -> Option<LiveLink> {
        let is_in_use = |link: &&LiveLink| !link.signals.given_up.load(Ordering::Relaxed);
        self.live.borrow().as_ref().filter(is_in_use).cloned()
    }

    /// Gives the connection up if it was there at `time`.
    pub(super) fn give_up_since(&self, time: Instant) {
        if let Some(link) = &*self.live.borrow()
            && link.since <= time
        {
            link.give_up();
        }
    }
}

impl LiveLink {
    pub(super) fn calls(&mut self) -> &mut MultiplexedConnection {
        &mut self.connection.calls
    }

    /// Has the connection replaced. Commands that already wait on it can still be answered.
    pub(super) fn give_up(&self) {
        self.signals.given_up.store(true, Ordering::Relaxed);
        self.connection.broken.notify_one();
    }

    /// Has the connection replaced as soon as there is another one.
    pub(super) fn retire(&self) {
        self.signals.stale.notify_one();
    }
}
