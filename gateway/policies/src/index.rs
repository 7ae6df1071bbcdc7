//! Indexes from a value to the numbers of those clauses that may hold for it.
//!
//! Items are numbered in the order of the file. An index yields a superset of the items that hold,
//! in ascending order; each candidate is then tried as if there were no index.

use hashbrown::HashMap;
use smallvec::SmallVec;

/// The part of a value by which an item is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Lookup {
    /// The item can hold only for this value.
    Exact(Box<[u8]>),
    /// The item can hold only for values with this prefix.
    Prefix(Box<[u8]>),
}

impl Lookup {
    /// Returns true for the empty prefix, which every value has: the lookup finds every value.
    pub(crate) fn finds_everything(&self) -> bool {
        matches!(self, Self::Prefix(prefix) if prefix.is_empty())
    }
}

/// The items of one attribute.
#[derive(Clone, Debug, Default)]
pub(crate) struct ValueIndex {
    exact: HashMap<Box<[u8]>, Vec<u32>>,
    /// All prefixes in order. Every entry that is a prefix of a value is the greatest entry that is
    /// not greater than the value, or an ancestor of that entry.
    prefixes: Vec<PrefixNode>,
    /// All items, for a value that cannot be read.
    all: Vec<u32>,
}

#[derive(Clone, Debug)]
struct PrefixNode {
    prefix: Box<[u8]>,
    /// The longest other entry that is a prefix of this entry.
    parent: Option<u32>,
    items: Vec<u32>,
}

impl ValueIndex {
    /// Returns the index of items, each with its lookups: one of the lookups finds the item.
    pub(crate) fn new(entries: impl IntoIterator<Item = (u32, Vec<Lookup>)>) -> Self {
        let mut index = Self::default();
        let mut prefixes: std::collections::BTreeMap<Box<[u8]>, Vec<u32>> =
            std::collections::BTreeMap::new();
        for (item, mut lookups) in entries {
            lookups.sort();
            lookups.dedup();
            index.all.push(item);
            for lookup in lookups {
                match lookup {
                    Lookup::Exact(value) => index.exact.entry(value).or_default().push(item),
                    Lookup::Prefix(prefix) => prefixes.entry(prefix).or_default().push(item),
                }
            }
        }
        let mut open: Vec<u32> = Vec::new();
        for (prefix, items) in prefixes {
            let is_prefix = |nodes: &[PrefixNode], parent: u32| {
                nodes.get(parent as usize).is_some_and(|node| prefix.starts_with(&node.prefix))
            };
            while open.last().is_some_and(|parent| !is_prefix(&index.prefixes, *parent)) {
                open.pop();
            }
            let parent = open.last().copied();
            open.push(index.prefixes.len() as u32);
            index.prefixes.push(PrefixNode { prefix, parent, items });
        }
        index
    }

    /// Adds the items that may hold for a value.
    pub(crate) fn find<'i>(&'i self, value: &[u8], found: &mut Candidates<'i>) {
        if !self.exact.is_empty()
            && let Some(items) = self.exact.get(value)
        {
            found.add(items);
        }
        let after = self.prefixes.partition_point(|node| *node.prefix <= *value);
        let mut next = after.checked_sub(1);
        while let Some(node) = next.and_then(|at| self.prefixes.get(at)) {
            if value.starts_with(&node.prefix) {
                found.add(&node.items);
            }
            next = node.parent.map(|parent| parent as usize);
        }
    }

    /// Adds all items.
    pub(crate) fn find_all<'i>(&'i self, found: &mut Candidates<'i>) {
        found.add(&self.all);
    }
}

/// Lists of items in ascending order, which are read as one list.
#[derive(Debug, Default)]
pub(crate) struct Candidates<'i> {
    lists: SmallVec<[&'i [u32]; 8]>,
}

impl<'i> Candidates<'i> {
    /// Adds a list in ascending order.
    pub(crate) fn add(&mut self, items: &'i [u32]) {
        if !items.is_empty() {
            self.lists.push(items);
        }
    }
}

impl Iterator for Candidates<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let least = self.lists.iter().filter_map(|list| list.first()).min().copied()?;
        for list in &mut self.lists {
            if let Some(rest) = list.strip_prefix(&[least]) {
                *list = rest;
            }
        }
        Some(least)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookups() -> impl Strategy<Value = Vec<Lookup>> {
        let lookup = ("[ab]{0,4}", any::<bool>()).prop_map(|(text, exact)| {
            let text = text.into_bytes().into();
            if exact { Lookup::Exact(text) } else { Lookup::Prefix(text) }
        });
        proptest::collection::vec(lookup, 1..3)
    }

    proptest! {
        #[test]
        fn an_index_finds_what_a_search_finds(
            entries in proptest::collection::vec(lookups(), 0..20),
            value in "[ab]{0,5}",
        ) {
            let value = value.as_bytes();
            let holds = |lookup: &Lookup| match lookup {
                Lookup::Exact(text) => **text == *value,
                Lookup::Prefix(prefix) => value.starts_with(prefix),
            };
            let numbered = || (0..).zip(entries.iter().cloned());
            let expected: Vec<u32> = numbered()
                .filter(|(_, lookups)| lookups.iter().any(holds))
                .map(|(item, _)| item)
                .collect();
            let index = ValueIndex::new(numbered());
            let mut found = Candidates::default();
            index.find(value, &mut found);
            prop_assert_eq!(found.collect::<Vec<_>>(), expected);
        }
    }
}
