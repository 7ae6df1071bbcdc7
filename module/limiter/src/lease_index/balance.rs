//! The balance of the trees of leases, and the way from a root to a node.

use crate::lease_arena::{Index, LeaseArena, Links, NONE, Tree};
use crate::math::Exact;

impl LeaseArena {
    /// Returns the links of a node in a tree; of no node, links to no nodes.
    pub(super) fn links(&self, tree: Tree, index: Index) -> Links {
        let none = Links { left: NONE, right: NONE, count: 0 };
        self.node(index).map_or(none, |node| *node.links(tree))
    }

    /// Returns the number of nodes of a subtree.
    pub(super) fn count(&self, tree: Tree, index: Index) -> u32 {
        self.node(index).map_or(0, |node| node.links(tree).count)
    }

    /// Returns the sum of the costs of a subtree by expiry.
    pub(super) fn costs(&self, index: Index) -> u64 {
        self.node(index).map_or(0, |node| node.costs)
    }

    /// Replaces a child of a node; returns false if there is no such node.
    pub(super) fn replace_child(
        &mut self,
        tree: Tree,
        parent: Index,
        old: Index,
        new: Index,
    ) -> bool {
        let Some(node) = self.node_mut(parent) else { return false };
        let links = node.links_mut(tree);
        *links.child_mut(links.left == old) = new;
        true
    }

    /// Joins the subtrees on both sides of a node that was removed.
    pub(super) fn join(&mut self, tree: Tree, left: Index, right: Index) -> Index {
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
    pub(super) fn balance(&mut self, tree: Tree, root: Index) -> Index {
        let links = self.links(tree, root);
        let (left, right) = (self.count(tree, links.left), self.count(tree, links.right));
        let is_left = if is_heavier(left, right) {
            true
        } else if is_heavier(right, left) {
            false
        } else {
            return root;
        };
        let pivot = links.child(is_left);
        let of_pivot = self.links(tree, pivot);
        let weight = |index| u64::from(self.count(tree, index)).plus(1);
        // The inner subtree of the heavier side can be so heavy that two rotations are needed.
        if weight(of_pivot.child(!is_left)) >= weight(of_pivot.child(is_left)).times(2) {
            let pivot_then = self.rotate(tree, pivot, !is_left);
            let _is_replaced = self.replace_child(tree, root, pivot, pivot_then);
        }
        self.rotate(tree, root, is_left)
    }

    /// Rotates the root of a subtree down, and its child on one side up; returns that child.
    ///
    /// ```text
    ///     root                pivot
    ///    ╭──┴──╮             ╭──┴──╮
    ///  pivot   c     ▷       a    root       for the left side
    ///  ╭─┴─╮                      ╭─┴─╮
    ///  a inner                  inner c
    /// ```
    fn rotate(&mut self, tree: Tree, root: Index, is_left: bool) -> Index {
        let pivot = self.links(tree, root).child(is_left);
        let inner = self.links(tree, pivot).child(!is_left);
        if let Some(node) = self.node_mut(root) {
            *node.links_mut(tree).child_mut(is_left) = inner;
        }
        self.update(tree, root);
        if let Some(node) = self.node_mut(pivot) {
            *node.links_mut(tree).child_mut(!is_left) = root;
        }
        self.update(tree, pivot);
        pivot
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
        let costs = match tree {
            Tree::Holder => None,
            Tree::Expiry => Some(self.costs(left).plus(self.costs(right))),
        };
        if let Some(node) = self.node_mut(index) {
            node.links_mut(tree).count = count;
            if let Some(costs) = costs {
                node.costs = costs.plus(node.cost());
            }
        }
    }
}

/// The nodes on the way from the root of a tree, and marks on those that must be balanced.
pub(super) struct Path {
    nodes: [Index; MAX_DEPTH],
    pub(super) depth: usize,
    /// A bit for each node on the way.
    marks: u128,
}

/// The most nodes on a path from a root: 2.41 log2 of the number of leases is less, for as many
/// leases as there are indexes.
const MAX_DEPTH: usize = 80;

impl Path {
    pub(super) const fn new() -> Self {
        Self { nodes: [NONE; MAX_DEPTH], depth: 0, marks: 0 }
    }

    #[inline(always)]
    pub(super) fn push(&mut self, index: Index) {
        debug_assert!(self.depth < MAX_DEPTH, "a balanced tree is not so deep");
        if let Some(place) = self.nodes.get_mut(self.depth) {
            *place = index;
        }
        self.depth = self.depth.plus(1);
    }

    /// Returns the last node, or `NONE` at the root.
    pub(super) fn parent(&self) -> Index {
        self.before(self.depth)
    }

    pub(super) fn before(&self, depth: usize) -> Index {
        depth.checked_sub(1).and_then(|depth| self.nodes.get(depth)).copied().unwrap_or(NONE)
    }

    /// Marks the last node.
    pub(super) fn mark_parent(&mut self) {
        self.marks |= 1 << self.depth.minus(1);
    }

    /// Returns the last node that is marked, after its parent, and takes its mark away.
    pub(super) fn pop_marked(&mut self) -> Option<(Index, Index)> {
        let depth = self.marks.checked_ilog2()? as usize;
        self.marks ^= 1 << depth;
        Some((self.before(depth), self.before(depth.plus(1))))
    }
}

/// The nodes of a subtree of `above` nodes that are neither its root nor in the child of `count`.
pub(super) fn above_other(above: u32, count: u32) -> u32 {
    above.minus(count).minus(1)
}

/// Returns true when a subtree of `side` nodes is too heavy beside one of `other` nodes.
pub(super) fn is_heavier(side: u32, other: u32) -> bool {
    let weight = |count: u32| u64::from(count).plus(1);
    weight(other).times(3) < weight(side)
}
