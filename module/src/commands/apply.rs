//! RATELIMIT.APPLY: applies an effect that another server has decided.
//!
//! ```text
//! RATELIMIT.APPLY key payload
//! ```
//!
//! Replicas and the append-only file receive this command in place of the commands that clients
//! called; see [`replicate`] for the payload. Clients can call it too, though it is not meant for
//! them: any other payload is refused, and the key stays as it was.
//!
//! A payload in the append-only file that is damaged or of a newer version ends the process, as such
//! a value in a snapshot does: a server that started without those grants would grant them again. A
//! payload that can be read and does not fit the state of its key is left out, with a line in the
//! log: it is no damage when the server has failed to append a change before it. At all other times
//! no bytes stop the server.

use std::ffi::CStr;

use limiter::codec::DecodeError;
use limiter::{
    Effect, FixedWindow, Instant, LeaseEffect, Leases, Limiter, Refused, Reservation,
    SlidingWindowLog, Stored, TokenBucket,
};

use crate::commands::arguments;
use crate::commands::change::{
    ACQUIRE_EVENT, GRANT_EVENT, REFUND_EVENT, RELEASE_EVENT, RENEW_EVENT,
};
use crate::commands::decision::{KEY, check_missing};
use crate::commands::expiry::UNKNOWN;
use crate::fences;
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::{Argument, Callers, Facts, KeyUsage, Keys};
use crate::ffi::data_type::DataType;
use crate::ffi::error::Error;
use crate::ffi::key::WriteKey;
use crate::ffi::reply::Reply;
use crate::replicate;
use crate::types::Kind;

/// RATELIMIT.APPLY.
pub(crate) struct Apply;

impl Command for Apply {
    const FACTS: Facts = Facts {
        name: replicate::APPLY,
        summary: c"Applies the effect of a call on another server; not for clients.",
        complexity: c"O(1) for a change; O(N) for a whole sliding window log, where N is the \
                     number of grants in it.",
        since: c"1.0.0",
        // Not deny-oom: what the primary has granted must not be refused elsewhere.
        flags: c"write fast",
        callers: Callers::Servers,
        categories: c"admin dangerous",
        tips: None,
        arity: 3,
        keys: Keys::First(KeyUsage::Write),
        arguments: &[arguments::KEY, Argument::string(c"payload")],
    };

    fn run(call: &mut Call<'_>) -> Result<Reply, Error> {
        let payload = call.arg(2).ok_or(Error::WrongArity)?;
        let (expiry_millis, effect) = replicate::parse(payload).map_err(|error| match error {
            DecodeError::NewerVersion(_) if call.is_from_append_only_file() => {
                call.end_process(NEWER_IN_FILE)
            }
            DecodeError::Malformed if call.is_from_append_only_file() => {
                call.end_process(DAMAGED_IN_FILE)
            }
            DecodeError::NewerVersion(_) => Error::argument(NEWER),
            DecodeError::Malformed => Error::argument(MALFORMED),
        })?;
        let event = change(call, effect, expiry_millis).inspect_err(|_| {
            if call.is_from_append_only_file() {
                call.log_warning(UNFIT_IN_FILE);
            }
        })?;
        replicate::verbatim(call);
        call.signal_modified(KEY);
        // A value without its expiry is part of a copy, and has no event.
        if let Some(event) = event.filter(|_| expiry_millis > 0) {
            call.notify(KEY, event);
        }
        Ok(Reply::Ok)
    }
}

/// Changes the key by an effect. Returns the key event of the call that has made the effect, if there
/// is one that this server sends.
fn change(
    call: &mut Call<'_>,
    effect: Effect,
    expiry_millis: u64,
) -> Result<Option<&'static CStr>, Error> {
    let key = call.open_to_write(KEY)?;
    let time = effect.time();
    Ok(match effect {
        Effect::TokenBucket(effect) => {
            let event = event_of_limiter::<TokenBucket>;
            Some(apply(key, effect, event, time, expiry_millis)?)
        }
        Effect::SlidingWindowLog(effect) => {
            let event = event_of_limiter::<SlidingWindowLog>;
            Some(apply(key, effect, event, time, expiry_millis)?)
        }
        Effect::Leases(effect) => {
            let fence = effect.highest_fence();
            let event = apply::<Leases>(key, effect, event_of_leases, time, expiry_millis)?;
            fences::observe(fence);
            Some(event)
        }
        Effect::FixedWindow(effect) => {
            let event = event_of_limiter::<FixedWindow>;
            Some(apply(key, effect, event, time, expiry_millis)?)
        }
        Effect::Reservation(effect) => {
            apply::<Reservation>(key, effect, |_, _| NO_EVENT, time, expiry_millis)?;
            None
        }
        Effect::Deletion => {
            if delete(key)? {
                call.notify_deletion(KEY);
            }
            None
        }
    })
}

/// The changes of a reservation are no key events.
const NO_EVENT: &CStr = c"";

const MALFORMED: &CStr = c"ERR payload must be one that ratelimit has sent to this key's replicas";
const NEWER: &CStr = c"ERR payload was sent by a newer version of ratelimit: upgrade this server's";
const NEWER_IN_FILE: &str = "the append-only file has a change that was stored by a newer version \
                             of ratelimit: upgrade the module of this server";
const DAMAGED_IN_FILE: &str = "the append-only file has a change whose bytes are damaged: use another \
                               copy of the file";
const UNFIT_IN_FILE: &str = "the append-only file has a change that does not fit the value of its \
                             key, and was left out: a change before it is missing or damaged";

/// Applies an effect that was made at `time` to the state of a key, or to a new state if the key is
/// missing. Returns the key event of the call that has made the effect.
fn apply<T: DataType>(
    mut key: WriteKey<'_>,
    effect: T::Effect,
    event: EventOf<T>,
    time: Instant,
    expiry_millis: u64,
) -> Result<&'static CStr, Error> {
    let event = match key.get_mut::<T>() {
        Ok(Some(state)) => apply_to(state, effect, event)?,
        none => {
            check_missing(none.err(), &key, time)?;
            let mut state = T::default();
            let event = apply_to(&mut state, effect, event)?;
            key.set(state)?;
            event
        }
    };
    if expiry_millis > 0 {
        key.expire_at(expiry_millis);
    }
    Ok(event)
}

/// Returns the key event of an effect, to which the state is the one before.
type EventOf<T> = fn(&T, &<T as Stored>::Effect) -> &'static CStr;

fn event_of_limiter<T: Limiter>(state: &T, effect: &T::Effect) -> &'static CStr {
    if state.is_refund(effect) { REFUND_EVENT } else { GRANT_EVENT }
}

fn event_of_leases(_: &Leases, effect: &LeaseEffect) -> &'static CStr {
    match effect {
        LeaseEffect::Whole(_) | LeaseEffect::Acquisition { .. } => ACQUIRE_EVENT,
        LeaseEffect::Renewal { .. } => RENEW_EVENT,
        LeaseEffect::Release { .. } => RELEASE_EVENT,
    }
}

fn apply_to<T: DataType>(
    state: &mut T,
    effect: T::Effect,
    event: EventOf<T>,
) -> Result<&'static CStr, Error> {
    let event = event(state, &effect);
    state.apply(effect).map_err(|Refused| Error::argument(MALFORMED))?;
    // The expiry comes with the effect, and is another one than that of an earlier call.
    state.set_note(UNKNOWN);
    Ok(event)
}

/// Deletes a key, and returns whether there was one. Refuses a key of another type: that can only
/// be a mistake.
fn delete(mut key: WriteKey<'_>) -> Result<bool, Error> {
    if Kind::of(&key).is_some() {
        key.delete();
        return Ok(true);
    }
    if key.is_missing() { Ok(false) } else { Err(Error::WrongType) }
}
