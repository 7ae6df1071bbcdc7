//! Leases against a model that is as simple as possible, and their promises as properties that try
//! to break them.

#![allow(clippy::unwrap_used, reason = "a helper that panics fails its test")]

use limiter::{
    Acquired, Acquisition, AcquisitionError, Decision, Duration, Encode, Fences, HeldLease, Holder,
    Instant, Lease, LeaseEffect, Leases, RetryAfter, Stored, Units, Window,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// Any limits, costs, ttls and clocks. A replica that receives the effects has the same leases,
    /// also when the leases are stored and loaded again.
    #[test]
    fn every_answer_is_the_models(calls in calls(Clock::Any, 1..80)) {
        compare(&calls, 6)?;
    }

    /// Promise 11: no lease is granted that makes the costs of the leases that count exceed the
    /// limit, and fences increase in the order of the grants.
    #[test]
    fn no_grant_exceeds_its_limit_and_fences_rise(calls in calls(Clock::Any, 1..80)) {
        let (mut leases, mut fences, mut last) = (Leases::new(), Fences::new(), 0);
        for call in calls {
            let Action::Acquire { limit, cost } = call.action else {
                leases.release(&call.holder, None, call.now);
                continue;
            };
            let before = leases.counted(&call.holder, call.now);
            let acquisition = acquisition(&call, limit, cost, 1_000);
            let acquired = leases.acquire(&acquisition, &mut fences, call.now).unwrap();
            let mut costs = 0;
            leases.visit_counted(call.now, |lease| {
                costs += lease.cost.get();
                true
            });
            let granted = acquired.decision.granted > 0;
            prop_assert!(!granted || costs <= limit.get() || before.is_some_and(|own| cost <= own.cost));
            prop_assert_eq!(acquired.decision.remaining, limit.get().saturating_sub(costs));
            if let (true, None, Some(lease)) = (granted, before, acquired.lease) {
                prop_assert!(lease.fence > last);
                last = lease.fence;
            }
        }
    }

    /// Promise 3: a denied call is granted after `retry_after` and not before.
    #[test]
    fn waits_are_tight(calls in calls(Clock::Forward, 1..60)) {
        let (mut leases, mut fences) = (Leases::new(), Fences::new());
        for call in calls {
            let Action::Acquire { limit, cost } = call.action else {
                leases.release(&call.holder, None, call.now);
                continue;
            };
            let acquisition = acquisition(&call, limit, cost, 1_000);
            let acquired = leases.acquire(&acquisition, &mut fences, call.now).unwrap();
            let RetryAfter::Wait(wait) = acquired.decision.retry_after else { continue };
            let granted_after = |micros: u128| {
                let then = call.now.plus_micros(u64::try_from(micros).unwrap());
                let (mut leases, mut fences) = (leases.clone(), fences);
                leases.acquire(&acquisition, &mut fences, then).unwrap().decision.granted > 0
            };
            prop_assert!(granted_after(wait.as_micros()), "{:?}", call);
            prop_assert!(!granted_after(wait.as_micros() - 1), "{:?}", call);
            let millis = wait.ceil_millis().unsigned_abs();
            prop_assert!(granted_after(u128::from(millis) * 1_000));
            prop_assert!(!granted_after(u128::from(millis - 1) * 1_000));
        }
    }

    /// Promise 5: the state ends with its last lease, and has no effect from then on.
    #[test]
    fn a_state_ends_with_its_last_lease(calls in calls(Clock::Forward, 1..60)) {
        let (mut leases, mut fences) = (Leases::new(), Fences::new());
        for call in calls {
            let Action::Acquire { limit, cost } = call.action else { continue };
            let acquisition = acquisition(&call, limit, cost, 1_000);
            let acquired = leases.acquire(&acquisition, &mut fences, call.now).unwrap();
            if leases.count(call.now) == 0 {
                prop_assert_eq!(acquired.decision.reset_after, Duration::ZERO);
                continue;
            }
            let end = call.now.plus_micros(acquired.decision.reset_after.as_micros() as u64);
            prop_assert_eq!(leases.end(), end);
            prop_assert!(leases.has_ended(end));
            prop_assert_eq!(leases.count(end), 0);
            prop_assert!(leases.count(Instant::from_micros(end.as_micros() - 1)) > 0);
        }
    }

    /// Promise 6: after any error of the clock, a key is blocked for two ttls at most.
    #[test]
    fn no_clock_blocks_a_key_for_more_than_two_ttls(
        calls in calls(Clock::Any, 1..60),
        right in instant(),
    ) {
        let (mut leases, mut fences, mut longest) = (Leases::new(), Fences::new(), 0);
        for call in calls {
            let Action::Acquire { limit, cost } = call.action else { continue };
            let _acquired =
                leases.acquire(&acquisition(&call, limit, cost, 1_000), &mut fences, call.now);
            longest = longest.max(call.ttl.as_micros());
        }
        leases.visit_counted(right, |lease| {
            assert!(lease.expiry.micros_since(right) <= 2 * longest);
            true
        });
    }

    /// No bytes make the decoder panic, nor any call on a decoded state; and the bytes of a decoded
    /// state decode to the same state.
    #[test]
    fn any_bytes_are_harmless(
        kind in 12..=15_u8,
        fields in vec(prop_oneof![3 => 0..=3_u8, 2 => 0..=127_u8, 1 => any::<u8>()], 0..50),
        calls in calls(Clock::Any, 1..6),
    ) {
        bytes_are_harmless(&[&[2, kind], &fields[..]].concat(), &calls)?;
    }

    /// The same for every truncation and many changed bytes of encoded bytes.
    #[test]
    fn damaged_bytes_are_harmless(calls in calls(Clock::Any, 1..8), change in 1..=255_u8) {
        let (mut leases, mut fences) = (Leases::new(), Fences::new());
        let mut written = Vec::new();
        for call in &calls {
            if let Action::Acquire { limit, cost } = call.action {
                let acquisition = acquisition(call, limit, cost, 1_000);
                let acquired = leases.acquire(&acquisition, &mut fences, call.now).unwrap();
                let fence = acquired.lease.map_or(1, |lease| lease.fence);
                written.push(encoded(&LeaseEffect::of_acquisition(&acquisition, fence, call.now)));
            }
        }
        written.push(encoded(&leases));
        for bytes in written {
            for place in 0..bytes.len() {
                bytes_are_harmless(&bytes[..place], &calls)?;
                let mut changed = bytes.clone();
                changed[place] ^= change;
                bytes_are_harmless(&changed, &calls)?;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    /// The same comparison with the model, with many leases.
    #[test]
    fn every_answer_of_many_leases_is_the_models(calls in calls(Clock::Any, 300..400)) {
        compare(&calls, 1_000)?;
    }
}

fn encoded(value: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    bytes
}

fn acquisition(call: &Call, limit: Units, cost: Units, max_leases: u32) -> Acquisition {
    Acquisition { holder: call.holder, limit, cost, ttl: call.ttl, max_leases }
}

/// Makes the same calls on a model and on the real leases, and applies their effects to a copy.
fn compare(calls: &[Call], max_leases: u32) -> TestCaseResult {
    let (mut model, mut real, mut copy) = (Model::default(), Leases::new(), Leases::new());
    let (mut fences, mut copied) = (Fences::new(), Fences::new());
    for call in calls {
        let Call { now, holder, ttl, fenced, .. } = *call;
        let fence = fenced.map(|offset| {
            real.counted(&holder, now).map_or(1, |own| own.fence).saturating_add_signed(offset)
        });
        let before = encoded(&real);
        let effect = match call.action {
            Action::Acquire { limit, cost } => {
                let acquisition = acquisition(call, limit, cost, max_leases);
                let expected = model.acquire(&acquisition, now);
                let acquired = real.acquire(&acquisition, &mut fences, now);
                prop_assert_eq!(&acquired, &expected, "{:?}", call);
                let lease = acquired.ok().filter(|acquired| acquired.has_changed);
                let lease = lease.and_then(|acquired| acquired.lease);
                lease.map(|lease| LeaseEffect::of_acquisition(&acquisition, lease.fence, now))
            }
            Action::Renew => {
                let expected = model.renew(&holder, fence, ttl, now);
                let renewed = real.renew(&holder, fence, ttl, now);
                prop_assert_eq!((renewed.lease, renewed.has_changed), expected, "{:?}", call);
                let holders = vec![holder];
                renewed.has_changed.then_some(LeaseEffect::Renewal { time: now, ttl, holders })
            }
            Action::Release => {
                let released = real.release(&holder, fence, now);
                prop_assert_eq!(released, model.release(&holder, fence, now), "{:?}", call);
                if released && real.has_ended(now) {
                    // A server deletes the key.
                    (real, copy) = (Leases::new(), Leases::new());
                }
                let is_effect = released && real != Leases::new();
                is_effect.then_some(LeaseEffect::Release { time: now, holders: vec![holder] })
            }
        };
        if let Some(effect) = effect {
            let bytes = encoded(&effect);
            prop_assert!(bytes.len() <= Leases::MAX_EFFECT_BYTES);
            let received = LeaseEffect::decode(&bytes);
            prop_assert_eq!(&received, &Ok(effect.clone()));
            copied.observe(effect.highest_fence());
            prop_assert_eq!(received.map(|effect| copy.apply(effect)), Ok(Ok(())), "{:?}", call);
        } else if real != Leases::new() {
            prop_assert_eq!(&encoded(&real), &before, "nothing was answered as changed");
        }
        prop_assert_eq!(&copy, &real, "{:?}", call);
        prop_assert_eq!(copied, fences);
        if real != Leases::new() {
            prop_assert_eq!(Leases::decode(&encoded(&real)), Ok(real.clone()));
        }
        let mut counted = Vec::new();
        real.visit_counted(now, |lease| {
            counted.push(*lease);
            true
        });
        prop_assert_eq!(&counted, &model.counted(now), "{:?}", call);
        prop_assert_eq!(real.count(now) as usize, counted.len());
    }
    Ok(())
}

fn bytes_are_harmless(bytes: &[u8], calls: &[Call]) -> TestCaseResult {
    if let Ok(effect) = LeaseEffect::decode(bytes) {
        let again = encoded(&effect);
        prop_assert!(again.len() <= bytes.len());
        prop_assert_eq!(LeaseEffect::decode(&again), Ok(effect.clone()));
        let mut leases = Leases::new();
        if leases.apply(effect).is_ok() {
            is_usable(leases, calls)?;
        }
    }
    Ok(())
}

fn is_usable(mut leases: Leases, calls: &[Call]) -> TestCaseResult {
    prop_assert_eq!(Leases::decode(&encoded(&leases)), Ok(leases.clone()));
    let mut fences = Fences::new();
    fences.observe(leases.highest_fence());
    for call in calls {
        match call.action {
            Action::Acquire { limit, cost } => {
                let acquisition = acquisition(call, limit, cost, 5);
                let before = leases.clone();
                if leases.acquire(&acquisition, &mut fences, call.now).is_err() {
                    prop_assert_eq!(&leases, &before);
                }
            }
            Action::Renew => drop(leases.renew(&call.holder, None, call.ttl, call.now)),
            Action::Release => drop(leases.release(&call.holder, None, call.now)),
        }
        prop_assert!(leases == Leases::new() || Leases::decode(&encoded(&leases)).is_ok());
    }
    Ok(())
}

/// The highest fence that a clock makes: in 2219.
const MAX_FENCE_BY_CLOCK: u64 = (1 << 53) - 1 - (1 << 50);

/// A list of leases, and the highest fence.
#[derive(Default)]
struct Model {
    leases: Vec<Lease>,
    highest: u64,
}

impl Model {
    fn counts(lease: &Lease, now: Instant) -> bool {
        let (now, expiry) = (now.as_micros(), lease.expiry.as_micros());
        now < expiry && expiry - now <= 2 * lease.ttl.as_micros()
    }

    fn counted(&self, now: Instant) -> Vec<Lease> {
        let counted = self.leases.iter().copied().filter(|lease| Self::counts(lease, now));
        let mut counted: Vec<_> = counted.collect();
        counted.sort_by_key(|lease| (lease.expiry, lease.holder));
        counted
    }

    fn own(&self, holder: &Holder, now: Instant) -> Option<Lease> {
        self.counted(now).into_iter().find(|lease| lease.holder == *holder)
    }

    fn costs(&self, now: Instant) -> u64 {
        self.counted(now).iter().map(|lease| u64::from(lease.cost.get())).sum()
    }

    fn last_end(&self, now: Instant) -> Duration {
        let last = self.counted(now).last().map_or(0, |lease| lease.expiry.micros_since(now));
        Duration::from_micros(last.into())
    }

    /// A call that changes the leases removes two expired leases, and the leases that were made
    /// while the clock was ahead. Only a clock that steps back reveals the expired leases that
    /// remain.
    fn change(&mut self, holder: &Holder, now: Instant) {
        self.leases.sort_by_key(|lease| (lease.expiry, lease.holder));
        self.leases.retain(|lease| lease.holder != *holder);
        let mut removed = 0;
        self.leases.retain(|lease| {
            let expired = lease.expiry <= now;
            removed += u32::from(expired);
            if expired { removed > 2 } else { Self::counts(lease, now) }
        });
    }

    fn set(&mut self, own: Option<Lease>, lease: Lease, now: Instant) -> (HeldLease, bool) {
        let expiry = now.plus_micros(lease.ttl.as_micros());
        let (expiry, ttl) = match own {
            Some(own) if own.expiry >= expiry => (own.expiry, own.ttl),
            _ => (expiry, lease.ttl),
        };
        let lease = Lease { expiry, ttl, ..lease };
        if own != Some(lease) {
            self.change(&lease.holder, now);
            self.leases.push(lease);
        }
        (held(&lease, now), own != Some(lease))
    }

    fn acquire(&mut self, call: &Acquisition, now: Instant) -> Result<Acquired, AcquisitionError> {
        let own = self.own(&call.holder, now);
        let costs = self.costs(now);
        let others = costs - own.map_or(0, |own| u64::from(own.cost.get()));
        let (cost, limit) = (u64::from(call.cost.get()), u64::from(call.limit.get()));
        let answer = |granted: u64, costs: u64, retry_after, reset_after| Decision {
            granted: granted as u32,
            capacity: limit as u32,
            remaining: limit.saturating_sub(costs) as u32,
            retry_after,
            reset_after,
        };
        if others + cost > limit && own.is_none_or(|own| call.cost > own.cost) {
            let retry_after = match limit.checked_sub(cost) {
                None => RetryAfter::Never,
                Some(room) => self.wait(room, &call.holder, now),
            };
            let decision = answer(0, costs, retry_after, self.last_end(now));
            let lease = own.map(|own| held(&own, now));
            return Ok(Acquired { decision, lease, has_changed: false });
        }
        let fence = match own {
            Some(own) => own.fence,
            None => {
                if self.counted(now).len() >= call.max_leases as usize {
                    return Err(AcquisitionError::TooManyLeases);
                }
                self.highest = (self.highest + 1).max(now.as_micros().min(MAX_FENCE_BY_CLOCK));
                self.highest
            }
        };
        let lease =
            Lease { holder: call.holder, cost: call.cost, ttl: call.ttl, expiry: now, fence };
        let (lease, has_changed) = self.set(own, lease, now);
        let decision = answer(cost, others + cost, RetryAfter::Granted, self.last_end(now));
        Ok(Acquired { decision, lease: Some(lease), has_changed })
    }

    fn wait(&self, room: u64, holder: &Holder, now: Instant) -> RetryAfter {
        let mut others = self.counted(now);
        others.retain(|lease| lease.holder != *holder);
        let mut costs: u64 = others.iter().map(|lease| u64::from(lease.cost.get())).sum();
        let mut wait = 0;
        for lease in others {
            if costs > room {
                costs -= u64::from(lease.cost.get());
                wait = lease.expiry.micros_since(now);
            }
        }
        RetryAfter::Wait(Duration::from_micros(wait.into()))
    }

    fn renew(
        &mut self,
        holder: &Holder,
        fence: Option<u64>,
        ttl: Window,
        now: Instant,
    ) -> (Option<HeldLease>, bool) {
        let own = self.own(holder, now).filter(|own| fence.is_none_or(|fence| fence == own.fence));
        let Some(own) = own else { return (None, false) };
        let (lease, has_changed) = self.set(Some(own), Lease { ttl, ..own }, now);
        (Some(lease), has_changed)
    }

    fn release(&mut self, holder: &Holder, fence: Option<u64>, now: Instant) -> bool {
        let own = self.own(holder, now).filter(|own| fence.is_none_or(|fence| fence == own.fence));
        if own.is_some() {
            self.change(holder, now);
            if self.counted(now).is_empty() {
                self.leases.clear();
            }
        }
        own.is_some()
    }
}

fn held(lease: &Lease, now: Instant) -> HeldLease {
    let ends_in = Duration::from_micros(lease.expiry.micros_since(now).into());
    HeldLease { fence: lease.fence, ends_in }
}

/// One call of a history.
#[derive(Clone, Copy, Debug)]
struct Call {
    now: Instant,
    holder: Holder,
    ttl: Window,
    /// The difference between the fence of the call and that of the lease.
    fenced: Option<i64>,
    action: Action,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Acquire { limit: Units, cost: Units },
    Renew,
    Release,
}

/// The movement of the clock between the calls of a history.
#[derive(Clone, Copy)]
enum Clock {
    Forward,
    Any,
}

fn calls(clock: Clock, len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Call>> {
    let forward = prop_oneof![
        4 => Just(0_i64),
        2 => 1..=3_000_i64,
        3 => 1..=400_000_i64,
        1 => 1..=4_000_000_i64,
    ];
    let step = match clock {
        Clock::Forward => forward.prop_map(Ok).boxed(),
        Clock::Any => prop_oneof![
            8 => forward.prop_map(Ok),
            2 => (-3_000_000..=0_i64).prop_map(Ok),
            1 => instant().prop_map(Err),
        ]
        .boxed(),
    };
    let cost = || prop_oneof![6 => Just(1), 3 => 1..=5_u64, 1 => 1..=1_000_000_000_u64];
    let limit = prop_oneof![5 => 1..=10_u64, 2 => 100..=1_000_u64, 1 => Just(1_000_000_000)];
    let acquire = (limit, cost()).prop_map(|(limit, cost)| Action::Acquire {
        limit: Units::new(limit).unwrap(),
        cost: Units::new(cost).unwrap(),
    });
    let action = prop_oneof![8 => acquire, 2 => Just(Action::Renew), 3 => Just(Action::Release)];
    let ttl = prop_oneof![4 => 1..=2_000_u64, 1 => Just(1), 1 => 1..=31_622_400_000_u64];
    let name = prop_oneof![4 => 0..=8_u32, 2 => 0..=300_u32];
    let fenced = prop::option::weighted(0.2, prop_oneof![3 => Just(0_i64), 1 => -1..=1_i64]);
    (instant(), vec((step, name, ttl, fenced, action), len)).prop_map(|(mut now, calls)| {
        let concrete = |(step, name, ttl, fenced, action): (Result<i64, Instant>, u32, _, _, _)| {
            now = match step {
                Ok(micros) => Instant::from_micros(now.as_micros().saturating_add_signed(micros)),
                Err(instant) => instant,
            };
            let holder = Holder::new(format!("{name:x}")).unwrap();
            Call { now, holder, ttl: Window::from_millis(ttl).unwrap(), fenced, action }
        };
        calls.into_iter().map(concrete).collect()
    })
}

/// Instants that leave room for the longest ttl.
fn instant() -> impl Strategy<Value = Instant> {
    let today = 1_800_000_000_000_000_u64;
    prop_oneof![
        8 => today..=today + 10_000_000,
        1 => 0..=1_000_000_u64,
        1 => 0..=1_u64 << 61,
    ]
    .prop_map(Instant::from_micros)
}
