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

use std::ffi::CStr;

use limiter::SlidingWindowLog;

use crate::args::{Args, Syntax};
use crate::clock;
use crate::commands::{KEY, take};
use crate::error::Error;
use crate::reply::Reply;
use crate::server::call::Call;
use crate::server::command::{Command, Keys};

/// RATELIMIT.SW.
pub(crate) struct TakeSlidingWindowLog;

impl Command for TakeSlidingWindowLog {
    const NAME: &'static CStr = c"ratelimit.sw";
    const FLAGS: &'static CStr = c"write deny-oom fast";
    const KEYS: Keys = Keys::First;

    fn run(call: &Call<'_>) -> Result<Reply, Error> {
        let (limit, demand) = Args::after_key(call).window_limit(&Syntax::TAKE_SLIDING_WINDOW)?;
        Ok(take::<SlidingWindowLog>(call, KEY, &limit, demand, clock::now())?.into())
    }
}
