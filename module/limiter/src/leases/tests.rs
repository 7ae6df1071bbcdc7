use alloc::format;

use super::*;
use crate::codec::{DecodeError, Encode};
use crate::time::Duration;

const SECOND: u64 = 1_000_000;
const NOW: u64 = 1_800_000_000 * SECOND;

fn holder(name: &str) -> Holder {
    Holder::new(name).unwrap()
}

fn units(units: u64) -> Units {
    Units::new(units).unwrap()
}

fn ttl(secs: u64) -> Window {
    Window::from_millis(secs * 1_000).unwrap()
}

fn at(secs: u64) -> Instant {
    Instant::from_micros(NOW + secs * SECOND)
}

fn secs(secs: u64) -> Duration {
    Duration::from_micros(u128::from(secs * SECOND))
}

fn wait(wait: u64) -> RetryAfter {
    RetryAfter::Wait(secs(wait))
}

/// A call of `name` for `cost` of `limit` units for a minute.
fn call(name: &str, limit: u64, cost: u64) -> Acquisition {
    let (limit, cost) = (units(limit), units(cost));
    Acquisition { holder: holder(name), limit, cost, ttl: ttl(60), max_leases: 100_000 }
}

/// A server with one key.
#[derive(Default)]
struct Server {
    leases: Leases,
    fences: Fences,
}

impl Server {
    fn acquire(&mut self, call: &Acquisition, now: Instant) -> Acquired {
        self.leases.acquire(call, &mut self.fences, now).unwrap()
    }
}

fn fence(acquired: &Acquired) -> Option<u64> {
    acquired.lease.map(|lease| lease.fence)
}

#[test]
fn at_most_the_limit_is_held_at_the_same_time() {
    let mut server = Server::default();
    let first = server.acquire(&call("a", 2, 1), at(0));
    assert_eq!((first.decision.granted, first.decision.remaining), (1, 1));
    assert_eq!((fence(&first), first.decision.reset_after), (Some(NOW), secs(60)));
    let second = server.acquire(&call("b", 2, 1), at(10));
    assert_eq!((second.decision.remaining, second.decision.reset_after), (0, secs(60)));
    let denied = server.acquire(&call("c", 2, 1), at(20));
    assert_eq!((denied.decision.granted, denied.decision.capacity), (0, 2));
    assert_eq!((denied.decision.retry_after, denied.decision.reset_after), (wait(40), secs(50)));
    assert_eq!((denied.lease, denied.has_changed), (None, false));
    assert!(server.leases.release(&holder("b"), None, at(20)));
    assert_eq!(server.acquire(&call("c", 2, 1), at(20)).decision.granted, 1);
}

#[test]
fn a_lease_counts_until_just_before_its_expiry() {
    let mut server = Server::default();
    server.acquire(&call("a", 1, 1), at(0));
    let last = Instant::from_micros(NOW + 60 * SECOND - 1);
    assert_eq!(server.acquire(&call("b", 1, 1), last).decision.granted, 0);
    assert!(!server.leases.has_ended(last) && server.leases.has_ended(at(60)));
    assert_eq!(server.acquire(&call("b", 1, 1), at(60)).decision.granted, 1);
}

#[test]
fn a_call_that_is_repeated_has_the_same_lease_and_no_second_slot() {
    let mut server = Server::default();
    let first = server.acquire(&call("a", 1, 1), at(0));
    let again = server.acquire(&call("a", 1, 1), at(0));
    assert_eq!((again.decision, again.lease), (first.decision, first.lease));
    assert!(first.has_changed && !again.has_changed);
    let later = server.acquire(&call("a", 1, 1), at(5));
    assert_eq!((later.decision.granted, fence(&later)), (1, fence(&first)));
    assert_eq!(later.lease.unwrap().ends_in, secs(60));
    // A shorter ttl does not move the expiry back.
    let shorter = Acquisition { ttl: ttl(1), ..call("a", 1, 1) };
    assert_eq!(server.acquire(&shorter, at(5)).lease.unwrap().ends_in, secs(60));
    // A lower cost frees units.
    server.acquire(&call("b", 10, 5), at(6));
    let lower = server.acquire(&call("b", 10, 2), at(6));
    assert_eq!((lower.decision.granted, lower.decision.remaining, lower.has_changed), (2, 7, true));
}

#[test]
fn a_higher_cost_that_does_not_fit_is_denied_and_keeps_the_lease() {
    let mut server = Server::default();
    let first = server.acquire(&call("a", 5, 3), at(0));
    server.acquire(&call("b", 5, 1), at(10));
    let denied = server.acquire(&call("a", 5, 5), at(20));
    // Its own lease ends at 60, but that of the other holder at 70.
    assert_eq!((denied.decision.granted, denied.decision.retry_after), (0, wait(50)));
    assert_eq!((fence(&denied), denied.lease.unwrap().ends_in), (fence(&first), secs(40)));
    assert_eq!(server.leases.counted(&holder("a"), at(20)).unwrap().cost, units(3));
    let fits = server.acquire(&call("a", 5, 4), at(20));
    assert_eq!((fits.decision.granted, fence(&fits)), (4, fence(&first)));
    let never = server.acquire(&call("a", 5, 6), at(20));
    assert_eq!((never.decision.retry_after, fence(&never)), (RetryAfter::Never, fence(&first)));
}

#[test]
fn a_lower_limit_takes_no_lease_away() {
    let mut server = Server::default();
    for name in ["a", "b", "c", "d", "e"] {
        server.acquire(&call(name, 5, 1), at(0));
    }
    let repeated = server.acquire(&call("a", 2, 1), at(1));
    assert_eq!((repeated.decision.granted, repeated.decision.remaining), (1, 0));
    let denied = server.acquire(&call("f", 2, 1), at(1));
    assert_eq!((denied.decision.granted, denied.decision.retry_after), (0, wait(59)));
}

#[test]
fn a_fence_is_never_given_twice_although_the_clock_stands_still() {
    let mut server = Server::default();
    let mut last = 0;
    for name in ["a", "b", "c", "d", "a"] {
        let fence = fence(&server.acquire(&call(name, 1, 1), at(0))).unwrap();
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        assert!(server.leases.release(&holder(name), None, at(0)));
        assert_eq!(server.leases, Leases::new());
    }
}

#[test]
fn a_fenced_call_does_not_touch_the_lease_of_another_attempt() {
    let mut server = Server::default();
    let old = fence(&server.acquire(&call("host-1", 1, 1), at(0)));
    let new = fence(&server.acquire(&call("host-1", 1, 1), at(60)));
    assert!(new > old);
    assert!(!server.leases.release(&holder("host-1"), old, at(61)));
    assert_eq!(server.leases.renew(&holder("host-1"), old, ttl(60), at(61)).lease, None);
    let renewed = server.leases.renew(&holder("host-1"), new, ttl(60), at(61));
    assert_eq!(renewed.lease.unwrap().ends_in, secs(60));
    assert!(server.leases.release(&holder("host-1"), new, at(61)));
}

#[test]
fn a_renewal_never_shortens_and_never_brings_back_a_lease() {
    let mut server = Server::default();
    server.acquire(&call("a", 1, 1), at(0));
    let shorter = server.leases.renew(&holder("a"), None, ttl(1), at(10));
    assert_eq!((shorter.lease.unwrap().ends_in, shorter.has_changed), (secs(50), false));
    let longer = server.leases.renew(&holder("a"), None, ttl(100), at(10));
    assert_eq!((longer.lease.unwrap().ends_in, longer.has_changed), (secs(100), true));
    let lost = server.leases.renew(&holder("a"), None, ttl(60), at(110));
    assert_eq!(lost, Renewed { lease: None, has_changed: false });
    assert_eq!(server.leases.renew(&holder("b"), None, ttl(60), at(10)).lease, None);
}

#[test]
fn a_renewal_for_longer_and_then_for_shorter_does_not_lose_the_lease() {
    let mut server = Server::default();
    server.acquire(&Acquisition { ttl: ttl(1_000), ..call("a", 1, 1) }, at(0));
    assert!(!server.leases.renew(&holder("a"), None, ttl(1), at(1)).has_changed);
    // More than two of the shorter ttl are left, and the lease counts.
    assert!(server.leases.counted(&holder("a"), at(2)).is_some());
}

#[test]
fn one_lease_more_than_a_key_holds_is_an_error() {
    let mut server = Server::default();
    let bounded = |name| Acquisition { max_leases: 2, ..call(name, 1_000, 1) };
    server.acquire(&bounded("a"), at(0));
    server.acquire(&bounded("b"), at(1));
    let before = server.leases.clone();
    let refused = server.leases.acquire(&bounded("c"), &mut server.fences, at(2));
    assert_eq!(refused, Err(AcquisitionError::TooManyLeases));
    assert_eq!(server.leases, before);
    // Leases of the same holders, a denial and a lease after an expired one are no error.
    assert_eq!(server.acquire(&bounded("a"), at(2)).decision.granted, 1);
    let denied = Acquisition { limit: units(2), ..bounded("c") };
    assert_eq!(server.acquire(&denied, at(2)).decision.granted, 0);
    assert_eq!(server.acquire(&bounded("c"), at(61)).decision.granted, 1);
}

#[test]
fn a_lease_of_a_clock_that_was_a_year_ahead_is_lost() {
    let mut server = Server::default();
    let year = 365 * 86_400;
    server.acquire(&call("a", 1, 1), at(year));
    assert_eq!(server.leases.renew(&holder("a"), None, ttl(60), at(0)).lease, None);
    assert!(!server.leases.release(&holder("a"), None, at(0)));
    let granted = server.acquire(&call("b", 1, 1), at(0));
    assert_eq!((granted.decision.granted, granted.decision.reset_after), (1, secs(60)));
    // The grant has removed it.
    assert_eq!(server.leases.end(), at(60));
    let denied = server.acquire(&call("a", 1, 1), at(1));
    assert_eq!((denied.decision.granted, denied.decision.retry_after), (0, wait(59)));
}

#[test]
fn a_step_back_of_up_to_a_ttl_frees_no_slot() {
    let mut server = Server::default();
    server.acquire(&call("a", 1, 1), at(60));
    let denied = server.acquire(&call("b", 1, 1), at(0));
    assert_eq!((denied.decision.granted, denied.decision.retry_after), (0, wait(120)));
    let before = Instant::from_micros(NOW - 1);
    assert_eq!(server.acquire(&call("b", 1, 1), before).decision.granted, 1);
}

#[test]
fn leases_ahead_of_the_clock_do_not_count_beside_others() {
    let mut server = Server::default();
    server.acquire(&Acquisition { ttl: ttl(100_000), ..call("long", 10, 2) }, at(0));
    server.acquire(&call("ahead", 10, 3), at(1_000));
    let denied = server.acquire(&call("b", 10, 9), at(0));
    assert_eq!((denied.decision.granted, denied.decision.remaining), (0, 8));
    assert_eq!(denied.decision.retry_after, wait(100_000));
    assert_eq!(server.leases.count(at(0)), 1);
    assert_eq!(server.acquire(&call("b", 10, 8), at(0)).decision.granted, 8);
    assert_eq!(server.leases.count(at(1_000)), 1);
}

#[test]
fn holders_are_passed_by_the_time_at_which_they_end() {
    let mut server = Server::default();
    for (name, secs) in [("c", 30), ("a", 10), ("b", 20), ("expired", 1)] {
        server.acquire(&Acquisition { ttl: ttl(secs), ..call(name, 9, 1) }, at(0));
    }
    let mut names = Vec::new();
    server.leases.visit_counted(at(1), |lease| {
        names.push(lease.holder);
        names.len() < 2
    });
    assert_eq!(names, [holder("a"), holder("b")]);
}

/// Calls `work` and returns the nodes that it visits.
fn steps(server: &mut Server, work: impl FnOnce(&mut Server)) -> u64 {
    server.leases.index.arena.steps.set(0);
    work(server);
    server.leases.index.arena.steps.get()
}

#[test]
fn a_call_costs_the_logarithm_of_the_number_of_leases_also_of_expired_ones() {
    const MANY: u64 = 100_000;
    let mut server = Server::default();
    for number in 0..MANY {
        let short = Acquisition { ttl: ttl(60), ..call(&format!("worker-{number}"), MANY, 1) };
        server.acquire(&short, at(0));
    }
    // A change follows ten paths, a denial four; each step of a path reads a few nodes.
    let (most, most_of_denial) = (200 * u64::from(MANY.ilog2()), 20 * u64::from(MANY.ilog2()));
    let denied = |now| {
        move |server: &mut Server| {
            let limit = server.leases.count(now).max(1);
            let denied = server.acquire(&call("more", u64::from(limit), 1), now);
            assert_eq!(denied.decision.granted, 0);
        }
    };
    let taken = steps(&mut server, denied(at(1)));
    assert!(taken < most_of_denial, "{taken}");
    // One lease counts among 99,999 that have expired, and a denial removes none of them.
    server.leases.renew(&holder("worker-5"), None, ttl(1_000), at(1));
    let late = at(100);
    for _ in 0..3 {
        let taken = steps(&mut server, denied(late));
        assert!(taken < most_of_denial, "{taken}");
        assert_eq!(u64::from(server.leases.index.len()), MANY);
    }
    let calls: [fn(&mut Server); 4] = [
        |server| assert_eq!(server.acquire(&call("new", 9, 1), at(100)).decision.granted, 1),
        |server| assert!(server.leases.renew(&holder("new"), None, ttl(99), at(100)).has_changed),
        |server| assert!(server.leases.release(&holder("new"), None, at(100))),
        |server| assert!(!server.leases.release(&holder("new"), None, at(100))),
    ];
    for call in calls {
        let taken = steps(&mut server, call);
        assert!(taken < most, "{taken}");
    }
    // Calls that change the state remove two expired ones each.
    assert_eq!(u64::from(server.leases.index.len()), MANY - 6);
}

#[test]
fn an_effect_makes_the_same_state_and_its_fence_is_observed() {
    let (mut server, mut replica) = (Server::default(), Server::default());
    let effects =
        [(call("a", 9, 1), 0), (call("b", 9, 2), 5), (call("a", 9, 1), 6), (call("c", 9, 1), 61)];
    for (call, secs) in effects {
        let acquired = server.acquire(&call, at(secs));
        let effect = LeaseEffect::of_acquisition(&call, fence(&acquired).unwrap(), at(secs));
        replica.fences.observe(effect.highest_fence());
        assert_eq!(replica.leases.apply(effect), Ok(()));
        assert_eq!(replica.leases, server.leases);
    }
    assert_eq!(replica.fences, server.fences);
    assert_eq!(server.leases.highest_fence(), server.fences.highest());
    let (time, a, c) = (at(62), holder("a"), holder("c"));
    for name in [a, c] {
        assert!(server.leases.renew(&name, None, ttl(70), time).has_changed);
    }
    let holders = alloc::vec![a, c];
    assert_eq!(replica.leases.apply(LeaseEffect::Renewal { time, ttl: ttl(70), holders }), Ok(()));
    assert_eq!(replica.leases, server.leases);
    assert!(server.leases.release(&a, None, time));
    let holders = alloc::vec![a];
    assert_eq!(replica.leases.apply(LeaseEffect::Release { time, holders }), Ok(()));
    assert_eq!(replica.leases, server.leases);
}

#[test]
fn an_effect_that_cannot_have_been_made_is_refused() {
    let mut server = Server::default();
    server.acquire(&call("a", 9, 1), at(0));
    server.acquire(&call("b", 9, 1), at(0));
    let before = server.leases.clone();
    let (time, a, b, c) = (at(1), holder("a"), holder("b"), holder("c"));
    let renewal = |ttl, holders| LeaseEffect::Renewal { time, ttl, holders };
    let release = |holders| LeaseEffect::Release { time, holders };
    for refused in [
        LeaseEffect::of_acquisition(&call("a", 9, 1), 7, time),
        renewal(ttl(60), Vec::new()),
        renewal(ttl(60), alloc::vec![a, c]),
        renewal(ttl(60), alloc::vec![a, b, a]),
        renewal(ttl(59), alloc::vec![a]),
        release(alloc::vec![c]),
        release(alloc::vec![a, a]),
        release(alloc::vec![a, b]),
    ] {
        assert_eq!(server.leases.apply(refused.clone()), Err(Refused), "{refused:?}");
        assert_eq!(server.leases, before);
    }
}

#[test]
fn leases_are_written_in_the_order_of_their_expiry() {
    let mut server = Server::default();
    server.acquire(&Acquisition { ttl: ttl(2), ..call("late", 9, 3) }, Instant::from_micros(7));
    server.acquire(&Acquisition { ttl: ttl(1), ..call("b", 9, 1) }, Instant::from_micros(7));
    let mut bytes = Vec::new();
    server.leases.encode(&mut bytes);
    let expected = b"\x02\x0c\xc7\x84\x3d\xe8\x07\x01\x08\x01b\xc0\x84\x3d\xd0\x0f\x03\x07\x04late";
    assert_eq!(bytes, expected);
    assert_eq!(Leases::decode(&bytes), Ok(server.leases));
}

#[test]
fn bytes_that_no_leases_have_are_refused() {
    let read = |fields: &[u8]| Leases::decode(&[&[2, 12], fields].concat());
    assert!(read(b"\x01\x01\x01\x01\x01a\x00\x01\x01\x01\x01b").is_ok());
    for refused in [
        &b""[..],
        b"\x00\x01\x01\x01\x01a",
        b"\x01\x00\x01\x01\x01a",
        b"\x01\x01\x00\x01\x01a",
        b"\x01\x01\x01\x00\x01a",
        b"\x01\x01\x01\x01\x00",
        b"\x01\x01\x01\x01\x02a",
        b"\x01\x01\x01\x01\x01a\x00\x01\x01\x01\x01a",
        b"\x01\x01\x01\x01\x01a\x05\x01\x01\x01\x01a",
        b"\x01\x01\x01\x01\x01b\x00\x01\x01\x01\x01a",
        b"\x01\x01\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01a",
    ] {
        assert_eq!(read(refused), Err(DecodeError::Malformed), "{refused:?}");
    }
    let long = [&[2, 12, 1, 1, 1, 1, 65][..], &[b'a'; 65]].concat();
    assert_eq!(Leases::decode(&long), Err(DecodeError::Malformed));
}

#[test]
fn the_longest_effect_of_a_call_for_one_holder_takes_as_many_bytes_as_it_may() {
    let effect = LeaseEffect::Acquisition {
        time: Instant::MAX,
        ttl: Window::MAX,
        cost: Units::MAX,
        fence: Fences::MAX,
        holder: Holder::new([b'a'; 64]).unwrap(),
    };
    let mut bytes = Vec::new();
    effect.encode(&mut bytes);
    assert_eq!(bytes.len(), Leases::MAX_EFFECT_BYTES);
    assert_eq!(LeaseEffect::decode(&bytes), Ok(effect));
}
