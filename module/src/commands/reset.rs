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

use limiter::Instant;

use crate::clock;
use crate::commands::arguments;
use crate::commands::change::record_deletion;
use crate::commands::decision::has_ended;
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::{Callers, Facts, KeyUsage, Keys};
use crate::ffi::error::Error;
use crate::ffi::key::ReadKey;
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

    /// All keys are open before any is changed, so that an error leaves them as they were.
    fn run(call: &mut Call<'_>) -> Result<Reply, Error> {
        let now = clock::now();
        let (indexes, mut keys) = call.open_each_to_write(1..call.len())?;
        let mut removals = Vec::with_capacity(indexes.len());
        for position in 0..indexes.len() {
            removals.push(removal(keys.get(position)?, now)?);
        }
        for (position, _) in removals.iter().enumerate().filter(|(_, removal)| removal.is_some()) {
            keys.get(position)?.delete();
        }
        drop(keys);
        for (&index, removal) in indexes.iter().zip(&removals) {
            if removal.is_some() {
                record_deletion(call, index);
            }
            if let Some(name) = call.arg(index) {
                top_keys::forget(call.database(), name);
            }
        }
        let removed = removals.iter().flatten().filter(|removal| removal.is_live).count();
        Ok(Reply::Integer(removed as i64))
    }
}

/// The removal of a key.
struct Removal {
    /// False if the state has ended: the key counts as missing.
    is_live: bool,
}

/// Returns the removal of a key, or `None` if there is no key.
fn removal(key: &ReadKey<'_>, now: Instant) -> Result<Option<Removal>, Error> {
    match Kind::of(key) {
        Some(_) => Ok(Some(Removal { is_live: !has_ended(key, now) })),
        None if key.is_missing() => Ok(None),
        None => Err(Error::WrongType),
    }
}
