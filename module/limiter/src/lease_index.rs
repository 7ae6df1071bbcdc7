//! Leases in one arena, found by holder and by expiry, with sums.
//!
//! ```text
//!  chunks: [56 nodes, text of their holders] [56 nodes, text] ...
//!
//!  two trees over the same nodes:  by hash of holder       by expiry
//!                                    ╭── m ──╮            ╭── 9 ──╮   each with the number, the
//!                                    c       t            4       12  costs and the latest start
//!                                                                     of all below it
//! ```
//!
//! Both trees are balanced by weight (Nievergelt and Reingold 1973; with the parameters 3 and 2,
//! which Hirai and Yamamoto proved in 2011), so that no choice of holders makes them deep: at most
//! 2.41 log2 of the number of leases. Every operation follows a few paths from a root.

use core::cmp::Ordering;

use crate::holder::Holder;
use crate::lease::Lease;
use crate::lease_arena::{Index, Key, LeaseArena, Links, NONE, Tree};
use crate::math::Exact;
use crate::time::Instant;

/// The leases of a key.
#[derive(Clone, Debug)]
pub(crate) struct LeaseIndex {
    pub(crate) arena: LeaseArena,
    roots: [Index; 2],
}

impl LeaseIndex {
    pub(crate) const fn new() -> Self {
        Self { arena: LeaseArena::new(), roots: [NONE; 2] }
    }

    /// The number of leases, those that do not count included.
    pub(crate) fn len(&self) -> u32 {
        self.count(Tree::Expiry, self.root(Tree::Expiry))
    }

    /// Returns the lease of a holder.
    pub(crate) fn find(&self, holder: &Holder) -> Option<Lease> {
        self.arena.lease(self.index_of(holder))
    }

    /// Adds a lease, of whose holder there is none.
    pub(crate) fn insert(&mut self, lease: &Lease) {
        let (new, key) = (self.len(), Key::of(lease));
        self.arena.push(lease);
        self.insert_into(Tree::Holder, new, &key);
        self.insert_into(Tree::Expiry, new, &key);
    }

    /// Puts a lease in the place of that of the same holder, of which `old` is a copy.
    pub(crate) fn replace(&mut self, old: &Lease, lease: &Lease) {
        let index = self.index_of(&old.holder);
        self.remove_from(Tree::Expiry, index, &Key::of(old));
        if let Some(node) = self.arena.node_mut(index) {
            node.set(lease);
        }
        self.insert_into(Tree::Expiry, index, &Key::of(lease));
    }

    /// Removes a lease, of which this is a copy.
    pub(crate) fn remove(&mut self, lease: &Lease) {
        let index = self.index_of(&lease.holder);
        if self.arena.node(index).is_none() {
            return;
        }
        let key = Key::of(lease);
        self.remove_from(Tree::Holder, index, &key);
        self.remove_from(Tree::Expiry, index, &key);
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
            let lease = self.arena.lease(index)?;
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

    /// Returns the lease that expires first, if that is at `time` or before.
    pub(crate) fn first_to_expire(&self, time: Instant) -> Option<Lease> {
        let mut index = self.root(Tree::Expiry);
        while let Some(node) = self.arena.node(index) {
            match node.links(Tree::Expiry).left {
                NONE if node.expiry <= time => return self.arena.lease(index),
                NONE => break,
                left => index = left,
            }
        }
        None
    }

    /// The time at which the last lease expires; the epoch if there is none.
    pub(crate) fn last_expiry(&self) -> Instant {
        let (mut index, mut expiry) = (self.root(Tree::Expiry), Instant::EPOCH);
        while let Some(node) = self.arena.node(index) {
            (index, expiry) = (node.links(Tree::Expiry).right, node.expiry);
        }
        expiry
    }

    /// Returns the number and the costs of the leases that expire after `time`.
    pub(crate) fn after(&self, time: Instant) -> (u32, u64) {
        // Those that have expired are subtracted from all: usually they are few.
        let mut index = self.root(Tree::Expiry);
        let (mut count, mut costs) = (self.count(Tree::Expiry, index), self.costs(index));
        while let Some(node) = self.arena.node(index) {
            let Links { left, right, .. } = *node.links(Tree::Expiry);
            if node.expiry > time {
                index = left;
                continue;
            }
            if let Some(left) = self.arena.node(left) {
                count = count.minus(left.links(Tree::Expiry).count);
                costs = costs.minus(left.costs);
            }
            (count, costs) = (count.minus(1), costs.minus(node.cost()));
            index = right;
        }
        (count, costs)
    }

    /// Returns the first time from which the leases that have not expired cost at most `costs`,
    /// without one of them; the epoch if they never cost more.
    pub(crate) fn time_of_costs(&self, costs: u64, without: Option<&Lease>) -> Instant {
        // The key of this lease, while the lease is in the subtree that is left to search.
        let cost_without = without.map_or(0, |lease| u64::from(lease.cost.get()));
        let mut without = without.map(Key::of);
        let (mut later, mut time) = (0_u64, Instant::EPOCH);
        let mut index = self.root(Tree::Expiry);
        while let Some(node) = self.arena.node(index) {
            let order = match &without {
                Some(key) => self.arena.order(Tree::Expiry, index, key).reverse(),
                None => Ordering::Less,
            };
            let Links { left, right, .. } = *node.links(Tree::Expiry);
            let is_right = order == Ordering::Greater;
            let of_right = self.costs(right).minus(if is_right { cost_without } else { 0 });
            let own = if order == Ordering::Equal { 0 } else { node.cost() };
            if later.plus(of_right) > costs {
                (index, without) = (right, without.filter(|_| is_right));
            } else if later.plus(of_right).plus(own) > costs {
                time = node.expiry;
                break;
            } else {
                later = later.plus(of_right).plus(own);
                without = without.filter(|_| order == Ordering::Less);
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
        let Some(node) = self.arena.node(index) else { return true };
        if node.expiry > time {
            let goes_on = self.visit_below(self.left(Tree::Expiry, index), time, visit);
            if !goes_on || !self.arena.lease(index).is_some_and(&mut *visit) {
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
        self.arena.node(index).map_or(none, |node| *node.links(tree))
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
        self.arena.node(index).map_or(0, |node| node.costs)
    }

    fn latest_start_below(&self, index: Index) -> Instant {
        self.arena.node(index).map_or(Instant::EPOCH, |node| node.latest_start)
    }

    fn index_of(&self, holder: &Holder) -> Index {
        let hash = holder.hash();
        let mut index = self.root(Tree::Holder);
        while let Some(node) = self.arena.node(index) {
            let Links { left, right, .. } = *node.links(Tree::Holder);
            let by_holder = || {
                let text = self.arena.node_and_text(index).map(|(_, text)| text);
                text.map_or(Ordering::Equal, |text| holder.as_bytes().cmp(text))
            };
            index = match hash.cmp(&node.hash()).then_with(by_holder) {
                Ordering::Less => left,
                Ordering::Equal => break,
                Ordering::Greater => right,
            };
        }
        index
    }

    /// Adds a node, which is in the arena already.
    ///
    /// Counts the node on the way down to its place. Only where a side of a node has then become too
    /// heavy, which is rare, the way is followed back up.
    fn insert_into(&mut self, tree: Tree, new: Index, key: &Key<'_>) {
        let mut path = [NONE; MAX_DEPTH];
        let (mut depth, mut heavy, mut index, mut above) = (0_usize, 0_u128, self.root(tree), 0);
        while let Some(is_left) = self.insertion_side(tree, index, key) {
            let Some(node) = self.arena.node_mut(index) else { break };
            node.add(tree, key.lease);
            let Links { left, right, count } = *node.links(tree);
            if depth > 0 && is_heavier(count, above_other(above, count)) {
                heavy |= 1 << depth.minus(1);
            }
            if let Some(place) = path.get_mut(depth) {
                *place = index;
            }
            (depth, above) = (depth.plus(1), count);
            let child = if is_left { left } else { right };
            if child == NONE {
                *node.links_mut(tree).child_mut(is_left) = new;
                break;
            }
            index = child;
        }
        if depth == 0 {
            self.set_root(tree, new);
        }
        while heavy > 0 {
            let depth = heavy.ilog2() as usize;
            heavy ^= 1 << depth;
            self.balance_on_path(tree, &path, depth);
        }
    }

    /// Returns whether a lease is to the left of a node; `None` if there is no such node.
    fn insertion_side(&self, tree: Tree, index: Index, key: &Key<'_>) -> Option<bool> {
        self.arena.node(index)?;
        Some(self.arena.order(tree, index, key) == Ordering::Greater)
    }

    /// Makes the rotations that the node at this depth of a path needs.
    fn balance_on_path(&mut self, tree: Tree, path: &[Index], depth: usize) {
        let at = |depth: usize| path.get(depth).copied().unwrap_or(NONE);
        let old = at(depth);
        let root = self.balance(tree, old);
        let Some(parent) = depth.checked_sub(1).map(at) else {
            self.set_root(tree, root);
            return;
        };
        if let Some(node) = self.arena.node_mut(parent) {
            let links = node.links_mut(tree);
            *links.child_mut(links.left == old) = root;
        }
    }

    fn remove_from(&mut self, tree: Tree, gone: Index, key: &Key<'_>) {
        let root = self.remove_below(tree, self.root(tree), gone, key);
        self.set_root(tree, root);
    }

    /// Removes a node from a subtree that has it; returns the root of the subtree then.
    fn remove_below(&mut self, tree: Tree, root: Index, gone: Index, key: &Key<'_>) -> Index {
        let Some(node) = self.arena.node(root) else { return root };
        let Links { left, right, count } = *node.links(tree);
        if root == gone {
            return self.join(tree, left, right);
        }
        let is_left = self.arena.order(tree, root, key) == Ordering::Greater;
        let child = self.remove_below(tree, if is_left { left } else { right }, gone, key);
        let is_exact = self.arena.node_mut(root).is_some_and(|node| {
            *node.links_mut(tree).child_mut(is_left) = child;
            node.subtract(tree, key.lease)
        });
        if !is_exact {
            self.update(tree, root);
        }
        // The other side has what is neither the root nor in the child, nor gone.
        let shrunk = self.count(tree, child);
        let other = count.minus(shrunk).minus(2);
        if is_heavier(other, shrunk) { self.balance(tree, root) } else { root }
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
        self.set_links(tree, first, left, rest);
        self.balance(tree, first)
    }

    /// Returns the first node of a subtree, and the root of the others.
    fn split_first(&mut self, tree: Tree, root: Index) -> (Index, Index) {
        let Links { left, right, .. } = self.links(tree, root);
        if left == NONE {
            return (root, right);
        }
        let (first, left) = self.split_first(tree, left);
        self.set_links(tree, root, left, right);
        (first, self.balance(tree, root))
    }

    /// Makes the rotations that a subtree needs of which one side has changed by one node; returns
    /// its root then.
    fn balance(&mut self, tree: Tree, root: Index) -> Index {
        let Links { left, right, .. } = self.links(tree, root);
        let (count_left, count_right) = (self.count(tree, left), self.count(tree, right));
        if is_heavier(count_right, count_left) {
            let Links { left: inner, right: outer, .. } = self.links(tree, right);
            if self.is_double(tree, inner, outer) {
                let right = self.rotate_right(tree, right);
                self.set_links(tree, root, left, right);
            }
            self.rotate_left(tree, root)
        } else if is_heavier(count_left, count_right) {
            let Links { left: outer, right: inner, .. } = self.links(tree, left);
            if self.is_double(tree, inner, outer) {
                let left = self.rotate_left(tree, left);
                self.set_links(tree, root, left, right);
            }
            self.rotate_right(tree, root)
        } else {
            root
        }
    }

    /// Returns true when the inner subtree of the heavier side is so heavy that two rotations are needed.
    fn is_double(&self, tree: Tree, inner: Index, outer: Index) -> bool {
        let weight = |index| u64::from(self.count(tree, index)).plus(1);
        weight(inner) >= weight(outer).times(2)
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

    fn set_links(&mut self, tree: Tree, index: Index, left: Index, right: Index) {
        if let Some(node) = self.arena.node_mut(index) {
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
        if let Some(node) = self.arena.node_mut(index) {
            node.links_mut(tree).count = count;
            if let Tree::Expiry = tree {
                node.costs = costs.plus(node.cost());
                node.latest_start = start.max(node.start());
            }
        }
    }

    /// Fills the place of a node that is in no tree any more with the last node.
    fn fill(&mut self, hole: Index) {
        let last = self.len();
        if last != hole
            && let Some(lease) = self.arena.lease(last)
        {
            let key = Key::of(&lease);
            self.replace_link(Tree::Holder, last, hole, &key);
            self.replace_link(Tree::Expiry, last, hole, &key);
        }
        let Some((node, holder)) = self.arena.pop() else { return };
        if last != hole {
            self.arena.replace(hole, node, &holder);
        }
    }

    /// Makes the link to a node, which has this lease, one to another place.
    fn replace_link(&mut self, tree: Tree, from: Index, to: Index, key: &Key<'_>) {
        let mut index = self.root(tree);
        if index == from {
            self.set_root(tree, to);
            return;
        }
        while let Some(node) = self.arena.node(index) {
            let Links { left, right, .. } = *node.links(tree);
            let is_left = self.arena.order(tree, index, key) == Ordering::Greater;
            let next = if is_left { left } else { right };
            if next == from {
                if let Some(node) = self.arena.node_mut(index) {
                    *node.links_mut(tree).child_mut(is_left) = to;
                }
                return;
            }
            index = next;
        }
    }
}

/// The most nodes on a path from a root: 2.41 log2 of the number of leases is less, for as many
/// leases as there are indexes.
const MAX_DEPTH: usize = 80;

/// The nodes of a subtree of `above` nodes that are neither its root nor in the child of `count`.
fn above_other(above: u32, count: u32) -> u32 {
    above.minus(count).minus(1)
}

/// Returns true when a subtree of `side` nodes is too heavy beside one of `other` nodes.
fn is_heavier(side: u32, other: u32) -> bool {
    let weight = |count: u32| u64::from(count).plus(1);
    weight(other).times(3) < weight(side)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests;
