//! Agreement: the pure crate and a server make the same decisions over the same history.

use std::time::Duration;

use limiter::{
    Anchor, Bounds, Decision, FixedLimit, FixedWindow, Instant, Limit, Limiter, LogLimit,
    LogOptions, Mode, Period, Request, RetryAfter, SlidingWindowLog, TokenBucket, Units, Window,
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
trait State: Limiter + PartialEq {
    fn limit(call: Call, now: Instant) -> Self::Limit;

    /// Returns the limit, the window and the options of the algorithm as a client writes them.
    fn parameters(call: Call, now: Instant) -> String;
}

impl State for TokenBucket {
    fn limit(call: Call, _: Instant) -> Limit {
        let limit = Limit::new(Call::units(call.limit), call.window());
        Limit { capacity: call.burst.map_or(limit.limit, Call::units), ..limit }
    }

    fn parameters(call: Call, _: Instant) -> String {
        let burst = call.burst.map(|capacity| format!(" BURST {capacity}"));
        format!("{} {}{}", call.limit, seconds(call.window_ms), burst.unwrap_or_default())
    }
}

impl State for SlidingWindowLog {
    fn limit(call: Call, _: Instant) -> LogLimit {
        let resolution = call.resolution_ms.and_then(Window::from_millis);
        let options = LogOptions { resolution, ..LogOptions::USUAL };
        LogLimit { options, ..LogLimit::new(Call::units(call.limit), call.window()) }
    }

    fn parameters(call: Call, _: Instant) -> String {
        let resolution =
            call.resolution_ms.map(|millis| format!(" RESOLUTION {}", seconds(millis)));
        format!("{} {}{}", call.limit, seconds(call.window_ms), resolution.unwrap_or_default())
    }
}

impl State for FixedWindow {
    fn limit(call: Call, now: Instant) -> FixedLimit {
        let period = match call.lay {
            Lay::Length(anchor) => {
                Period::Length(call.window(), Anchor::from_secs(anchor).expect("an anchor"))
            }
            Lay::Named("DAY") => Period::Day,
            Lay::Named("WEEK") => Period::Week,
            Lay::Named("MONTH") => Period::Month,
            Lay::Named(_) => Period::Year,
            Lay::Around(..) => {
                let (begin, end) = call.bounds(now);
                Period::Bounds(Bounds::from_millis(begin, end).expect("bounds"))
            }
        };
        FixedLimit { limit: Call::units(call.limit), period }
    }

    fn parameters(call: Call, now: Instant) -> String {
        let window = match call.lay {
            Lay::Length(0) => seconds(call.window_ms),
            Lay::Length(anchor) => format!("{} ANCHOR {anchor}", seconds(call.window_ms)),
            Lay::Named(name) => name.to_owned(),
            Lay::Around(..) => {
                let (begin, end) = call.bounds(now);
                format!("FROM {} UNTIL {}", seconds(begin), seconds(end))
            }
        };
        format!("{} {window}", call.limit)
    }
}

/// The rule that lays the fixed windows of a call.
#[derive(Clone, Copy, Debug)]
enum Lay {
    /// Windows of the length of the call, from this anchor.
    Length(u64),
    /// A unit of the calendar.
    Named(&'static str),
    /// A window that begins so many milliseconds before now, or after now if negative, and is as
    /// long as that of the call.
    Around(i64),
}

impl Lay {
    fn random(random: &mut Random, window_ms: u64) -> Self {
        match random.below(8) {
            0 => Self::Named(random.pick(&["DAY", "WEEK", "MONTH", "YEAR"])),
            1 => Self::Length(random.bits() % 253_402_300_800),
            // Sometimes the present millisecond is just outside.
            2 | 3 => {
                let before = random.bits() % (window_ms + 2);
                Self::Around(i64::try_from(before).expect("a short time") - 1)
            }
            _ => Self::Length(0),
        }
    }
}

/// The parameters of one call.
#[derive(Clone, Copy, Debug)]
struct Call {
    limit: u64,
    window_ms: u64,
    burst: Option<u64>,
    resolution_ms: Option<u64>,
    lay: Lay,
    cost: u64,
    mode: Mode,
}

impl Call {
    /// Parameters of the same order of magnitude, so that some calls are granted and some denied.
    fn random(random: &mut Random) -> Self {
        let limit = random.pick(&[1, 2, 3, 7, 10, 100, 999, 65_537, 1_000_000]);
        let window_ms =
            random.pick(&[1, 2, 7, 250, 1_000, 1_001, 60_000, 3_600_000, 31_622_400_000]);
        let burst = random.once_in(4).then(|| 1 + random.bits() % (3 * limit));
        let resolution_ms = random.once_in(3).then(|| 1 + random.bits() % window_ms);
        let lay = Lay::random(random, window_ms);
        let cost = 1 + random.bits() % limit.div_ceil(random.pick(&[1, 2, 10, 1_000]));
        let cost = if random.once_in(20) { cost * 2 } else { cost };
        let mode = match random.below(16) {
            0..4 => Mode::Partial,
            4 => Mode::Force,
            _ => Mode::All,
        };
        Self { limit, window_ms, burst, resolution_ms, lay, cost, mode }
    }

    fn units(units: u64) -> Units {
        Units::new(units).expect("a number within bounds")
    }

    fn window(self) -> Window {
        Window::from_millis(self.window_ms).expect("a window within bounds")
    }

    fn request(self) -> Request {
        Request { cost: Self::units(self.cost), mode: self.mode }
    }

    /// Returns the bounds of a window in milliseconds.
    fn bounds(self, now: Instant) -> (u64, u64) {
        let Lay::Around(before) = self.lay else { panic!("the caller does not give the window") };
        let begin = (now.as_micros() / 1_000).saturating_add_signed(-before);
        (begin, begin + self.window_ms)
    }

    /// Returns the option of the mode.
    fn mode(self) -> &'static str {
        match self.mode {
            Mode::All => "",
            Mode::Partial => " PARTIAL",
            Mode::Force => " FORCE",
        }
    }
}

/// Returns a number of seconds as a client writes them.
fn seconds(millis: u64) -> String {
    format!("{}.{:03}", millis / 1_000, millis % 1_000)
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
        let decision = self.state.take(&S::limit(call, now), call.request(), now);
        if decision.granted > 0 {
            self.earliest_millis = Some(now.expiry_millis(decision.reset_after) + 1_000);
        }
        decision
    }

    fn give_back(&mut self, amount: Units, now: Instant) -> u32 {
        let refund = self.state.refund(amount, now);
        if refund.refunded > 0 {
            self.earliest_millis = Some(now.expiry_millis(refund.reset_after) + 1_000);
            if refund.reset_after.as_micros() == 0 {
                *self = Self::default();
            }
        }
        refund.refunded
    }

    /// Takes over the expiry that the key has: one to ten seconds after the end of the state.
    fn observe_expiry(&mut self, client: &mut Client, step: usize) {
        self.expiry_millis = u64::try_from(client.call::<i64>("PEXPIRETIME key")).ok();
        let bounds = self.earliest_millis.map(|earliest| earliest..earliest + 9_000);
        match (self.expiry_millis, bounds) {
            (None, None) => {}
            (Some(expiry), Some(bounds)) => {
                assert!(bounds.contains(&expiry), "step {step}: {expiry} {bounds:?}");
            }
            other => panic!("step {step}: {other:?}"),
        }
    }
}

/// Runs a random history on a server and on the pure code, and compares every answer.
fn agrees<S: State>() {
    let server = Server::builder().clock(NOON).config("appendonly", "yes").start();
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
        if random.once_in(5_000) {
            client.call::<()>(random.pick(&["DEBUG RELOAD", "DEBUG LOADAOF"]));
        }
        match random.below(10) {
            0 => refunds_alike(&mut client, &mut kept, &mut random, now),
            1 | 2 => peeks_alike(&mut client, &kept, call, now),
            _ => {
                let Some(decision) = takes_alike(&mut client, &mut kept, call, now) else {
                    continue;
                };
                *if decision.granted > 0 { &mut granted } else { &mut denied } += 1;
                if decision.granted == 0 && random.once_in(10) {
                    waits_as_told::<S>(&server, &mut client, call, &decision);
                    kept.expire(Instant::from_micros(server.clock().micros()));
                }
            }
        }
        kept.observe_expiry(&mut client, step);
    }
    let enough = STEPS / 20;
    assert!(granted > enough && denied > enough, "{granted} granted, {denied} denied");
}

/// Makes a call on both sides. Returns the decision, or `None` if the window of the call does not
/// contain now.
fn takes_alike<S: State>(
    client: &mut Client,
    kept: &mut Kept<S>,
    call: Call,
    now: Instant,
) -> Option<Decision> {
    let (word, parameters) = (S::ALGORITHM.word(), S::parameters(call, now));
    let line = format!("RATELIMIT.{word} key {parameters} COST {}{}", call.cost, call.mode());
    if !S::is_open(&S::limit(call, now), now) {
        assert!(client.refusal(&line).contains("the server's time"), "{line}");
        return None;
    }
    let expected = kept.take(call, now);
    assert_eq!(client.decide(&line), reply(&expected), "{line}");
    Some(expected)
}

fn peeks_alike<S: State>(client: &mut Client, kept: &Kept<S>, call: Call, now: Instant) {
    let line = peek::<S>(call, call.cost, now);
    let limit = S::limit(call, now);
    if !S::is_open(&limit, now) {
        assert!(client.refusal(&line).contains("the server's time"), "{line}");
        return;
    }
    let expected = reply(&kept.state.peek(&limit, call.request().cost, now));
    assert_eq!(client.decide(&line), expected, "{line}");
}

fn peek<S: State>(call: Call, cost: u64, now: Instant) -> String {
    let (word, parameters) = (S::ALGORITHM.word(), S::parameters(call, now));
    format!("RATELIMIT.PEEK key {word} {parameters} COST {cost}")
}

/// Waits for the `retry_after` of a denied call, and asserts that the server grants the call then
/// and not a millisecond earlier. The state may have ended by then.
fn waits_as_told<S: State>(server: &Server, client: &mut Client, call: Call, denied: &Decision) {
    let RetryAfter::Wait(wait) = denied.retry_after else { return };
    let millis = wait.ceil_millis().unsigned_abs();
    if millis > LONGEST_WAIT {
        return;
    }
    let cost = if call.mode == Mode::Partial { 1 } else { call.cost };
    let mut granted = |advance| {
        server.clock().advance(Duration::from_millis(advance));
        let now = Instant::from_micros(server.clock().micros());
        client.decide(&peek::<S>(call, cost, now))[0].unsigned_abs()
    };
    assert_eq!(granted(millis - 1), 0, "a millisecond before {wait:?}: {call:?}");
    assert_eq!(granted(1), cost, "after {wait:?}: {call:?}");
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
