#![no_main]

#[path = "../../../../gateway/policies/tests/bytes/mod.rs"]
mod bytes;

// The first byte selects the promise.
libfuzzer_sys::fuzz_target!(|input: &[u8]| match input.split_first() {
    Some((b'f', input)) => bytes::loaded(input),
    Some((_, input)) => bytes::written_by_an_end_user(input),
    None => {}
});
