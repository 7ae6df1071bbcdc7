//! The keys of concurrency limits, in parts.
//!
//! A caller gets the parts of the keys of its leases, and sends them back to renew and to release the
//! leases. No parts lead to a key of another kind.

use limiter::Window;

use crate::identity::is_id;
use crate::kind::Kind;
use crate::limit::Rate;
use crate::name::is_name;
use crate::policies::Policies;

/// The key of the leases of one identity, without the prefix of all keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseKey {
    policy: Box<str>,
    limit: Box<str>,
    id: Box<str>,
}

impl LeaseKey {
    /// Returns the key with these parts, unless one of them cannot be in a key.
    #[must_use]
    pub fn new(policy: &str, limit: &str, id: &str) -> Option<Self> {
        let is_valid = is_name(policy) && is_name(limit) && is_id(id);
        is_valid.then(|| Self { policy: policy.into(), limit: limit.into(), id: id.into() })
    }

    /// Returns the parts of a key, unless the key is of another kind.
    #[must_use]
    pub fn parse(key: &str) -> Option<Self> {
        let (limit, rest) = key.strip_prefix("policy:")?.split_once(':')?;
        let tag = rest.strip_prefix(Kind::Concurrency.key_word())?.strip_prefix(":{")?;
        let (policy, id) = tag.strip_suffix('}')?.split_once('|')?;
        Self::new(policy, limit, id)
    }

    /// Returns the name of the policy.
    #[must_use]
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// Returns the name of the limit.
    #[must_use]
    pub fn limit(&self) -> &str {
        &self.limit
    }

    /// Returns the identity, as the key has it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the key.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { policy, limit, id } = self;
        format!("policy:{limit}:{}:{{{policy}|{id}}}", Kind::Concurrency.key_word())
    }
}

impl Policies {
    /// Returns the time by which a lease is renewed: `ttl`, with which it was taken, or the longest time
    /// that its limit has now, if the file has changed since. `None` where there is no such limit.
    #[must_use]
    pub fn lease_ttl(&self, key: &LeaseKey, ttl: Window) -> Option<Window> {
        let policy = self.policy(&key.policy)?;
        let ttls = self.limits(policy).filter(|limit| limit.name == key.limit);
        let ttls = ttls.filter_map(|limit| match limit.rate {
            Rate::Concurrency { ttl, .. } => Some(ttl),
            _ => None,
        });
        let mut longest: Option<Window> = None;
        for known in ttls {
            if known == ttl {
                return Some(ttl);
            }
            if longest.is_none_or(|longest| longest.as_millis() < known.as_millis()) {
                longest = Some(known);
            }
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use limiter::{Instant, Window};

    use super::LeaseKey;
    use crate::{LoadOptions, Policies};

    #[test]
    fn a_key_of_a_concurrency_limit_has_parts_and_no_other_key_has() {
        for (key, policy, limit, id) in [
            ("policy:flight:lease:{jobs|}", "jobs", "flight", ""),
            ("policy:a.b-c_1:lease:{api|alice|192.0.2.7|-}", "api", "a.b-c_1", "alice|192.0.2.7|-"),
            ("policy:f:lease:{api|~fdc52cc4b0ed2bb3}", "api", "f", "~fdc52cc4b0ed2bb3"),
            ("policy:f:lease:{api|a%7D2001:db8::/64}", "api", "f", "a%7D2001:db8::/64"),
        ] {
            let parts = LeaseKey::parse(key).unwrap();
            assert_eq!((parts.policy(), parts.limit(), parts.id()), (policy, limit, id));
            assert_eq!(LeaseKey::new(policy, limit, id), Some(parts.clone()));
            assert_eq!(parts.text(), key);
        }
        let long = "a".repeat(201);
        for (policy, limit, id) in [
            ("jobs", "flight", "a}"),
            ("jobs", "flight", "{"),
            ("jobs", "flight", "a b"),
            ("jobs", "flight", "\u{e9}"),
            ("jobs", "flight", long.as_str()),
            ("jobs", "flight:tb:{x|y}", "a"),
            ("jobs|", "flight", "a"),
            ("", "flight", "a"),
            ("jobs", "", "a"),
            ("jobs", "Flight", "a"),
        ] {
            assert_eq!(LeaseKey::new(policy, limit, id), None, "{policy} {limit} {id}");
        }
        for key in [
            "policy:flight:tb:{jobs|}",
            "policy:flight:leases:{jobs|}",
            "concurrency:{jobs|}",
            "inline:flight:lease:{jobs|}",
            "policy:flight:lease:{jobs|}x",
            "policy:flight:lease:{jobs}",
        ] {
            assert_eq!(LeaseKey::parse(key), None, "{key}");
        }
    }

    #[test]
    fn a_lease_is_renewed_by_its_own_time_while_a_limit_has_it() {
        let file = "{version: 1, plans: {a: [{name: f, limit: 1, ttl: 10s, algorithm: concurrency}, \
                    {name: r, limit: 1, per: 1s}], b: [{name: f, limit: 9, ttl: 1m, algorithm: \
                    concurrency}]}, policies: [{name: jobs, entry: [check], by: [], plan: {from: plan, \
                    default: a}}]}";
        let now = Instant::from_micros(0);
        let options =
            LoadOptions { key_prefix: String::new(), hash_key: None, require_end: false, now };
        let policies = Policies::load(file.as_bytes(), &options).unwrap();
        let seconds = |seconds: u64| Window::from_millis(seconds * 1_000).unwrap();
        let ttl = |policy, limit, ttl| {
            policies.lease_ttl(&LeaseKey::new(policy, limit, "x").unwrap(), seconds(ttl))
        };
        assert_eq!(ttl("jobs", "f", 10), Some(seconds(10)));
        assert_eq!(ttl("jobs", "f", 60), Some(seconds(60)));
        assert_eq!(ttl("jobs", "f", 20), Some(seconds(60)));
        assert_eq!([ttl("jobs", "r", 10), ttl("jobs", "g", 10), ttl("other", "f", 10)], [None; 3]);
    }
}
