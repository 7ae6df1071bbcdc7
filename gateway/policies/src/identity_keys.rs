//! The keys of all limits of one identity, for a reset.

use limiter::Instant;

use crate::attribute::AttributeName;
use crate::attributes::{Attributes, RequestError};
use crate::identity::Identity;
use crate::kind::Kind;
use crate::model::{Missing, Policy};
use crate::policies::Policies;

/// The policy of a request, and the keys of its identity.
#[derive(Clone, Debug)]
pub struct IdentityKeys<'p> {
    /// The policy.
    pub policy: &'p Policy,
    /// The keys of all limits that the policy can apply: its own, those of its plans and those of its
    /// overrides. No key occurs twice.
    pub keys: Vec<IdentityKey<'p>>,
    /// The first attribute that the request lacks, and without which a limit of the policy has no key.
    pub missing: Option<&'p AttributeName>,
}

/// The key of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityKey<'p> {
    /// The key in Redis.
    pub key: String,
    /// The name of the limit.
    pub name: &'p str,
    /// The kind of the limit.
    pub kind: Kind,
}

impl Policies {
    /// Returns the keys of the identity of a request, or `None` if no policy applies. The policy that a
    /// request names applies also as a trial.
    ///
    /// # Errors
    ///
    /// As [`Policies::judge`].
    pub fn identity_keys<'p>(
        &'p self,
        attributes: &Attributes<'_>,
        now: Instant,
    ) -> Result<Option<IdentityKeys<'p>>, RequestError> {
        let policy = match &attributes.policy {
            Some(name) => Some(self.policy_for(name, attributes)?),
            None => self.judge(attributes, now)?.policy,
        };
        let Some(policy) = policy else { return Ok(None) };
        let (mut keys, mut missing): (Vec<IdentityKey<'p>>, _) = (Vec::new(), None);
        for limit in self.limits(policy) {
            let parts = limit.by.as_ref().unwrap_or(&policy.by);
            let identity = Identity::of(parts, attributes, self.hash_key.as_ref())?;
            // Such a request does not take the limit.
            if let Some(position) = identity.missing()
                && policy.missing != Missing::Share
            {
                missing = missing.or(parts.get(position).map(|part| &part.attribute));
                continue;
            }
            let kind = limit.rate.kind();
            let key = identity.key(&self.key_prefix, &policy.name, &limit.name, kind);
            if !keys.iter().any(|known| known.key == key) {
                keys.push(IdentityKey { key, name: &limit.name, kind });
            }
        }
        Ok(Some(IdentityKeys { policy, keys, missing }))
    }
}
