//! RATELIMIT.FW: takes units from a fixed window.
//!
//! ```text
//! RATELIMIT.FW key limit WINDOW [COST cost] [PARTIAL | FORCE]
//!
//! WINDOW:  window [ANCHOR unix-seconds]
//!          DAY | WEEK | MONTH | YEAR
//!          FROM unix-seconds UNTIL unix-seconds
//! ```
//!
//! Grants the call if `cost` (default: 1) and the units of the present window are at most `limit`.
//! Windows are `window` seconds long and counted from the Unix epoch or an anchor; or days, weeks,
//! months or years of UTC; or the one that the caller gives, which must contain the server's time.
//! With PARTIAL, grants the available units if they are fewer; with FORCE, takes `cost` in every
//! case. Returns granted, limit, remaining, retry_after_ms and reset_after_ms. Constant cost.

use limiter::FixedWindow;

use crate::args::{Args, Syntax};
use crate::commands::arguments;
use crate::commands::change::take;
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::Facts;
use crate::ffi::error::Error;
use crate::ffi::reply::Reply;
use crate::reply;

/// RATELIMIT.FW.
pub(crate) struct TakeFixedWindow;

impl Command for TakeFixedWindow {
    const FACTS: Facts = Facts {
        name: c"ratelimit.fw",
        summary: c"Takes units from a fixed window.",
        complexity: c"O(1)",
        since: c"1.1.0",
        arity: -4,
        arguments: &[
            arguments::KEY,
            arguments::LIMIT,
            arguments::PERIOD,
            arguments::COST,
            arguments::MODE,
        ],
        ..Facts::OF_TAKING
    };

    fn run(call: &mut Call<'_>) -> Result<Reply, Error> {
        let (limit, request) = Args::after_key(call).fixed_window(Syntax::Take)?;
        take::<FixedWindow>(call, &limit, request).map(|decision| reply::decision(&decision))
    }
}
