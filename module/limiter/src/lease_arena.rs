//! The nodes of leases in chunks without holes.
//!
//! When a node is removed, the last one takes its place. A lease takes 64 bytes, its share of a chunk
//! and of the room to grow, and its holder.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::mem;
use core::ops::Range;

use crate::buffers::BufferVisitor;
use crate::holder::Holder;
use crate::lease::Lease;
use crate::limits::{Units, Window};
use crate::math::Exact;
use crate::time::Instant;

/// The order of a tree.
#[derive(Clone, Copy)]
pub(crate) enum Tree {
    /// By a hash of the holder, and then by holder: most steps compare two integers.
    Holder,
    /// By expiry, and then by holder.
    Expiry,
}

/// The place of a node: a number below the number of leases, or [`NONE`].
pub(crate) type Index = u32;

pub(crate) const NONE: Index = u32::MAX;

/// Nodes in a chunk: as many as fit into 4 KiB. A power of two, so that no step divides.
const CHUNK_NODES: usize = 64;

/// Room for this many bytes of holders is added to a chunk that has too little.
const TEXT_GROWTH: usize = 128;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Links {
    pub(crate) left: Index,
    pub(crate) right: Index,
    /// Nodes in this subtree.
    pub(crate) count: u32,
}

/// One lease, in the 64 bytes of a cache line.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    by_holder: Links,
    /// The hash of the holder.
    hash: u32,
    by_expiry: Links,
    /// The place of the holder in the text of the chunk.
    text: u16,
    text_len: u8,
    ttl_high: u8,
    /// Costs in the subtree by expiry.
    pub(crate) costs: u64,
    pub(crate) expiry: Instant,
    fence: u64,
    /// The ttl in milliseconds, which has 35 bits.
    ttl_low: u32,
    cost: Units,
}

/// The keys of a lease in both trees.
pub(crate) struct Key<'l> {
    pub(crate) lease: &'l Lease,
    pub(crate) hash: u32,
}

impl<'l> Key<'l> {
    pub(crate) fn of(lease: &'l Lease) -> Self {
        Self { lease, hash: lease.holder.hash() }
    }
}

/// Nodes, and the bytes of their holders, in any order.
#[derive(Clone, Debug)]
struct Chunk {
    nodes: Vec<Node>,
    text: Vec<u8>,
}

/// The nodes of the leases of a key.
#[derive(Clone, Debug)]
pub(crate) struct LeaseArena {
    chunks: Vec<Chunk>,
    /// Nodes that were read, so that a test can count them.
    #[cfg(test)]
    pub(crate) steps: core::cell::Cell<u64>,
}

impl LeaseArena {
    pub(crate) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            #[cfg(test)]
            steps: core::cell::Cell::new(0),
        }
    }

    /// Puts a node and its holder in the place of another.
    pub(crate) fn replace(&mut self, index: Index, node: Node, holder: &Holder) {
        if let Some(chunk) = self.chunks.get_mut(index as usize / CHUNK_NODES) {
            chunk.replace(index as usize % CHUNK_NODES, node, holder.as_bytes());
        }
    }

    #[inline(always)]
    pub(crate) fn node(&self, index: Index) -> Option<&Node> {
        #[cfg(test)]
        self.steps.set(self.steps.get().plus(1));
        let index = index as usize;
        self.chunks.get(index / CHUNK_NODES)?.nodes.get(index % CHUNK_NODES)
    }

    #[inline(always)]
    pub(crate) fn node_mut(&mut self, index: Index) -> Option<&mut Node> {
        let index = index as usize;
        self.chunks.get_mut(index / CHUNK_NODES)?.nodes.get_mut(index % CHUNK_NODES)
    }

    /// Compares the key of a node with that of a lease.
    pub(crate) fn order(&self, tree: Tree, index: Index, key: &Key<'_>) -> Ordering {
        let chunk = self.chunks.get(index as usize / CHUNK_NODES);
        let node = chunk.and_then(|chunk| chunk.nodes.get(index as usize % CHUNK_NODES));
        match (node, chunk) {
            (Some(node), Some(chunk)) => node.order(tree, key, &chunk.text),
            _ => Ordering::Equal,
        }
    }

    /// Returns a node to be changed, and true if a lease is to the left of the node.
    #[inline(always)]
    pub(crate) fn node_on_the_way(
        &mut self,
        tree: Tree,
        index: Index,
        key: &Key<'_>,
    ) -> Option<(&mut Node, bool)> {
        #[cfg(test)]
        self.steps.set(self.steps.get().plus(1));
        let index = index as usize;
        let Chunk { nodes, text } = self.chunks.get_mut(index / CHUNK_NODES)?;
        let node = nodes.get_mut(index % CHUNK_NODES)?;
        let is_left = node.order(tree, key, text) == Ordering::Greater;
        Some((node, is_left))
    }

    /// Returns a node and the bytes of its holder.
    pub(crate) fn node_and_text(&self, index: Index) -> Option<(&Node, &[u8])> {
        #[cfg(test)]
        self.steps.set(self.steps.get().plus(1));
        let index = index as usize;
        let chunk = self.chunks.get(index / CHUNK_NODES)?;
        let node = chunk.nodes.get(index % CHUNK_NODES)?;
        Some((node, node.holder(&chunk.text)?))
    }

    pub(crate) fn lease(&self, index: Index) -> Option<Lease> {
        let (node, text) = self.node_and_text(index)?;
        Some(Lease {
            holder: Holder::new(text)?,
            cost: node.cost,
            ttl: node.ttl()?,
            expiry: node.expiry,
            fence: node.fence,
        })
    }

    /// Appends a node that is in no tree.
    pub(crate) fn push(&mut self, key: &Key<'_>) {
        if self.chunks.last().is_none_or(|chunk| chunk.nodes.len() == CHUNK_NODES) {
            if self.chunks.len() == self.chunks.capacity() {
                self.chunks.reserve_exact((self.chunks.len() / 4).plus(1));
            }
            self.chunks.push(Chunk { nodes: Vec::new(), text: Vec::new() });
        }
        if let Some(chunk) = self.chunks.last_mut() {
            let text = chunk.push_text(key.lease.holder.as_bytes());
            if chunk.nodes.len() == chunk.nodes.capacity() {
                let room = CHUNK_NODES.minus(chunk.nodes.len());
                chunk.nodes.reserve_exact(chunk.nodes.len().clamp(1, room));
            }
            chunk.nodes.push(Node::new(key, text));
        }
    }

    /// Takes the last node out of the arena.
    pub(crate) fn pop(&mut self) -> Option<(Node, Holder)> {
        let chunk = self.chunks.last_mut()?;
        let node = chunk.nodes.pop()?;
        let holder = chunk.remove_text(node.text, node.text_len)?;
        if chunk.nodes.is_empty() {
            self.chunks.pop();
            if self.chunks.len() < self.chunks.capacity() / 4 {
                self.chunks.shrink_to(self.chunks.len().times(2));
            }
        }
        Some((node, holder))
    }

    /// Number of buffers on the heap: the chunks, and two of each.
    pub(crate) fn buffers(&self) -> usize {
        self.chunks.len().times(2).plus(usize::from(self.chunks.capacity() > 0))
    }

    /// Lends the buffers with these numbers to `visitor`.
    pub(crate) fn visit_buffers(
        &mut self,
        numbers: Range<usize>,
        visitor: &mut impl BufferVisitor,
    ) {
        if numbers.contains(&0) && self.chunks.capacity() > 0 {
            self.chunks = visitor.visit(mem::take(&mut self.chunks));
        }
        let first = numbers.start.saturating_sub(1) / 2;
        for (number, chunk) in self.chunks.iter_mut().enumerate().skip(first) {
            let (nodes, text) = (number.times(2).plus(1), number.times(2).plus(2));
            if nodes >= numbers.end {
                break;
            }
            if numbers.contains(&nodes) {
                chunk.nodes = visitor.visit(mem::take(&mut chunk.nodes));
            }
            if numbers.contains(&text) {
                chunk.text = visitor.visit(mem::take(&mut chunk.text));
            }
        }
    }
}

impl Chunk {
    /// Appends bytes to the text; returns their place.
    fn push_text(&mut self, bytes: &[u8]) -> u16 {
        let room = self.text.capacity().minus(self.text.len());
        if room < bytes.len() {
            // A short text, of one lease or two, has no room to grow.
            let growth = if self.nodes.len() < 4 { bytes.len() } else { TEXT_GROWTH };
            self.text.reserve_exact(growth);
        }
        let place = self.text.len() as u16;
        self.text.extend_from_slice(bytes);
        place
    }

    /// Removes a text, and returns a copy of it.
    fn remove_text(&mut self, place: u16, len: u8) -> Option<Holder> {
        let start = usize::from(place);
        let range = start..start.plus(usize::from(len));
        let removed = Holder::new(self.text.get(range.clone())?)?;
        self.text.drain(range);
        for node in &mut self.nodes {
            if node.text > place {
                node.text = node.text.wrapping_sub(u16::from(len));
            }
        }
        Some(removed)
    }

    /// Puts a node in the place of another.
    fn replace(&mut self, place: usize, mut node: Node, text: &[u8]) {
        if let Some(old) = self.nodes.get(place) {
            let (start, len) = (old.text, old.text_len);
            let _removed = self.remove_text(start, len);
        }
        node.text = self.push_text(text);
        if let Some(old) = self.nodes.get_mut(place) {
            *old = node;
        }
    }
}

impl Links {
    const ALONE: Self = Self { left: NONE, right: NONE, count: 1 };

    /// The link to one side.
    #[inline(always)]
    pub(crate) fn child(&self, is_left: bool) -> Index {
        if is_left { self.left } else { self.right }
    }

    /// The same link, to be changed.
    #[inline(always)]
    pub(crate) fn child_mut(&mut self, is_left: bool) -> &mut Index {
        if is_left { &mut self.left } else { &mut self.right }
    }
}

impl Node {
    fn new(key: &Key<'_>, text: u16) -> Self {
        let lease = key.lease;
        let mut node = Self {
            by_holder: Links::ALONE,
            hash: key.hash,
            by_expiry: Links::ALONE,
            text,
            text_len: lease.holder.as_bytes().len() as u8,
            ttl_high: 0,
            costs: 0,
            expiry: lease.expiry,
            fence: lease.fence,
            ttl_low: 0,
            cost: lease.cost,
        };
        node.set(lease);
        node
    }

    /// Makes this the node of another lease of the same holder, in no tree by expiry.
    pub(crate) fn set(&mut self, lease: &Lease) {
        let ttl = lease.ttl.as_millis();
        (self.ttl_low, self.ttl_high) = (ttl as u32, (ttl >> 32) as u8);
        (self.cost, self.expiry, self.fence) = (lease.cost, lease.expiry, lease.fence);
        self.costs = self.cost();
        self.by_expiry = Links::ALONE;
    }

    /// Counts a lease that is added to the subtree.
    #[inline(always)]
    pub(crate) fn add(&mut self, tree: Tree, lease: &Lease) {
        let links = self.links_mut(tree);
        links.count = links.count.plus(1);
        if let Tree::Expiry = tree {
            self.costs = self.costs.plus(u64::from(lease.cost.get()));
        }
    }

    /// Subtracts a lease that is removed from the subtree.
    #[inline(always)]
    pub(crate) fn subtract(&mut self, tree: Tree, lease: &Lease) {
        let links = self.links_mut(tree);
        links.count = links.count.minus(1);
        if let Tree::Expiry = tree {
            self.costs = self.costs.minus(u64::from(lease.cost.get()));
        }
    }

    /// Compares the key of the node, with this text of its chunk, with that of a lease.
    #[inline(always)]
    fn order(&self, tree: Tree, key: &Key<'_>, text: &[u8]) -> Ordering {
        let order = match tree {
            Tree::Holder => self.hash.cmp(&key.hash),
            Tree::Expiry => self.expiry.cmp(&key.lease.expiry),
        };
        order.then_with(|| self.holder(text).cmp(&Some(key.lease.holder.as_bytes())))
    }

    /// Returns the bytes of the holder in the text of the chunk.
    fn holder<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        let start = usize::from(self.text);
        text.get(start..start.plus(usize::from(self.text_len)))
    }

    #[inline(always)]
    pub(crate) fn hash(&self) -> u32 {
        self.hash
    }

    pub(crate) fn cost(&self) -> u64 {
        u64::from(self.cost.get())
    }

    fn ttl(&self) -> Option<Window> {
        Window::from_millis(u64::from(self.ttl_low) | u64::from(self.ttl_high) << 32)
    }

    #[inline(always)]
    pub(crate) fn links(&self, tree: Tree) -> &Links {
        match tree {
            Tree::Holder => &self.by_holder,
            Tree::Expiry => &self.by_expiry,
        }
    }

    #[inline(always)]
    pub(crate) fn links_mut(&mut self, tree: Tree) -> &mut Links {
        match tree {
            Tree::Holder => &mut self.by_holder,
            Tree::Expiry => &mut self.by_expiry,
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests;
