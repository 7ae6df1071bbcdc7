//! RATELIMIT.RESET: removes limiter keys.
//!
//! ```text
//! RATELIMIT.RESET key [key ...]
//! ```
//!
//! Returns the number of keys that were removed, without those whose state has ended. If one of the
//! keys is of another type, none is removed. Also removes every named key from RATELIMIT.TOP,
//! whether or not the key exists. Costs as much as there are keys; large logs are freed in the
//! background.

use crate::clock;
use crate::commands::arguments;
use crate::commands::change::record_deletion;
use crate::commands::decision::has_ended;
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::{Callers, Facts, KeyUsage, Keys};
use crate::ffi::error::Error;
use crate::ffi::reply::Reply;
use crate::top_keys;
use crate::types::Kind;

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
        keys: Keys::All(KeyUsage::Delete),
        arguments: &[arguments::KEY.multiple()],
    };

    /// Every key is opened and checked before any is changed. One key is open at a time, as a call
    /// may name any number of them, and a name more than once.
    fn run(call: &mut Call<'_>) -> Result<Reply, Error> {
        for index in 1..call.len() {
            let key = call.open_to_write(index)?;
            if !key.is_missing() && Kind::of(&key).is_none() {
                return Err(Error::WrongType);
            }
        }
        let now = clock::now();
        let mut removed = 0;
        for index in 1..call.len() {
            let key = call.open_to_write(index)?;
            // A name that is repeated finds no key the second time.
            if Kind::of(&key).is_some() {
                removed += i64::from(!has_ended(&key, now));
                key.delete();
                record_deletion(call, index);
            } else {
                drop(key);
            }
            if let Some(name) = call.arg(index) {
                top_keys::forget(call.database(), name);
            }
        }
        Ok(Reply::Integer(removed))
    }
}
