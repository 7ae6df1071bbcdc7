//! The promises of the crate, each as a property that tries to break it. A promise of all
//! algorithms is checked on each of them with the same history.

#![allow(clippy::unwrap_used, reason = "a helper that panics fails its test")]

mod arbitrary;
mod state;

use arbitrary::{Call, Clock, Limits, Pause, calls, instant, pause, quota, units};
use limiter::{
    Algorithm, Decision, Duration, Effect, Encode, FixedWindow, Instant, Leases, Limit, Limiter,
    Mode, Request, Reservation, RetryAfter, SlidingWindowLog, Stored, TokenBucket, Units,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestCaseResult};
use state::{State, for_each_state};

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::with_cases(1_000)
    })]

    /// Promise 1, token bucket safety: over every interval of length T at most
    /// `capacity + limit * T / window` units are granted.
    #[test]
    fn a_bucket_never_exceeds_its_burst_and_rate(
        calls in calls(Limits::Same, Clock::Forward, 1..150),
    ) {
        keeps_to_the_rate(&calls[0].quota, &grants::<TokenBucket>(&calls).0)?;
    }

    /// Promise 1 with changing parameters: at most the largest capacity and the fastest rate among
    /// the calls of the interval.
    #[test]
    fn a_bucket_never_exceeds_the_largest_burst_and_the_fastest_rate(
        calls in calls(Limits::Changing, Clock::Forward, 1..150),
    ) {
        keeps_to_the_fastest_rate(&calls)?;
    }

    /// Promise 1, and no fraction is lost: a caller that takes all available units, and returns
    /// before the bucket is full, gets exactly the rate, however often it returns.
    #[test]
    fn a_greedy_caller_gets_every_unit_of_the_rate(
        quota in quota(),
        pauses in vec(pause(), 1..100),
    ) {
        let (limit, window) = (u64::from(quota.limit.get()), quota.window.as_micros());
        let capacity = u64::from(quota.capacity.get());
        // In this time at most capacity - 1 units drain: fewer than are used after a call.
        let longest = u128::from(capacity - 1) * u128::from(window) / u128::from(limit);
        let longest = u64::try_from(longest).unwrap_or(u64::MAX);
        let (mut bucket, mut elapsed, mut granted) = (TokenBucket::new(), 0_u64, 0_u128);
        for pause in pauses {
            let (all_there_is, now) = (Request::partial(Units::MAX), Instant::from_micros(elapsed));
            granted += u128::from(bucket.take(&quota, all_there_is, now).granted);
            let rate = u128::from(limit) * u128::from(elapsed) / u128::from(window);
            prop_assert_eq!(granted, u128::from(capacity) + rate);
            elapsed += pause.micros(&quota).min(longest);
        }
    }

    /// Promise 2, sliding window safety: in every half-open interval as long as the window at
    /// most the limit is granted.
    #[test]
    fn a_log_never_exceeds_its_limit_in_any_window(
        calls in calls(Limits::Same, Clock::Forward, 1..150),
    ) {
        keeps_to_the_window(&calls[0].quota, &grants::<SlidingWindowLog>(&calls).0)?;
    }

    /// Promise 3, tight waits: a denied call is granted after `retry_after` and not before, also
    /// when limits change with every call.
    #[test]
    fn a_denied_call_is_granted_after_its_wait_and_not_before(
        calls in calls(Limits::Changing, Clock::Forward, 1..40),
    ) {
        for_each_state!(waits_are_tight(&calls));
    }

    /// Promises 3 and 5: no time in an answer lies beyond the end of the state, whatever the limits
    /// of the calls. From its end on the state affects no call, and not a microsecond earlier.
    #[test]
    fn a_state_affects_no_call_from_its_end_on_and_no_time_lies_beyond(
        calls in calls(Limits::Changing, Clock::Forward, 1..40),
        refunds in vec(prop::bool::weighted(0.2), 40),
    ) {
        let calls: Vec<_> = calls.into_iter().zip(refunds).collect();
        for_each_state!(ends_in_time(&calls));
    }

    /// Promise 3, after any steps of the clock.
    #[test]
    fn waits_are_tight_after_any_step_of_the_clock(
        calls in calls(Limits::Same, Clock::Any, 1..40),
    ) {
        for_each_state!(waits_are_tight(&calls));
    }

    /// Promise 3: a key with a high rate of denied calls recovers on time.
    #[test]
    fn denied_calls_do_not_postpone_the_next_grant(
        calls in calls(Limits::Same, Clock::Forward, 1..40),
        mut hammer in vec(any::<u16>(), 1..10),
    ) {
        hammer.sort_unstable();
        for_each_state!(hammering_postpones_nothing(&calls, &hammer));
    }

    /// Promise 4, denied is free: a denied call and a peek change nothing, and a peek returns what
    /// a take would, with any limits and clock.
    #[test]
    fn a_denied_call_changes_nothing_and_peek_agrees_with_take(
        calls in calls(Limits::Changing, Clock::Any, 1..40),
    ) {
        for_each_state!(denied_is_free(&calls));
    }

    /// Promise 5, a key with a whole quota expires: its expiry is `reset_after`, rounded up.
    #[test]
    fn a_quota_is_whole_after_its_reset_and_not_before(
        calls in calls(Limits::Changing, Clock::Forward, 1..40),
    ) {
        for_each_state!(whole_means_gone(&calls));
    }

    /// Promise 5, after any steps of the clock.
    #[test]
    fn resets_are_tight_after_any_step_of_the_clock(
        calls in calls(Limits::Same, Clock::Any, 1..40),
    ) {
        for_each_state!(whole_means_gone(&calls));
    }

    /// Promise 6, a wrong clock is harmless: a step back grants nothing extra, and the promises of
    /// a log and of a bucket hold over the highest time so far.
    #[test]
    fn a_step_back_of_up_to_a_window_grants_nothing_extra(
        calls in calls(Limits::Same, Clock::Any, 1..60),
    ) {
        let quota = &calls[0].quota;
        keeps_to_the_rate(quota, &grants_with_small_steps_back::<TokenBucket>(&calls)?)?;
        keeps_to_the_window(quota, &grants_with_small_steps_back::<SlidingWindowLog>(&calls)?)?;
    }

    /// Promise 6, the other half: no key stays blocked for more than two windows after the clock
    /// has been corrected.
    #[test]
    fn no_clock_blocks_a_key_for_more_than_two_windows(
        calls in calls(Limits::Same, Clock::Any, 1..40),
        right in instant(),
        behind in prop::option::of(pause()),
        mut hammer in vec(any::<u16>(), 0..10),
    ) {
        // In half of the cases the right clock is some windows behind the last call, else anywhere.
        let last = calls.last().unwrap();
        let behind = behind.map(|pause| pause.micros(&last.quota));
        let right = behind.map_or(right, |behind| {
            Instant::from_micros(last.now.as_micros().saturating_sub(behind))
        });
        hammer.sort_unstable();
        for_each_state!(recovers_within_two_windows(&calls, right, &hammer));
    }

    /// Promise 7, parameters may change at any call, and the clock as well: nothing panics or
    /// overflows, `used` carries over, and no call is granted more than its own parameters allow.
    #[test]
    fn any_call_may_follow_any_other(calls in calls(Limits::Changing, Clock::Any, 1..60)) {
        for_each_state!(carries_over_from_nothing(&calls));
    }

    /// Promise 7: a higher or a lower limit keeps the used units, not the available ones.
    #[test]
    fn what_is_used_does_not_depend_on_the_limit(
        calls in calls(Limits::Same, Clock::Forward, 1..40),
        other in quota(),
    ) {
        for_each_state!(another_limit_sees_the_same_use(&calls, &other));
    }

    /// Promise 3 at the most units that can be used: a forced call that was granted a part takes the
    /// rest after its wait, and not before.
    #[test]
    fn a_forced_call_at_the_most_units_waits_for_its_rest(
        quota in quota(),
        costs in vec(units(), 1..4),
        step in 0..10_000_000_u64,
    ) {
        rest_is_taken_after_the_wait::<TokenBucket>(&quota, &costs, step)?;
        rest_is_taken_after_the_wait::<SlidingWindowLog>(&quota, &costs, step)?;
    }

    /// A refund gives back at most the used units, so that no more than the capacity is available.
    #[test]
    fn a_refund_gives_back_at_most_the_used_units(
        calls in calls(Limits::Changing, Clock::Any, 1..40),
        amount in units(),
    ) {
        for_each_state!(refunds_are_bounded_by_use(&calls, amount));
    }

    /// A refund gives back the same number of units to calls with any other limit.
    #[test]
    fn a_refund_is_the_same_for_every_limit(
        calls in calls(Limits::Changing, Clock::Forward, 1..40),
        pause in pause(),
        amount in units(),
        other in quota(),
    ) {
        for_each_state!(refunds_are_seen_alike(&calls, pause, amount, &other));
    }

    /// A refund takes the newest grants: a refund of the latest call undoes exactly that call.
    #[test]
    fn giving_a_call_back_undoes_it(
        calls in calls(Limits::Same, Clock::Forward, 1..40),
        later in calls(Limits::Same, Clock::Forward, 1..5),
    ) {
        for_each_state!(a_refund_undoes_a_grant(&calls, &later));
    }

    /// A copy to which every effect is applied stays equal to the state that decided, with any
    /// limits and clock; and the bytes of a state decode to the same state.
    #[test]
    fn a_copy_to_which_every_effect_is_applied_stays_equal(
        calls in calls(Limits::Changing, Clock::Any, 1..40),
        refunds in vec(prop::bool::weighted(0.3), 40),
    ) {
        let calls: Vec<_> = calls.into_iter().zip(refunds).collect();
        for_each_state!(copies_stay_equal(&calls));
    }

    /// No bytes make the decoder panic, nor any call on a decoded state.
    #[test]
    fn arbitrary_bytes_are_harmless(
        bytes in prop_oneof![4 => invented(), 1 => vec(any::<u8>(), 0..60)],
        calls in calls(Limits::Changing, Clock::Any, 1..10),
    ) {
        bytes_are_harmless(&bytes, &calls)?;
    }

    /// The same for every truncation and every flipped bit of encoded bytes.
    #[test]
    fn damaged_bytes_are_harmless(
        bytes in stored(),
        calls in calls(Limits::Changing, Clock::Any, 1..5),
    ) {
        for len in 0..bytes.len() {
            bytes_are_harmless(&bytes[..len], &calls)?;
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            bytes_are_harmless(&flipped, &calls)?;
        }
    }
}

/// Units granted at some time.
#[derive(Clone, Copy, Debug)]
struct Grant {
    time: Instant,
    units: u32,
}

/// Returns the grants of a new state for a history, and the state after it.
fn grants<A: State>(calls: &[Call]) -> (Vec<Grant>, A) {
    let mut state = A::default();
    let grant = |&Call { now, quota, request }: &Call| {
        let units = state.take(&A::of(&quota), request, now).granted;
        (units > 0).then_some(Grant { time: now, units })
    };
    let grants = calls.iter().filter_map(grant).collect();
    (grants, state)
}

/// Returns the state after a history.
fn state<A: State>(calls: &[Call]) -> A {
    grants(calls).1
}

/// Returns `now + wait`, or `None` if that is after `Instant::MAX`.
fn after(now: Instant, wait: Duration) -> Option<Instant> {
    let micros = u128::from(now.as_micros()) + wait.as_micros();
    (micros <= u128::from(Instant::MAX.as_micros()))
        .then(|| Instant::from_micros(u64::try_from(micros).unwrap()))
}

/// Returns whether all of `units` would be granted.
fn grants_all<A: State>(state: &A, quota: &Limit, units: Units, now: Instant) -> bool {
    let decision = state.clone().take(&A::of(quota), Request::all(units), now);
    assert_eq!(decision.retry_after == RetryAfter::Granted, decision.granted > 0);
    decision.granted == units.get()
}

/// Asserts that in every interval that starts and ends with a grant, at most `capacity + limit *
/// length / window` units are granted: exact to the smallest part of a unit.
fn keeps_to_the_rate(quota: &Limit, grants: &[Grant]) -> TestCaseResult {
    let window = u128::from(quota.window.as_micros());
    let burst = u128::from(quota.capacity.get()) * window;
    for (index, first) in grants.iter().enumerate() {
        let mut granted = 0;
        for last in &grants[index..] {
            granted += u128::from(last.units);
            let drained =
                u128::from(quota.limit.get()) * u128::from(last.time.micros_since(first.time));
            prop_assert!(granted * window <= burst + drained, "{first:?} to {last:?}: {granted}");
        }
    }
    Ok(())
}

/// Asserts the same with limits that change: those of the grants count.
fn keeps_to_the_fastest_rate(calls: &[Call]) -> TestCaseResult {
    let mut bucket = TokenBucket::new();
    let granted = |&Call { now, quota, request }: &Call| {
        let units = bucket.take(&quota, request, now).granted;
        (units > 0).then_some((now, quota, units))
    };
    let grants: Vec<_> = calls.iter().filter_map(granted).collect();
    for (index, &(first, quota, _)) in grants.iter().enumerate() {
        let (mut fastest, mut capacity, mut granted) = (quota, 0, 0);
        for &(last, quota, units) in &grants[index..] {
            let crossed =
                |a: &Limit, b: &Limit| u128::from(a.limit.get()) * u128::from(b.window.as_micros());
            if crossed(&quota, &fastest) > crossed(&fastest, &quota) {
                fastest = quota;
            }
            capacity = capacity.max(u128::from(quota.capacity.get()));
            granted += u128::from(units);
            let window = u128::from(fastest.window.as_micros());
            let drained = u128::from(fastest.limit.get()) * u128::from(last.micros_since(first));
            prop_assert!(granted * window <= capacity * window + drained, "{first:?} to {last:?}");
        }
    }
    Ok(())
}

/// Asserts that in every half-open window that starts with a grant, at most `limit` units are
/// granted.
fn keeps_to_the_window(quota: &Limit, grants: &[Grant]) -> TestCaseResult {
    for (index, first) in grants.iter().enumerate() {
        let end = first.time.as_micros() + quota.window.as_micros();
        let within = grants[index..].iter().take_while(|grant| grant.time.as_micros() < end);
        let granted: u64 = within.map(|grant| u64::from(grant.units)).sum();
        prop_assert!(granted <= u64::from(quota.limit.get()), "from {first:?}: {granted}");
    }
    Ok(())
}

/// Asserts that the missing units are granted after the wait of the answer, in microseconds and in
/// the milliseconds of a reply, and not a microsecond or a millisecond earlier. If the call takes
/// any number of units and none was available, one unit is missing.
fn a_wait_is_tight<A: State>(state: &A, call: &Call, decision: &Decision) -> TestCaseResult {
    let Call { now, quota, request } = *call;
    let missing = match decision.granted {
        0 if request.mode == Mode::Partial => Some(Units::MIN),
        granted => Units::new(u64::from(request.cost.get() - granted)),
    };
    let (Some(missing), RetryAfter::Wait(wait)) = (missing, decision.retry_after) else {
        let never = request.cost > A::most(&quota);
        let granted = decision.granted == request.cost.get();
        prop_assert!(
            granted || decision.granted > 0 || request.mode == Mode::All,
            "never a first unit"
        );
        prop_assert!(never && decision.retry_after == RetryAfter::Never || granted);
        return Ok(());
    };
    let granted_after = |wait: u128| {
        after(now, Duration::from_micros(wait))
            .map(|later| grants_all(state, &quota, missing, later))
    };
    let wait_micros = wait.as_micros();
    let wait_millis = u128::from(wait.ceil_millis().unsigned_abs());
    prop_assert!(!grants_all(state, &quota, missing, now));
    prop_assert_ne!(granted_after(wait_micros), Some(false));
    prop_assert_ne!(granted_after(wait_micros - 1), Some(true), "one microsecond early");
    prop_assert_ne!(granted_after(wait_micros.saturating_sub(1_000)), Some(true));
    prop_assert_ne!(granted_after(wait_millis * 1_000), Some(false), "in milliseconds");
    prop_assert_ne!(granted_after((wait_millis - 1) * 1_000), Some(true), "one millisecond early");
    Ok(())
}

/// Returns whether promises about times are not stated for the times of a history.
fn is_beyond_promises<A: State>(calls: &[Call]) -> bool {
    calls.iter().any(|call| A::is_beyond_promises(call.now))
}

/// Asserts that a state ends `reset_after` the latest change, after every call of a history.
fn ends_in_time<A: State>(calls: &[(Call, bool)]) -> TestCaseResult {
    if calls.iter().any(|(call, _)| A::is_beyond_promises(call.now)) {
        return Ok(());
    }
    let (mut state, mut end) = (A::default(), Some(Instant::EPOCH));
    for &(Call { now, quota, request }, refund) in calls {
        let left = end.map(|end| u128::from(end.micros_since(now)));
        prop_assert_eq!(state.has_ended(now), left == Some(0));
        if refund {
            let refund = state.refund(request.cost, now);
            prop_assert!(left != Some(0) || refund.refunded == 0, "nothing is there");
            if refund.refunded > 0 {
                end = after(now, refund.reset_after);
            }
        } else {
            let decision = state.take(&A::of(&quota), request, now);
            if decision.granted > 0 {
                end = after(now, decision.reset_after);
            } else {
                let beyond = |time: Duration| left.is_some_and(|left| time.as_micros() > left);
                let beyond_end =
                    matches!(decision.retry_after, RetryAfter::Wait(wait) if beyond(wait));
                prop_assert!(!beyond_end && !beyond(decision.reset_after), "{decision:?}");
            }
        }
        let Some(end) = end.filter(|end| *end > now) else { continue };
        prop_assert!(state.has_ended(end));
        prop_assert_eq!(state.peek(&A::of(&quota), request.cost, end), {
            A::default().peek(&A::of(&quota), request.cost, end)
        });
        prop_assert!(!state.has_ended(Instant::from_micros(end.as_micros() - 1)));
    }
    Ok(())
}

/// Asserts [`a_wait_is_tight`] after every call of a history.
fn waits_are_tight<A: State>(calls: &[Call]) -> TestCaseResult {
    if is_beyond_promises::<A>(calls) {
        return Ok(());
    }
    let mut state = A::default();
    for call in calls {
        let decision = state.take(&A::of(&call.quota), call.request, call.now);
        a_wait_is_tight(&state, call, &decision)?;
    }
    Ok(())
}

/// Asserts that a call that the last state of a history denies is granted on time, although the
/// same call and larger calls are made at a high rate until then.
fn hammering_postpones_nothing<A: State>(calls: &[Call], hammer: &[u16]) -> TestCaseResult {
    if is_beyond_promises::<A>(calls) {
        return Ok(());
    }
    let mut state: A = state(calls);
    let Some(&Call { now, quota, request: Request { cost, .. } }) = calls.last() else {
        return Ok(());
    };
    let RetryAfter::Wait(wait) = state.peek(&A::of(&quota), cost, now).retry_after else {
        return Ok(());
    };
    let Some(granted_at) = after(now, wait) else {
        return Ok(());
    };
    for &part in hammer {
        let early = (wait.as_micros() - 1) * u128::from(part) / u128::from(u16::MAX);
        let early = after(now, Duration::from_micros(early)).unwrap();
        for cost in [cost, A::most(&quota), Units::MAX] {
            prop_assert_eq!(state.take(&A::of(&quota), Request::all(cost), early).granted, 0);
        }
    }
    let decision = state.take(&A::of(&quota), Request::all(cost), granted_at);
    prop_assert_eq!(decision.granted, cost.get());
    Ok(())
}

/// Asserts that a denied call leaves the same state and the same bytes, and that a peek returns the
/// answer of the call.
fn denied_is_free<A: State>(calls: &[Call]) -> TestCaseResult {
    let mut state = A::default();
    for &Call { now, quota, request } in calls {
        let before = state.clone();
        let peek = state.peek(&A::of(&quota), request.cost, now);
        let all = state.clone().take(&A::of(&quota), Request::all(request.cost), now);
        prop_assert_eq!((peek.granted, peek.capacity, peek.retry_after), {
            (all.granted, all.capacity, all.retry_after)
        });
        prop_assert_eq!(peek.remaining, all.remaining + all.granted);
        if all.granted == 0 {
            prop_assert_eq!(peek, all);
        }
        if state.take(&A::of(&quota), request, now).granted == 0 {
            prop_assert_eq!(&state, &before);
            prop_assert_eq!(state.encoded(), before.encoded());
        }
    }
    Ok(())
}

/// Asserts that the quota is whole `reset_after` later and not a microsecond earlier, and that a
/// server that expires the key by the expiry never removes a grant that counts.
fn whole_means_gone<A: State>(calls: &[Call]) -> TestCaseResult {
    if is_beyond_promises::<A>(calls) {
        return Ok(());
    }
    let mut state = A::default();
    for &Call { now, quota, request } in calls {
        let decision = state.take(&A::of(&quota), request, now);
        let whole_at =
            |time| state.peek(&A::of(&quota), Units::MIN, time).remaining == decision.capacity;
        prop_assert_eq!(whole_at(now), decision.reset_after == Duration::ZERO);
        let reset = decision.reset_after.as_micros();
        if let Some(time) = after(now, decision.reset_after) {
            prop_assert!(whole_at(time));
        }
        if let Some(early) = reset.checked_sub(1) {
            let early = after(now, Duration::from_micros(early));
            prop_assert!(!early.is_some_and(whole_at), "whole a microsecond early");
        }
        if decision.granted > 0 {
            // A server may remove a key as soon as its clock has reached the expiry.
            let removed = now.expiry_millis(decision.reset_after).saturating_mul(1_000);
            let removed = Instant::from_micros(removed);
            prop_assert!(removed == Instant::MAX || whole_at(removed), "removed early");
        }
    }
    Ok(())
}

/// Makes the calls with a clock that is never more than a window behind the newest grant. Checks
/// that no more is granted than with a clock that stands still. Returns every grant at the highest
/// time of the clock at any grant so far.
fn grants_with_small_steps_back<A: State>(calls: &[Call]) -> Result<Vec<Grant>, TestCaseError> {
    let (mut state, mut grants, mut newest) = (A::default(), Vec::new(), Instant::EPOCH);
    for &Call { now, quota, request } in calls {
        let earliest = newest.as_micros().saturating_sub(quota.window.as_micros());
        let now = now.max(Instant::from_micros(earliest));
        let stood_still = state.clone().take(&A::of(&quota), request, now.max(newest));
        let decision = state.take(&A::of(&quota), request, now);
        prop_assert!(decision.granted <= stood_still.granted);
        if decision.granted > 0 {
            newest = newest.max(now);
            grants.push(Grant { time: newest, units: decision.granted });
        }
    }
    Ok(grants)
}

/// Asserts that at most two windows after any instant one unit is granted, after any clock of the
/// history, and after any denials in these two windows.
fn recovers_within_two_windows<A: State>(
    calls: &[Call],
    right: Instant,
    hammer: &[u16],
) -> TestCaseResult {
    if is_beyond_promises::<A>(calls) || A::is_beyond_promises(right) {
        return Ok(());
    }
    let (mut state, quota) = (state::<A>(calls), calls[0].quota);
    let two_windows = 2 * quota.window.as_micros();
    prop_assume!(right.as_micros() + two_windows <= Instant::MAX.as_micros());
    for part in [0].iter().chain(hammer) {
        let later = u128::from(two_windows) * u128::from(*part) / u128::from(u16::MAX);
        let later = right.plus_micros(u64::try_from(later).unwrap());
        let _peeked = state.peek(&A::of(&quota), Units::MIN, later);
        if state.take(&A::of(&quota), Request::all(Units::MIN), later).granted > 0 {
            return Ok(());
        }
    }
    prop_assert!(grants_all(&state, &quota, Units::MIN, right.plus_micros(two_windows)));
    Ok(())
}

fn carries_over_from_nothing<A: State>(calls: &[Call]) -> TestCaseResult {
    used_carries_over(&mut A::default(), calls)
}

/// Asserts that no call takes more than its cost or than its own parameters allow, and that used
/// units stay used.
fn used_carries_over<A: State>(state: &mut A, calls: &[Call]) -> TestCaseResult {
    for &Call { now, quota, request } in calls {
        let before = state.used(&quota, now);
        let decision = state.take(&A::of(&quota), request, now);
        let after = state.used(&quota, now);
        let most = A::most(&quota).get();
        prop_assert_eq!(decision.capacity, most);
        prop_assert_eq!(after, before + decision.granted);
        prop_assert_eq!(decision.remaining, most.saturating_sub(after));
        prop_assert!(decision.granted == 0 || after <= most);
        let available = most.saturating_sub(before);
        let granted = match request {
            Request { cost, .. } if cost.get() <= available => cost.get(),
            Request { mode: Mode::Partial, .. } => available,
            Request { mode: Mode::All | Mode::Force, .. } => 0,
        };
        prop_assert_eq!(decision.granted, granted);
    }
    Ok(())
}

/// Asserts that right after a grant, the same units are used for a call with any other limit.
fn another_limit_sees_the_same_use<A: State>(calls: &[Call], other: &Limit) -> TestCaseResult {
    let mut state = A::default();
    for &Call { now, quota, request } in calls {
        if state.take(&A::of(&quota), request, now).granted > 0 {
            let other = Limit { window: quota.window, ..*other };
            prop_assert_eq!(state.used(&quota, now), state.used(&other, now));
        }
    }
    Ok(())
}

/// Asserts that the rest of a forced call is taken after the wait and not a microsecond before.
fn rest_is_taken_after_the_wait<A: State>(
    quota: &Limit,
    costs: &[Units],
    step: u64,
) -> TestCaseResult {
    let (mut state, mut now) = (A::default(), Instant::from_micros(1_800_000_000_000_000));
    let forced =
        |state: &mut A, cost: Units, now| state.take(&A::of(quota), Request::force(cost), now);
    for _ in 0..5 {
        forced(&mut state, Units::MAX, now);
    }
    for &cost in costs {
        now = now.plus_micros(step);
        let decision = forced(&mut state, cost, now);
        let rest = cost.get() - decision.granted;
        let Some(rest) = Units::new(u64::from(rest)) else {
            prop_assert_eq!(decision.retry_after, RetryAfter::Granted);
            continue;
        };
        let RetryAfter::Wait(wait) = decision.retry_after else {
            return Err(TestCaseError::fail(format!("no wait: {decision:?}")));
        };
        let granted_after = |micros: u128| {
            let micros = u64::try_from(micros).unwrap();
            forced(&mut state.clone(), rest, now.plus_micros(micros)).granted
        };
        if wait.as_micros() < 1 << 60 {
            prop_assert_eq!(granted_after(wait.as_micros()), rest.get());
            prop_assert!(granted_after(wait.as_micros() - 1) < rest.get());
        }
    }
    Ok(())
}

/// Asserts that a refund gives back at most the used units, and that the next call can take them.
fn refunds_are_bounded_by_use<A: State>(calls: &[Call], amount: Units) -> TestCaseResult {
    let mut state = A::default();
    for &Call { now, quota, request } in calls {
        if state.take(&A::of(&quota), request, now).granted == 0 {
            continue;
        }
        let used = state.used(&quota, now);
        let mut refunded = state.clone();
        let refund = refunded.refund(amount, now);
        prop_assert_eq!(refund.refunded, amount.get().min(used));
        prop_assert_eq!(refunded.used(&quota, now), used - refund.refunded);
        let peek = refunded.peek(&A::of(&quota), Units::MIN, now);
        prop_assert_eq!(refund.reset_after, peek.reset_after);
        let again = Units::new(u64::from(refund.refunded));
        prop_assert!(again.is_none_or(|units| grants_all(&refunded, &quota, units, now)));
    }
    Ok(())
}

/// Asserts that some time after a history, a refund makes the same difference for calls with any
/// limit.
fn refunds_are_seen_alike<A: State>(
    calls: &[Call],
    pause: Pause,
    amount: Units,
    other: &Limit,
) -> TestCaseResult {
    let (state, last) = (state::<A>(calls), calls.last().unwrap());
    let now = last.now.plus_micros(pause.micros(&last.quota));
    let mut refunded = state.clone();
    let refund = refunded.refund(amount, now);
    let left = match refund.reset_after {
        Duration::ZERO if refund.refunded > 0 => 0,
        _ => state.used(other, now).saturating_sub(refund.refunded),
    };
    prop_assert_eq!(refunded.used(other, now), left);
    Ok(())
}

/// Asserts that after the refund of a call, all later calls are answered as if the call had not
/// been made, and that making the call again gives the same state as making it once.
fn a_refund_undoes_a_grant<A: State>(calls: &[Call], later: &[Call]) -> TestCaseResult {
    let (mut state, mut newest) = (A::default(), None);
    for &Call { now, quota, request } in calls {
        let before = state.clone();
        let Some(granted) = Units::new(state.take(&A::of(&quota), request, now).granted.into())
        else {
            continue;
        };
        let mut refunded = state.clone();
        prop_assert_eq!(refunded.refund(granted, now).refunded, granted.get());
        // An entry that the grant has joined counts from this later time.
        let joined = newest.is_some_and(|newest| A::share_an_entry(&quota, newest, now));
        for call in later.iter().filter(|_| !joined) {
            let time = now.max(call.now);
            let expected = before.peek(&A::of(&quota), call.request.cost, time);
            prop_assert_eq!(refunded.peek(&A::of(&quota), call.request.cost, time), expected);
        }
        newest = Some(now);
        refunded.take(&A::of(&quota), Request::all(granted), now);
        prop_assert_eq!(&refunded, &state);
    }
    Ok(())
}

/// Asserts that a copy to which the effects are applied stays equal, byte for byte, also when the
/// copy is itself replaced by one decoded from its bytes.
fn copies_stay_equal<A: State>(calls: &[(Call, bool)]) -> TestCaseResult {
    let (mut state, mut copy) = (A::default(), A::default());
    for &(Call { now, quota, request }, is_refund) in calls {
        if is_refund {
            let refund = state.refund(request.cost, now);
            if let Some(units) = Units::new(u64::from(refund.refunded)) {
                if refund.reset_after == Duration::ZERO {
                    // A server deletes the key.
                    copy = A::default();
                } else {
                    replicate(&mut copy, &state.effect_of_refund(units, now))?;
                }
            }
        } else if let Some(units) =
            Units::new(state.take(&A::of(&quota), request, now).granted.into())
        {
            replicate(&mut copy, &state.effect_of_grant(&A::of(&quota), request, units, now))?;
        }
        prop_assert_eq!(&copy, &state);
        prop_assert_eq!(copy.encoded(), state.encoded());
        copy = A::decoded(&state.encoded()).unwrap_or(copy);
        prop_assert_eq!(&copy, &state);
    }
    Ok(())
}

/// Applies an effect to a copy, as a replica does that receives its bytes.
fn replicate<A: State>(copy: &mut A, effect: &A::Effect) -> TestCaseResult {
    let mut bytes = Vec::new();
    effect.encode(&mut bytes);
    let received = A::Effect::decode(&bytes).map(|effect| copy.apply(effect));
    prop_assert_eq!(received, Ok(Ok(())), "{:?}", effect);
    Ok(())
}

/// Asserts that a state of accepted bytes can be used in any way, and that its own bytes decode to
/// the same state.
fn accepted_bytes_can_be_used<A: State>(bytes: &[u8], calls: &[Call]) -> TestCaseResult {
    let Some(mut state) = A::decoded(bytes) else {
        return Ok(());
    };
    prop_assert_eq!(A::decoded(&state.encoded()), Some(state.clone()));
    used_carries_over(&mut state.clone(), calls)?;
    for &Call { now, quota, request } in calls {
        let effect = state.effect_of_grant(&A::of(&quota), request, request.cost, now);
        let _applied = state.apply(effect);
        let refund = state.refund(request.cost, now);
        let whole = refund.reset_after == Duration::ZERO;
        prop_assert!(whole || A::decoded(&state.encoded()) == Some(state.clone()));
    }
    Ok(())
}

/// Returns the bytes of the state after a history, of any algorithm.
fn stored() -> impl Strategy<Value = Vec<u8>> {
    let algorithm = prop::sample::select(&Algorithm::ALL[..]);
    (calls(Limits::Changing, Clock::Forward, 1..40), algorithm).prop_map(|(calls, algorithm)| {
        match algorithm {
            Algorithm::TokenBucket => state::<TokenBucket>(&calls).encoded(),
            Algorithm::SlidingWindow => state::<SlidingWindowLog>(&calls).encoded(),
            Algorithm::FixedWindow => state::<FixedWindow>(&calls).encoded(),
        }
    })
}

/// Returns bytes with the version and the kind of a state.
fn invented() -> impl Strategy<Value = Vec<u8>> {
    let small = prop_oneof![0..=127_u8, any::<u8>()];
    (0..=3_u8, 0..=18_u8, vec(small, 0..40))
        .prop_map(|(version, kind, fields)| [&[version, kind], &fields[..]].concat())
}

/// Asserts that the decoder does not panic on `bytes`, and that a state of accepted bytes can be
/// used.
fn bytes_are_harmless(bytes: &[u8], calls: &[Call]) -> TestCaseResult {
    if let Ok(effect) = Effect::decode(bytes) {
        let mut again = Vec::new();
        effect.encode(&mut again);
        prop_assert!(again.len() <= bytes.len());
        prop_assert_eq!(Effect::decode(&again), Ok(effect.clone()));
        match effect {
            Effect::TokenBucket(effect) => drop(TokenBucket::default().apply(effect)),
            Effect::SlidingWindowLog(effect) => drop(SlidingWindowLog::default().apply(effect)),
            Effect::Leases(effect) => drop(Leases::default().apply(effect)),
            Effect::FixedWindow(effect) => drop(FixedWindow::default().apply(effect)),
            Effect::Reservation(effect) => drop(Reservation::default().apply(effect)),
            Effect::Deletion => {}
        }
    }
    for_each_state!(accepted_bytes_can_be_used(bytes, calls));
    Ok(())
}
