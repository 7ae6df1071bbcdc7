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

use core::cmp::Ordering;

use crate::holder::Holder;
use crate::lease::Lease;
use crate::lease_arena::{Index, LeaseArena, Links, NONE, Node, Tree};
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
        let new = self.len();
        self.arena.push(lease);
        for tree in [Tree::Holder, Tree::Expiry] {
            let root = self.insert_below(tree, self.root(tree), new);
            self.set_root(tree, root);
        }
    }

    /// Removes the lease of a holder.
    pub(crate) fn remove(&mut self, holder: &Holder) {
        let index = self.index_of(holder);
        if self.arena.node(index).is_none() {
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

    /// Returns the lease that expires first.
    pub(crate) fn first_to_expire(&self) -> Option<Lease> {
        let mut index = self.root(Tree::Expiry);
        while let Some(node) = self.arena.node(index) {
            match node.links(Tree::Expiry).left {
                NONE => break,
                left => index = left,
            }
        }
        self.arena.lease(index)
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
        let (mut count, mut costs) = (0_u32, 0_u64);
        let mut index = self.root(Tree::Expiry);
        while let Some(node) = self.arena.node(index) {
            let Links { left, right, .. } = *node.links(Tree::Expiry);
            if node.expiry > time {
                if let Some(right) = self.arena.node(right) {
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
        let cost_without = self.arena.node(without).map_or(0, Node::cost);
        // Whether the lease of this holder is in the subtree that is left to search.
        let mut is_below = without != NONE;
        let (mut later, mut time) = (0_u64, Instant::EPOCH);
        let mut index = self.root(Tree::Expiry);
        while let Some(node) = self.arena.node(index) {
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

    /// Compares the keys of two nodes.
    fn order(&self, tree: Tree, first: Index, second: Index) -> Ordering {
        let pair = self.arena.node_and_text(first).zip(self.arena.node_and_text(second));
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
        while let Some((node, text)) = self.arena.node_and_text(index) {
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
        let own = self.arena.node(index).map_or(Instant::EPOCH, Node::start);
        if let Some(node) = self.arena.node_mut(index) {
            node.links_mut(tree).count = count;
            if let Tree::Expiry = tree {
                node.costs = costs.plus(node.cost());
                node.latest_start = start.max(own);
            }
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
        let Some((node, holder)) = self.arena.pop() else { return };
        if last != hole {
            self.arena.replace(hole, node, &holder);
        }
    }

    /// Makes the link to a node one to another place.
    fn replace_link(&mut self, tree: Tree, from: Index, to: Index) {
        let mut index = self.root(tree);
        if index == from {
            self.set_root(tree, to);
            return;
        }
        while self.arena.node(index).is_some() {
            let is_left = self.order(tree, from, index) == Ordering::Less;
            let Links { left, right, .. } = self.links(tree, index);
            let next = if is_left { left } else { right };
            if next == from {
                if let Some(node) = self.arena.node_mut(index) {
                    let links = node.links_mut(tree);
                    *(if is_left { &mut links.left } else { &mut links.right }) = to;
                }
                return;
            }
            index = next;
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests;
