//! The corpus of the fuzzers, each entry checked again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that panics fails its test"
)]

mod bytes;
#[path = "../fuzz/corpus.rs"]
mod corpus;
#[allow(dead_code, reason = "the module serves other tests too")]
mod state;

use std::path::Path;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus");

#[test]
fn bytes_that_are_stored_are_refused_or_usable() {
    for (file, entry) in corpus::entries(&Path::new(CORPUS).join("stored")) {
        eprintln!("{}", file.display());
        bytes::stored(&entry);
    }
}

#[test]
fn bytes_that_are_applied_are_refused_or_leave_equal_states() {
    for (file, entry) in corpus::entries(&Path::new(CORPUS).join("applied")) {
        eprintln!("{}", file.display());
        bytes::applied(&entry);
    }
}
