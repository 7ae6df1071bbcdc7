//! RATELIMIT.TB: takes units from a token bucket.
//!
//! ```text
//! RATELIMIT.TB key limit window [BURST capacity] [COST cost] [PARTIAL]
//! ```
//!
//! Grants the call when `cost` (1 unless given) fits into what is left of `capacity` (`limit`
//! unless given), which comes back at `limit` units per `window` seconds. With PARTIAL it takes
//! what there is when that is less. Answers granted, capacity, remaining, retry_after_ms and
//! reset_after_ms. Constant cost.

use limiter::{Limiter, TokenBucket};

use crate::args::{Args, Syntax};
use crate::clock;
use crate::commands::{KEY, arguments, take};
use crate::error::Error;
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::{Access, Callers, Facts, Keys};
use crate::reply::Reply;

/// RATELIMIT.TB.
pub(crate) struct TakeTokenBucket;

impl Command for TakeTokenBucket {
    const FACTS: Facts = Facts {
        name: c"ratelimit.tb",
        summary: c"Takes units from a token bucket.",
        complexity: c"O(1)",
        since: c"1.0.0",
        flags: c"write deny-oom fast",
        callers: Callers::Users,
        categories: c"write fast",
        tips: Some(c"nondeterministic_output"),
        arity: -4,
        keys: Keys::First(Access::Update),
        arguments: &[
            arguments::KEY,
            arguments::LIMIT,
            arguments::WINDOW,
            arguments::BURST,
            arguments::COST,
            arguments::PARTIAL,
        ],
    };

    fn run(call: &Call<'_>) -> Result<Reply, Error> {
        let (limit, request) = Args::after_key(call).limit(TokenBucket::ALGORITHM, Syntax::Take)?;
        Ok(take::<TokenBucket>(call, KEY, &limit, request, clock::now())?.into())
    }
}
