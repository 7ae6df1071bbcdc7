//! CL.THROTTLE: takes units from a token bucket, with the arguments and the reply of redis-cell.
//!
//! ```text
//! CL.THROTTLE key max_burst count period [quantity]
//! ```
//!
//! Takes `quantity` units (default: 1) from a bucket of the capacity `max_burst + 1`, to which
//! `count` units come back in `period` whole seconds. A quantity of 0 takes nothing, and is limited
//! only while more than the capacity is used. Returns 1 if the call is limited and 0 if not, the
//! capacity, the remaining units, and two times in whole seconds, rounded up: the time until the
//! call would not be limited, -1 if it is not limited or always will be, and the time until nothing
//! is used. Constant cost.
//!
//! The command exists only if the module was loaded with `cl-throttle yes`. Its keys are buckets as
//! those of RATELIMIT.TB.

use limiter::{Decision, Duration, Limit, Limiter, Request, RetryAfter, TokenBucket, Units};

use crate::args::Args;
use crate::clock;
use crate::commands::arguments;
use crate::commands::change::take;
use crate::commands::decision::{KEY, check_missing};
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::{Argument, Facts};
use crate::ffi::error::Error;
use crate::ffi::reply::Reply;
use crate::info::counters;
use crate::reply;

/// CL.THROTTLE.
pub(crate) struct Throttle;

impl Command for Throttle {
    const FACTS: Facts = Facts {
        name: c"cl.throttle",
        summary: c"Takes units from a token bucket, as redis-cell does.",
        complexity: c"O(1)",
        since: c"1.1.0",
        arity: -5,
        arguments: &[
            arguments::KEY,
            Argument::integer(c"max_burst"),
            Argument::integer(c"count"),
            Argument::integer(c"period"),
            Argument::integer(c"quantity").optional(),
        ],
        ..Facts::OF_TAKING
    };

    fn run(call: &mut Call<'_>) -> Result<Reply, Error> {
        let (limit, quantity) = Args::after_key(call).throttle()?;
        match quantity {
            Some(cost) => {
                let decision = take::<TokenBucket>(call, &limit, Request::all(cost))?;
                let is_limited = decision.granted == 0;
                Ok(reply::throttle(is_limited, decision.retry_after, &decision))
            }
            None => look(call, &limit),
        }
    }
}

/// Returns the answer to a call that takes nothing.
fn look(call: &mut Call<'_>, limit: &Limit) -> Result<Reply, Error> {
    let now = clock::now();
    let key = call.open_to_read(KEY)?;
    let answer = |state: &TokenBucket| -> (Decision, Duration) {
        (state.peek(limit, Units::MIN, now), state.debt_ends_after(limit, now))
    };
    let (decision, debt) = match key.get::<TokenBucket>() {
        Ok(Some(state)) => answer(state),
        none => {
            check_missing(none.err(), &key, now)?;
            answer(&TokenBucket::new())
        }
    };
    counters(TokenBucket::ALGORITHM).add_peek();
    let is_limited = debt > Duration::ZERO;
    Ok(reply::throttle(is_limited, RetryAfter::Wait(debt), &decision))
}
