//! RATELIMIT.TOP: which keys were denied most lately.
//!
//! ```text
//! RATELIMIT.TOP [COUNT count]
//! ```
//!
//! Answers an array of [key, denials], most denied first, then by their bytes: `count` of them (10
//! unless given) or as many as are known. It knows the keys of the selected database that were
//! denied by this server, be it a primary or a replica, since it was started. Denials halve at
//! every full minute, rounded down, and a key without any is no longer listed. Neither grants nor
//! RATELIMIT.PEEK count.
//!
//! At most `ratelimit.top-keys` keys are kept, of all databases together. While more than that are
//! denied, those that are denied most stay, and of the denials of a key those are not shown that it
//! had before it was kept; see [`limiter::TopKeys`] for what that can miss. Of a key only the first
//! 512 bytes are kept, and longer keys with the same beginning are listed as one.
//!
//! RATELIMIT.RESET makes a key be forgotten. Deleting, renaming or expiry do not, nor do FLUSHALL
//! and SWAPDB: what was denied, was denied. Nothing is listed while `ratelimit.top-keys` is 0.
//!
//! It shows names of keys to whoever may call it, whatever keys they may use, so that it is a
//! command for operators, as SLOWLOG is; on Redis 7.0, which has no access categories for commands
//! of modules, a caller must have the right to SLOWLOG GET as well. Costs as much as there are keys.

use crate::args::Args;
use crate::clock;
use crate::error::Error;
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::{Argument, Callers, Facts, Keys};
use crate::reply::Reply;
use crate::top_keys;

/// RATELIMIT.TOP.
pub(crate) struct Top;

impl Command for Top {
    const FACTS: Facts = Facts {
        name: c"ratelimit.top",
        summary: c"The keys that were denied most lately, with their denials.",
        complexity: c"O(N*log(N)) where N is the number of keys that are kept, at most \
                     ratelimit.top-keys.",
        since: c"1.0.0",
        // Not readonly, which would let all in who may read: it reads no key.
        flags: c"admin allow-loading allow-stale",
        callers: Callers::Operators,
        categories: c"admin slow dangerous",
        tips: Some(c"nondeterministic_output request_policy:all_nodes"),
        arity: -1,
        keys: Keys::None,
        arguments: &[Argument::integer(c"count").after(c"COUNT").optional()],
    };

    fn run(call: &Call<'_>) -> Result<Reply, Error> {
        let count = Args::after_name(call).count()?;
        Ok(Reply::Counts(top_keys::top(call.database(), count, clock::now())))
    }
}
