//! The known nodes of a cluster, and the slots of each.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    breaker::State,
    node::{MAX_LINKS, Node},
    slots::{Address, COUNT, SlotRange},
};

/// Time for which the connections to a node without slots are kept.
const IDLE_NODE_LIFETIME: Duration = Duration::from_secs(60);

/// One server of a cluster.
#[derive(Debug)]
pub(super) struct ClusterNode {
    pub(super) address: Address,
    pub(super) node: Node,
}

/// The slots of each node.
#[derive(Debug, Default)]
pub(super) struct SlotMap {
    nodes: BTreeMap<Address, Entry>,
    ranges: Vec<SlotRange>,
    /// Ranges by their last slots: the first slot, and the node.
    owners: BTreeMap<usize, (usize, Arc<ClusterNode>)>,
}

#[derive(Debug)]
struct Entry {
    node: Arc<ClusterNode>,
    /// The last time at which an answer contained the address.
    last_seen: Instant,
}

impl SlotMap {
    /// Returns whether no slot has a known node yet.
    pub(super) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Returns the node of a slot.
    pub(super) fn owner(&self, slot: usize) -> Option<Arc<ClusterNode>> {
        let (_, (first, node)) = self.owners.range(slot..).next()?;
        (*first <= slot).then(|| Arc::clone(node))
    }

    pub(super) fn node(&self, address: &Address) -> Option<Arc<ClusterNode>> {
        self.nodes.get(address).map(|entry| Arc::clone(&entry.node))
    }

    /// Returns the nodes to which calls are sent now.
    pub(super) fn live(&self) -> Vec<Arc<ClusterNode>> {
        let nodes = self.nodes.values().map(|entry| &entry.node);
        nodes.filter(|node| node.node.state() == State::Closed).cloned().collect()
    }

    /// Returns the nodes that have slots.
    pub(super) fn primaries(&self) -> Vec<Arc<ClusterNode>> {
        let mut primaries: Vec<_> =
            self.owners.values().map(|(_, node)| Arc::clone(node)).collect();
        primaries.sort_by(|one, other| one.address.cmp(&other.address));
        primaries.dedup_by(|one, other| one.address == other.address);
        primaries
    }

    /// Returns the number of slots without a node.
    pub(super) fn unserved(&self) -> usize {
        let mut served = 0;
        for (last, (first, _)) in &self.owners {
            served += last - first + 1;
        }
        COUNT.saturating_sub(served)
    }

    /// Adds the node at an address if the node is new. `start` starts to connect to the node.
    pub(super) fn add(&mut self, address: Address, start: impl FnOnce(&Address) -> Node) {
        let last_seen = Instant::now();
        let entry = self.nodes.entry(address);
        let address = entry.key().clone();
        let new = || {
            let node = start(&address);
            Entry { node: Arc::new(ClusterNode { address, node }), last_seen }
        };
        entry.or_insert_with(new).last_seen = last_seen;
    }

    /// Replaces the ranges, and divides `max_connections` among the nodes. Returns whether anything
    /// has changed.
    pub(super) fn update(
        &mut self,
        ranges: Vec<SlotRange>,
        max_connections: usize,
        start: impl Fn(&Address) -> Node,
    ) -> bool {
        for range in &ranges {
            self.add(range.primary.clone(), &start);
        }
        self.nodes.retain(|_, entry| entry.last_seen.elapsed() < IDLE_NODE_LIFETIME);
        let links = (max_connections / self.nodes.len().max(1)).clamp(1, MAX_LINKS);
        let mut has_changed = ranges != self.ranges;
        for entry in self.nodes.values_mut() {
            if entry.node.node.link_count() != links {
                let ClusterNode { address, node } = &*entry.node;
                let node = node.with_links(links);
                entry.node = Arc::new(ClusterNode { address: address.clone(), node });
                has_changed = true;
            }
        }
        self.owners.clear();
        for range in &ranges {
            if let Some(entry) = self.nodes.get(&range.primary) {
                self.owners.insert(range.last, (range.first, Arc::clone(&entry.node)));
            }
        }
        self.ranges = ranges;
        has_changed
    }
}
