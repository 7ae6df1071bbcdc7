//! RATELIMIT.PEEK: the answer that RATELIMIT.TB or RATELIMIT.SW would give, without taking units.
//!
//! ```text
//! RATELIMIT.PEEK key TB limit window [BURST capacity] [COST cost]
//! RATELIMIT.PEEK key SW limit window [COST cost]
//! ```
//!
//! Answers the same five integers: `granted` is what would be taken, `remaining` and
//! `reset_after_ms` are those of the key as it is. Works on a read-only replica. Constant cost for
//! a bucket, logarithmic in its length for a log.

use crate::args::Args;
use crate::clock;
use crate::commands::{KEY, arguments, peek};
use crate::error::Error;
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::{Access, Callers, Facts, Keys};
use crate::info::counters;
use crate::reply::Reply;

/// RATELIMIT.PEEK.
pub(crate) struct Peek;

impl Command for Peek {
    const FACTS: Facts = Facts {
        name: c"ratelimit.peek",
        summary: c"What RATELIMIT.TB or RATELIMIT.SW would answer, without taking anything.",
        complexity: c"O(1) for a token bucket; O(log(N)) for a sliding window log, where N is the \
                     number of grants in it.",
        since: c"1.0.0",
        flags: c"readonly fast",
        callers: Callers::Users,
        categories: c"read fast",
        tips: Some(c"nondeterministic_output"),
        arity: -5,
        keys: Keys::First(Access::Read),
        arguments: &[arguments::KEY, arguments::EITHER_LIMIT],
    };

    fn run(call: &Call<'_>) -> Result<Reply, Error> {
        let request = Args::after_key(call).request()?;
        let decision = peek(call, KEY, &request, clock::now())?;
        counters(request.algorithm).add_peek();
        Ok(decision.into())
    }
}
