//! Overrides: exceptions of a policy, of which the first that applies counts.

use limiter::Instant;
use schemars::JsonSchema;
use serde::Serialize;

use crate::address::Network;
use crate::attributes::{Attributes, RequestError};
use crate::clause::Clause;
use crate::glob::Glob;
use crate::identity::{Identity, PartValue};
use crate::index::{Candidates, Lookup, ValueIndex};
use crate::limit::LimitSpec;

/// An exception of a policy.
#[derive(Clone, Debug)]
pub struct Override {
    /// The identities or requests to which the override applies.
    pub subject: Subject,
    /// The reason.
    pub reason: Box<str>,
    /// The end as written, and in milliseconds since the epoch; `None` without an end.
    pub until: Option<Until>,
    /// The effect.
    pub effect: Effect,
}

/// The identities or requests to which an override applies.
#[derive(Clone, Debug)]
pub enum Subject {
    /// Identities: one pattern for each value.
    By(ByPatterns),
    /// Requests for which all clauses hold.
    Match(Box<[Clause]>),
}

/// The patterns of an override for the values of an identity.
#[derive(Clone, Debug)]
pub struct ByPatterns {
    /// The patterns as written.
    pub written: Box<[Box<str>]>,
    /// The patterns.
    pub patterns: Box<[IdentityPattern]>,
}

/// A pattern for one value of an identity.
#[derive(Clone, Debug)]
pub enum IdentityPattern {
    /// A glob.
    Glob(Glob),
    /// The groups of addresses in a network; without a network every address matches.
    Network(Option<Network>),
}

/// The end of an override.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Until {
    /// The end as written.
    pub written: Box<str>,
    /// The first millisecond since the epoch at which the override no longer applies.
    pub ms: i64,
}

/// The effect of an override.
#[derive(Clone, Debug)]
pub enum Effect {
    /// The plan at this position.
    Plan(usize),
    /// Other limits.
    Limits(Box<[LimitSpec]>),
    /// No limits.
    Unlimited,
    /// No requests.
    Block {
        /// True if the block is only counted.
        shadow: bool,
    },
}

/// The part of an override that answers to callers contain; end users do not see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[schemars(inline)]
pub struct OverrideInfo<'p> {
    /// The patterns for the identity as written.
    #[schemars(with = "Vec<String>")]
    pub by: &'p [Box<str>],
    /// The reason.
    pub reason: &'p str,
    /// The end as written.
    pub until: Option<&'p str>,
    /// The place where the override is written.
    pub source: &'static str,
}

impl Override {
    /// Returns the part that answers to callers contain.
    #[must_use]
    pub fn info(&self) -> OverrideInfo<'_> {
        OverrideInfo {
            by: match &self.subject {
                Subject::By(by) => &by.written,
                Subject::Match(_) => &[],
            },
            reason: &self.reason,
            until: self.until.as_ref().map(|until| &*until.written),
            source: "file",
        }
    }

    /// Returns whether the override is in force.
    pub(crate) fn is_current(&self, now: Instant) -> bool {
        let now_ms = i64::try_from(now.as_micros() / 1_000).unwrap_or(i64::MAX);
        self.until.as_ref().is_none_or(|until| now_ms < until.ms)
    }

    /// Returns whether the override applies to a request.
    pub(crate) fn applies(
        &self,
        identity: &Identity<'_>,
        attributes: &Attributes<'_>,
        now: Instant,
    ) -> Result<bool, RequestError> {
        if !self.is_current(now) {
            return Ok(false);
        }
        match &self.subject {
            Subject::By(by) => Ok(by.hold(identity)),
            Subject::Match(clauses) => {
                for clause in clauses {
                    if !clause.holds(attributes)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    /// Returns the lookups by the first value of the identity, if an index is of use.
    fn lookup(&self) -> Option<Lookup> {
        let Subject::By(by) = &self.subject else { return None };
        let lookup = match by.patterns.first()? {
            IdentityPattern::Glob(glob) => match glob.literal() {
                Some(text) => Lookup::Exact(text.into()),
                None => Lookup::Prefix(glob.prefix().into()),
            },
            IdentityPattern::Network(network) => {
                Lookup::Prefix(network.as_ref()?.bit_text().into())
            }
        };
        (!lookup.finds_everything()).then_some(lookup)
    }
}

impl ByPatterns {
    /// Returns whether the patterns hold for an identity. A missing value has no pattern.
    pub(crate) fn hold(&self, identity: &Identity<'_>) -> bool {
        self.patterns.iter().zip(&identity.values).all(|(pattern, value)| match (pattern, value) {
            (_, PartValue::Missing) => false,
            (IdentityPattern::Network(None), PartValue::Group(_)) => true,
            (IdentityPattern::Network(Some(network)), PartValue::Group(group)) => {
                network.contains(group)
            }
            (IdentityPattern::Glob(glob), value) => {
                value.text().is_some_and(|text| glob.matches(&text))
            }
            (IdentityPattern::Network(_), PartValue::Text(_)) => false,
        })
    }
}

/// The overrides of a policy in the order of the file, and the index of them.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    list: Box<[Override]>,
    by_value: ValueIndex,
    others: Vec<u32>,
}

impl Overrides {
    /// Returns the overrides with their index.
    pub(crate) fn new(list: Vec<Override>) -> Self {
        let mut others = Vec::new();
        let mut entries = Vec::new();
        for (number, entry) in (0..).zip(&list) {
            match entry.lookup() {
                Some(lookup) => entries.push((number, vec![lookup])),
                None => others.push(number),
            }
        }
        Self { by_value: ValueIndex::new(entries), others, list: list.into() }
    }

    /// Returns the overrides in the order of the file.
    #[must_use]
    pub fn as_slice(&self) -> &[Override] {
        &self.list
    }

    /// Returns the overrides that may apply to an identity, in order.
    pub(crate) fn find<'o>(
        &'o self,
        identity: &Identity<'_>,
    ) -> impl Iterator<Item = &'o Override> {
        let mut found = Candidates::default();
        found.add(&self.others);
        match identity.values.first() {
            Some(PartValue::Text(text)) => self.by_value.find(text, &mut found),
            Some(PartValue::Group(group)) => self.by_value.find(&group.bit_text(), &mut found),
            Some(PartValue::Missing) | None => {}
        }
        found.filter_map(|number| self.list.get(number as usize))
    }
}
