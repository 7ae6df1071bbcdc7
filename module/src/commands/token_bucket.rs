//! RATELIMIT.TB: takes units from a token bucket.
//!
//! ```text
//! RATELIMIT.TB key limit window [BURST capacity] [COST cost] [PARTIAL | FORCE]
//! ```
//!
//! Grants the call if `cost` units are available (default: 1). At most `capacity` units (default:
//! `limit`) are available at once, and they come back at `limit` units per `window` seconds. With
//! PARTIAL, grants the available units if they are fewer; with FORCE, takes `cost` in every case.
//! Returns granted, capacity, remaining, retry_after_ms and reset_after_ms. Constant cost.

use limiter::TokenBucket;

use crate::args::{Args, Syntax};
use crate::commands::arguments;
use crate::commands::change::take;
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::Facts;
use crate::ffi::error::Error;
use crate::ffi::reply::Reply;
use crate::reply;

/// RATELIMIT.TB.
pub(crate) struct TakeTokenBucket;

impl Command for TakeTokenBucket {
    const FACTS: Facts = Facts {
        name: c"ratelimit.tb",
        summary: c"Takes units from a token bucket.",
        complexity: c"O(1)",
        since: c"1.0.0",
        arity: -4,
        arguments: &[
            arguments::KEY,
            arguments::LIMIT,
            arguments::WINDOW,
            arguments::BURST,
            arguments::COST,
            arguments::MODE,
        ],
        ..Facts::OF_TAKING
    };

    fn run(call: &mut Call<'_>) -> Result<Reply, Error> {
        let (limit, request) = Args::after_key(call).token_bucket(Syntax::Take)?;
        take::<TokenBucket>(call, &limit, request).map(|decision| reply::decision(&decision))
    }
}
