//! The sliding window log as a value of the server.

use std::ffi::CStr;

use limiter::codec::{Change, DecodeError};
use limiter::{Decision, Demand, Instant, Refund, SlidingWindowLog, Units, WindowLimit};

use super::State;
use crate::server::data_type::{DataType, Native};

impl DataType for SlidingWindowLog {
    const NAME: &'static CStr = c"ratelimSW";

    fn native() -> &'static Native {
        static NATIVE: Native = Native::unregistered();
        &NATIVE
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        self.encode(bytes);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(bytes)
    }

    fn heap_bytes(&self) -> usize {
        self.heap_bytes()
    }

    fn free_effort(&self) -> usize {
        self.allocations()
    }
}

impl State for SlidingWindowLog {
    type Limit = WindowLimit;

    fn take(&mut self, limit: &WindowLimit, demand: Demand, now: Instant) -> Decision {
        self.take(limit, demand, now)
    }

    fn peek(&self, limit: &WindowLimit, cost: Units, now: Instant) -> Decision {
        self.peek(limit, cost, now)
    }

    fn refund(&mut self, amount: Units, now: Instant) -> Refund {
        self.refund(amount, now)
    }

    fn granted(&self, limit: &WindowLimit, units: Units, now: Instant) -> Change {
        Change::Grant { time: now, window: limit.window, units }
    }

    fn refunded(&self, units: Units, now: Instant) -> Change {
        Change::Refund { time: now, units }
    }
}
