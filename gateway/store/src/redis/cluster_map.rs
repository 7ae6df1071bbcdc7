//! The servers of a cluster as far as they are known, and the slots that each has.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    breaker::State,
    server::{MAX_LINKS, Server},
    slots::{Address, COUNT, Share},
};

/// How long the connections to a server are kept that has no slots any more.
const FAREWELL: Duration = Duration::from_secs(60);

/// One server of a cluster.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) address: Address,
    pub(super) server: Server,
}

/// Who has which slots.
#[derive(Debug, Default)]
pub(super) struct ClusterMap {
    nodes: BTreeMap<Address, Known>,
    shares: Vec<Share>,
    /// Shares by their last slots: the first slot, and who has them.
    owners: BTreeMap<usize, (usize, Arc<Node>)>,
}

#[derive(Debug)]
struct Known {
    node: Arc<Node>,
    /// When it was last said to have a slot.
    named: Instant,
}

impl ClusterMap {
    /// Whether nothing is known yet.
    pub(super) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Who has a slot.
    pub(super) fn owner(&self, slot: usize) -> Option<Arc<Node>> {
        let (_, (first, node)) = self.owners.range(slot..).next()?;
        (*first <= slot).then(|| Arc::clone(node))
    }

    pub(super) fn node(&self, address: &Address) -> Option<Arc<Node>> {
        self.nodes.get(address).map(|known| Arc::clone(&known.node))
    }

    /// All servers that calls are sent to now.
    pub(super) fn live(&self) -> Vec<Arc<Node>> {
        let nodes = self.nodes.values().map(|known| &known.node);
        nodes.filter(|node| node.server.state() == State::Closed).cloned().collect()
    }

    /// Those that have slots.
    pub(super) fn primaries(&self) -> Vec<Arc<Node>> {
        let mut primaries: Vec<_> =
            self.owners.values().map(|(_, node)| Arc::clone(node)).collect();
        primaries.sort_by(|one, other| one.address.cmp(&other.address));
        primaries.dedup_by(|one, other| one.address == other.address);
        primaries
    }

    /// Slots that nobody has.
    pub(super) fn unserved(&self) -> usize {
        let served = |(last, (first, _)): (&usize, &(usize, Arc<Node>))| last - first + 1;
        COUNT.saturating_sub(self.owners.iter().map(served).sum())
    }

    /// Adds a server that has been named, if it is not known.
    pub(super) fn meet(&mut self, address: Address, keep: impl FnOnce(&Address) -> Server) {
        let named = Instant::now();
        let entry = self.nodes.entry(address);
        let address = entry.key().clone();
        let new = || {
            let server = keep(&address);
            Known { node: Arc::new(Node { address, server }), named }
        };
        entry.or_insert_with(new).named = named;
    }

    /// Takes over who has which slots, and shares `max_connections` among the servers. Answers
    /// whether anything is different now.
    pub(super) fn update(
        &mut self,
        shares: Vec<Share>,
        max_connections: usize,
        keep: impl Fn(&Address) -> Server,
    ) -> bool {
        for share in &shares {
            self.meet(share.primary.clone(), &keep);
        }
        self.nodes.retain(|_, known| known.named.elapsed() < FAREWELL);
        let links = (max_connections / self.nodes.len().max(1)).clamp(1, MAX_LINKS);
        let mut changed = shares != self.shares;
        for known in self.nodes.values_mut() {
            if known.node.server.link_count() != links {
                let Node { address, server } = &*known.node;
                let server = server.with_links(links);
                known.node = Arc::new(Node { address: address.clone(), server });
                changed = true;
            }
        }
        let owner = |share: &Share| {
            let node = Arc::clone(&self.nodes.get(&share.primary)?.node);
            Some((share.last, (share.first, node)))
        };
        self.owners = shares.iter().filter_map(owner).collect();
        self.shares = shares;
        changed
    }
}
