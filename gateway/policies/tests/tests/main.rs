//! The promises of the policies crate, a theme each.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets what it does not expect has to fail"
)]

/// Files and requests of any bytes.
mod any_bytes;
/// Files that would cost too much.
#[path = "../bombs/mod.rs"]
mod bomb_files;
/// The refusal of such files.
mod bombs;
/// A corpus of broken files with exact messages.
mod broken_files;
/// The promises about any bytes, which the fuzzer checks too.
#[path = "../bytes/mod.rs"]
mod bytes;
/// The page about policies: its files, and the tables of members.
mod documentation;
/// Both examples of the documentation, and their schema.
mod examples;
/// Explanations of requests.
mod explanations;
/// The keys of all limits of an identity.
mod identity_keys;
/// Random files and requests against a naive evaluator that was written from the contract.
mod naive;
/// Records of requests, for logs.
mod records;
/// Situations that break naive designs, each with its rule.
mod traps;

use limiter::Instant;
use policies::attributes::Attributes;
use policies::digest::HashKey;
use policies::judgement::Judgement;
use policies::model::Entry;
use policies::problem::FileError;
use policies::{LoadOptions, Policies};

/// 2026-07-01T12:00:00Z
const NOW: Instant = Instant::from_micros(1_782_907_200_000_000);

fn options() -> LoadOptions {
    LoadOptions {
        key_prefix: String::new(),
        hash_key: HashKey::new(b"secret"),
        require_end: false,
        now: NOW,
    }
}

fn load(file: &str) -> Result<Policies, FileError> {
    Policies::load(file.as_bytes(), &options())
}

fn policies(file: &str) -> Policies {
    load(file).unwrap_or_else(|error| panic!("{error}"))
}

/// A request with attributes by their names; `jwt.*` are claims.
fn request<'r>(policies: &Policies, entry: Entry, values: &[(&str, &'r str)]) -> Attributes<'r> {
    let mut attributes = Attributes::new(entry, policies.path_form());
    for (name, value) in values {
        if name.starts_with("jwt.") {
            attributes.set_claim(name, value).unwrap();
        } else {
            attributes.set(name, value).unwrap();
        }
    }
    attributes
}

fn judge<'p>(policies: &'p Policies, values: &[(&str, &str)]) -> Judgement<'p> {
    policies.judge(&request(policies, Entry::Check, values), NOW).unwrap()
}

/// The keys of the limits that are enforced.
fn keys(judgement: &Judgement<'_>) -> Vec<String> {
    judgement.limits.iter().map(|limit| limit.key.clone()).collect()
}

/// The name of the policy that applies.
fn applied<'p>(judgement: &Judgement<'p>) -> Option<&'p str> {
    judgement.policy.map(|policy| &*policy.name)
}
