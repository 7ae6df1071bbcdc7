//! The promises of the sketch of denied keys, against a model that counts every key exactly.

#![allow(clippy::unwrap_used, reason = "a helper that panics fails its test")]

use std::collections::HashMap;
use std::num::NonZeroUsize;

use limiter::{Instant, TopKeys};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestCaseResult};

const MINUTE_MICROS: u64 = 60_000_000;

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::with_cases(500)
    })]

    /// The bounds of the listed denials, with any denials and any clock.
    #[test]
    fn listed_denials_are_within_their_bounds(
        capacity in capacity(),
        events in vec(event(), 1..400),
    ) {
        let mut pair = Pair::new(capacity);
        for event in &events {
            pair.apply(event);
            pair.check()?;
        }
    }

    /// While there is room for all keys, every count is exact.
    #[test]
    fn counts_are_exact_while_there_is_room(events in vec(event(), 1..400)) {
        let mut pair = Pair::new(NonZeroUsize::new(1_000).unwrap());
        for event in &events {
            if !matches!(event, Event::Shrink(_)) {
                pair.apply(event);
            }
            for database in DATABASES {
                let listed: HashMap<_, _> = pair.listed(database).into_iter().collect();
                let exact = pair.model.keys.iter().filter(|((of, _), _)| *of == database);
                prop_assert_eq!(listed, exact.map(|((_, key), count)| (*key, *count)).collect());
            }
        }
    }
}

/// An event of a history.
#[derive(Clone, Debug)]
enum Event {
    /// Some denials of a key.
    Denied(u32, u8, u64),
    Forget(u32, u8),
    Forward(u64),
    Back(u64),
    /// The capacity becomes at most this.
    Shrink(NonZeroUsize),
}

const DATABASES: [u32; 2] = [0, 9];

fn capacity() -> impl Strategy<Value = NonZeroUsize> {
    prop_oneof![1..=5_usize, 1..=40_usize].prop_map(|capacity| NonZeroUsize::new(capacity).unwrap())
}

fn event() -> impl Strategy<Value = Event> {
    let database = || prop_oneof![4 => Just(DATABASES[0]), 1 => Just(DATABASES[1])];
    // A few keys are denied often, many rarely.
    let key = || prop_oneof![0..4_u8, any::<u8>()];
    prop_oneof![
        60 => (database(), key(), 1..=3_u64).prop_map(|(database, key, times)| {
            Event::Denied(database, key, times)
        }),
        10 => (database(), 0..4_u8, 1..=50_u64).prop_map(|(database, key, times)| {
            Event::Denied(database, key, times)
        }),
        3 => (database(), key()).prop_map(|(database, key)| Event::Forget(database, key)),
        4 => (0..=2 * MINUTE_MICROS).prop_map(Event::Forward),
        1 => (0..=100 * MINUTE_MICROS).prop_map(Event::Forward),
        1 => (0..=2 * MINUTE_MICROS).prop_map(Event::Back),
        1 => capacity().prop_map(Event::Shrink),
    ]
}

/// Every key with its exact number of denials, halved at every full minute.
#[derive(Default)]
struct Model {
    keys: HashMap<(u32, u8), u64>,
    /// The denials of all keys.
    total: u64,
    minute: u64,
}

impl Model {
    fn fade(&mut self, now: Instant) {
        let minute = now.as_micros() / MINUTE_MICROS;
        for _ in self.minute..minute {
            self.total /= 2;
            self.keys.values_mut().for_each(|count| *count /= 2);
            self.keys.retain(|_, count| *count > 0);
            if self.total == 0 {
                break;
            }
        }
        self.minute = minute;
    }
}

/// The sketch and the model, with the same history.
struct Pair {
    sketch: TopKeys,
    model: Model,
    capacity: NonZeroUsize,
    now: Instant,
}

impl Pair {
    fn new(capacity: NonZeroUsize) -> Self {
        let now = Instant::from_micros(1_800_014_400_000_000);
        Self { sketch: TopKeys::new(capacity), model: Model::default(), capacity, now }
    }

    fn apply(&mut self, event: &Event) {
        match *event {
            Event::Denied(database, key, times) => {
                for _ in 0..times {
                    self.sketch.denied(database, &[key], self.now);
                }
                self.model.fade(self.now);
                *self.model.keys.entry((database, key)).or_default() += times;
                self.model.total += times;
            }
            Event::Forget(database, key) => {
                self.sketch.forget(database, &[key]);
                self.model.keys.remove(&(database, key));
            }
            Event::Forward(micros) => self.now = self.now.plus_micros(micros),
            Event::Back(micros) => {
                self.now = Instant::from_micros(self.now.as_micros().saturating_sub(micros));
            }
            Event::Shrink(capacity) => {
                self.capacity = self.capacity.min(capacity);
                self.sketch.resize(self.capacity);
            }
        }
    }

    fn check(&mut self) -> TestCaseResult {
        let len = self.sketch.len(self.now);
        prop_assert!(len <= self.capacity.get(), "{} keys", len);
        for database in DATABASES {
            let listed = self.listed(database);
            let sorted = listed.is_sorted_by_key(|(key, denials)| (u64::MAX - denials, *key));
            prop_assert!(sorted, "{:?}", listed);
            let listed: HashMap<_, _> = listed.into_iter().collect();
            for key in listed.keys() {
                prop_assert!(self.model.keys.contains_key(&(database, *key)), "{}", key);
            }
            // N / C + 1, times C.
            let capacity = u64::try_from(self.capacity.get()).unwrap();
            let bound = self.model.total + capacity;
            for (&(_, key), &exact) in self.model.keys.iter().filter(|((of, _), _)| *of == database)
            {
                let denials = listed.get(&key).copied().unwrap_or(0);
                prop_assert!(denials <= exact, "{}: {} of {}", key, denials, exact);
                prop_assert!((exact - denials) * capacity <= bound, "{}: {}", key, denials);
            }
        }
        Ok(())
    }

    fn listed(&mut self, database: u32) -> Vec<(u8, u64)> {
        self.model.fade(self.now);
        let top = self.sketch.top(database, usize::MAX, self.now);
        top.into_iter().map(|(key, denials)| (key[0], denials)).collect()
    }
}
