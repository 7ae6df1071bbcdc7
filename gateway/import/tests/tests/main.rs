//! Configurations of other services, converted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets what it does not expect has to fail"
)]

// Rules of the conversion.
mod conversions;
// Whole configurations, with decisions on requests.
mod configurations;

use import::Conversion;
use limiter::Instant;
use policies::attributes::Attributes;
use policies::model::Entry;
use policies::{LoadOptions, Policies};

fn load(conversion: &Conversion) -> Policies {
    let options = LoadOptions {
        key_prefix: String::new(),
        hash_key: None,
        require_end: false,
        now: Instant::EPOCH,
    };
    Policies::load(conversion.file.as_bytes(), &options).unwrap()
}

/// Returns the key of the limit of a descriptor, or the name of its policy, or the empty text without
/// one.
fn key(policies: &Policies, entries: &[(&str, &str)]) -> String {
    let mut attributes = Attributes::new(Entry::Rls, policies.path_form());
    for (name, value) in entries {
        attributes.add_descriptor_entry(name, value.as_bytes());
    }
    let judgement = policies.judge(&attributes, Instant::from_micros(1)).unwrap();
    match judgement.limits.first() {
        Some(limit) => limit.key.clone(),
        None => judgement.policy.map_or("", |policy| &policy.name).to_owned(),
    }
}

/// Asserts the keys of descriptors of a domain.
fn assert_keys(conversion: &Conversion, domain: &str, expected: &[(&[(&str, &str)], &str)]) {
    let policies = load(conversion);
    for (entries, expected) in expected {
        let entries: Vec<_> = [("domain", domain)].iter().chain(*entries).copied().collect();
        assert_eq!(key(&policies, &entries), *expected, "{entries:?}\n{}", conversion.file);
    }
}

/// Asserts that a conversion has these notes.
fn assert_notes(conversion: &Conversion, expected: &[&str]) {
    for note in expected {
        let notes = &conversion.notes;
        assert!(notes.iter().any(|known| known == note), "{note}: {notes:#?}");
    }
}
