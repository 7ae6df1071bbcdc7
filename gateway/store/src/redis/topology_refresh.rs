//! The refresh of the slot map of a cluster, in the background.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{Cmd, ConnectionAddr, ConnectionInfo, RedisError};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{self, sleep, timeout},
};

use super::{
    advice::advice,
    breaker::{Breaker, State},
    call_error::CallError,
    deadline::CallDeadline,
    node::Node,
    reconnect::LinkOptions,
    slot_map::{ClusterNode, SlotMap},
    slots::{Address, SlotRange, slot_ranges},
    task::Task,
    topology::server_at,
};
use crate::{
    log_throttle::{LogThrottle, Sums},
    redis_error::remember_attempt,
};

/// Time between two refreshes while every slot has a live primary.
const PERIOD: Duration = Duration::from_secs(10);

/// Time between two refreshes while a primary is missing.
const SHORT_PERIOD: Duration = Duration::from_millis(250);

/// Shortest time between two refreshes, however many calls are redirected.
const SHORTEST_PERIOD: Duration = Duration::from_millis(50);

/// Most nodes that a refresh asks before it asks the seeds.
const MAX_ASKED_NODES: usize = 3;

/// The slot map of a cluster, and the task that refreshes the map.
#[derive(Debug)]
pub(super) struct TopologyRefresh {
    shared: Arc<Shared>,
    _task: Task,
}

#[derive(Debug)]
struct Shared {
    /// The first nodes to ask. Their TLS and login are those of all nodes.
    seeds: Vec<ConnectionInfo>,
    max_connections: usize,
    options: Arc<LinkOptions>,
    map: watch::Sender<SlotMap>,
}

impl TopologyRefresh {
    pub(super) fn start(
        seeds: Vec<ConnectionInfo>,
        max_connections: usize,
        options: Arc<LinkOptions>,
    ) -> Self {
        let map = watch::Sender::new(SlotMap::default());
        let shared = Arc::new(Shared { seeds, max_connections, options, map });
        let task = Task::spawn(Arc::clone(&shared).run());
        Self { shared, _task: task }
    }

    /// Returns the map of now. The caller must drop the map before it waits.
    pub(super) fn map(&self) -> watch::Ref<'_, SlotMap> {
        self.shared.map.borrow()
    }

    /// Makes the task refresh the map soon.
    pub(super) fn refresh_soon(&self) {
        self.shared.options.lost.notify_one();
    }

    /// Returns the node at an address of a redirection. A new node has no connection yet.
    pub(super) fn node_at(&self, address: &Address) -> Option<Arc<ClusterNode>> {
        let known = self.map().node(address);
        known.or_else(|| {
            let add = |map: &mut SlotMap| map.add(address.clone(), |at| self.shared.start_node(at));
            self.shared.map.send_modify(add);
            self.map().node(address)
        })
    }

    /// Waits until every primary is connected.
    pub(super) async fn wait_until_live(&self) {
        let mut map = self.shared.map.subscribe();
        // The wait fails only without a sender, and `self` has the sender.
        let _ = map.wait_for(|map| !map.is_empty()).await;
        let primaries = map.borrow().primaries();
        for node in primaries {
            node.node.wait_until_live().await;
        }
    }
}

impl Shared {
    /// Refreshes the map again and again. Does not return.
    async fn run(self: Arc<Self>) {
        // Until the nodes are known, the metrics have one open breaker for each seed.
        let seed = |seed: &ConnectionInfo| Breaker::new(seed.addr().to_string());
        let mut seed_breakers: Vec<_> = self.seeds.iter().map(seed).collect();
        let (mut failures, mut gaps) = (LogThrottle::new(), LogThrottle::new());
        for round in 0.. {
            match self.fetch(round).await {
                Ok(ranges) => {
                    if let Some(Sums { count, seconds }) = failures.end() {
                        let message = "the slots of the cluster are read again";
                        tracing::info!(attempts = count, seconds, "{message}");
                    }
                    // Dropped before a node has its own breaker, because a drop sets the gauge to 0.
                    seed_breakers.clear();
                    self.update(ranges);
                    self.report_gaps(&mut gaps);
                }
                Err(error) => {
                    report_failure(&mut failures, &error);
                    remember_attempt(&error);
                }
            }
            sleep(SHORTEST_PERIOD).await;
            let period = if self.is_complete() { PERIOD } else { SHORT_PERIOD };
            let _ = timeout(period, self.options.lost.notified()).await;
        }
    }

    fn update(&self, ranges: Vec<SlotRange>) {
        self.map.send_if_modified(|map| {
            let start = |address: &Address| self.start_node(address);
            let has_changed = map.update(ranges, self.max_connections, start);
            if has_changed && map.unserved() == 0 {
                let primaries = map.primaries().len();
                tracing::info!(primaries, "the slots of the cluster have changed");
            }
            has_changed
        });
    }

    /// Logs that slots have no primary, and that all have one again.
    fn report_gaps(&self, gaps: &mut LogThrottle) {
        let (primaries, unserved) = {
            let map = self.map.borrow();
            (map.primaries().len(), map.unserved())
        };
        if unserved == 0 {
            if let Some(Sums { seconds, .. }) = gaps.end() {
                tracing::info!(primaries, seconds, "every slot of the cluster has a primary again");
            }
        } else if let Some(Sums { seconds, .. }) = gaps.record(Instant::now()) {
            let advice = "find out with CLUSTER NODES which servers are missing";
            let message = "slots of the cluster have no primary";
            tracing::error!(primaries, unserved, advice, seconds, "{message}");
        }
    }

    /// Returns whether every slot has a primary to which calls are sent.
    fn is_complete(&self) -> bool {
        let map = self.map.borrow();
        let is_live = |node: &Arc<ClusterNode>| node.node.state() == State::Closed;
        map.unserved() == 0 && map.primaries().iter().all(is_live)
    }

    /// Asks nodes one after the other for the slots, then the seeds. Each round begins with another
    /// node, because a node that is cut off from the others does not know the changes.
    async fn fetch(&self, round: usize) -> Result<Vec<SlotRange>, RedisError> {
        let mut live = self.map.borrow().live();
        let first = round % live.len().max(1);
        live.rotate_left(first);
        for node in live.iter().take(MAX_ASKED_NODES) {
            if let Ok(ranges) = self.ask(node).await
                && !ranges.is_empty()
            {
                return Ok(ranges);
            }
        }
        self.ask_seeds().await
    }

    async fn ask(&self, node: &ClusterNode) -> Result<Vec<SlotRange>, RedisError> {
        let at = time::Instant::now() + self.options.answer_timeout;
        let deadline = CallDeadline { at, is_first_attempt: true };
        let answer = node.node.send(&cluster_slots(), deadline).await;
        let answer = answer.map_err(CallError::into_redis_error)?;
        slot_ranges(answer.extract_error()?, &node.address)
    }

    /// Asks all seeds at once, and returns the first answer with slots.
    async fn ask_seeds(&self) -> Result<Vec<SlotRange>, RedisError> {
        let mut questions = JoinSet::new();
        for seed in &self.seeds {
            questions.spawn(ask_seed(seed.clone(), Arc::clone(&self.options)));
        }
        let mut last_error = RedisError::from(io::Error::other("no server has any slot"));
        while let Some(answer) = questions.join_next().await {
            match answer.unwrap_or_else(|error| Err(io::Error::from(error).into())) {
                Ok(ranges) if ranges.is_empty() => {}
                Ok(ranges) => return Ok(ranges),
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    /// Starts to connect to a node.
    fn start_node(&self, address: &Address) -> Node {
        let server =
            self.seeds.first().map(|seed| server_at(seed, address.host.clone(), address.port));
        // The sender is dropped on purpose: the address of a node never changes.
        let (_, receiver) = watch::channel(server);
        Node::start(address.to_string(), receiver, Arc::clone(&self.options), 1)
    }
}

/// Returns the command that asks for the slots of all nodes.
pub(super) fn cluster_slots() -> Cmd {
    let mut command = redis::cmd("CLUSTER");
    command.arg("SLOTS");
    command
}

fn report_failure(failures: &mut LogThrottle, error: &RedisError) {
    let error = error.to_string();
    if let Some(Sums { count, seconds }) = failures.record_error(&error, Instant::now()) {
        let (attempts, advice) = (count, advice(&error));
        let message = "cannot read the slots of the cluster";
        tracing::error!(error, advice, attempts, seconds, "{message}");
    }
}

async fn ask_seed(
    seed: ConnectionInfo,
    options: Arc<LinkOptions>,
) -> Result<Vec<SlotRange>, RedisError> {
    let address = match seed.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            Address { host: host.clone(), port: *port }
        }
        _ => return Err(io::Error::from(io::ErrorKind::Unsupported).into()),
    };
    let connection = options.dialer.dial(&seed).await?;
    let command = cluster_slots();
    let answer = timeout(options.answer_timeout, connection.calls.send(&command)).await;
    let silent = || io::Error::from(io::ErrorKind::TimedOut);
    slot_ranges(answer.map_err(|_| silent())??.extract_error()?, &address)
}
