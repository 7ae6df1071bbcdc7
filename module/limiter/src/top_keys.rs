//! The keys with the most recent denials, in little memory.

use alloc::vec;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};
use core::num::NonZeroUsize;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::time::Instant;

/// The keys with the most recent denials.
///
/// This is Filtered Space-Saving (Homem, Carvalho: Finding Top-k Elements in Data Streams, 2010)
/// with counts that halve at every full minute:
///
/// 1. Up to `capacity` keys have a counter of their own.
/// 2. Every other key increments a shared counter, chosen by its hash.
/// 3. When a shared counter has reached the smallest own counter, the next key that hits the shared
///    counter replaces the key with that own counter. The new key takes the shared count as the
///    upper bound of its denials, and lists only its denials from then on.
/// 4. At every full minute all counts halve, rounded down. A key with a count of 0 is removed.
///
/// With a capacity of C and N denials, where N halves every minute too:
///
/// * Every key with more than N / C + 1 denials is listed.
/// * No key is listed with more denials than it had, nor with fewer by more than N / C + 1.
/// * At most C keys are stored, with at most [`TopKeys::MAX_KEY_BYTES`] bytes of each.
///
/// A key is the number of a database and bytes; longer keys with the same beginning are counted as
/// one. When time steps back, no count is halved, and the next minute is counted from the new time.
///
/// ```
/// use std::num::NonZeroUsize;
///
/// use limiter::{Instant, TopKeys};
///
/// let mut keys = TopKeys::new(NonZeroUsize::new(128).unwrap());
/// let noon = Instant::from_micros(1_800_014_400_000_000);
/// for key in [b"alice", b"carol", b"alice"] {
///     keys.denied(0, key, noon);
/// }
/// assert_eq!(keys.top(0, 10, noon), [(&b"alice"[..], 2), (b"carol", 1)]);
/// let next_minute = noon.plus_micros(60_000_000);
/// assert_eq!(keys.top(0, 10, next_minute), [(&b"alice"[..], 1)]);
/// ```
#[derive(Debug)]
pub struct TopKeys {
    capacity: NonZeroUsize,
    entries: HashTable<Entry>,
    /// Has a random seed, so that no client can choose keys that collide.
    hasher: DefaultHashBuilder,
    /// The beginning of the minute in which the counts were halved last.
    minute: Instant,
    /// The shared counters, by a part of the hash: the most denials that a key without its own
    /// counter may have. Empty until there are more keys than the capacity.
    unseen: Vec<u64>,
    /// No own counter is lower than this.
    least: u64,
    /// The bucket at which the search for a count of `least` continues. No bucket before it has
    /// one.
    hand: usize,
}

/// A key with its own counter.
#[derive(Debug)]
struct Entry {
    database: u32,
    key: Vec<u8>,
    /// The denials since the key has its own counter.
    denials: u64,
    /// The upper bound of the denials of the key, with those before it had its own counter.
    count: u64,
}

const MINUTE_MICROS: u64 = 60_000_000;

impl TopKeys {
    /// The number of bytes of a key that are stored and compared.
    pub const MAX_KEY_BYTES: usize = 512;

    /// The number of shared counters for each own counter. With so many, most denials of keys that
    /// are denied rarely increment a shared counter only.
    const UNSEEN_PER_KEY: usize = 4;

    /// Makes counters for up to `capacity` keys. Allocates no memory before the first denial.
    #[must_use]
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self {
            capacity,
            entries: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            minute: Instant::EPOCH,
            unseen: Vec::new(),
            least: 0,
            hand: 0,
        }
    }

    /// Counts a denial of a key.
    ///
    /// Constant cost, amortised; the replacement of a key may cost as much as there are keys.
    /// Allocates memory only for a key that gets its own counter.
    pub fn denied(&mut self, database: u32, key: &[u8], now: Instant) {
        self.fade(now);
        let key = prefix(key);
        let hash = hash(&self.hasher, key);
        match self.entries.find_mut(hash, |entry| entry.is(database, key)) {
            Some(entry) => {
                entry.denials = entry.denials.saturating_add(1);
                entry.count = entry.count.saturating_add(1);
            }
            None => self.denied_unseen(hash, database, key),
        }
    }

    /// Removes a key with its own counter. Constant cost.
    pub fn forget(&mut self, database: u32, key: &[u8]) {
        let key = prefix(key);
        let hash = hash(&self.hasher, key);
        if let Ok(entry) = self.entries.find_entry(hash, |entry| entry.is(database, key)) {
            entry.remove();
        }
    }

    /// Returns the keys of a database with the most denials, at most `count`, each with its
    /// denials: most denials first, then by bytes. Costs as much as there are keys.
    pub fn top(&mut self, database: u32, count: usize, now: Instant) -> Vec<(&[u8], u64)> {
        self.fade(now);
        let mut top: Vec<_> = self
            .entries
            .iter()
            .filter(|entry| entry.database == database && entry.denials > 0)
            .map(|entry| (entry.key.as_slice(), entry.denials))
            .collect();
        top.sort_unstable_by(|(key, denials), (other, others)| {
            others.cmp(denials).then_with(|| key.cmp(other))
        });
        top.truncate(count);
        top
    }

    /// Returns the number of keys with their own counters, of all databases.
    pub fn len(&mut self, now: Instant) -> usize {
        self.fade(now);
        self.entries.len()
    }

    /// Changes the capacity. The keys with the highest counts stay.
    pub fn resize(&mut self, capacity: NonZeroUsize) {
        self.capacity = capacity;
        let mut entries: Vec<Entry> = self.entries.drain().collect();
        entries.sort_unstable_by(|entry, other| {
            other.count.cmp(&entry.count).then_with(|| entry.key.cmp(&other.key))
        });
        // The keys behind each shared counter are unknown, so all get the highest count.
        let dropped = entries.get(capacity.get()).map(|entry| entry.count);
        let most = self.unseen.iter().copied().chain(dropped).max().unwrap_or(0);
        self.unseen = if most > 0 { self.unseen_of_all(most) } else { Vec::new() };
        entries.truncate(capacity.get());
        let hash = |entry: &Entry| hash(&self.hasher, &entry.key);
        self.entries = HashTable::with_capacity(entries.len());
        for entry in entries {
            self.entries.insert_unique(hash(&entry), entry, hash);
        }
        self.look_anew();
    }

    /// Counts a denial of a key without its own counter. The key gets one if there is room, or if
    /// the key may have more denials than another; else the denial increments a shared counter.
    fn denied_unseen(&mut self, hash: u64, database: u32, key: &[u8]) {
        let count = self.unseen(hash).map_or(0, |unseen| *unseen);
        if self.entries.len() < self.capacity.get() {
            self.add(hash, database, key, count, Vec::new());
        } else if count < self.least {
            self.count_unseen(hash);
        } else {
            match self.remove_least(count) {
                Some(bytes) => self.add(hash, database, key, count, bytes),
                None => self.count_unseen(hash),
            }
        }
    }

    /// Returns the shared counter of a hash.
    fn unseen(&mut self, hash: u64) -> Option<&mut u64> {
        // The hash as a fraction, times the number of counters.
        let index = u128::from(hash).wrapping_mul(self.unseen.len() as u128) >> 64;
        self.unseen.get_mut(index as usize)
    }

    fn count_unseen(&mut self, hash: u64) {
        if let Some(unseen) = self.unseen(hash) {
            *unseen = unseen.saturating_add(1);
        }
    }

    fn unseen_of_all(&self, most: u64) -> Vec<u64> {
        vec![most; self.capacity.get().saturating_mul(Self::UNSEEN_PER_KEY)]
    }

    /// Adds an own counter for a key that may have had `before` denials before this one. The bytes
    /// of the key are stored in the memory of `bytes`.
    fn add(&mut self, hash: u64, database: u32, key: &[u8], before: u64, mut bytes: Vec<u8>) {
        bytes.clear();
        bytes.reserve_exact(key.len());
        bytes.extend_from_slice(key);
        let count = before.saturating_add(1);
        self.least = self.least.min(count);
        let entry = Entry { database, key: bytes, denials: 1, count };
        self.entries.insert_unique(hash, entry, |entry| self::hash(&self.hasher, &entry.key));
    }

    /// Removes a key with the lowest count, and returns its bytes for their memory. Returns `None`
    /// if the lowest count is above `most`.
    ///
    /// Many keys have the same lowest count while keys are replaced often. So the search continues
    /// where the last one has ended, and computes the lowest count only after a whole round.
    #[cold]
    fn remove_least(&mut self, most: u64) -> Option<Vec<u8>> {
        if self.unseen.is_empty() {
            self.unseen = self.unseen_of_all(0);
        }
        loop {
            while self.hand < self.entries.num_buckets() {
                let bucket = self.hand;
                self.hand = self.hand.saturating_add(1);
                match self.entries.get_bucket_entry(bucket) {
                    Ok(entry) if entry.get().count <= self.least => {
                        let (removed, _) = entry.remove();
                        let hash = hash(&self.hasher, &removed.key);
                        if let Some(unseen) = self.unseen(hash) {
                            *unseen = removed.count.max(*unseen);
                        }
                        return Some(removed.key);
                    }
                    _ => {}
                }
            }
            self.hand = 0;
            self.least = self.entries.iter().map(|entry| entry.count).min()?;
            if self.least > most {
                return None;
            }
        }
    }

    /// Halves all counts once for each minute that has begun since the last time.
    fn fade(&mut self, now: Instant) {
        let since = now.as_micros().wrapping_sub(self.minute.as_micros());
        // A time before the minute wraps to a very long time, so that `halve` handles it.
        if since >= MINUTE_MICROS {
            self.halve(now);
        }
    }

    #[cold]
    fn halve(&mut self, now: Instant) {
        let minutes = now.micros_since(self.minute) / MINUTE_MICROS;
        let into_minute = now.as_micros() % MINUTE_MICROS;
        self.minute = Instant::from_micros(now.as_micros().saturating_sub(into_minute));
        // After 63 minutes every count is 0.
        let times = minutes.min(63);
        self.entries.retain(|entry| {
            entry.denials >>= times;
            entry.count >>= times;
            entry.count > 0
        });
        self.unseen.iter_mut().for_each(|unseen| *unseen >>= times);
        self.look_anew();
    }

    fn look_anew(&mut self) {
        self.least = 0;
        self.hand = 0;
    }
}

impl Entry {
    fn is(&self, database: u32, key: &[u8]) -> bool {
        self.database == database && self.key == key
    }
}

/// Returns the hash of a key, which is the same in all databases: few have keys of the same name.
fn hash(hasher: &DefaultHashBuilder, key: &[u8]) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(key);
    hasher.finish()
}

fn prefix(key: &[u8]) -> &[u8] {
    key.get(..TopKeys::MAX_KEY_BYTES).unwrap_or(key)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests {
    use alloc::string::ToString;

    use super::*;

    const NOON: Instant = Instant::from_micros(1_800_014_400_000_000);

    fn keys(capacity: usize) -> TopKeys {
        TopKeys::new(NonZeroUsize::new(capacity).unwrap())
    }

    fn minutes(minutes: u64) -> Instant {
        NOON.plus_micros(minutes * MINUTE_MICROS)
    }

    fn deny(keys: &mut TopKeys, key: &str, times: u64, now: Instant) {
        for _ in 0..times {
            keys.denied(0, key.as_bytes(), now);
        }
    }

    fn top(keys: &mut TopKeys, now: Instant) -> Vec<(&str, u64)> {
        let top = keys.top(0, usize::MAX, now).into_iter();
        top.map(|(key, denials)| (str::from_utf8(key).unwrap(), denials)).collect()
    }

    #[test]
    fn the_most_denied_come_first_and_equals_in_the_order_of_their_bytes() {
        let mut keys = keys(10);
        for (key, times) in [("b", 2), ("a", 2), ("aa", 2), ("z", 5), ("c", 1)] {
            deny(&mut keys, key, times, NOON);
        }
        let all = [("z", 5), ("a", 2), ("aa", 2), ("b", 2), ("c", 1)];
        assert_eq!(top(&mut keys, NOON), all);
        assert_eq!(keys.top(0, 2, NOON).len(), 2);
        assert_eq!(keys.len(NOON), 5);
    }

    #[test]
    fn counts_halve_at_each_full_minute_and_keys_without_denials_leave() {
        let mut keys = keys(10);
        let just_before = Instant::from_micros(minutes(1).as_micros() - 1);
        for (key, times) in [("seven", 7), ("two", 2), ("one", 1)] {
            deny(&mut keys, key, times, just_before);
        }
        assert_eq!(top(&mut keys, just_before), [("seven", 7), ("two", 2), ("one", 1)]);
        assert_eq!(top(&mut keys, minutes(1)), [("seven", 3), ("two", 1)]);
        deny(&mut keys, "one", 1, minutes(1));
        assert_eq!(top(&mut keys, minutes(2)), [("seven", 1)]);
        assert_eq!(keys.len(minutes(3)), 0);
    }

    #[test]
    fn many_minutes_halve_as_often_as_one_after_the_other() {
        let (mut at_once, mut each) = (keys(10), keys(10));
        for keys in [&mut at_once, &mut each] {
            deny(keys, "many", 1_000_003, NOON);
        }
        for minute in 0..=19 {
            top(&mut each, minutes(minute));
        }
        assert_eq!(top(&mut each, minutes(19)), [("many", 1)]);
        deny(&mut at_once, "few", 1, NOON);
        assert_eq!(top(&mut at_once, minutes(19)), [("many", 1)]);
        assert_eq!(top(&mut at_once, Instant::MAX), []);
    }

    #[test]
    fn a_clock_that_steps_back_halves_nothing_and_goes_on_from_there() {
        let mut keys = keys(10);
        deny(&mut keys, "key", 8, minutes(100));
        assert_eq!(top(&mut keys, NOON), [("key", 8)]);
        assert_eq!(top(&mut keys, Instant::EPOCH), [("key", 8)]);
        assert_eq!(top(&mut keys, Instant::from_micros(MINUTE_MICROS)), [("key", 4)]);
    }

    #[test]
    fn a_key_that_may_be_denied_more_replaces_the_least_and_shows_its_own_denials_alone() {
        let mut keys = keys(3);
        for (key, times) in [("most", 9), ("least", 4), ("middle", 6)] {
            deny(&mut keys, key, times, NOON);
        }
        deny(&mut keys, "new", 4, NOON);
        assert_eq!(top(&mut keys, NOON), [("most", 9), ("middle", 6), ("least", 4)]);
        deny(&mut keys, "new", 2, NOON);
        assert_eq!(top(&mut keys, NOON), [("most", 9), ("middle", 6), ("new", 2)]);
        // The replaced key continues from its own count, or from the shared one if that is higher.
        deny(&mut keys, "least", 9, NOON);
        let top = top(&mut keys, NOON);
        let least = top.iter().find(|(key, _)| *key == "least");
        assert!(least.is_some_and(|(_, denials)| (7..=9).contains(denials)), "{top:?}");
        assert_eq!(keys.len(NOON), 3);
    }

    #[test]
    fn a_flood_of_keys_does_not_hide_the_one_that_is_denied_most() {
        let mut keys = keys(16);
        for number in 0..10_000 {
            keys.denied(0, &u64::to_be_bytes(number), NOON);
            if number % 10 == 0 {
                keys.denied(0, b"culprit", NOON);
            }
        }
        assert_eq!(keys.len(NOON), 16);
        let top = keys.top(0, 1, NOON);
        assert_eq!(top[0].0, b"culprit");
        assert!((1_000 - 11_000 / 16 - 1..=1_000).contains(&top[0].1), "{top:?}");
    }

    #[test]
    fn a_key_of_another_database_is_another_key() {
        let mut keys = keys(10);
        keys.denied(0, b"key", NOON);
        keys.denied(7, b"key", NOON);
        keys.denied(7, b"key", NOON);
        keys.forget(0, b"key");
        assert_eq!(keys.top(0, 10, NOON), []);
        assert_eq!(keys.top(7, 10, NOON), [(&b"key"[..], 2)]);
    }

    #[test]
    fn what_is_forgotten_counts_from_zero_again() {
        let mut keys = keys(2);
        deny(&mut keys, "key", 5, NOON);
        keys.forget(0, b"key");
        keys.forget(0, b"missing");
        assert_eq!(top(&mut keys, NOON), []);
        deny(&mut keys, "key", 1, NOON);
        assert_eq!(top(&mut keys, NOON), [("key", 1)]);
    }

    #[test]
    fn a_smaller_capacity_keeps_the_most_denied_and_a_larger_one_all() {
        let mut keys = keys(100);
        for number in 1..=100_u64 {
            deny(&mut keys, &number.to_string(), number, NOON);
        }
        keys.resize(NonZeroUsize::new(3).unwrap());
        let listed = [("100", 100), ("99", 99), ("98", 98)];
        assert_eq!(top(&mut keys, NOON), listed);
        // It may have been denied 97 times before.
        deny(&mut keys, "new", 1, NOON);
        assert_eq!(top(&mut keys, NOON), listed);
        deny(&mut keys, "new", 1, NOON);
        assert_eq!(top(&mut keys, NOON), [("100", 100), ("99", 99), ("new", 1)]);
        keys.resize(NonZeroUsize::new(4).unwrap());
        deny(&mut keys, "newer", 1, NOON);
        let all = [("100", 100), ("99", 99), ("new", 1), ("newer", 1)];
        assert_eq!(top(&mut keys, NOON), all);
    }

    #[test]
    fn of_a_long_key_only_the_beginning_counts() {
        let mut keys = keys(10);
        let long = [b'a'; TopKeys::MAX_KEY_BYTES + 1];
        let (prefix, _) = long.split_at(TopKeys::MAX_KEY_BYTES);
        let (shorter, _) = long.split_at(TopKeys::MAX_KEY_BYTES - 1);
        for key in [&long, prefix, shorter, b""] {
            keys.denied(0, key, NOON);
        }
        assert_eq!(keys.top(0, 10, NOON), [(prefix, 2), (b"", 1), (shorter, 1)]);
        keys.forget(0, &[b'a'; 2 * TopKeys::MAX_KEY_BYTES]);
        assert_eq!(keys.len(NOON), 2);
    }
}
