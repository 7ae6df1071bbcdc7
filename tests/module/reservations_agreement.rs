//! Agreement about reservations: a server, which is reloaded and replaced by its replica now and
//! then, answers every call of a random history as the pure code does.

use std::collections::BTreeMap;
use std::time::Duration;

use limiter::{
    Anchor, Correction, Decision, Estimate, FixedLimit, FixedWindow, Instant, Limit, Limiter,
    LogLimit, LogOptions, Period, Quota, Request, Reservation, RetryAfter, Settle,
    SlidingWindowLog, Stored, TokenBucket, Units, Window,
};

use crate::harness::{Builder, Client, NOON, Random, Server, Snapshot};
use crate::module::reservations::{reserve, settle};

const STEPS: usize = 6_000;
const KEYS: [&str; 3] = ["bucket", "log", "window"];
const NAMES: usize = 4;

/// The setting `ratelimit.sliding-window-max-limit`: few entries, so that charges meet the bound.
const MAX_ENTRIES: u32 = 20;

#[test]
fn a_server_and_the_pure_code_agree_about_reservations() {
    let mut history = History::start();
    for step in 0..STEPS {
        history.step(step);
    }
    let History { reserved, denied, refused, settled, charged, returned, .. } = history;
    for (outcome, times) in
        [reserved, denied, refused, settled, charged, returned].iter().enumerate()
    {
        assert!(*times > STEPS / 100, "outcome {outcome} has happened {times} times");
    }
}

/// A history on a pair of servers and on the pure code.
struct History {
    /// The primary and its replica.
    servers: [Server; 2],
    client: Client,
    random: Random,
    keys: [Key; 3],
    /// The reservations, with the limits and the costs of the calls that have made them.
    reservations: BTreeMap<usize, (Reservation, Vec<Call>)>,
    reserved: usize,
    denied: usize,
    refused: usize,
    settled: usize,
    charged: usize,
    returned: usize,
}

/// The part of a call that is about one key.
#[derive(Clone, Debug, PartialEq)]
struct Call {
    key: usize,
    cost: Units,
    quota: Quota,
}

/// A state as a server stores it.
#[derive(Default)]
struct Kept<S> {
    state: S,
    /// The earliest expiry that the key may have: a second after the end of the state.
    earliest_millis: Option<u64>,
    /// The expiry that the key has.
    expiry_millis: Option<u64>,
}

enum Key {
    Bucket(Kept<TokenBucket>),
    Log(Kept<SlidingWindowLog>),
    Window(Kept<FixedWindow>),
}

macro_rules! with_kept {
    ($key:expr, |$kept:ident| $body:expr) => {
        match $key {
            Key::Bucket($kept) => $body,
            Key::Log($kept) => $body,
            Key::Window($kept) => $body,
        }
    };
}

macro_rules! with_limit {
    ($key:expr, $quota:expr, |$kept:ident, $limit:ident| $body:expr) => {
        match ($key, $quota) {
            (Key::Bucket($kept), Quota::TokenBucket($limit)) => $body,
            (Key::Log($kept), Quota::SlidingWindow($limit)) => $body,
            (Key::Window($kept), Quota::FixedWindow($limit)) => $body,
            (_, quota) => panic!("a key of another kind than {quota:?}"),
        }
    };
}

impl<S: Limiter + Settle> Kept<S> {
    /// Takes over the expiry that the key has: one to ten seconds after the end of the state.
    fn observe_expiry(&mut self, expiry: i64, step: usize) {
        self.expiry_millis = u64::try_from(expiry).ok();
        let is_in_bounds = match (self.expiry_millis, self.earliest_millis) {
            (None, None) => true,
            (Some(expiry), Some(earliest)) => (earliest..earliest + 9_000).contains(&expiry),
            _ => false,
        };
        assert!(is_in_bounds, "step {step}: {expiry} {:?}", self.earliest_millis);
    }

    fn expire(&mut self, now: Instant) {
        if self.expiry_millis.is_some_and(|expiry| now.as_micros() / 1_000 > expiry) {
            assert!(self.state.has_ended(now), "a key is removed before its state has ended");
            *self = Self::default();
        }
    }

    fn take(&mut self, limit: &S::Limit, request: Request, now: Instant) -> Decision {
        let decision = self.state.take(limit, request, now);
        if decision.granted > 0 {
            self.earliest_millis = Some(now.expiry_millis(decision.reset_after) + 1_000);
        }
        decision
    }

    fn settle(&mut self, estimate: &Estimate, correction: Correction, now: Instant) -> i64 {
        let settlement = self.state.settle(estimate, correction, MAX_ENTRIES, now).unwrap();
        if settlement.effect.is_some() {
            self.earliest_millis = Some(now.expiry_millis(settlement.reset_after) + 1_000);
        } else if settlement.units < 0 {
            *self = Self::default();
        }
        settlement.units
    }
}

impl History {
    fn start() -> Self {
        let builder = |builder: Builder| {
            let builder = builder.config("appendonly", "yes").config("repl-timeout", "86400");
            let max = MAX_ENTRIES.to_string();
            builder.module_arguments(&["sliding-window-max-limit", &max])
        };
        let primary = builder(Server::builder().clock(NOON)).start();
        let replica = builder(Server::builder().clock_of(&primary)).replica_of(&primary).start();
        replica.catch_up_with(&primary);
        for server in [&primary, &replica] {
            // The primary must remove keys when a call accesses them, as the pure code does here.
            server.client().call::<()>("DEBUG SET-ACTIVE-EXPIRE 0");
        }
        let keys =
            [Key::Bucket(Kept::default()), Key::Log(Kept::default()), Key::Window(Kept::default())];
        Self {
            client: primary.client(),
            servers: [primary, replica],
            random: Random::new(),
            keys,
            reservations: BTreeMap::new(),
            reserved: 0,
            denied: 0,
            refused: 0,
            settled: 0,
            charged: 0,
            returned: 0,
        }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.servers[0].clock().micros())
    }

    fn step(&mut self, step: usize) {
        self.move_clock();
        let now = self.now();
        for key in &mut self.keys {
            with_kept!(key, |kept| kept.expire(now));
        }
        self.reservations.retain(|_, (reservation, _)| {
            now.as_micros() / 1_000 <= expiry_millis(reservation) || !reservation.has_ended(now)
        });
        self.compare_expiries(step);
        match self.random.below(100) {
            0 => self.client.call::<()>("DEBUG RELOAD"),
            1 => self.client.call::<()>("DEBUG LOADAOF"),
            2 if self.random.once_in(8) => self.promote_the_replica(),
            3..6 => self.reset(),
            6..20 => self.take(step),
            20..60 => self.reserve(step),
            _ => self.settle(step),
        }
        self.compare_expiries(step);
    }

    /// Moves the clock, mostly forwards.
    fn move_clock(&mut self) {
        let micros = self.random.bits() % self.random.pick(&[1, 1_000, 1_000_000, 4_000_000]);
        let clock = self.servers[0].clock();
        if self.random.once_in(30) {
            clock.step_back(Duration::from_micros(micros));
        } else {
            clock.advance(Duration::from_micros(micros));
        }
    }

    /// Compares the expiries of all keys, and lets the server remove those that have passed.
    fn compare_expiries(&mut self, step: usize) {
        let reservation = |name| Some(expiry_millis(&self.reservations.get(&name)?.0));
        let expected = (0..NAMES).map(reservation);
        let expected = expected.map(|expiry| expiry.map_or(-2, u64::cast_signed));
        let names = KEYS.iter().map(|key| (*key).to_owned());
        let names = names.chain((0..NAMES).map(|name| format!("job{name}")));
        let lines: Vec<_> = names.map(|name| format!("PEXPIRETIME {name}")).collect();
        let expected: Vec<i64> = expected.collect();
        let expiries = self.client.calls::<i64>(&lines);
        let (of_keys, of_reservations) = expiries.split_at(KEYS.len());
        for (key, &expiry) in self.keys.iter_mut().zip(of_keys) {
            with_kept!(key, |kept| kept.observe_expiry(expiry, step));
        }
        assert_eq!(of_reservations, expected, "step {step}: expiries");
    }

    /// Kills nothing: the replica has everything, and the servers change places.
    fn promote_the_replica(&mut self) {
        let [primary, replica] = &self.servers;
        replica.catch_up_with(primary);
        let names: Vec<String> = primary.client().call("KEYS *");
        let held = Snapshot::all(&mut primary.client(), &names);
        replica.client().call::<()>("REPLICAOF NO ONE");
        Snapshot::assert_same(&held, &Snapshot::all(&mut replica.client(), &names));
        primary.follow(replica);
        primary.catch_up_with(replica);
        self.client = replica.client();
        self.servers.reverse();
    }

    fn reset(&mut self) {
        let key = self.random.below(3);
        self.client.call::<i64>(&format!("RATELIMIT.RESET {}", KEYS[key]));
        with_kept!(&mut self.keys[key], |kept| *kept = Kept::default());
    }

    fn take(&mut self, step: usize) {
        let call = self.call(None);
        let line = format!("RATELIMIT.{}", call.taking());
        let (now, request) = (self.now(), Request::all(call.cost));
        let key = &mut self.keys[call.key];
        let decision = with_limit!(key, &call.quota, |kept, limit| kept.take(limit, request, now));
        assert_eq!(self.client.decide(&line), integers(&decision), "step {step}: {line}");
    }

    fn reserve(&mut self, step: usize) {
        let (now, name, ttl) =
            (self.now(), self.random.below(NAMES), 1 + self.random.bits() % 6_000);
        let mut calls = self.calls();
        let live = self.reservations.get(&name).filter(|(made, _)| !made.has_ended(now));
        if let Some((_, made)) = live.filter(|_| self.random.once_in(2)) {
            calls.clone_from(made);
        }
        let names: Vec<_> = calls.iter().map(|call| KEYS[call.key]).collect();
        let limits: Vec<_> = calls.iter().map(Call::listed).collect();
        let line = format!(
            "job{name} {}.{:03} {} {} {}",
            ttl / 1_000,
            ttl % 1_000,
            calls.len(),
            names.join(" "),
            limits.join(" ")
        );
        let present: Vec<_> = calls
            .iter()
            .map(|Call { key, cost, quota }| {
                with_limit!(&self.keys[*key], quota, |kept, limit| kept
                    .state
                    .peek(limit, *cost, now))
            })
            .collect();
        let ttl = Window::from_millis(ttl).unwrap();
        if let Some((_, made)) = live {
            if *made != calls {
                let refusal = self.client.refusal(&format!("RATELIMIT.RESERVE {line}"));
                assert_eq!(
                    refusal, "ERR reservation exists with other keys or limits",
                    "step {step}"
                );
                self.refused += 1;
                return;
            }
            let granted = present.iter().zip(&calls).map(|(decision, call)| Decision {
                granted: call.cost.get(),
                retry_after: RetryAfter::Granted,
                ..*decision
            });
            let expected = (1, granted.map(|decision| integers(&decision)).collect());
            assert_eq!(reserve(&mut self.client, &line), expected, "step {step}: {line}");
            self.reservations.get_mut(&name).unwrap().0.extend(ttl, now);
            return;
        }
        if present.iter().any(|decision| decision.granted == 0) {
            let expected = (0, present.iter().map(integers).collect());
            assert_eq!(reserve(&mut self.client, &line), expected, "step {step}: {line}");
            self.denied += 1;
            return;
        }
        let (mut decisions, mut estimates) = (vec![], vec![]);
        for Call { key, cost, quota } in &calls {
            let kept = &mut self.keys[*key];
            let (decision, origin) = with_limit!(kept, quota, |kept, limit| {
                let decision = kept.take(limit, Request::all(*cost), now);
                (decision, kept.state.origin(limit).unwrap())
            });
            decisions.push(integers(&decision));
            estimates.push(Estimate { key: KEYS[*key].into(), cost: *cost, origin });
        }
        assert_eq!(reserve(&mut self.client, &line), (1, decisions), "step {step}: {line}");
        let reservation = Reservation::new(estimates, ttl, now).unwrap();
        self.reservations.insert(name, (reservation, calls));
        self.reserved += 1;
    }

    fn settle(&mut self, step: usize) {
        let (now, name) = (self.now(), self.random.below(NAMES));
        let Some((reservation, _)) =
            self.reservations.get(&name).filter(|(made, _)| !made.has_ended(now))
        else {
            let line = format!("job{name} 1 bucket ACTUAL 0");
            assert_eq!(settle(&mut self.client, &line), None, "step {step}: {line}");
            return;
        };
        let estimates = reservation.estimates().to_vec();
        let actual: Vec<u32> = estimates.iter().map(|_| self.random.below(16) as u32).collect();
        let stands = self.random.once_in(6);
        let names =
            estimates.iter().map(|estimate| String::from_utf8(estimate.key.clone()).unwrap());
        let mut words: Vec<_> =
            [format!("job{name} {}", estimates.len())].into_iter().chain(names).collect();
        if !stands {
            words.push("ACTUAL".to_owned());
            words.extend(actual.iter().map(u32::to_string));
        }
        let line = words.join(" ");
        let mut expected = vec![];
        for (estimate, actual) in estimates.iter().zip(actual) {
            let key = KEYS.iter().position(|key| key.as_bytes() == estimate.key).unwrap();
            let correction = if stands { Correction::Nothing } else { estimate.correction(actual) };
            let kept = &mut self.keys[key];
            expected.push(with_kept!(kept, |kept| kept.settle(estimate, correction, now)));
        }
        self.charged += usize::from(expected.iter().any(|&units| units > 0));
        self.returned += usize::from(expected.iter().any(|&units| units < 0));
        assert_eq!(settle(&mut self.client, &line), Some(expected), "step {step}: {line}");
        self.reservations.remove(&name);
        self.settled += 1;
    }

    /// Returns calls on one to three keys in any order.
    fn calls(&mut self) -> Vec<Call> {
        let first = self.random.below(3);
        let count = 1 + self.random.below(3);
        (0..count).map(|offset| self.call(Some((first + offset) % 3))).collect()
    }

    fn call(&mut self, key: Option<usize>) -> Call {
        let key = key.unwrap_or_else(|| self.random.below(3));
        let units = |units| Units::new(units).unwrap();
        let limit = units(self.random.pick(&[10, 15, 20]));
        let window = Window::from_millis(self.random.pick(&[1_000, 1_500, 4_000])).unwrap();
        let quota = match key {
            0 => {
                let capacity = units(self.random.pick(&[10, 20, 30]));
                Quota::TokenBucket(Limit { limit, window, capacity })
            }
            1 => {
                let resolution = self.random.once_in(2).then(|| Window::from_millis(100).unwrap());
                let options = LogOptions { resolution, max_entries: MAX_ENTRIES };
                Quota::SlidingWindow(LogLimit { limit, window, options })
            }
            _ => Quota::FixedWindow(FixedLimit {
                limit,
                period: Period::Length(window, Anchor::MIN),
            }),
        };
        Call { key, cost: units(1 + self.random.bits() % 9), quota }
    }
}

impl Call {
    /// The call as the arguments of a command on one key, after the prefix of its name.
    fn taking(&self) -> String {
        let listed = self.listed();
        let (word, rest) = listed.split_once(' ').unwrap();
        format!("{word} {} {rest}", KEYS[self.key])
    }

    /// The limit as in a list of limits.
    fn listed(&self) -> String {
        let cost = self.cost.get();
        let secs = |window: Window| {
            format!("{}.{:03}", window.as_millis() / 1_000, window.as_millis() % 1_000)
        };
        match self.quota {
            Quota::TokenBucket(Limit { limit, window, capacity }) => {
                let (limit, capacity) = (limit.get(), capacity.get());
                format!("TB {limit} {} BURST {capacity} COST {cost}", secs(window))
            }
            Quota::SlidingWindow(LogLimit { limit, window, options }) => {
                let resolution =
                    options.resolution.map(|window| format!(" RESOLUTION {}", secs(window)));
                let resolution = resolution.unwrap_or_default();
                format!("SW {} {}{resolution} COST {cost}", limit.get(), secs(window))
            }
            Quota::FixedWindow(FixedLimit { limit, period }) => {
                format!("FW {} {} COST {cost}", limit.get(), secs(period.length().unwrap()))
            }
        }
    }
}

fn expiry_millis(reservation: &Reservation) -> u64 {
    reservation.end().as_micros().div_ceil(1_000)
}

fn integers(decision: &Decision) -> [i64; 5] {
    let retry_after_ms = match decision.retry_after {
        RetryAfter::Granted => 0,
        RetryAfter::Wait(wait) => wait.ceil_millis(),
        RetryAfter::Never => -1,
    };
    let Decision { granted, capacity, remaining, reset_after, .. } = *decision;
    let reset_after_ms = reset_after.ceil_millis();
    [i64::from(granted), i64::from(capacity), i64::from(remaining), retry_after_ms, reset_after_ms]
}
