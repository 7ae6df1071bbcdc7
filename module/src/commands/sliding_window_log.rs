//! RATELIMIT.SW: takes units from a sliding window log.
//!
//! ```text
//! RATELIMIT.SW key limit window [COST cost] [PARTIAL]
//! ```
//!
//! Grants the call when `cost` (1 unless given) and what was granted in the last `window` seconds
//! are at most `limit`. With PARTIAL it takes what there is when that is less. Answers granted,
//! limit, remaining, retry_after_ms and reset_after_ms. Constant cost, amortised over the grants;
//! logarithmic in the log's length when denied.

use limiter::{Limiter, SlidingWindowLog};

use crate::args::{Args, Syntax};
use crate::clock;
use crate::commands::{KEY, arguments, take};
use crate::error::Error;
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::{Access, Callers, Facts, Keys};
use crate::reply::Reply;

/// RATELIMIT.SW.
pub(crate) struct TakeSlidingWindowLog;

impl Command for TakeSlidingWindowLog {
    const FACTS: Facts = Facts {
        name: c"ratelimit.sw",
        summary: c"Takes units from a sliding window log.",
        complexity: c"O(1), amortised over the grants; O(log(N)) when denied, where N is the \
                     number of grants in the log.",
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
            arguments::COST,
            arguments::PARTIAL,
        ],
    };

    fn run(call: &Call<'_>) -> Result<Reply, Error> {
        let (limit, request) =
            Args::after_key(call).limit(SlidingWindowLog::ALGORITHM, Syntax::Take)?;
        Ok(take::<SlidingWindowLog>(call, KEY, &limit, request, clock::now())?.into())
    }
}
