//! The parts of lists of limits that a policy has to agree with.

use hashbrown::{HashMap, HashSet};

use crate::attribute::{AttributeName, Writer};
use crate::document::{CostDocument, LimitDocument};
use crate::identity::IdentityPart;
use crate::kind::Kind;
use crate::limit::{Cost, LimitSpec};
use crate::problem::Place;
use crate::read::At;

/// The identity of a limit, `None` for that of the policy, and its position.
type OwnIdentity = (Option<Box<[IdentityPart]>>, Place);

/// The parts of lists of limits that a policy has to agree with.
#[derive(Clone, Debug, Default)]
pub(super) struct Traits {
    /// The identities by name and kind: `None` stands for the identity of the policy.
    pub(super) identities: HashMap<(Box<str>, Kind), Vec<OwnIdentity>>,
    /// Attributes that name costs and that no `trusted` covers.
    pub(super) untrusted: HashMap<AttributeName, Vec<Place>>,
    /// All attributes that identities and costs read.
    pub(super) reads: HashSet<AttributeName>,
    /// The position of a concurrency limit.
    pub(super) concurrency: Option<Place>,
}

impl Traits {
    /// Adds the parts of other lists.
    pub(super) fn add(&mut self, other: &Self) {
        for (key, identities) in &other.identities {
            let known = self.identities.entry(key.clone()).or_default();
            for (identity, place) in identities {
                if !known.iter().any(|(known, _)| known == identity) {
                    known.push((identity.clone(), *place));
                }
            }
        }
        for (name, places) in &other.untrusted {
            self.untrusted.entry(name.clone()).or_default().extend(places);
        }
        self.reads.extend(other.reads.iter().cloned());
        self.concurrency = self.concurrency.or(other.concurrency);
    }

    pub(super) fn note(&mut self, limit: &LimitSpec, document: &LimitDocument, place: Place) {
        let key = (limit.name.clone(), limit.rate.kind());
        self.identities.entry(key).or_default().push((limit.by.clone(), place));
        self.reads.extend(limit.by.iter().flatten().map(|part| part.attribute.clone()));
        if let (Cost::From(from), Some(At { value: CostDocument::From(written), .. })) =
            (&limit.cost, &document.cost)
        {
            self.reads.insert(from.from.clone());
            if written.trusted != Some(true) && from.from.writer() == Writer::EndUser {
                self.untrusted.entry(from.from.clone()).or_default().push(written.from.place);
            }
        }
        if limit.rate.kind() == Kind::Concurrency {
            self.concurrency = self.concurrency.or(Some(place));
        }
    }
}
