//! Leases in one arena, found by holder and by expiry, with sums.
//!
//! ```text
//!  chunks: [64 nodes, text of their holders] [64 nodes, text] ...
//!
//!  two trees over the same nodes:  by hash of holder       by expiry
//!                                    ╭── m ──╮            ╭── 9 ──╮   each with the number
//!                                    c       t            4       12  and the costs of all
//!                                                                     below it
//! ```
//!
//! The first bits of the hash choose one of a few trees by holder, which makes them less deep. All
//! trees are balanced by weight (Nievergelt and Reingold 1973; with the parameters 3 and 2,
//! which Hirai and Yamamoto proved in 2011), so that no choice of holders makes them deep: at most
//! 2.41 log2 of the number of leases. Every operation follows a few paths from a root.

mod balance;

use core::cmp::Ordering;

use self::balance::{Path, above_other, is_heavier};
use crate::holder::Holder;
use crate::lease::Lease;
use crate::lease_arena::{Index, Key, LeaseArena, Links, NONE, Tree};
use crate::math::Exact;
use crate::time::Instant;

/// The leases of a key.
#[derive(Clone, Debug)]
pub(crate) struct LeaseIndex {
    pub(crate) arena: LeaseArena,
    /// The trees by holder, by the first bits of the hash.
    roots_by_holder: [Index; HOLDER_TREES],
    root_by_expiry: Index,
    /// The lease that expires first: most calls need it, and no other of those before now.
    first: Index,
    /// The lease that expires last.
    last: Index,
    /// No lease starts later. Removals leave it as it is.
    latest_start: Instant,
}

/// The number of trees by holder.
const HOLDER_TREES: usize = 16;

/// A copy of a lease, and its place until the index changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) lease: Lease,
    place: Index,
}

impl LeaseIndex {
    pub(crate) const fn new() -> Self {
        Self {
            arena: LeaseArena::new(),
            roots_by_holder: [NONE; HOLDER_TREES],
            root_by_expiry: NONE,
            first: NONE,
            last: NONE,
            latest_start: Instant::EPOCH,
        }
    }

    /// The number of leases, those that do not count included.
    pub(crate) fn len(&self) -> u32 {
        self.arena.count(Tree::Expiry, self.root_by_expiry)
    }

    /// Returns the lease of a holder.
    pub(crate) fn find(&self, holder: &Holder) -> Option<Entry> {
        self.entry(self.index_of(holder))
    }

    fn entry(&self, place: Index) -> Option<Entry> {
        self.arena.lease(place).map(|lease| Entry { lease, place })
    }

    /// Adds a lease, of whose holder there is none.
    pub(crate) fn insert(&mut self, lease: &Lease) {
        let (new, key) = (self.len(), Key::of(lease));
        self.arena.push(&key);
        self.insert_into(Tree::Holder, new, &key, &mut Path::new());
        self.insert_by_expiry(new, &key);
    }

    /// Puts a lease in the place of one of the same holder.
    pub(crate) fn replace(&mut self, old: &Entry, lease: &Lease) {
        self.remove_by_expiry(old.place, &Key::of(&old.lease));
        if let Some(node) = self.arena.node_mut(old.place) {
            node.set(lease);
        }
        self.insert_by_expiry(old.place, &Key::of(lease));
        self.find_ends();
    }

    /// Removes a lease.
    pub(crate) fn remove(&mut self, entry: &Entry) {
        let (place, key) = (entry.place, Key::of(&entry.lease));
        self.remove_from(Tree::Holder, place, &key, &mut Path::new());
        self.remove_by_expiry(place, &key);
        self.find_ends();
        self.fill(place);
    }

    /// Returns a time before which no lease starts: none is ahead of the clock from then on.
    pub(crate) fn latest_start(&self) -> Instant {
        self.latest_start
    }

    /// Removes every lease that starts after `time`. Linear in the number of leases.
    pub(crate) fn remove_later_starts(&mut self, time: Instant) {
        let mut kept = Self::new();
        self.visit_after(Instant::EPOCH, &mut |lease| {
            if lease.start() <= time {
                kept.insert(&lease);
            }
            true
        });
        *self = kept;
    }

    /// Returns the lease that expires first, if that is at `time` or before.
    pub(crate) fn first_to_expire(&self, time: Instant) -> Option<Entry> {
        let first = self.arena.node(self.first)?;
        if first.expiry <= time { self.entry(self.first) } else { None }
    }

    /// The time at which the last lease expires; the epoch if there is none.
    pub(crate) fn last_expiry(&self) -> Instant {
        self.arena.node(self.last).map_or(Instant::EPOCH, |node| node.expiry)
    }

    /// Returns the number and the costs of the leases that expire after `time`.
    #[inline]
    pub(crate) fn after(&self, time: Instant) -> (u32, u64) {
        let (Some(root), Some(first)) =
            (self.arena.node(self.root_by_expiry), self.arena.node(self.first))
        else {
            return (0, 0);
        };
        let all = (root.links(Tree::Expiry).count, root.costs);
        if first.expiry <= time { self.without_expired(all, time) } else { all }
    }

    /// Subtracts those that have expired from all: usually they are few.
    #[inline(never)]
    fn without_expired(&self, (mut count, mut costs): (u32, u64), time: Instant) -> (u32, u64) {
        let mut index = self.root_by_expiry;
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
    #[inline]
    pub(crate) fn time_of_costs(&self, costs: u64, without: Option<&Lease>) -> Instant {
        let all = self.arena.costs(self.root_by_expiry);
        match (self.arena.node(self.first), without) {
            // Usually one unit is missing, and the first lease to expire gives it back.
            (Some(first), None) if all > costs && all.minus(first.cost()) <= costs => first.expiry,
            _ => self.time_of_lower_costs(costs, without),
        }
    }

    #[inline(never)]
    fn time_of_lower_costs(&self, costs: u64, without: Option<&Lease>) -> Instant {
        // The key of this lease, while the lease is in the subtree that is left to search.
        let cost_without = without.map_or(0, |lease| u64::from(lease.cost.get()));
        let mut without = without.map(Key::of);
        let (mut later, mut time) = (0_u64, Instant::EPOCH);
        let mut index = self.root_by_expiry;
        while let Some(node) = self.arena.node(index) {
            let order = match &without {
                Some(key) => self.arena.order(Tree::Expiry, index, key).reverse(),
                None => Ordering::Less,
            };
            let Links { left, right, .. } = *node.links(Tree::Expiry);
            let is_right = order == Ordering::Greater;
            let of_right = self.arena.costs(right).minus(if is_right { cost_without } else { 0 });
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
        self.visit_below(self.root_by_expiry, time, visit);
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
    /// Returns the root of the tree by expiry, or of the tree by holder that has this key.
    #[inline(always)]
    fn root_mut(&mut self, tree: Tree, key: &Key<'_>) -> &mut Index {
        match tree {
            Tree::Holder => &mut self.roots_by_holder[tree_by_holder(key.hash)],
            Tree::Expiry => &mut self.root_by_expiry,
        }
    }

    fn left(&self, tree: Tree, index: Index) -> Index {
        self.arena.links(tree, index).left
    }

    fn right(&self, tree: Tree, index: Index) -> Index {
        self.arena.links(tree, index).right
    }

    fn index_of(&self, holder: &Holder) -> Index {
        let hash = holder.hash();
        let mut index = self.roots_by_holder[tree_by_holder(hash)];
        while let Some(node) = self.arena.node(index) {
            let mut is_left = hash < node.hash();
            if hash == node.hash() {
                match self.order_of_holders(holder, index) {
                    Ordering::Equal => break,
                    order => is_left = order == Ordering::Less,
                }
            }
            index = node.links(Tree::Holder).child(is_left);
        }
        index
    }

    #[inline(never)]
    fn order_of_holders(&self, holder: &Holder, index: Index) -> Ordering {
        let text = self.arena.node_and_text(index).map(|(_, text)| text);
        text.map_or(Ordering::Equal, |text| holder.as_bytes().cmp(text))
    }

    #[inline(never)]
    fn insert_by_expiry(&mut self, new: Index, key: &Key<'_>) {
        let side = self.insert_into(Tree::Expiry, new, key, &mut Path::new());
        if side.is_first {
            self.first = new;
        }
        if side.is_last {
            self.last = new;
        }
        self.latest_start = self.latest_start.max(key.lease.start());
    }

    #[inline(never)]
    fn remove_by_expiry(&mut self, gone: Index, key: &Key<'_>) {
        self.remove_from(Tree::Expiry, gone, key, &mut Path::new());
        for end in [&mut self.first, &mut self.last] {
            if *end == gone {
                *end = NONE;
            }
        }
    }

    /// Finds the leases that expire first and last, if one of them was removed.
    fn find_ends(&mut self) {
        if self.first == NONE {
            self.first = self.outermost_by_expiry(true);
        }
        if self.last == NONE {
            self.last = self.outermost_by_expiry(false);
        }
    }

    fn outermost_by_expiry(&self, is_left: bool) -> Index {
        let (mut outermost, mut index) = (NONE, self.root_by_expiry);
        while let Some(node) = self.arena.node(index) {
            (outermost, index) = (index, node.links(Tree::Expiry).child(is_left));
        }
        outermost
    }

    /// Adds a node, which is in the arena already. Returns its place in the order.
    ///
    /// Counts the node on the way down to its place. Only where a side of a node has then become
    /// too heavy, which is rare, the way is followed back up.
    #[inline(always)]
    fn insert_into(&mut self, tree: Tree, new: Index, key: &Key<'_>, path: &mut Path) -> Side {
        let mut side = Side { is_first: true, is_last: true };
        let (mut index, mut above) = (*self.root_mut(tree, key), 0);
        while let Some((node, is_left)) = self.arena.node_on_the_way(tree, index, key) {
            node.add(tree, key.lease);
            let links = node.links_mut(tree);
            if path.depth > 0 && is_heavier(links.count, above_other(above, links.count)) {
                path.mark_parent();
            }
            path.push(index);
            above = links.count;
            if is_left {
                side.is_last = false;
            } else {
                side.is_first = false;
            }
            index = links.child(is_left);
            if index == NONE {
                *links.child_mut(is_left) = new;
                break;
            }
        }
        if path.depth == 0 {
            *self.root_mut(tree, key) = new;
        }
        self.balance_marked(tree, key, path);
        side
    }

    /// Removes a node, whose lease has this key.
    #[inline(always)]
    fn remove_from(&mut self, tree: Tree, gone: Index, key: &Key<'_>, path: &mut Path) {
        let (mut index, mut above) = (*self.root_mut(tree, key), 0);
        while let Some((node, is_left)) = self.arena.node_on_the_way(tree, index, key) {
            node.subtract(tree, key.lease);
            let links = *node.links(tree);
            // The side on which the node is has become lighter.
            if path.depth > 0 && is_heavier(above_other(above, links.count), links.count) {
                path.mark_parent();
            }
            if index == gone {
                let rest = self.arena.join(tree, links.left, links.right);
                self.replace_link(tree, key, path.parent(), gone, rest);
                break;
            }
            path.push(index);
            (index, above) = (links.child(is_left), links.count);
        }
        self.balance_marked(tree, key, path);
    }

    /// Makes the rotations that the marked nodes of a path need, from the last one to the first.
    fn balance_marked(&mut self, tree: Tree, key: &Key<'_>, path: &mut Path) {
        while let Some((parent, old)) = path.pop_marked() {
            let root = self.arena.balance(tree, old);
            self.replace_link(tree, key, parent, old, root);
        }
    }

    /// Replaces the link to a node on the way to a key: that of its parent, or the root.
    fn replace_link(&mut self, tree: Tree, key: &Key<'_>, parent: Index, old: Index, new: Index) {
        if !self.arena.replace_child(tree, parent, old, new) {
            *self.root_mut(tree, key) = new;
        }
    }

    /// Fills the place of a node that is in no tree any more with the last node of the arena.
    fn fill(&mut self, hole: Index) {
        let moved = self.len();
        if moved != hole
            && let Some(lease) = self.arena.lease(moved)
        {
            let key = Key::of(&lease);
            self.move_link(Tree::Holder, moved, hole, &key);
            self.move_link(Tree::Expiry, moved, hole, &key);
        }
        let Some((node, holder)) = self.arena.pop() else { return };
        if moved == hole {
            return;
        }
        self.arena.replace(hole, node, &holder);
        for end in [&mut self.first, &mut self.last] {
            if *end == moved {
                *end = hole;
            }
        }
    }

    /// Makes the link to a node, which has the lease of the key, one to another place.
    fn move_link(&mut self, tree: Tree, from: Index, to: Index, key: &Key<'_>) {
        let (mut index, mut parent) = (*self.root_mut(tree, key), NONE);
        while index != from {
            let Some((node, is_left)) = self.arena.node_on_the_way(tree, index, key) else {
                return;
            };
            (parent, index) = (index, node.links(tree).child(is_left));
        }
        self.replace_link(tree, key, parent, from, to);
    }
}

/// Returns the number of the tree that has the holders with this hash.
fn tree_by_holder(hash: u32) -> usize {
    (hash >> u32::BITS.minus(HOLDER_TREES.ilog2())) as usize
}

/// The place of a new node in the order of a tree.
struct Side {
    is_first: bool,
    is_last: bool,
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests;
