//! A shard beside a naive model of its rule.

use std::collections::BTreeMap;

use limiter::{
    FixedLimit, FixedWindow, Instant, Limit, Limiter, LogLimit, Period, Request, RetryAfter,
    SlidingWindowLog, TokenBucket, Units, Window,
};
use proptest::{collection::vec, prelude::*};

use super::{Key, NoRoom, Shard, end, weight};

const NOON: Instant = Instant::from_micros(1_800_014_400_000_000);

#[derive(Debug, Clone)]
struct Step {
    /// Milliseconds since the previous step.
    pause: u64,
    key: char,
    call: Call,
}

#[derive(Debug, Clone)]
enum Call {
    /// Takes `times` times, once in a millisecond.
    Take {
        limit: u64,
        window: u64,
        cost: u64,
        times: u64,
    },
    Refund {
        amount: u64,
    },
    Remove,
}

/// Returns a strategy for these values, each equally likely.
fn one_of(values: &'static [u64]) -> impl Strategy<Value = u64> {
    proptest::sample::select(values)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let take = (
        one_of(&[1, 2, 5, 40, 1_000]),
        one_of(&[5, 100, 1_000, 60_000]),
        prop_oneof![4 => Just(1), 1 => one_of(&[2, 5, 900])],
        prop_oneof![8 => Just(1), 1 => one_of(&[10, 300])],
    );
    let take =
        take.prop_map(|(limit, window, cost, times)| Call::Take { limit, window, cost, times });
    let refund = one_of(&[1, 3, 1_000]).prop_map(|amount| Call::Refund { amount });
    let call = prop_oneof![10 => take, 1 => refund, 1 => Just(Call::Remove)];
    let pause = prop_oneof![4 => Just(0), 4 => 1..50_u64, 1 => one_of(&[500, 3_000, 70_000])];
    let step = (pause, prop::char::range('a', 'h'), call);
    vec(step.prop_map(|(pause, key, call)| Step { pause, key, call }), 1..60)
}

/// A key in the model.
struct Entry<A: Limiter> {
    state: A,
    end: Instant,
    limit: A::Limit,
    cost: Units,
}

impl<A: Limiter> Entry<A> {
    fn denies(&self, now: Instant) -> bool {
        let again = self.state.peek(&self.limit, self.cost, now).retry_after;
        now < self.end && matches!(again, RetryAfter::Wait(_))
    }
}

/// A shard, and the model of its content.
struct Pair<A: Limiter> {
    shard: Shard<A>,
    model: BTreeMap<char, Entry<A>>,
}

impl<A: Limiter> Pair<A> {
    /// Returns a shard whose logs may exceed the room by `more`.
    fn new(room: usize, more: usize) -> Self {
        Self { shard: Shard { most: room + more, ..Shard::new(room) }, model: BTreeMap::new() }
    }

    /// Returns the weight of all keys except `key`, or of those among them that deny.
    fn weight_without(&self, key: char, denying_at: Option<Instant>) -> usize {
        let others = self.model.iter().filter(|(other, _)| **other != key);
        let others = others.filter(|(_, known)| denying_at.is_none_or(|then| known.denies(then)));
        others.map(|(_, known)| weight(known.state.buffers())).sum()
    }

    fn take(&mut self, key: char, limit: A::Limit, cost: Units, now: Instant) {
        self.model.retain(|_, known| known.end > now);
        let (room, most) = (self.shard.room, self.shard.most);
        let taken = with_key(key, |key| self.shard.take(key, &limit, Request::all(cost), now));
        let known = self.model.remove(&key);
        let is_new = known.is_none();
        let mut known =
            known.unwrap_or(Entry { state: A::default(), end: Instant::EPOCH, limit, cost });
        let buffers = known.state.buffers();
        let (before, growth) = match is_new {
            true => (0, 1),
            false => (weight(buffers), weight(buffers + 2) - weight(buffers)),
        };
        let grants = known.state.peek(&limit, cost, now).granted > 0;
        let bound = if is_new { room } else { most };
        let fits = |then| self.weight_without(key, Some(then)) + before + growth <= bound;
        let needs = grants && growth > 0 && self.weight_without(key, None) + before + growth > room;
        match taken {
            Err(NoRoom { wait }) => {
                assert!(needs && !fits(now), "{key} is denied, and there is room");
                let micros = u64::try_from(wait.as_micros()).unwrap();
                if is_new {
                    assert!(fits(now.plus_micros(micros)), "{key} waits for {micros} us in vain");
                    assert!(!fits(now.plus_micros(micros - 1)), "{key} waits for too long");
                }
                self.assert_evicted(key, false, now);
            }
            Ok(decision) => {
                assert!(!needs || fits(now), "{key} is stored, and there is no room");
                assert_eq!(decision, known.state.take(&limit, Request::all(cost), now));
                if decision.granted > 0 {
                    known.end = end(decision.reset_after, now);
                }
                self.assert_evicted(key, needs, now);
                if decision.retry_after != RetryAfter::Never {
                    (known.limit, known.cost) = (limit, cost);
                }
            }
        }
        if !is_new || taken.is_ok_and(|decision| decision.granted > 0) {
            self.model.insert(key, known);
        }
        self.assert_bounds();
    }

    /// Removes the evicted keys from the model, and asserts that the order allows each eviction.
    fn assert_evicted(&mut self, key: char, may_evict: bool, now: Instant) {
        let present: Vec<_> = self
            .shard
            .entries
            .iter()
            .filter_map(|(_, entry)| entry.identifier.chars().next())
            .collect();
        let evicted: Vec<_> = self
            .model
            .keys()
            .copied()
            .filter(|other| *other != key && !present.contains(other))
            .collect();
        assert!(may_evict || evicted.is_empty(), "{evicted:?} are evicted for nothing");
        for other in evicted {
            let known = self.model.remove(&other).unwrap();
            assert!(!known.denies(now), "{other} denies, and is evicted");
            let mut left = self.model.iter().filter(|(left, _)| present.contains(*left));
            let sooner = left.find(|(left, others)| {
                **left != key && !others.denies(now) && others.end < known.end
            });
            assert!(sooner.is_none(), "{other} is evicted before {:?}", sooner.map(|(key, _)| key));
        }
    }

    fn assert_bounds(&self) {
        let Shard { room, most, weight, entries, places, .. } = &self.shard;
        let weights = entries.iter().map(|(_, entry)| super::weight(entry.state.buffers()));
        assert_eq!(*weight, weights.sum::<usize>());
        assert!(weight <= most && entries.len() <= *room && entries.len() == places.len());
    }

    /// Makes these steps; `of` returns the limit of so many units per window.
    fn follow(&mut self, steps: Vec<Step>, of: fn(Units, Window) -> A::Limit) {
        let mut now = NOON;
        let units = |count| Units::new(count).unwrap();
        for Step { pause, key, call } in steps {
            now = now.plus_micros(pause * 1_000);
            match call {
                Call::Take { limit, window, cost, times } => {
                    let limit = of(units(limit), Window::from_millis(window).unwrap());
                    for _ in 0..times {
                        now = now.plus_micros(1_000);
                        self.take(key, limit, units(cost), now);
                    }
                }
                Call::Refund { amount } => {
                    let refunded = with_key(key, |key| self.shard.refund(key, units(amount), now));
                    self.model.retain(|_, known| known.end > now);
                    let refund = self.model.get_mut(&key).map(|known| {
                        let refund = known.state.refund(units(amount), now);
                        if refund.refunded > 0 {
                            known.end = end(refund.reset_after, now);
                        }
                        refund.refunded
                    });
                    assert_eq!(refunded, refund.unwrap_or(0));
                }
                Call::Remove => {
                    let removed = with_key(key, |key| self.shard.remove(key, now));
                    self.model.retain(|_, known| known.end > now);
                    assert_eq!(removed, self.model.remove(&key).is_some());
                }
            }
            self.assert_bounds();
        }
    }
}

/// Looks up a key. Some keys share a hash.
fn with_key<T>(key: char, call: impl FnOnce(Key<'_>) -> T) -> T {
    let identifier = key.to_string();
    call(Key { identifier: &identifier, hash: u64::from(key) % 3 })
}

proptest! {
    #[test]
    fn buckets_are_evicted_by_the_rule(room in 1..6_usize, steps in steps()) {
        Pair::<TokenBucket>::new(room, 0).follow(steps, Limit::new);
    }

    #[test]
    fn logs_are_evicted_by_the_rule(room in 1..6_usize, more in 0..3_usize, steps in steps()) {
        Pair::<SlidingWindowLog>::new(room, more).follow(steps, LogLimit::new);
    }

    #[test]
    fn fixed_windows_are_evicted_by_the_rule(room in 1..6_usize, steps in steps()) {
        let of = |limit, window| FixedLimit { limit, period: Period::every(window) };
        Pair::<FixedWindow>::new(room, 0).follow(steps, of);
    }
}
