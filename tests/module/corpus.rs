//! Bytes of the corpus of the fuzzers, and mutations of them, sent to a live server: as values to
//! load, and as effects to apply to these values.
//!
//! `RATELIMIT_FUZZ_SECONDS` is the duration of the mutations in seconds; without it the number of
//! mutations is small and fixed.

#[path = "../../module/limiter/fuzz/corpus.rs"]
mod kept;

use std::env;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{Client, NOON, Random, Server, sealed, slowdown};
use crate::module::hostile::{apply, create_witnesses, dumps, use_key};

#[test]
fn bytes_of_the_corpus_are_refused_or_usable() {
    let mut target = Target::start();
    for pieces in corpus() {
        target.feed(&pieces);
    }
    target.assert_unharmed();
    let Target { accepted, refused, .. } = target;
    assert!(accepted > 50 && refused > 50, "{accepted} accepted, {refused} refused");
}

#[test]
fn mutated_bytes_of_the_corpus_are_refused_or_usable() {
    let few = 300 / slowdown().unwrap_or(1);
    let seconds = env::var("RATELIMIT_FUZZ_SECONDS").ok();
    let duration = seconds.map(|seconds| Duration::from_secs(seconds.parse().unwrap()));
    let start = Instant::now();
    let (mut target, mut random, corpus) = (Target::start(), Random::new(), corpus());
    for round in 0.. {
        if duration.map_or(round == few, |duration| start.elapsed() > duration) {
            break;
        }
        let mut pieces = corpus[random.below(corpus.len())].clone();
        let mutated = random.below(pieces.len());
        let other = &corpus[random.below(corpus.len())][0];
        mutate(&mut pieces[mutated], other, &mut random);
        target.feed(&pieces);
    }
    target.assert_unharmed();
}

/// Returns each entry as a value and the effects that follow it.
fn corpus() -> Vec<Vec<Vec<u8>>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../module/limiter/fuzz/corpus");
    let entries = |folder| kept::entries(&root.join(folder)).into_iter().map(|(_, entry)| entry);
    let stored = entries("stored").map(|entry| vec![entry]);
    let applied = entries("applied")
        .map(|entry| kept::pieces(&entry).map(<[u8]>::to_vec).collect::<Vec<_>>())
        .filter(|pieces| !pieces.is_empty());
    stored.chain(applied).collect()
}

/// A server that receives the bytes.
struct Target {
    server: Server,
    client: Client,
    /// Dumps of keys of other types, which must not change.
    witnesses: Vec<Vec<u8>>,
    /// The bytes before those of a state in the stored value of each kind of key.
    heads: Vec<Vec<u8>>,
    /// The version of the server's format.
    version: Vec<u8>,
    /// The numbers of accepted and of refused values and effects.
    accepted: u32,
    refused: u32,
}

impl Target {
    fn start() -> Self {
        const TAIL: usize = 1 + 2 + 8;
        let server = Server::builder().clock(NOON).config("sanitize-dump-payload", "yes").start();
        let mut client = server.client().acting_as_a_server();
        let witnesses = create_witnesses(&mut client);
        client.decide("RATELIMIT.TB bucket 100 60");
        client.decide("RATELIMIT.SW log 100 60");
        client.call::<[i64; 7]>("RATELIMIT.ACQUIRE leases 1 60 holder");
        client.call::<redis::Value>("RATELIMIT.RESERVE reservation 60 1 bucket TB 100 60");
        let stored: [Vec<u8>; 4] = ["bucket", "log", "leases", "reservation"]
            .map(|key| client.call(&format!("DUMP {key}")));
        let version = stored[0][stored[0].len() - TAIL + 1..stored[0].len() - 8].to_vec();
        // The number of the type in the format, the name of the module in nine bytes, and the mark
        // of a string.
        let heads = stored.map(|payload| payload[..11].to_vec()).to_vec();
        Self { server, client, witnesses, heads, version, accepted: 0, refused: 0 }
    }

    /// Loads the first piece as each type, applies all pieces, and uses the resulting key.
    fn feed(&mut self, pieces: &[Vec<u8>]) {
        for head in self.heads.clone() {
            self.load(&head, &pieces[0]);
            for piece in pieces {
                self.apply(piece);
            }
            use_key(&mut self.client, "victim");
        }
    }

    fn load(&mut self, head: &[u8], value: &[u8]) {
        let end_of_value = [0];
        let stored = [head, &string(value), &end_of_value].concat();
        let payload = sealed(&stored, &self.version);
        self.client.call::<i64>("DEL victim");
        match self.restore(&payload) {
            Ok(_) => {
                self.accepted += 1;
                let dumped: Vec<u8> = self.client.call("DUMP victim");
                self.restore(&dumped).unwrap();
                assert_eq!(self.client.call::<Vec<u8>>("DUMP victim"), dumped);
            }
            Err(error) => {
                self.refused += 1;
                assert_eq!(error.detail(), Some("Bad data format"), "{}", value.escape_ascii());
            }
        }
    }

    fn restore(&mut self, payload: &[u8]) -> Result<redis::Value, redis::RedisError> {
        self.client.reply(&[b"RESTORE", b"victim", b"0", payload, b"REPLACE"])
    }

    fn apply(&mut self, change: &[u8]) {
        let before: Option<Vec<u8>> = self.client.call("DUMP victim");
        let expiry = (NOON / 1_000 + 60_000).to_be_bytes();
        let effect = [&expiry, change].concat();
        match apply(&mut self.client, "victim", &effect) {
            Ok(_) => self.accepted += 1,
            Err(error) => {
                self.refused += 1;
                assert!(error.code().is_some(), "{error}: {}", change.escape_ascii());
                let after: Option<Vec<u8>> = self.client.call("DUMP victim");
                assert_eq!(after, before, "{}", change.escape_ascii());
            }
        }
    }

    fn assert_unharmed(&mut self) {
        assert_eq!(dumps(&mut self.client), self.witnesses, "{}", self.server.log());
    }
}

/// Returns a string as the server stores it: after its length, which takes one, two or five bytes.
fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    let [_, _, high, low] = length.to_be_bytes();
    let head = match length {
        0..64 => vec![low],
        64..16_384 => vec![0x40 | high, low],
        _ => [&[0x80][..], &length.to_be_bytes()].concat(),
    };
    [&head, bytes].concat()
}

/// Changes bytes in some places: flips, inserts, removes, and appends bytes of another entry.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(5) {
            0 => bytes.splice(at..at, random.bytes(4)).for_each(drop),
            1 => bytes.truncate(at),
            2 if !other.is_empty() => {
                bytes.truncate(at);
                bytes.extend(&other[random.below(other.len())..]);
            }
            3 if at < bytes.len() => bytes[at] = random.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            _ if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
}
