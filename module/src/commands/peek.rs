//! RATELIMIT.PEEK: the reply that a call which takes units would get, without taking any.
//!
//! ```text
//! RATELIMIT.PEEK key TB limit window [BURST capacity] [COST cost]
//! RATELIMIT.PEEK key SW limit window [RESOLUTION seconds] [COST cost]
//! RATELIMIT.PEEK key FW limit WINDOW [COST cost]
//! ```
//!
//! Returns the same five integers: `granted` is the number of units that the call would take;
//! `remaining` and `reset_after_ms` are those of the unchanged key. Works on a read-only replica.
//! Constant cost for a bucket or a fixed window, logarithmic in its length for a log.

use crate::args::Args;
use crate::clock;
use crate::commands::arguments;
use crate::commands::decision::{KEY, peek};
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::{Callers, Facts, KeyUsage, Keys};
use crate::ffi::error::Error;
use crate::ffi::reply::Reply;
use crate::info::counters;
use crate::reply;

/// RATELIMIT.PEEK.
pub(crate) struct Peek;

impl Command for Peek {
    const FACTS: Facts = Facts {
        name: c"ratelimit.peek",
        summary: c"Returns the reply of RATELIMIT.TB, RATELIMIT.SW or RATELIMIT.FW without taking units.",
        complexity: c"O(1) for a token bucket or a fixed window; O(log(N)) for a sliding window log, where N is the \
                     number of grants in it.",
        since: c"1.0.0",
        flags: c"readonly fast",
        callers: Callers::Users,
        categories: c"read fast",
        tips: Some(c"nondeterministic_output"),
        arity: -5,
        keys: Keys::First(KeyUsage::Read),
        arguments: &[arguments::KEY, arguments::EITHER_LIMIT],
    };

    fn run(call: &mut Call<'_>) -> Result<Reply, Error> {
        let request = Args::after_key(call).request()?;
        let now = clock::now();
        let decision = peek(&call.open_to_read(KEY)?, &request, now)?;
        counters(request.quota.algorithm()).add_peek();
        Ok(reply::decision(&decision))
    }
}
