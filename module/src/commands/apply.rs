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
use limiter::{Algorithm, Instant, SlidingWindowLog, Units, Window};

use crate::commands::{GRANT_EVENT, KEY, REFUND_EVENT, arguments, check_missing, is_limiter};
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
        let event = event(&key, &change);
        match change {
            Change::TokenBucket(bucket) => {
                let time = bucket.time();
                replace(&mut key, bucket, time)?;
            }
            Change::SlidingWindowLog(log) => replace(&mut key, log, Instant::EPOCH)?,
            Change::Grant { time, window, units } => grant(&mut key, time, window, units)?,
            Change::Refund { time, units } => refund(&mut key, time, units)?,
            Change::Deletion => delete(&mut key)?,
        }
        if expiry_millis > 0 {
            key.expire_at(expiry_millis);
        }
        replicate::verbatim(call);
        key.signal_modified();
        // A value without its expiry is part of a copy, and a deletion publishes its own event.
        if expiry_millis > 0 {
            key.notify(event);
        }
        Ok(Reply::Ok)
    }
}

const MALFORMED: &CStr = c"ERR payload must be one that ratelimit has sent to this key's replicas";
const NEWER: &CStr = c"ERR payload was sent by a newer version of ratelimit: upgrade this server's";
const NEWER_IN_FILE: &str = "the append-only file has a change that was stored by a newer version \
                             of ratelimit: upgrade the module of this server";

/// The key event of the call that has made this change. A bucket travels whole after grants and
/// after refunds.
fn event(key: &Key<'_>, change: &Change) -> &'static CStr {
    let refund = match change {
        Change::TokenBucket(after) => {
            key.get().is_ok_and(|before| before.is_some_and(|before| after.is_refund_of(before)))
        }
        Change::Refund { .. } => true,
        Change::SlidingWindowLog(_) | Change::Grant { .. } | Change::Deletion => false,
    };
    if refund { REFUND_EVENT } else { GRANT_EVENT }
}

/// Gives a key a value that was made at `time`.
fn replace<T: DataType>(key: &mut Key<'_>, value: T, time: Instant) -> Result<(), Error> {
    match key.get_mut::<T>() {
        Ok(Some(stored)) => *stored = value,
        none => {
            check_missing(none.err(), key, time)?;
            key.set(value);
        }
    }
    Ok(())
}

fn grant(key: &mut Key<'_>, time: Instant, window: Window, units: Units) -> Result<(), Error> {
    let replay = |log: &mut SlidingWindowLog| {
        log.replay(window, units, time).then_some(()).ok_or(Error::argument(MALFORMED))
    };
    match key.get_mut() {
        Ok(Some(log)) => replay(log),
        none => {
            check_missing(none.err(), key, time)?;
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
