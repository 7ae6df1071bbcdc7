//! Keeps the map of a cluster's slots up to date.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{ConnectionAddr, ConnectionInfo, RedisError, Value};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{self, sleep, timeout},
};

use super::{
    advice::advice,
    breaker::{Breaker, State},
    call_error::CallError,
    cluster_map::{ClusterMap, Node},
    deadline::CallDeadline,
    keeper::Upkeep,
    server::Server,
    slots::{Address, Share, shares},
    task::Task,
    topology::server_at,
};
use crate::{
    log_throttle::{LogThrottle, Sums},
    redis_error::remember_attempt,
};

/// How often the map is read again while all is well.
const PERIOD: Duration = Duration::from_secs(10);

/// How often while a primary is missing.
const SHORT_PERIOD: Duration = Duration::from_millis(250);

/// Shortest time between two readings, however many calls are sent on.
const SHORTEST_PERIOD: Duration = Duration::from_millis(50);

/// How many servers are asked before the seeds are.
const ASKED: usize = 3;

/// The map of a cluster, and what keeps it up to date.
#[derive(Debug)]
pub(super) struct Follower {
    shared: Arc<Shared>,
    _task: Task,
}

#[derive(Debug)]
struct Shared {
    /// Where to learn of the cluster; they also say how to log in to all of its servers.
    seeds: Vec<ConnectionInfo>,
    max_connections: usize,
    upkeep: Arc<Upkeep>,
    map: watch::Sender<ClusterMap>,
}

impl Follower {
    pub(super) fn start(
        seeds: Vec<ConnectionInfo>,
        max_connections: usize,
        upkeep: Arc<Upkeep>,
    ) -> Self {
        let map = watch::Sender::new(ClusterMap::default());
        let shared = Arc::new(Shared { seeds, max_connections, upkeep, map });
        let task = Task::spawn(Arc::clone(&shared).follow());
        Self { shared, _task: task }
    }

    /// The map as it is now; not to be held while waiting.
    pub(super) fn map(&self) -> watch::Ref<'_, ClusterMap> {
        self.shared.map.borrow()
    }

    /// Has the map read again soon.
    pub(super) fn hurry(&self) {
        self.shared.upkeep.lost.notify_one();
    }

    /// A server that another one has named. One that is new has no connection yet.
    pub(super) fn node_at(&self, address: &Address) -> Option<Arc<Node>> {
        let known = self.map().node(address);
        known.or_else(|| {
            self.shared.map.send_modify(|map| map.meet(address.clone(), |at| self.shared.keep(at)));
            self.map().node(address)
        })
    }

    /// Waits until every primary is connected.
    pub(super) async fn wait_until_live(&self) {
        let mut map = self.shared.map.subscribe();
        // The sender is here.
        let _ = map.wait_for(|map| !map.is_empty()).await;
        let primaries = map.borrow().primaries();
        for node in primaries {
            node.server.wait_until_live().await;
        }
    }
}

impl Shared {
    async fn follow(self: Arc<Self>) {
        // Until the servers of the cluster are known, the seeds stand for them in the metrics.
        let seed = |seed: &ConnectionInfo| Breaker::new(seed.addr().to_string());
        let mut unknown: Vec<_> = self.seeds.iter().map(seed).collect();
        let (mut failures, mut gaps) = (LogThrottle::new(), LogThrottle::new());
        for round in 0.. {
            match self.learn(round).await {
                Ok(shares) => {
                    if let Some(Sums { count, seconds }) = failures.end() {
                        tracing::info!(
                            attempts = count,
                            seconds,
                            "learned again who has which keys of the cluster"
                        );
                    }
                    // Before a server has a breaker of its own: this shows it as closed.
                    unknown.clear();
                    self.take_over(shares);
                    self.report_gaps(&mut gaps);
                }
                Err(error) => {
                    report_failure(&mut failures, &error);
                    remember_attempt(&error);
                }
            }
            sleep(SHORTEST_PERIOD).await;
            let period = if self.is_well() { PERIOD } else { SHORT_PERIOD };
            let _ = timeout(period, self.upkeep.lost.notified()).await;
        }
    }

    fn take_over(&self, shares: Vec<Share>) {
        self.map.send_if_modified(|map| {
            let changed = map.update(shares, self.max_connections, |address| self.keep(address));
            if changed && map.unserved() == 0 {
                let primaries = map.primaries().len();
                tracing::info!(primaries, "the cluster's slots are shared out anew");
            }
            changed
        });
    }

    /// Logs that slots have no server, and that all have one again.
    fn report_gaps(&self, gaps: &mut LogThrottle) {
        let (primaries, unserved) = {
            let map = self.map.borrow();
            (map.primaries().len(), map.unserved())
        };
        if unserved == 0 {
            if let Some(Sums { seconds, .. }) = gaps.end() {
                tracing::info!(primaries, seconds, "every slot of the cluster has a server again");
            }
        } else if let Some(Sums { seconds, .. }) = gaps.record(Instant::now()) {
            let advice = "find out with CLUSTER NODES which servers are missing";
            tracing::error!(
                primaries,
                unserved,
                advice,
                seconds,
                "the cluster has slots that no server has"
            );
        }
    }

    /// Whether every key has a primary that calls are sent to.
    fn is_well(&self) -> bool {
        let map = self.map.borrow();
        let live = |node: &Arc<Node>| node.server.state() == State::Closed;
        map.unserved() == 0 && map.primaries().iter().all(live)
    }

    /// Asks one server after the other, another one first in each round: one that is cut off from
    /// the others does not know what has changed.
    async fn learn(&self, round: usize) -> Result<Vec<Share>, RedisError> {
        let mut live = self.map.borrow().live();
        let first = round % live.len().max(1);
        live.rotate_left(first);
        for node in live.iter().take(ASKED) {
            if let Ok(shares) = self.ask(node).await
                && !shares.is_empty()
            {
                return Ok(shares);
            }
        }
        self.ask_seeds().await
    }

    async fn ask(&self, node: &Node) -> Result<Vec<Share>, RedisError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("CLUSTER").arg("SLOTS");
        let deadline = time::Instant::now() + self.upkeep.answer_timeout;
        let answers = node
            .server
            .call(&pipeline, CallDeadline { at: deadline, is_first_attempt: true })
            .await;
        let answers = answers.map_err(CallError::into_redis_error)?;
        let answer = answers.into_iter().next().unwrap_or(Value::Nil).extract_error()?;
        shares(answer, &node.address)
    }

    /// Asks all seeds at once. The first that knows has it.
    async fn ask_seeds(&self) -> Result<Vec<Share>, RedisError> {
        let mut questions = JoinSet::new();
        for seed in &self.seeds {
            questions.spawn(ask_seed(seed.clone(), Arc::clone(&self.upkeep)));
        }
        let mut fault = RedisError::from(io::Error::other("no server has any slot"));
        while let Some(answer) = questions.join_next().await {
            match answer.unwrap_or_else(|error| Err(io::Error::from(error).into())) {
                Ok(shares) if shares.is_empty() => {}
                Ok(shares) => return Ok(shares),
                Err(error) => fault = error,
            }
        }
        Err(fault)
    }

    /// Starts to connect to a server.
    fn keep(&self, address: &Address) -> Server {
        let server =
            self.seeds.first().map(|seed| server_at(seed, address.host.clone(), address.port));
        // The sender goes: a server of a cluster stays where it is.
        let (_, whereabouts) = watch::channel(server);
        Server::keep(address.to_string(), whereabouts, Arc::clone(&self.upkeep), 1)
    }
}

fn report_failure(failures: &mut LogThrottle, error: &RedisError) {
    let fault = error.to_string();
    if let Some(Sums { count, seconds }) = failures.record_error(&fault, Instant::now()) {
        let advice = advice(&fault);
        tracing::error!(
            fault,
            advice,
            attempts = count,
            seconds,
            "cannot learn who has which keys of the cluster"
        );
    }
}

async fn ask_seed(seed: ConnectionInfo, upkeep: Arc<Upkeep>) -> Result<Vec<Share>, RedisError> {
    let address = match seed.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            Address { host: host.clone(), port: *port }
        }
        _ => return Err(io::Error::from(io::ErrorKind::Unsupported).into()),
    };
    let mut connection = upkeep.dialer.dial(&seed).await?;
    let mut command = redis::cmd("CLUSTER");
    command.arg("SLOTS");
    let answer = command.query_async(&mut connection.calls);
    let answer = timeout(upkeep.answer_timeout, answer).await;
    let silent = || io::Error::from(io::ErrorKind::TimedOut);
    shares(answer.map_err(|_| silent())??, &address)
}
