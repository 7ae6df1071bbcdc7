//! One connection to Redis that is kept up in the background.
//!
//! No request ever waits for a connection: a link is either live or it is not, and a request that
//! finds no live link fails at once. A link is given up when Redis closes it and when an answer
//! does not come in time, because a connection to a host that has gone stays silent forever.

use std::{sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, PushInfo, PushKind, RedisError, aio::MultiplexedConnection,
};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tracing::Instrument;

use crate::{
    store::{StoreError, outage::explain},
    telemetry::RedisNode,
};

/// Longest wait for a connection, its TLS handshake and its login.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Pause after a failed attempt to connect: short, so that service is back soon after Redis is.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What an operator can do about a fault. The link itself goes on trying.
pub(in crate::store) const ADVICE: &str =
    "check that Redis runs and that the REDIS_ settings lead to it";

/// A place for one connection, filled again whenever it was lost.
#[derive(Debug)]
pub(super) struct Link {
    live: watch::Receiver<Option<LiveLink>>,
}

/// A connection that worked when last used. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct LiveLink {
    pub(super) connection: MultiplexedConnection,
    broken: Arc<Notify>,
}

impl Link {
    /// Starts a task that connects, and connects again, for as long as this link exists.
    ///
    /// Each answer may take `response_timeout`; `queue` is how many commands may wait to be sent.
    /// The log tells links apart by their `number`, and the metrics show a live one at its `node`.
    pub(super) fn keep(
        number: usize,
        client: Client,
        response_timeout: Duration,
        queue: usize,
        node: RedisNode,
    ) -> Self {
        let (sender, live) = watch::channel(None);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(response_timeout))
            .set_pipeline_buffer_size(queue);
        let task = async move {
            tokio::select! {
                () = keep_connected(&client, &config, &sender, &node) => {}
                () = sender.closed() => {}
            }
        };
        tokio::spawn(task.instrument(tracing::error_span!("link", number)));
        Self { live }
    }

    /// Waits until there is a connection.
    pub(super) async fn wait_until_live(&self) {
        // An error says that the task has ended, which it does not as long as `self` exists.
        let _ = self.live.clone().wait_for(Option::is_some).await;
    }

    /// The connection, if there is one now.
    pub(super) fn live(&self) -> Option<LiveLink> {
        self.live.borrow().clone()
    }
}

impl LiveLink {
    async fn connect(client: &Client, config: &AsyncConnectionConfig) -> Result<Self, RedisError> {
        let broken = Arc::new(Notify::new());
        let closed = Arc::clone(&broken);
        let config = config.clone().set_push_sender(move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                closed.notify_one();
            }
            Ok::<(), ()>(())
        });
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Self { connection, broken })
    }

    /// What became of a call that failed on this connection. A connection that broke, or on which
    /// an answer is overdue, is replaced; commands that wait on it can still be answered.
    pub(super) fn fault(&self, error: &RedisError) -> StoreError {
        if error.is_timeout() || error.is_unrecoverable_error() {
            self.broken.notify_one();
        }
        explain(error)
    }
}

async fn keep_connected(
    client: &Client,
    config: &AsyncConnectionConfig,
    sender: &watch::Sender<Option<LiveLink>>,
    node: &RedisNode,
) {
    let mut last_fault = String::new();
    loop {
        match LiveLink::connect(client, config).await {
            Ok(link) => {
                tracing::info!("connected to Redis");
                last_fault.clear();
                let _live = node.connection();
                let broken = Arc::clone(&link.broken);
                sender.send_replace(Some(link));
                broken.notified().await;
                sender.send_replace(None);
                tracing::warn!("lost a connection to Redis");
            }
            Err(error) => {
                // One line for each new fault, not one for each attempt.
                let fault = error.to_string();
                if fault != last_fault {
                    tracing::error!(fault, advice = ADVICE, "cannot connect to Redis");
                    last_fault = fault;
                }
                sleep(RETRY_PAUSE).await;
            }
        }
    }
}
