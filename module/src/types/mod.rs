//! The native data types, one for each algorithm.

mod sliding_window_log;
mod token_bucket;

use limiter::codec::Change;
use limiter::{Decision, Demand, Instant, Refund, Units};

use crate::server::data_type::DataType;

/// An algorithm's state, as the commands that serve every algorithm see it.
pub(crate) trait State: DataType + Default {
    /// What the algorithm is told of what it allows.
    type Limit;

    /// Decides a call, and records what it was granted.
    fn take(&mut self, limit: &Self::Limit, demand: Demand, now: Instant) -> Decision;

    /// Says what a call would be answered.
    fn peek(&self, limit: &Self::Limit, cost: Units, now: Instant) -> Decision;

    /// Gives units back.
    fn refund(&mut self, amount: Units, now: Instant) -> Refund;

    /// What a call that was granted units has changed; `self` is the state after it.
    fn granted(&self, limit: &Self::Limit, units: Units, now: Instant) -> Change;

    /// What a refund has changed; `self` is the state after it.
    fn refunded(&self, units: Units, now: Instant) -> Change;
}
