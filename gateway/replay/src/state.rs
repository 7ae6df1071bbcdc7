//! The state of one limit.

use limiter::{
    Acquisition, Fences, FixedLimit, FixedWindow, Holder, Instant, Leases, Limit, Limiter,
    LogLimit, LogOptions, Period, Request, RetryAfter, SlidingWindowLog, Stored, TokenBucket,
    Units, Window,
};
use policies::Kind;
use policies::judgement::{JudgedLimit, JudgedWindow};
use policies::model::Charge;

/// The most leases of one limit.
const MAX_LEASES: u32 = 1_000_000;

/// A lease that a request holds.
#[derive(Clone, Copy, Debug)]
pub struct HeldLease {
    /// The name of the holder.
    pub holder: Holder,
    /// The microseconds until the holder releases the lease; without them the lease expires.
    pub micros: Option<u64>,
}

/// The decision of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitDecision {
    /// True if the limit denies the request.
    pub violated: bool,
    /// The units that are left.
    pub remaining: u32,
    /// The wait until the request would be granted.
    pub retry_after: RetryAfter,
}

/// The state of one limit.
#[derive(Clone, Debug)]
pub(crate) enum State {
    TokenBucket(TokenBucket),
    SlidingWindow(SlidingWindowLog),
    FixedWindow(FixedWindow),
    Leases(Leases),
}

impl State {
    /// Returns the state in which no unit is used.
    pub(crate) fn new(kind: Kind) -> Self {
        match kind {
            Kind::TokenBucket => Self::TokenBucket(TokenBucket::new()),
            Kind::SlidingWindow => Self::SlidingWindow(SlidingWindowLog::new()),
            Kind::FixedWindow => Self::FixedWindow(FixedWindow::new()),
            Kind::Concurrency => Self::Leases(Leases::new()),
        }
    }

    pub(crate) fn has_ended(&self, now: Instant) -> bool {
        match self {
            Self::TokenBucket(state) => state.has_ended(now),
            Self::SlidingWindow(state) => state.has_ended(now),
            Self::FixedWindow(state) => state.has_ended(now),
            Self::Leases(state) => state.has_ended(now),
        }
    }

    /// Returns the decision of the limit without a change.
    pub(crate) fn look(
        &self,
        limit: &JudgedLimit<'_>,
        lease: Option<HeldLease>,
        now: Instant,
    ) -> LimitDecision {
        // With `charge: always`, and without a cost, one free unit grants the request.
        let needed = match limit.charge {
            Charge::Granted => Units::new(limit.cost.into()).unwrap_or(Units::MIN),
            Charge::Always => Units::MIN,
        };
        LimitDecision::of(match self {
            Self::TokenBucket(state) => state.peek(&bucket_limit(limit), needed, now),
            Self::SlidingWindow(state) => state.peek(&log_limit(limit), needed, now),
            Self::FixedWindow(state) => state.peek(&fixed_limit(limit), needed, now),
            Self::Leases(state) => {
                acquire(&mut state.clone(), limit, lease, needed, &mut Fences::new(), now)
            }
        })
    }

    /// Takes the cost of a request that the limit does not deny.
    pub(crate) fn take(
        &mut self,
        limit: &JudgedLimit<'_>,
        lease: Option<HeldLease>,
        fences: &mut Fences,
        now: Instant,
    ) -> LimitDecision {
        let Some(cost) = Units::new(limit.cost.into()) else {
            return self.look(limit, lease, now);
        };
        let request = match limit.charge {
            Charge::Granted => Request::all(cost),
            Charge::Always => Request::force(cost),
        };
        LimitDecision::of(match self {
            Self::TokenBucket(state) => state.take(&bucket_limit(limit), request, now),
            Self::SlidingWindow(state) => state.take(&log_limit(limit), request, now),
            Self::FixedWindow(state) => state.take(&fixed_limit(limit), request, now),
            Self::Leases(state) => acquire(state, limit, lease, cost, fences, now),
        })
    }
}

impl LimitDecision {
    const fn of(decision: limiter::Decision) -> Self {
        Self {
            violated: decision.granted == 0,
            remaining: decision.remaining,
            retry_after: decision.retry_after,
        }
    }
}

fn acquire(
    leases: &mut Leases,
    limit: &JudgedLimit<'_>,
    lease: Option<HeldLease>,
    cost: Units,
    fences: &mut Fences,
    now: Instant,
) -> limiter::Decision {
    let Some(HeldLease { holder, .. }) = lease else {
        unreachable!("a policy applies a concurrency limit only to a request with a lease");
    };
    let (limit, ttl) = (limit.limit, length(limit.window));
    let call = Acquisition { holder, limit, cost, ttl, max_leases: MAX_LEASES };
    match leases.acquire(&call, fences, now) {
        Ok(acquired) => acquired.decision,
        // The bounds on leases and fences deny as a limit does.
        Err(_) => limiter::Decision {
            granted: 0,
            capacity: limit.get(),
            remaining: 0,
            retry_after: RetryAfter::Never,
            reset_after: limiter::Duration::ZERO,
        },
    }
}

fn bucket_limit(limit: &JudgedLimit<'_>) -> Limit {
    Limit { limit: limit.limit, window: length(limit.window), capacity: limit.capacity }
}

fn log_limit(limit: &JudgedLimit<'_>) -> LogLimit {
    let options = LogOptions { resolution: limit.resolution, ..LogOptions::USUAL };
    LogLimit { limit: limit.limit, window: length(limit.window), options }
}

fn fixed_limit(limit: &JudgedLimit<'_>) -> FixedLimit {
    let period = match limit.window {
        JudgedWindow::Length(window) => Period::every(window),
        JudgedWindow::Calendar(bounds) => Period::Bounds(bounds),
    };
    FixedLimit { limit: limit.limit, period }
}

fn length(window: JudgedWindow) -> Window {
    match window {
        JudgedWindow::Length(window) => window,
        JudgedWindow::Calendar(_) => unreachable!("only fixed windows lie in the calendar"),
    }
}
