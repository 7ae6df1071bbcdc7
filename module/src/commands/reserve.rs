//! RATELIMIT.RESERVE: takes estimated costs from several keys, or from none of them, and stores a
//! reservation, with which RATELIMIT.SETTLE corrects them once.
//!
//! ```text
//! RATELIMIT.RESERVE reservation ttl numkeys key [key ...] limit-of-key-1 [limit-of-key-2 ...]
//!
//! a limit:  as in RATELIMIT.MULTI; COST is the estimate
//! ```
//!
//! Grants the call as RATELIMIT.MULTI does, and sends the same reply. The reservation is the value
//! of a key of its own, in the slot of the other keys, and ends after `ttl` seconds. Estimates that
//! are not settled until then stay taken.
//!
//! A call that is repeated while the reservation lives takes nothing. The reply is that of a grant,
//! with what remains of each key now. The end of the reservation moves to `ttl` seconds from now,
//! unless it is later already. With other keys or limits the call is an error. Costs as much as
//! RATELIMIT.MULTI.

use std::ffi::CStr;

use limiter::{
    Decision, Estimate, Instant, Reservation, ReservationEffect, RetryAfter, Settle, Window,
};

use crate::args::{Args, KeyRequest};
use crate::clock;
use crate::commands::all_or_none::{count_denials, record_grants, take};
use crate::commands::arguments;
use crate::commands::decision::peek_as_it_is;
use crate::commands::reservation::{RESERVATION, expiry_millis, find, record};
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::{Argument, Callers, Facts, KeyUsage, Keys};
use crate::ffi::error::Error;
use crate::ffi::key::{WriteKey, WriteKeys};
use crate::ffi::reply::Reply;
use crate::info;
use crate::reply;
use crate::types::with_quota;

/// RATELIMIT.RESERVE.
pub(crate) struct Reserve;

impl Command for Reserve {
    const FACTS: Facts = Facts {
        name: c"ratelimit.reserve",
        summary: c"Takes estimated costs from several keys, or from none, to be settled once.",
        complexity:
            c"O(N) where N is the number of keys, times what RATELIMIT.TB, RATELIMIT.SW or \
                      RATELIMIT.FW costs for each.",
        since: c"1.1.0",
        flags: c"write deny-oom fast",
        callers: Callers::Users,
        categories: c"write fast",
        tips: Some(c"nondeterministic_output"),
        arity: -8,
        keys: Keys::Counted {
            first: Some(KeyUsage::Update),
            number: 3,
            usage: KeyUsage::Update,
            find: |call| Args::from(call, 3).keys_beside(RESERVATION).ok(),
        },
        arguments: &[
            arguments::RESERVATION,
            arguments::TTL,
            Argument::integer(c"numkeys"),
            arguments::KEYS_OF_RESERVATION,
            arguments::EITHER_LIMIT.multiple(),
        ],
    };

    /// All keys are open before any is changed, so that an error leaves them as they were. All are
    /// closed before the first change is published, so that no other code changes one in between.
    fn run(call: &mut Call<'_>) -> Result<Reply, Error> {
        let mut args = Args::after_key(call);
        let ttl = args.ttl()?;
        let names = args.keys_beside(RESERVATION)?;
        let requests = args.requests(names.range().len())?;
        let given: Vec<_> = names.range().filter_map(|index| call.arg(index)).collect();
        let now = clock::now();
        let mut keys = call.open_all_to_write(&names)?;
        if let Some(reservation) = find(keys.get(requests.len())?, now)? {
            let calls = given.iter().copied().zip(&requests);
            if !reservation.is_of(calls.map(|(key, of)| (key, of.request.cost, &of.quota))) {
                return Err(Error::argument(OTHER));
            }
            let decisions = present(&mut keys, &requests, now)?;
            let extension = extend(keys.get(requests.len())?, ttl, now)?;
            drop(keys);
            if let Some(effect) = extension {
                record(call, effect);
            }
            info::reservations().add_repetition();
            return Ok(reply::decisions(true, decisions.iter()));
        }
        let outcome = take(&mut keys, &requests, now)?;
        if outcome.granted {
            let reservation = store(&mut keys, &given, &requests, ttl, now)?;
            drop(keys);
            record_grants(call, names.range(), &requests, &outcome);
            record(call, ReservationEffect::Whole(reservation));
            info::reservations().add_grant();
        } else {
            drop(keys);
            count_denials(call, names.range(), &requests, &outcome, now);
            info::reservations().add_denial();
        }
        Ok(reply::decisions(outcome.granted, outcome.decisions()))
    }
}

const OTHER: &CStr = c"ERR reservation exists with other keys or limits";
const NO_STATE: Error = Error::Internal(c"ERR internal error: a grant has left no state");

/// Returns the decisions of a repeated call: what was granted, and what remains now.
fn present(
    keys: &mut WriteKeys<'_>,
    requests: &[KeyRequest],
    now: Instant,
) -> Result<Vec<Decision>, Error> {
    let mut decisions = Vec::with_capacity(requests.len());
    for (position, request) in requests.iter().enumerate() {
        // The window of a fixed window may have passed since the grant.
        let decision = peek_as_it_is(keys.get(position)?, request, now)?;
        let granted = request.request.cost.get();
        decisions.push(Decision { granted, retry_after: RetryAfter::Granted, ..decision });
    }
    Ok(decisions)
}

/// Moves the end of a reservation. Returns the effect if the end has moved.
fn extend(
    key: &mut WriteKey<'_>,
    ttl: Window,
    now: Instant,
) -> Result<Option<ReservationEffect>, Error> {
    let Some(reservation) = key.get_mut::<Reservation>()? else { return Ok(None) };
    let effect = reservation.extend(ttl, now);
    let end = reservation.end();
    if effect.is_some() {
        key.expire_at(expiry_millis(end));
    }
    Ok(effect)
}

/// Stores the reservation of grants that have just been made.
fn store(
    keys: &mut WriteKeys<'_>,
    given: &[&[u8]],
    requests: &[KeyRequest],
    ttl: Window,
    now: Instant,
) -> Result<Reservation, Error> {
    let mut estimates = Vec::with_capacity(requests.len());
    for (position, (name, KeyRequest { quota, request })) in given.iter().zip(requests).enumerate()
    {
        let key = keys.get(position)?;
        let origin = with_quota!(quota, T, limit => {
            key.get::<T>()?.and_then(|state| state.origin(limit)).ok_or(NO_STATE)?
        });
        estimates.push(Estimate { key: name.to_vec(), cost: request.cost, origin });
    }
    let reservation = Reservation::new(estimates, ttl, now).ok_or(NO_STATE)?;
    let key = keys.get(requests.len())?;
    key.set(reservation.clone())?;
    key.expire_at(expiry_millis(reservation.end()));
    Ok(reservation)
}
