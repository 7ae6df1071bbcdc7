//! Agreement: the pure crate and a server make the same decisions over the same history.

use std::time::Duration;

use limiter::{
    Decision, FixedLimit, FixedWindow, Instant, Limit, Limiter, LogLimit, Period, Request,
    RetryAfter, SlidingWindowLog, TokenBucket, Units, Window,
};

use crate::harness::{Client, NOON, Random, Server};

const STEPS: usize = 30_000;

/// The longest wait that the test waits for, in milliseconds: all waits together must not move the
/// clock further than a server can count.
const LONGEST_WAIT: u64 = 366 * 86_400_000;

#[test]
fn buckets_agree() {
    agrees::<TokenBucket>();
}

#[test]
fn logs_agree() {
    agrees::<SlidingWindowLog>();
}

#[test]
fn fixed_windows_agree() {
    agrees::<FixedWindow>();
}

/// A state whose limit has the parameters of a call.
trait State: Limiter {
    fn limit(call: Call) -> Self::Limit;
}

impl State for TokenBucket {
    fn limit(call: Call) -> Limit {
        let limit = Limit::new(Call::units(call.limit), call.window());
        Limit { capacity: call.burst.map_or(limit.limit, Call::units), ..limit }
    }
}

impl State for SlidingWindowLog {
    fn limit(call: Call) -> LogLimit {
        LogLimit::new(Call::units(call.limit), call.window())
    }
}

impl State for FixedWindow {
    fn limit(call: Call) -> FixedLimit {
        FixedLimit { limit: Call::units(call.limit), period: Period::every(call.window()) }
    }
}

/// The parameters of one call.
#[derive(Clone, Copy, Debug)]
struct Call {
    limit: u64,
    window_ms: u64,
    burst: Option<u64>,
    cost: u64,
    partial: bool,
}

impl Call {
    /// Parameters of the same order of magnitude, so that some calls are granted and some denied.
    fn random(random: &mut Random) -> Self {
        let limit = random.pick(&[1, 2, 3, 7, 10, 100, 999, 65_537, 1_000_000]);
        let window_ms =
            random.pick(&[1, 2, 7, 250, 1_000, 1_001, 60_000, 3_600_000, 31_622_400_000]);
        let burst = random.once_in(4).then(|| 1 + random.bits() % (3 * limit));
        let cost = 1 + random.bits() % limit.div_ceil(random.pick(&[1, 2, 10, 1_000]));
        let cost = if random.once_in(20) { cost * 2 } else { cost };
        Self { limit, window_ms, burst, cost, partial: random.once_in(4) }
    }

    fn units(units: u64) -> Units {
        Units::new(units).expect("a number within bounds")
    }

    fn window(self) -> Window {
        Window::from_millis(self.window_ms).expect("a window within bounds")
    }

    fn request(self) -> Request {
        let cost = Self::units(self.cost);
        if self.partial { Request::partial(cost) } else { Request::all(cost) }
    }

    /// The limit, window and options of an algorithm.
    fn parameters<S: Limiter>(self) -> String {
        let burst = self.burst.filter(|_| S::ALGORITHM.facts().takes_capacity);
        let burst = burst.map(|capacity| format!(" BURST {capacity}"));
        self.text() + &burst.unwrap_or_default()
    }

    /// `limit window` as a client writes them.
    fn text(self) -> String {
        format!("{} {}.{:03}", self.limit, self.window_ms / 1_000, self.window_ms % 1_000)
    }
}

/// A state as a server stores it, with the expiry of its latest change.
#[derive(Default)]
struct Kept<S> {
    state: S,
    expiry_millis: Option<u64>,
}

impl<S: State> Kept<S> {
    /// Removes a state whose key the server removes now, and asserts that the state has ended.
    fn expire(&mut self, now: Instant) {
        let now_millis = now.as_micros() / 1_000;
        if self.expiry_millis.is_some_and(|expiry| now_millis > expiry) {
            assert!(self.state.has_ended(now), "a key is removed before its state has ended");
            *self = Self::default();
        }
    }

    fn take(&mut self, call: Call, now: Instant) -> Decision {
        let decision = self.state.take(&S::limit(call), call.request(), now);
        if decision.granted > 0 {
            self.expiry_millis = Some(expiry_millis(now, decision.reset_after));
        }
        decision
    }

    fn give_back(&mut self, amount: Units, now: Instant) -> u32 {
        let refund = self.state.refund(amount, now);
        if refund.refunded > 0 {
            self.expiry_millis = Some(expiry_millis(now, refund.reset_after));
            if refund.reset_after.as_micros() == 0 {
                *self = Self::default();
            }
        }
        refund.refunded
    }
}

/// Returns the expiry of a key whose state ends after `reset_after`: a second later.
fn expiry_millis(now: Instant, reset_after: limiter::Duration) -> u64 {
    now.expiry_millis(reset_after) + 1_000
}

/// Runs a random history on a server and on the pure code, and compares every answer.
fn agrees<S: State>() {
    let server = Server::at(NOON);
    let mut client = server.client();
    // The server must remove keys when a call accesses them, as the pure code here does, and not at
    // times of its own between two steps of the clock.
    client.call::<()>("DEBUG SET-ACTIVE-EXPIRE 0");
    let mut random = Random::new();
    let mut kept = Kept::<S>::default();
    let mut call = Call::random(&mut random);
    let (mut granted, mut denied) = (0, 0);
    for step in 0..STEPS {
        if random.once_in(50) {
            call = Call::random(&mut random);
        }
        move_clock(&server, call, &mut random);
        let now = Instant::from_micros(server.clock().micros());
        kept.expire(now);
        match random.below(10) {
            0 => refunds_alike(&mut client, &mut kept, &mut random, now),
            1 | 2 => {
                let peek = "RATELIMIT.PEEK key";
                let (command, parameters) = (S::ALGORITHM.word(), call.parameters::<S>());
                let line = format!("{peek} {command} {parameters} COST {}", call.cost);
                let expected = reply(&kept.state.peek(&S::limit(call), call.request().cost, now));
                assert_eq!(client.decide(&line), expected, "step {step}: {line}");
            }
            _ => {
                let partial = if call.partial { " PARTIAL" } else { "" };
                let parameters = call.parameters::<S>();
                let command = S::ALGORITHM.word();
                let line =
                    format!("RATELIMIT.{command} key {parameters} COST {}{partial}", call.cost);
                let expected = kept.take(call, now);
                assert_eq!(client.decide(&line), reply(&expected), "step {step}: {line}");
                *if expected.granted > 0 { &mut granted } else { &mut denied } += 1;
                if expected.granted == 0 && random.once_in(10) {
                    waits_as_told::<S>(&server, &mut client, call, &expected);
                    kept.expire(Instant::from_micros(server.clock().micros()));
                }
            }
        }
        let expiry_millis: i64 = client.call("PEXPIRETIME key");
        let expected = kept.expiry_millis.map_or(-2, |millis| i64::try_from(millis).unwrap());
        assert_eq!(expiry_millis, expected, "step {step}: expiry after {call:?}");
    }
    let enough = STEPS / 20;
    assert!(granted > enough && denied > enough, "{granted} granted, {denied} denied");
}

/// Waits for the `retry_after` of a denied call, and asserts that the server grants the call then
/// and not a millisecond earlier. The state may have ended by then.
fn waits_as_told<S: State>(server: &Server, client: &mut Client, call: Call, denied: &Decision) {
    let RetryAfter::Wait(wait) = denied.retry_after else { return };
    let millis = wait.ceil_millis().unsigned_abs();
    if millis > LONGEST_WAIT {
        return;
    }
    let cost = if call.partial { 1 } else { call.cost };
    let (command, parameters) = (S::ALGORITHM.word(), call.parameters::<S>());
    let peek = format!("RATELIMIT.PEEK key {command} {parameters} COST {cost}");
    server.clock().advance(Duration::from_millis(millis - 1));
    assert_eq!(client.decide(&peek)[0], 0, "a millisecond before {wait:?}: {peek}");
    server.clock().advance(Duration::from_millis(1));
    let granted = client.decide(&peek)[0];
    assert_eq!(granted.unsigned_abs(), cost, "after {wait:?}: {peek}");
}

fn refunds_alike<S: State>(
    client: &mut Client,
    kept: &mut Kept<S>,
    random: &mut Random,
    now: Instant,
) {
    let amount = random.pick(&[1, 2, 3, 100, 1_000_000_000]);
    let refunded: u32 = client.call(&format!("RATELIMIT.REFUND key {amount}"));
    assert_eq!(refunded, kept.give_back(Call::units(amount), now), "a refund of {amount}");
}

/// Moves the clock by some fraction of the window, mostly forwards.
fn move_clock(server: &Server, call: Call, random: &mut Random) {
    let fraction = random.pick(&[1, 3, 10, 100, 1_000, 1_000_000]);
    let micros = random.bits() % (1 + 2_000 * call.window_ms / fraction);
    if random.once_in(20) && micros < server.clock().micros() {
        server.clock().step_back(Duration::from_micros(micros));
    } else {
        server.clock().advance(Duration::from_micros(micros));
    }
}

/// Returns the reply of the server that makes this decision.
fn reply(decision: &Decision) -> [i64; 5] {
    let retry_after_ms = match decision.retry_after {
        RetryAfter::Granted => 0,
        RetryAfter::Wait(time) => time.ceil_millis(),
        RetryAfter::Never => -1,
    };
    [
        i64::from(decision.granted),
        i64::from(decision.capacity),
        i64::from(decision.remaining),
        retry_after_ms,
        decision.reset_after.ceil_millis(),
    ]
}
