#![no_main]
#![allow(dead_code, reason = "the modules serve the tests too")]

#[path = "../../tests/bytes/mod.rs"]
mod bytes;
#[path = "../corpus.rs"]
mod corpus;
#[path = "../../tests/state/mod.rs"]
mod state;

libfuzzer_sys::fuzz_target!(|input: &[u8]| bytes::stored(input));
