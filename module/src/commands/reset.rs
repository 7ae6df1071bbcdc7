//! RATELIMIT.RESET: removes limiter keys.
//!
//! ```text
//! RATELIMIT.RESET key [key ...]
//! ```
//!
//! Answers how many of the keys there were, without those whose state has ended. If one of them is
//! of another type, none is removed.
//! RATELIMIT.TOP forgets all of them, also those that there were not.
//! Costs as much as there are keys; large logs are freed in the background.

use crate::clock;
use crate::commands::{arguments, has_ended, remove};
use crate::error::Error;
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::{Access, Callers, Facts, Keys};
use crate::ffi::key::Mode;
use crate::reply::Reply;
use crate::top_keys;
use crate::types::algorithm_of;

/// RATELIMIT.RESET.
pub(crate) struct Reset;

impl Command for Reset {
    const FACTS: Facts = Facts {
        name: c"ratelimit.reset",
        summary: c"Removes limiter keys.",
        complexity: c"O(N) where N is the number of keys; large logs are freed in the background.",
        since: c"1.0.0",
        // Not deny-oom: a server that is out of memory must be able to free some.
        flags: c"write fast",
        callers: Callers::Users,
        categories: c"write fast",
        tips: Some(c"request_policy:multi_shard response_policy:agg_sum"),
        arity: -2,
        keys: Keys::All(Access::Delete),
        arguments: &[arguments::KEY.multiple()],
    };

    fn run(call: &Call<'_>) -> Result<Reply, Error> {
        for index in 1..call.len() {
            let key = call.open(index, Mode::Write)?;
            if !key.is_missing() && algorithm_of(&key).is_none() {
                return Err(Error::WrongType);
            }
        }
        let now = clock::now();
        let mut removed = 0;
        for index in 1..call.len() {
            let mut key = call.open(index, Mode::Write)?;
            // A key that was named twice is already gone the second time.
            if algorithm_of(&key).is_some() {
                removed += i64::from(!has_ended(&key, now));
                remove(call, &mut key);
            }
            if let Some(name) = call.arg(index) {
                top_keys::forget(call.database(), name);
            }
        }
        Ok(Reply::Integer(removed))
    }
}
