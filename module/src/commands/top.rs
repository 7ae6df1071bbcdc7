//! RATELIMIT.TOP: the keys with the most recent denials.
//!
//! ```text
//! RATELIMIT.TOP [COUNT count]
//! ```
//!
//! Returns an array of [key, denials], most denials first, then by bytes of the keys: at most
//! `count` of them (default: 10). The keys are those of the selected database that this server has
//! denied since it was started, as a primary or as a replica. Denials halve at every full minute,
//! rounded down, and a key without any is no longer listed. Neither grants nor RATELIMIT.PEEK
//! count.
//!
//! At most `ratelimit.top-keys` keys are counted, of all databases together. If more keys are
//! denied, those with the most denials stay, and a key's denials before it was counted are not
//! listed; see [`limiter::TopKeys`] for the error that this can cause. Keys are counted by their
//! first 512 bytes, so that longer keys with the same beginning are listed as one.
//!
//! RATELIMIT.RESET removes a key from the list. Deletion, renaming, expiry, FLUSHALL and SWAPDB do
//! not, because they do not undo denials. The list is empty while `ratelimit.top-keys` is 0.
//!
//! The list contains names of keys to which the caller may have no right. So this is a command for
//! operators, as SLOWLOG is. Redis 7.0 has no access categories for commands of modules; there the
//! caller must have the right to SLOWLOG GET as well. Costs as much as there are keys.

use crate::args::Args;
use crate::clock;
use crate::commands::arguments;
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::{Callers, Facts, Keys};
use crate::ffi::error::Error;
use crate::ffi::reply::Reply;
use crate::top_keys;

/// The number of keys that are listed without the option COUNT.
const DEFAULT_COUNT: u32 = 10;

/// RATELIMIT.TOP.
pub(crate) struct Top;

impl Command for Top {
    const FACTS: Facts = Facts {
        name: c"ratelimit.top",
        summary: c"Lists the keys with the most recent denials.",
        complexity: c"O(N*log(N)) where N is the number of keys that are counted, at most \
                     ratelimit.top-keys.",
        since: c"1.0.0",
        // Not readonly, which would permit the command to every user with a right to read. The
        // command reads no key.
        flags: c"admin allow-loading allow-stale",
        callers: Callers::Operators,
        categories: c"admin slow dangerous",
        tips: Some(c"nondeterministic_output request_policy:all_nodes"),
        arity: -1,
        keys: Keys::None,
        arguments: &[arguments::COUNT],
    };

    fn run(call: &mut Call<'_>) -> Result<Reply, Error> {
        let count = Args::after_name(call).count(DEFAULT_COUNT)?;
        Ok(Reply::Counts(top_keys::top(call.database(), count, clock::now())))
    }
}
