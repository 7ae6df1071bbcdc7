//! Leases in one arena, found by holder and by expiry, with sums.
//!
//! ```text
//!  chunks: [56 nodes, text of their holders] [56 nodes, text] ...
//!
//!  two trees over the same nodes:     by holder            by expiry
//!                                    ╭── m ──╮            ╭── 9 ──╮   each with the number, the
//!                                    c       t            4       12  costs and the latest start
//!                                                                     of all below it
//! ```
//!
//! Both trees are balanced by weight (Nievergelt and Reingold 1973; with the parameters 3 and 2,
//! which Hirai and Yamamoto proved in 2011), so that no choice of holders makes them deep: at most
//! 2.41 log2 of the number of leases. Every operation follows a few paths from a root.
//!
//! The arena has no holes: when a node is removed, the last one takes its place. A lease takes 72
//! bytes, its share of a chunk and of the room to grow, and its holder.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::mem;
use core::ops::Range;

use crate::buffers::BufferVisitor;
use crate::holder::Holder;
use crate::limits::{Units, Window};
use crate::math::Exact;
use crate::time::Instant;

/// One lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The holder.
    pub holder: Holder,
    /// The units that the lease takes.
    pub cost: Units,
    /// The time for which the call that set the expiry has asked.
    pub ttl: Window,
    /// The time from which the lease does not count.
    pub expiry: Instant,
    /// The number that distinguishes the lease from all leases before and after it.
    pub fence: u64,
}

impl Lease {
    /// Returns whether the lease counts: it has not expired, and does not end more than two of its
    /// ttls after now, as a lease does that was made while the clock was ahead.
    #[must_use]
    pub fn counts(&self, now: Instant) -> bool {
        self.start() <= now && now < self.expiry
    }

    /// The first time at which the lease counts.
    fn start(&self) -> Instant {
        start(self.expiry, self.ttl)
    }
}

/// Two ttls before the expiry.
fn start(expiry: Instant, ttl: Window) -> Instant {
    // Saturating, as no time is before the epoch.
    Instant::from_micros(expiry.as_micros().saturating_sub(ttl.as_micros().times(2)))
}

/// The order of a tree.
#[derive(Clone, Copy)]
enum Tree {
    Holder = 0,
    /// By expiry, and then by holder.
    Expiry = 1,
}

/// The place of a node: a number below the number of leases, or [`NONE`].
type Index = u32;

const NONE: Index = u32::MAX;

/// Nodes in a chunk: as many as fit into 4 KiB.
const CHUNK_NODES: usize = 56;

/// Room for this many bytes of holders is added to a chunk that has too little.
const TEXT_GROWTH: usize = 128;

#[derive(Clone, Copy, Debug)]
struct Links {
    left: Index,
    right: Index,
    /// Nodes in this subtree.
    count: u32,
}

#[derive(Clone, Debug)]
struct Node {
    links: [Links; 2],
    /// Costs in the subtree by expiry.
    costs: u64,
    /// The latest start in the subtree by expiry.
    latest_start: Instant,
    expiry: Instant,
    fence: u64,
    /// The ttl in milliseconds, which has 35 bits.
    ttl_low: u32,
    cost: Units,
    /// The place of the holder in the text of the chunk.
    text: u16,
    text_len: u8,
    ttl_high: u8,
}

/// Nodes, and the bytes of their holders, in any order.
#[derive(Clone, Debug)]
struct Chunk {
    nodes: Vec<Node>,
    text: Vec<u8>,
}

/// The leases of a key.
#[derive(Clone, Debug)]
pub(crate) struct LeaseIndex {
    chunks: Vec<Chunk>,
    roots: [Index; 2],
    /// Nodes that were visited, so that a test can count them.
    #[cfg(test)]
    pub(crate) steps: core::cell::Cell<u64>,
}

impl LeaseIndex {
    pub(crate) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            roots: [NONE; 2],
            #[cfg(test)]
            steps: core::cell::Cell::new(0),
        }
    }

    /// The number of leases, those that do not count included.
    pub(crate) fn len(&self) -> u32 {
        self.count(Tree::Expiry, self.root(Tree::Expiry))
    }

    /// Returns the lease of a holder.
    pub(crate) fn find(&self, holder: &Holder) -> Option<Lease> {
        self.lease(self.index_of(holder))
    }

    /// Adds a lease, of whose holder there is none.
    pub(crate) fn insert(&mut self, lease: &Lease) {
        let new = self.len();
        self.push(lease);
        for tree in [Tree::Holder, Tree::Expiry] {
            let root = self.insert_below(tree, self.root(tree), new);
            self.set_root(tree, root);
        }
    }

    /// Removes the lease of a holder.
    pub(crate) fn remove(&mut self, holder: &Holder) {
        let index = self.index_of(holder);
        if self.node(index).is_none() {
            return;
        }
        for tree in [Tree::Holder, Tree::Expiry] {
            let root = self.remove_below(tree, self.root(tree), index);
            self.set_root(tree, root);
        }
        self.fill(index);
    }

    /// The latest start of any lease: none is ahead of the clock once it has come to this time.
    pub(crate) fn latest_start(&self) -> Instant {
        self.latest_start_below(self.root(Tree::Expiry))
    }

    /// Returns the lease with the latest start.
    pub(crate) fn last_to_start(&self) -> Option<Lease> {
        let mut index = self.root(Tree::Expiry);
        let latest = self.latest_start_below(index);
        loop {
            let lease = self.lease(index)?;
            if lease.start() == latest {
                return Some(lease);
            }
            let left = self.left(Tree::Expiry, index);
            index = if self.latest_start_below(left) == latest {
                left
            } else {
                self.right(Tree::Expiry, index)
            };
        }
    }

    /// Returns the lease that expires first.
    pub(crate) fn first_to_expire(&self) -> Option<Lease> {
        let mut index = self.root(Tree::Expiry);
        while let Some(node) = self.node(index) {
            match node.links(Tree::Expiry).left {
                NONE => break,
                left => index = left,
            }
        }
        self.lease(index)
    }

    /// The time at which the last lease expires; the epoch if there is none.
    pub(crate) fn last_expiry(&self) -> Instant {
        let (mut index, mut expiry) = (self.root(Tree::Expiry), Instant::EPOCH);
        while let Some(node) = self.node(index) {
            (index, expiry) = (node.links(Tree::Expiry).right, node.expiry);
        }
        expiry
    }

    /// Returns the number and the costs of the leases that expire after `time`.
    pub(crate) fn after(&self, time: Instant) -> (u32, u64) {
        let (mut count, mut costs) = (0_u32, 0_u64);
        let mut index = self.root(Tree::Expiry);
        while let Some(node) = self.node(index) {
            let Links { left, right, .. } = *node.links(Tree::Expiry);
            if node.expiry > time {
                if let Some(right) = self.node(right) {
                    count = count.plus(right.links(Tree::Expiry).count);
                    costs = costs.plus(right.costs);
                }
                (count, costs) = (count.plus(1), costs.plus(node.cost()));
                index = left;
            } else {
                index = right;
            }
        }
        (count, costs)
    }

    /// Returns the first time from which the leases that have not expired cost at most `costs`,
    /// without that of one holder; the epoch if they never cost more.
    pub(crate) fn time_of_costs(&self, costs: u64, without: &Holder) -> Instant {
        let without = self.index_of(without);
        let cost_without = self.node(without).map_or(0, Node::cost);
        // Whether the lease of this holder is in the subtree that is left to search.
        let mut is_below = without != NONE;
        let (mut later, mut time) = (0_u64, Instant::EPOCH);
        let mut index = self.root(Tree::Expiry);
        while let Some(node) = self.node(index) {
            let order = match is_below {
                true => self.order(Tree::Expiry, without, index),
                false => Ordering::Less,
            };
            let Links { left, right, .. } = *node.links(Tree::Expiry);
            let is_right = order == Ordering::Greater;
            let of_right = self.costs(right).minus(if is_right { cost_without } else { 0 });
            let own = if order == Ordering::Equal { 0 } else { node.cost() };
            if later.plus(of_right) > costs {
                (index, is_below) = (right, is_right);
            } else if later.plus(of_right).plus(own) > costs {
                time = node.expiry;
                break;
            } else {
                later = later.plus(of_right).plus(own);
                is_below = is_below && order == Ordering::Less;
                index = left;
            }
        }
        time
    }

    /// Passes the leases that expire after `time` to `visit`, the first to expire first, until it
    /// returns false.
    pub(crate) fn visit_after(&self, time: Instant, visit: &mut impl FnMut(Lease) -> bool) {
        self.visit_below(self.root(Tree::Expiry), time, visit);
    }

    fn visit_below(
        &self,
        index: Index,
        time: Instant,
        visit: &mut impl FnMut(Lease) -> bool,
    ) -> bool {
        let Some(node) = self.node(index) else { return true };
        if node.expiry > time {
            let goes_on = self.visit_below(self.left(Tree::Expiry, index), time, visit);
            if !goes_on || !self.lease(index).is_some_and(&mut *visit) {
                return false;
            }
        }
        self.visit_below(self.right(Tree::Expiry, index), time, visit)
    }
}

/// The trees.
impl LeaseIndex {
    fn root(&self, tree: Tree) -> Index {
        let [holder, expiry] = self.roots;
        match tree {
            Tree::Holder => holder,
            Tree::Expiry => expiry,
        }
    }

    fn set_root(&mut self, tree: Tree, index: Index) {
        let [holder, expiry] = &mut self.roots;
        match tree {
            Tree::Holder => *holder = index,
            Tree::Expiry => *expiry = index,
        }
    }

    fn links(&self, tree: Tree, index: Index) -> Links {
        let none = Links { left: NONE, right: NONE, count: 0 };
        self.node(index).map_or(none, |node| *node.links(tree))
    }

    fn left(&self, tree: Tree, index: Index) -> Index {
        self.links(tree, index).left
    }

    fn right(&self, tree: Tree, index: Index) -> Index {
        self.links(tree, index).right
    }

    fn count(&self, tree: Tree, index: Index) -> u32 {
        self.links(tree, index).count
    }

    fn costs(&self, index: Index) -> u64 {
        self.node(index).map_or(0, |node| node.costs)
    }

    fn latest_start_below(&self, index: Index) -> Instant {
        self.node(index).map_or(Instant::EPOCH, |node| node.latest_start)
    }

    /// Compares the keys of two nodes.
    fn order(&self, tree: Tree, first: Index, second: Index) -> Ordering {
        let pair = self.node_and_text(first).zip(self.node_and_text(second));
        let Some(((first, first_text), (second, second_text))) = pair else {
            return Ordering::Equal;
        };
        let by_holder = || first_text.cmp(second_text);
        match tree {
            Tree::Holder => by_holder(),
            Tree::Expiry => first.expiry.cmp(&second.expiry).then_with(by_holder),
        }
    }

    fn index_of(&self, holder: &Holder) -> Index {
        let mut index = self.root(Tree::Holder);
        while let Some((node, text)) = self.node_and_text(index) {
            let Links { left, right, .. } = *node.links(Tree::Holder);
            index = match holder.as_bytes().cmp(text) {
                Ordering::Less => left,
                Ordering::Equal => break,
                Ordering::Greater => right,
            };
        }
        index
    }

    /// Adds a node to a subtree; returns the root of the subtree then.
    fn insert_below(&mut self, tree: Tree, root: Index, new: Index) -> Index {
        if root == NONE {
            self.update(tree, new);
            return new;
        }
        let Links { left, right, .. } = self.links(tree, root);
        if self.order(tree, new, root) == Ordering::Less {
            let left = self.insert_below(tree, left, new);
            self.balance(tree, root, left, right)
        } else {
            let right = self.insert_below(tree, right, new);
            self.balance(tree, root, left, right)
        }
    }

    /// Removes a node from a subtree that has it; returns the root of the subtree then.
    fn remove_below(&mut self, tree: Tree, root: Index, gone: Index) -> Index {
        let Links { left, right, .. } = self.links(tree, root);
        if root == gone || root == NONE {
            return self.join(tree, left, right);
        }
        if self.order(tree, gone, root) == Ordering::Less {
            let left = self.remove_below(tree, left, gone);
            self.balance(tree, root, left, right)
        } else {
            let right = self.remove_below(tree, right, gone);
            self.balance(tree, root, left, right)
        }
    }

    /// Joins the subtrees on both sides of a node that was removed.
    fn join(&mut self, tree: Tree, left: Index, right: Index) -> Index {
        if left == NONE {
            return right;
        }
        if right == NONE {
            return left;
        }
        let (first, rest) = self.split_first(tree, right);
        self.balance(tree, first, left, rest)
    }

    /// Returns the first node of a subtree, and the root of the others.
    fn split_first(&mut self, tree: Tree, root: Index) -> (Index, Index) {
        let Links { left, right, .. } = self.links(tree, root);
        if left == NONE {
            return (root, right);
        }
        let (first, left) = self.split_first(tree, left);
        (first, self.balance(tree, root, left, right))
    }

    /// Makes these the subtrees of a node, of which one may have changed by one node; returns the
    /// root of all after the rotations that this needs.
    fn balance(&mut self, tree: Tree, root: Index, left: Index, right: Index) -> Index {
        self.set_links(tree, root, left, right);
        let weight = |index| u64::from(self.count(tree, index)).plus(1);
        if weight(left).times(3) < weight(right) {
            let Links { left: inner, right: outer, .. } = self.links(tree, right);
            let is_single = weight(inner) < weight(outer).times(2);
            if is_single {
                self.rotate_left(tree, root)
            } else {
                self.rotate_right_left(tree, root)
            }
        } else if weight(right).times(3) < weight(left) {
            let Links { left: outer, right: inner, .. } = self.links(tree, left);
            let is_single = weight(inner) < weight(outer).times(2);
            if is_single {
                self.rotate_right(tree, root)
            } else {
                self.rotate_left_right(tree, root)
            }
        } else {
            root
        }
    }

    fn rotate_left(&mut self, tree: Tree, root: Index) -> Index {
        let Links { left, right: pivot, .. } = self.links(tree, root);
        let Links { left: inner, right: outer, .. } = self.links(tree, pivot);
        self.set_links(tree, root, left, inner);
        self.set_links(tree, pivot, root, outer);
        pivot
    }

    fn rotate_right(&mut self, tree: Tree, root: Index) -> Index {
        let Links { left: pivot, right, .. } = self.links(tree, root);
        let Links { left: outer, right: inner, .. } = self.links(tree, pivot);
        self.set_links(tree, root, inner, right);
        self.set_links(tree, pivot, outer, root);
        pivot
    }

    fn rotate_right_left(&mut self, tree: Tree, root: Index) -> Index {
        let Links { left, right, .. } = self.links(tree, root);
        let right = self.rotate_right(tree, right);
        self.set_links(tree, root, left, right);
        self.rotate_left(tree, root)
    }

    fn rotate_left_right(&mut self, tree: Tree, root: Index) -> Index {
        let Links { left, right, .. } = self.links(tree, root);
        let left = self.rotate_left(tree, left);
        self.set_links(tree, root, left, right);
        self.rotate_right(tree, root)
    }

    fn set_links(&mut self, tree: Tree, index: Index, left: Index, right: Index) {
        if let Some(node) = self.node_mut(index) {
            let links = node.links_mut(tree);
            (links.left, links.right) = (left, right);
        }
        self.update(tree, index);
    }

    /// Computes what a node keeps about its subtree.
    fn update(&mut self, tree: Tree, index: Index) {
        let Links { left, right, .. } = self.links(tree, index);
        let count = self.count(tree, left).plus(self.count(tree, right)).plus(1);
        let costs = self.costs(left).plus(self.costs(right));
        let start = self.latest_start_below(left).max(self.latest_start_below(right));
        let own = self.node(index).map_or(Instant::EPOCH, Node::start);
        if let Some(node) = self.node_mut(index) {
            node.links_mut(tree).count = count;
            if let Tree::Expiry = tree {
                node.costs = costs.plus(node.cost());
                node.latest_start = start.max(own);
            }
        }
    }
}

/// The arena.
impl LeaseIndex {
    fn node(&self, index: Index) -> Option<&Node> {
        #[cfg(test)]
        self.steps.set(self.steps.get().plus(1));
        let index = index as usize;
        self.chunks.get(index / CHUNK_NODES)?.nodes.get(index % CHUNK_NODES)
    }

    fn node_mut(&mut self, index: Index) -> Option<&mut Node> {
        let index = index as usize;
        self.chunks.get_mut(index / CHUNK_NODES)?.nodes.get_mut(index % CHUNK_NODES)
    }

    /// Returns a node and the bytes of its holder.
    fn node_and_text(&self, index: Index) -> Option<(&Node, &[u8])> {
        #[cfg(test)]
        self.steps.set(self.steps.get().plus(1));
        let index = index as usize;
        let chunk = self.chunks.get(index / CHUNK_NODES)?;
        let node = chunk.nodes.get(index % CHUNK_NODES)?;
        let start = usize::from(node.text);
        Some((node, chunk.text.get(start..start.plus(usize::from(node.text_len)))?))
    }

    fn lease(&self, index: Index) -> Option<Lease> {
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
    fn push(&mut self, lease: &Lease) {
        if self.chunks.last().is_none_or(|chunk| chunk.nodes.len() == CHUNK_NODES) {
            if self.chunks.len() == self.chunks.capacity() {
                self.chunks.reserve_exact((self.chunks.len() / 4).plus(1));
            }
            self.chunks.push(Chunk { nodes: Vec::new(), text: Vec::new() });
        }
        if let Some(chunk) = self.chunks.last_mut() {
            let text = chunk.push_text(lease.holder.as_bytes());
            if chunk.nodes.len() == chunk.nodes.capacity() {
                let room = CHUNK_NODES.minus(chunk.nodes.len());
                chunk.nodes.reserve_exact(chunk.nodes.len().clamp(1, room));
            }
            chunk.nodes.push(Node::new(lease, text));
        }
    }

    /// Fills the place of a node that is in no tree any more with the last node.
    fn fill(&mut self, hole: Index) {
        let last = self.len();
        if last != hole {
            for tree in [Tree::Holder, Tree::Expiry] {
                self.replace_link(tree, last, hole);
            }
        }
        let Some((node, text)) = self.pop() else { return };
        if last != hole {
            let chunk = self.chunks.get_mut(hole as usize / CHUNK_NODES);
            if let Some(chunk) = chunk {
                chunk.replace(hole as usize % CHUNK_NODES, node, text.as_bytes());
            }
        }
    }

    /// Makes the link to a node one to another place.
    fn replace_link(&mut self, tree: Tree, from: Index, to: Index) {
        let mut index = self.root(tree);
        if index == from {
            self.set_root(tree, to);
            return;
        }
        while self.node(index).is_some() {
            let is_left = self.order(tree, from, index) == Ordering::Less;
            let Links { left, right, .. } = self.links(tree, index);
            let next = if is_left { left } else { right };
            if next == from {
                if let Some(node) = self.node_mut(index) {
                    let links = node.links_mut(tree);
                    *(if is_left { &mut links.left } else { &mut links.right }) = to;
                }
                return;
            }
            index = next;
        }
    }

    /// Takes the last node out of the arena.
    fn pop(&mut self) -> Option<(Node, Holder)> {
        let chunk = self.chunks.last_mut()?;
        let node = chunk.nodes.pop()?;
        let holder = Holder::new(chunk.remove_text(node.text, node.text_len)?)?;
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
    fn remove_text(&mut self, place: u16, len: u8) -> Option<Vec<u8>> {
        let start = usize::from(place);
        let range = start..start.plus(usize::from(len));
        self.text.get(range.clone())?;
        let removed: Vec<u8> = self.text.drain(range).collect();
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

impl Node {
    fn new(lease: &Lease, text: u16) -> Self {
        let Lease { holder, cost, ttl, expiry, fence } = *lease;
        let links = Links { left: NONE, right: NONE, count: 1 };
        let ttl = ttl.as_millis();
        Self {
            links: [links; 2],
            costs: u64::from(cost.get()),
            latest_start: lease.start(),
            expiry,
            fence,
            ttl_low: ttl as u32,
            cost,
            text,
            text_len: holder.as_bytes().len() as u8,
            ttl_high: (ttl >> 32) as u8,
        }
    }

    fn cost(&self) -> u64 {
        u64::from(self.cost.get())
    }

    fn ttl(&self) -> Option<Window> {
        Window::from_millis(u64::from(self.ttl_low) | u64::from(self.ttl_high) << 32)
    }

    fn start(&self) -> Instant {
        start(self.expiry, self.ttl().unwrap_or(Window::MIN))
    }

    fn links(&self, tree: Tree) -> &Links {
        let [holder, expiry] = &self.links;
        match tree {
            Tree::Holder => holder,
            Tree::Expiry => expiry,
        }
    }

    fn links_mut(&mut self, tree: Tree) -> &mut Links {
        let [holder, expiry] = &mut self.links;
        match tree {
            Tree::Holder => holder,
            Tree::Expiry => expiry,
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests;
