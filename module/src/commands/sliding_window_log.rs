//! RATELIMIT.SW: takes units from a sliding window log.
//!
//! ```text
//! RATELIMIT.SW key limit window [RESOLUTION seconds] [COST cost] [PARTIAL | FORCE]
//! ```
//!
//! Grants the call if `cost` (default: 1) and the units of the last `window` seconds are at most
//! `limit`. With PARTIAL, grants the available units if they are fewer; with FORCE, takes `cost` in
//! every case. With RESOLUTION, grants within one tick of so many seconds share an entry, which
//! bounds the memory of the log. Returns granted, limit, remaining, retry_after_ms and
//! reset_after_ms. Constant cost, amortised over the grants; logarithmic in the log's length for a
//! denied call.

use limiter::SlidingWindowLog;

use crate::args::{Args, Syntax};
use crate::commands::arguments;
use crate::commands::change::take;
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::Facts;
use crate::ffi::error::Error;
use crate::ffi::reply::Reply;
use crate::reply;

/// RATELIMIT.SW.
pub(crate) struct TakeSlidingWindowLog;

impl Command for TakeSlidingWindowLog {
    const FACTS: Facts = Facts {
        name: c"ratelimit.sw",
        summary: c"Takes units from a sliding window log.",
        complexity: c"O(1), amortised over the grants; O(log(N)) when denied, where N is the \
                     number of grants in the log.",
        since: c"1.0.0",
        arity: -4,
        arguments: &[
            arguments::KEY,
            arguments::LIMIT,
            arguments::WINDOW,
            arguments::RESOLUTION,
            arguments::COST,
            arguments::MODE,
        ],
        ..Facts::OF_TAKING
    };

    fn run(call: &mut Call<'_>) -> Result<Reply, Error> {
        let (limit, request) = Args::after_key(call).sliding_window(Syntax::Take)?;
        take::<SlidingWindowLog>(call, &limit, request).map(|decision| reply::decision(&decision))
    }
}
