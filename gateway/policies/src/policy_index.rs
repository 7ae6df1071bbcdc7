//! The index of policies: from the attributes of a request to the policies that may apply.

use hashbrown::HashMap;

use crate::address::Network;
use crate::attribute::AttributeName;
use crate::attributes::{Attributes, Value};
use crate::clause::{Clause, Condition};
use crate::index::{Candidates, Lookup, ValueIndex};
use crate::model::{Matcher, Policy};

/// The most attributes with an index of their own: each costs every request a lookup.
const MAX_INDEXED_ATTRIBUTES: usize = 6;

/// The policies of a file by one clause each.
#[derive(Clone, Debug, Default)]
pub(crate) struct PolicyIndex {
    by_name: HashMap<Box<str>, u32>,
    by_value: Vec<(AttributeName, ValueIndex)>,
    /// Policies that no index finds, in order.
    others: Vec<u32>,
}

impl PolicyIndex {
    /// Returns the index of policies in the order of the file.
    pub(crate) fn new(policies: &[Policy]) -> Self {
        let by_name = (0..).zip(policies).map(|(number, policy)| (policy.name.clone(), number));
        let mut index = Self { by_name: by_name.collect(), ..Self::default() };
        let usage = usage(policies);
        let mut chosen: Vec<(AttributeName, Found)> = Vec::new();
        for (number, policy) in (0..).zip(policies) {
            let Matcher::Clauses(clauses) = &policy.matcher else { continue };
            match choose(clauses, &usage) {
                Some((attribute, lookups)) => {
                    match chosen.iter_mut().find(|(known, _)| known == attribute) {
                        Some((_, entries)) => entries.push((number, lookups)),
                        None => chosen.push((attribute.clone(), vec![(number, lookups)])),
                    }
                }
                None => index.others.push(number),
            }
        }
        chosen.sort_by_key(|(_, entries)| std::cmp::Reverse(entries.len()));
        for (_, entries) in chosen.drain(MAX_INDEXED_ATTRIBUTES.min(chosen.len())..) {
            index.others.extend(entries.iter().map(|(number, _)| number));
        }
        index.others.sort_unstable();
        index.by_value =
            chosen.into_iter().map(|(name, entries)| (name, ValueIndex::new(entries))).collect();
        index
    }

    /// Returns the number of the policy with this name.
    pub(crate) fn named(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// Returns the policies that may apply to a request, in order.
    pub(crate) fn find(&self, attributes: &Attributes<'_>) -> Candidates<'_> {
        let mut found = Candidates::default();
        found.add(&self.others);
        for (name, index) in &self.by_value {
            match attributes.value(name) {
                Ok(Value::Text(text)) => index.find(&text, &mut found),
                Ok(Value::Address(address)) => {
                    index.find(&Network::of(address, u8::MAX).bit_text(), &mut found);
                }
                Ok(Value::Missing) => {}
                // A policy that reads such a value returns a fault, if the policy applies
                // otherwise. An index has no digests.
                Ok(Value::List(_) | Value::Secret(_)) | Err(_) => index.find_all(&mut found),
            }
        }
        found
    }
}

/// Returns the lookups of a clause, one of which finds each value for which the clause holds, or
/// `None` where no index can find the values.
fn lookups(clause: &Clause) -> Option<Vec<Lookup>> {
    // A claim is read only when a policy that is tried reads it.
    if matches!(clause.attribute, AttributeName::Claim(_)) {
        return None;
    }
    let lookups: Vec<Lookup> = match &clause.condition {
        Condition::Any(globs) => globs
            .iter()
            .map(|glob| match glob.literal() {
                Some(text) => Lookup::Exact(text.into()),
                None => Lookup::Prefix(glob.prefix().into()),
            })
            .collect(),
        Condition::In(networks) => {
            networks.iter().map(|network| Lookup::Prefix(network.bit_text().into())).collect()
        }
        Condition::NotAny(_) | Condition::NotIn(_) | Condition::Exists(_) => return None,
    };
    (!lookups.iter().any(Lookup::finds_everything)).then_some(lookups)
}

/// Policies, each with its lookups: one of the lookups finds the policy.
type Found = Vec<(u32, Vec<Lookup>)>;

/// The number of policies that each lookup finds.
type Usage = HashMap<(AttributeName, Lookup), usize>;

fn usage(policies: &[Policy]) -> Usage {
    let mut usage = Usage::new();
    for policy in policies {
        let Matcher::Clauses(clauses) = &policy.matcher else { continue };
        for clause in clauses {
            for lookup in lookups(clause).unwrap_or_default() {
                *usage.entry((clause.attribute.clone(), lookup)).or_default() += 1;
            }
        }
    }
    usage
}

/// Returns the clause whose lookups find the fewest policies.
fn choose<'p>(clauses: &'p [Clause], usage: &Usage) -> Option<(&'p AttributeName, Vec<Lookup>)> {
    let indexed = clauses.iter().filter_map(|clause| Some((clause, lookups(clause)?)));
    let busiest = |clause: &Clause, lookups: &[Lookup]| {
        let count = |lookup: &Lookup| {
            usage.get(&(clause.attribute.clone(), lookup.clone())).copied().unwrap_or(0)
        };
        lookups.iter().map(count).max()
    };
    indexed
        .min_by_key(|(clause, lookups)| (busiest(clause, lookups), clause.work()))
        .map(|(clause, lookups)| (&clause.attribute, lookups))
}
