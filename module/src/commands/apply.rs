//! RATELIMIT.APPLY: makes a change that was decided elsewhere.
//!
//! ```text
//! RATELIMIT.APPLY key payload
//! ```
//!
//! What replicas and the append-only file receive in place of the commands that were called; see
//! [`replicate`] for the payload. It is not meant for clients, who can call it all the same: any
//! other payload is refused, and the key is left as it was.
//!
//! A payload of a newer version in the append-only file ends the process, as a newer value in a
//! snapshot does: a server that started without those grants would grant them again. At all other
//! times no bytes stop the server.

use std::ffi::CStr;

use limiter::codec::{Change, DecodeError};
use limiter::{Algorithm, Instant, SlidingWindowLog, TokenBucket, Units, Window};

use crate::commands::{KEY, arguments, is_limiter};
use crate::error::Error;
use crate::replicate;
use crate::reply::Reply;
use crate::server::call::Call;
use crate::server::command::Command;
use crate::server::command_info::{Access, Argument, Callers, Facts, Keys};
use crate::server::data_type::DataType;
use crate::server::key::{Key, Mode};

/// RATELIMIT.APPLY.
pub(crate) struct Apply;

impl Command for Apply {
    const FACTS: Facts = Facts {
        name: replicate::APPLY,
        summary: c"Makes a change that was decided elsewhere; not for clients.",
        complexity: c"O(1) for a change; O(N) for a whole sliding window log, where N is the \
                     number of grants in it.",
        since: c"1.0.0",
        // Not deny-oom: what the primary has granted must not be refused elsewhere.
        flags: c"write fast",
        callers: Callers::Servers,
        categories: c"admin dangerous",
        tips: None,
        arity: 3,
        keys: Keys::First(Access::Write),
        arguments: &[arguments::KEY, Argument::string(c"payload")],
    };

    fn run(call: &Call<'_>) -> Result<Reply, Error> {
        let payload = call.arg(2).ok_or(Error::WrongArity)?;
        let (expiry_millis, change) = replicate::parse(payload).map_err(|error| match error {
            DecodeError::NewerVersion(_) if call.is_from_append_only_file() => {
                call.end_process(NEWER_IN_FILE)
            }
            DecodeError::NewerVersion(_) => Error::argument(NEWER),
            DecodeError::Malformed => Error::argument(MALFORMED),
        })?;
        let mut key = call.open(KEY, Mode::Write)?;
        match change {
            Change::TokenBucket(bucket) => replace::<TokenBucket>(&mut key, bucket)?,
            Change::SlidingWindowLog(log) => replace::<SlidingWindowLog>(&mut key, log)?,
            Change::Grant { time, window, units } => grant(&mut key, time, window, units)?,
            Change::Refund { time, units } => refund(&mut key, time, units)?,
            Change::Deletion => delete(&mut key)?,
        }
        if expiry_millis > 0 {
            key.expire_at(expiry_millis);
        }
        replicate::verbatim(call);
        key.signal_modified();
        Ok(Reply::Ok)
    }
}

const MALFORMED: &CStr = c"ERR payload must be one that ratelimit has sent to this key's replicas";
const NEWER: &CStr = c"ERR payload was sent by a newer version of ratelimit: upgrade this server's";
const NEWER_IN_FILE: &str = "the append-only file has a change that was stored by a newer version \
                             of ratelimit: upgrade the module of this server";

fn replace<T: DataType>(key: &mut Key<'_>, value: T) -> Result<(), Error> {
    match key.get_mut::<T>()? {
        Some(stored) => *stored = value,
        None => key.set(value),
    }
    Ok(())
}

fn grant(key: &mut Key<'_>, time: Instant, window: Window, units: Units) -> Result<(), Error> {
    let replay = |log: &mut SlidingWindowLog| {
        log.replay(window, units, time).then_some(()).ok_or(Error::argument(MALFORMED))
    };
    match key.get_mut()? {
        Some(log) => replay(log),
        None => {
            let mut log = SlidingWindowLog::new();
            replay(&mut log)?;
            key.set(log);
            Ok(())
        }
    }
}

/// Leaves a key of another type alone, which can only be a mistake.
fn delete(key: &mut Key<'_>) -> Result<(), Error> {
    if is_limiter(key) {
        key.delete();
    } else if !key.is_missing() {
        return Err(Error::WrongType);
    }
    Ok(())
}

/// A refund that leaves nothing travels as a deletion, so this one must leave something.
fn refund(key: &mut Key<'_>, time: Instant, units: Units) -> Result<(), Error> {
    match key.get_mut::<SlidingWindowLog>()? {
        Some(log) if log.refundable(time) > units.get() => {
            log.refund(units, time);
            Ok(())
        }
        _ => Err(Error::argument(MALFORMED)),
    }
}
