//! The identifiers that this process denied most often lately.
//!
//! `RATELIMIT.TOP` does not list them, because most denials of a flood come from the deny cache
//! without a call to Redis. This sketch counts all denials of this process: those of Redis, of the
//! deny cache and of the local store. Each shard has the guarantees of [`TopKeys`].

use std::{
    hash::{BuildHasher, RandomState},
    num::NonZeroUsize,
    str::Utf8Error,
    sync::{Mutex, MutexGuard, PoisonError},
};

use limiter::{Instant, TopKeys};

use crate::limit_kind::LimitKind;

/// Number of shards. Each has a lock, which a denial takes for about a tenth of a microsecond.
const SHARDS: usize = 8;

/// Most identifiers that a shard counts, of all kinds of limits together.
const IDENTIFIERS_PER_SHARD: NonZeroUsize = NonZeroUsize::new(128).unwrap();

/// Most identifiers that are counted, in less than a megabyte.
pub const MAX_DENIED_IDENTIFIERS: usize = SHARDS * IDENTIFIERS_PER_SHARD.get();

/// The most bytes of an identifier that is counted whole.
pub const MAX_IDENTIFIER_BYTES: usize = TopKeys::MAX_KEY_BYTES;

/// The denials by identifier and kind of limit. An identifier is always in the same shard.
#[derive(Debug)]
pub(super) struct TopDenied {
    shards: [Mutex<TopKeys>; SHARDS],
    hasher: RandomState,
}

/// The name of the object of a denial. An identifier and a key with the same text are two objects.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Denied<'d> {
    /// An identifier.
    Identifier(&'d str),
    /// The key of a limit that has one of its own, without the prefix of all keys.
    Key(&'d str),
}

impl<'d> Denied<'d> {
    const fn name(self) -> &'d str {
        match self {
            Self::Identifier(name) | Self::Key(name) => name,
        }
    }

    /// Returns the number of the counters of these names and this kind.
    const fn number(self, kind: LimitKind) -> u32 {
        match self {
            Self::Identifier(_) => kind.number(),
            Self::Key(_) => LimitKind::ALL.len() as u32 + kind.number(),
        }
    }
}

/// An identifier with its recent denials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeniedIdentifier {
    /// The identifier, or the whole key of a limit that has one of its own.
    pub identifier: String,
    /// The kind of its limit.
    pub kind: LimitKind,
    /// The denials, which halve at every full minute.
    pub denied: u64,
}

impl TopDenied {
    /// Returns a sketch without denials.
    pub(super) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(TopKeys::new(IDENTIFIERS_PER_SHARD))),
            hasher: RandomState::new(),
        }
    }

    /// Counts a denial.
    pub(super) fn count(&self, denied: Denied<'_>, kind: LimitKind, now: Instant) {
        let name = denied.name();
        self.shard(name).denied(denied.number(kind), name.as_bytes(), now);
    }

    /// Removes the denials of an identifier or a key.
    pub(super) fn forget(&self, denied: Denied<'_>, kind: LimitKind) {
        let name = denied.name();
        self.shard(name).forget(denied.number(kind), name.as_bytes());
    }

    /// Returns the identifiers with the most denials, at most `count`: the most denied first, then by
    /// their bytes. Keys begin with `key_prefix`.
    ///
    /// # Errors
    ///
    /// Never, as long as the sketch stores whole identifiers, which are text.
    pub(super) fn top(
        &self,
        count: usize,
        now: Instant,
        key_prefix: &str,
    ) -> Result<Vec<DeniedIdentifier>, Utf8Error> {
        let mut top = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            for kind in LimitKind::ALL {
                for (one, prefix) in [(Denied::Identifier(""), ""), (Denied::Key(""), key_prefix)] {
                    for (name, denied) in shard.top(one.number(kind), count, now) {
                        let identifier = [prefix, str::from_utf8(name)?].concat();
                        top.push(DeniedIdentifier { identifier, kind, denied });
                    }
                }
            }
        }
        top.sort_unstable_by(|one, other| {
            let most_first = other.denied.cmp(&one.denied);
            let by_name = || one.identifier.cmp(&other.identifier);
            let by_kind = || one.kind.number().cmp(&other.kind.number());
            most_first.then_with(by_name).then_with(by_kind)
        });
        top.truncate(count);
        Ok(top)
    }

    fn shard(&self, identifier: &str) -> MutexGuard<'_, TopKeys> {
        lock(&self.shards[self.hasher.hash_one(identifier) as usize % SHARDS])
    }
}

fn lock(shard: &Mutex<TopKeys>) -> MutexGuard<'_, TopKeys> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time;

    use limiter::{Algorithm, Instant};

    use super::{
        Denied::{Identifier, Key},
        DeniedIdentifier, MAX_DENIED_IDENTIFIERS, TopDenied,
    };
    use crate::limit_kind::LimitKind;

    const BUCKET: LimitKind = LimitKind::Quota(Algorithm::TokenBucket);
    const LOG: LimitKind = LimitKind::Quota(Algorithm::SlidingWindow);

    const NOON: Instant = Instant::from_micros(1_800_014_400_000_000);

    fn top(sketch: &TopDenied, count: usize, now: Instant) -> Vec<(String, LimitKind, u64)> {
        let entry = |DeniedIdentifier { identifier, kind, denied }| (identifier, kind, denied);
        sketch.top(count, now, "app:").unwrap().into_iter().map(entry).collect()
    }

    #[test]
    fn the_most_denied_come_first_in_all_shards_and_kinds() {
        let sketch = TopDenied::new();
        for number in 1..=20 {
            for _ in 0..number {
                sketch.count(Identifier(&format!("user {number}")), BUCKET, NOON);
            }
        }
        for _ in 0..15 {
            sketch.count(Identifier("user 15"), LOG, NOON);
        }
        let bucket = |number: u64| (format!("user {number}"), BUCKET, number);
        let log = ("user 15".to_owned(), LOG, 15);
        let expected = [20, 19, 18, 17, 16, 15].map(bucket).into_iter().chain([log]);
        assert_eq!(top(&sketch, 7, NOON), expected.collect::<Vec<_>>());
        sketch.forget(Identifier("user 20"), BUCKET);
        sketch.forget(Identifier("user 15"), BUCKET);
        assert_eq!(top(&sketch, 100, NOON).len(), 19);
        assert_eq!(top(&sketch, 1, NOON), [bucket(19)]);
        // All counts halve at every full minute.
        let next_minute = NOON.plus_micros(60_000_000);
        let halved = ("user 18".to_owned(), BUCKET, 9);
        assert_eq!(top(&sketch, 1, next_minute), [halved]);
    }

    #[test]
    fn a_key_has_the_prefix_and_is_no_identifier() {
        let sketch = TopDenied::new();
        let name = "policy:rate:tb:{api|ann}";
        for (denied, count) in [(Identifier(name), 2), (Key(name), 1)] {
            for _ in 0..count {
                sketch.count(denied, BUCKET, NOON);
            }
        }
        let key = (format!("app:{name}"), BUCKET, 1);
        assert_eq!(top(&sketch, 9, NOON), [(name.to_owned(), BUCKET, 2), key.clone()]);
        sketch.forget(Identifier(name), BUCKET);
        assert_eq!(top(&sketch, 9, NOON), [key]);
        sketch.forget(Key(name), BUCKET);
        assert_eq!(top(&sketch, 9, NOON), []);
    }

    #[test]
    fn a_flood_of_identifiers_takes_bounded_memory_and_hides_no_culprit() {
        let sketch = TopDenied::new();
        for number in 0..100_000 {
            sketch.count(Identifier(&format!("{number:0>256}")), BUCKET, NOON);
            if number % 50 == 0 {
                sketch.count(Identifier("culprit"), LOG, NOON);
            }
        }
        let all = top(&sketch, usize::MAX, NOON);
        assert!(all.len() <= MAX_DENIED_IDENTIFIERS, "{}", all.len());
        assert_eq!(all[0].0, "culprit");
        // Of the 12,500 denials of a shard it may miss those that another key may have had as well.
        assert!((2_000 - 16_000 / 128..=2_000).contains(&all[0].2), "{:?}", all[0]);
    }

    #[test]
    #[ignore = "a measurement: the time of a denial while all threads deny"]
    fn a_denial_takes_little_time() {
        for identifiers in [1, 1_000, 1_000_000] {
            let sketch = TopDenied::new();
            let names: Vec<_> = (0..identifiers).map(|number| format!("user_{number}")).collect();
            for threads in [1, 2, 8] {
                const DENIALS: usize = 1_000_000;
                let start = time::Instant::now();
                std::thread::scope(|scope| {
                    for thread in 0..threads {
                        let (sketch, names) = (&sketch, &names);
                        scope.spawn(move || {
                            for number in 0..DENIALS / threads {
                                let name = &names[(thread + number * 7) % names.len()];
                                sketch.count(Identifier(name), BUCKET, NOON);
                            }
                        });
                    }
                });
                let nanos = start.elapsed().as_nanos() / DENIALS as u128;
                println!("{identifiers} identifiers, {threads} threads: {nanos} ns each");
            }
        }
    }
}
