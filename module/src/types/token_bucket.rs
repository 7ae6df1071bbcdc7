//! The token bucket as a value of the server.

use std::ffi::CStr;

use limiter::codec::{Change, DecodeError};
use limiter::{BucketLimit, Decision, Demand, Instant, Refund, TokenBucket, Units};

use super::State;
use crate::server::data_type::{DataType, Native};

impl DataType for TokenBucket {
    const NAME: &'static CStr = c"ratelimTB";

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
        0
    }

    fn free_effort(&self) -> usize {
        1
    }
}

impl State for TokenBucket {
    type Limit = BucketLimit;

    fn take(&mut self, limit: &BucketLimit, demand: Demand, now: Instant) -> Decision {
        self.take(limit, demand, now)
    }

    fn peek(&self, limit: &BucketLimit, cost: Units, now: Instant) -> Decision {
        self.peek(limit, cost, now)
    }

    fn refund(&mut self, amount: Units, now: Instant) -> Refund {
        self.refund(amount, now)
    }

    fn granted(&self, _limit: &BucketLimit, _units: Units, _now: Instant) -> Change {
        Change::TokenBucket(self.clone())
    }

    fn refunded(&self, _units: Units, _now: Instant) -> Change {
        Change::TokenBucket(self.clone())
    }
}
