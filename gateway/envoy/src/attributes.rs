//! A descriptor as the attributes of a request.

use policies::{attributes::Attributes, model::Entry, path::PathForm};

use crate::call::{Descriptor, RateLimitCall};

/// The attribute of the domain. An entry with this key has no effect.
const DOMAIN: &str = "domain";

impl RateLimitCall {
    /// Returns the attributes of one descriptor of this call, for policies with this form of paths.
    #[must_use]
    pub fn attributes<'c>(&'c self, descriptor: &'c Descriptor, form: PathForm) -> Attributes<'c> {
        let mut attributes = Attributes::new(Entry::Rls, form);
        attributes.add_descriptor_entry(DOMAIN, &self.domain);
        for entry in descriptor.entries.iter().filter(|entry| entry.key != DOMAIN) {
            attributes.add_descriptor_entry(&entry.key, &entry.value);
        }
        attributes.set_cost(descriptor.hits.units.into());
        attributes
    }
}

#[cfg(test)]
mod tests {
    use limiter::Instant;
    use policies::{LoadOptions, Policies, judgement::Outcome};
    use proptest::prelude::*;

    use crate::call::{Descriptor, Entry, Hits, RateLimitCall};

    const NOW: Instant = Instant::from_micros(1_800_000_000_000_000);

    fn policies() -> Policies {
        let file = "
            version: 1
            policies:
              - {name: users, match: {domain: shop, user: {exists: true}}, by: [user, jwt.sub], missing: share, limits: [{name: rate, limit: 5, per: 1m}]}
              - {name: addresses, match: {domain: shop, client.ip: {exists: true}}, by: [client.ip, generic_key], missing: share, limits: [{name: rate, limit: 5, per: 1m}]}
              - {name: callers, by: [], limits: [{name: rate, limit: 5, per: 1m}], entry: [check, authz]}
        ";
        let options =
            LoadOptions { key_prefix: String::new(), hash_key: None, require_end: false, now: NOW };
        Policies::load(file.as_bytes(), &options).unwrap()
    }

    fn call(domain: &[u8], entries: &[(&str, &[u8])]) -> RateLimitCall {
        let entry =
            |(key, value): &(&str, &[u8])| Entry { key: (*key).to_owned(), value: value.to_vec() };
        let entries = entries.iter().map(entry).collect();
        let descriptor = Descriptor { entries, hits: Hits::new(Some(2), 0, false), limit: None };
        RateLimitCall { domain: domain.to_vec(), descriptors: vec![descriptor], max_wait: None }
    }

    fn key(domain: &[u8], entries: &[(&str, &[u8])]) -> Option<String> {
        let (policies, call) = (policies(), call(domain, entries));
        let attributes = call.attributes(&call.descriptors[0], policies.path_form());
        let judgement = policies.judge(&attributes, NOW).unwrap();
        let limit = judgement.limits.first()?;
        assert_eq!(limit.cost, 2);
        Some(limit.key.clone())
    }

    #[test]
    fn the_domain_and_the_entries_are_attributes() {
        for (domain, entries, expected) in [
            ("shop", &[("user", &b"ann"[..])][..], Some("policy:rate:tb:{users|ann|-}")),
            ("other", &[("user", b"ann")], None),
            ("shop", &[], None),
            // Entries with equal keys are one value.
            (
                "shop",
                &[("remote_address", b"192.0.2.1"), ("generic_key", b"a"), ("generic_key", b"b")],
                Some("policy:rate:tb:{addresses|192.0.2.1|a/b}"),
            ),
            // No entry is a claim or replaces the domain.
            (
                "shop",
                &[("user", b"ann"), ("jwt.sub", b"eve")],
                Some("policy:rate:tb:{users|ann|-}"),
            ),
            ("other", &[("domain", b"shop"), ("user", b"ann")], None),
            (
                "shop",
                &[("domain", b"other"), ("user", b"ann")],
                Some("policy:rate:tb:{users|ann|-}"),
            ),
            // Any bytes are a value.
            ("shop", &[("user", b"\xff{}|")], Some("policy:rate:tb:{users|%FF%7B%7D%7C|-}")),
        ] {
            assert_eq!(key(domain.as_bytes(), entries).as_deref(), expected, "{entries:?}");
        }
    }

    proptest! {
        /// No bytes of an end user are an error, and different users never share a key.
        #[test]
        fn no_value_is_an_error(values in proptest::collection::vec(any::<Vec<u8>>(), 2..3)) {
            let policies = policies();
            let keys: Vec<_> = values.iter().map(|value| key(b"shop", &[("user", value)])).collect();
            prop_assert!(keys.iter().all(Option::is_some));
            prop_assert_eq!(keys[0] == keys[1], values[0] == values[1]);
            let call = call(&values[0], &[("path", &values[1]), ("remote_address", &values[0])]);
            let attributes = call.attributes(&call.descriptors[0], policies.path_form());
            let judgement = policies.judge(&attributes, NOW).unwrap();
            let is_unmatched = matches!(judgement.outcome, Outcome::Unmatched { deny: false });
            prop_assert!(is_unmatched || values[0] == b"shop");
        }
    }
}
