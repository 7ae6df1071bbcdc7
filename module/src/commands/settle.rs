//! RATELIMIT.SETTLE: corrects the estimates of a reservation, once, and deletes the reservation.
//!
//! ```text
//! RATELIMIT.SETTLE reservation numkeys key [key ...] [ACTUAL amount [amount ...]]
//! ```
//!
//! The keys are those of the reservation, in the same order, and the amounts are what was really
//! used of each. Units above the estimate are taken now, in every case. Units below it are given
//! back where the estimate still counts: in a log to the entry of its grant, in a fixed window while
//! the state has the same window, in a bucket at most what is used. The rate, the window, the
//! capacity and the resolution of a present state stay as they are. Without ACTUAL the estimates
//! stand.
//!
//! Returns one integer for each key: units that were taken, or, negative, units that were given
//! back. Returns nil if there is no such reservation, because it was settled or has ended: both are
//! final. If one of the keys is of another type, no key is changed. Constant cost for each key.

use std::ffi::CStr;

use limiter::{Correction, Estimate, Instant, Limiter, Settle, Settlement};

use crate::args::Args;
use crate::clock;
use crate::commands::arguments;
use crate::commands::change::{GRANT_EVENT, REFUND_EVENT, record, record_deletion};
use crate::commands::decision::check_missing;
use crate::commands::expiry::Expiry;
use crate::commands::reservation::{RESERVATION, SETTLE_EVENT, find};
use crate::config;
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::{Argument, Callers, Facts, KeyUsage, Keys};
use crate::ffi::data_type::DataType;
use crate::ffi::error::Error;
use crate::ffi::key::{ReadKey, WriteKey};
use crate::ffi::reply::Reply;
use crate::info::{self, counters};
use crate::replicate::{self, Payload};
use crate::types::with_state;

/// RATELIMIT.SETTLE.
pub(crate) struct SettleReservation;

impl Command for SettleReservation {
    const FACTS: Facts = Facts {
        name: c"ratelimit.settle",
        summary: c"Corrects the estimates of a reservation, once.",
        complexity: c"O(N) where N is the number of keys.",
        since: c"1.1.0",
        // Not deny-oom: a server that is out of memory must be able to free some.
        flags: c"write fast",
        callers: Callers::Users,
        categories: c"write fast",
        tips: Some(c"nondeterministic_output"),
        arity: -4,
        keys: Keys::Counted {
            first: Some(KeyUsage::Take),
            number: 2,
            usage: KeyUsage::Update,
            find: |call| Args::from(call, 2).keys_beside(RESERVATION).ok(),
        },
        arguments: &[
            arguments::RESERVATION,
            Argument::integer(c"numkeys"),
            arguments::KEYS_OF_RESERVATION,
            Argument::block(c"actual", AMOUNTS).after(c"ACTUAL").optional(),
        ],
    };

    /// All keys are open and checked before any is changed, so that an error leaves them as they
    /// were. All are closed before the first change is published, so that no other code changes one
    /// in between.
    fn run(call: &mut Call<'_>) -> Result<Reply, Error> {
        let mut args = Args::after_key(call);
        let names = args.keys_beside(RESERVATION)?;
        let actual = args.actual_amounts(names.range().len())?;
        let given: Vec<_> = names.range().filter_map(|index| call.arg(index)).collect();
        let max_entries = config::sliding_window_max_limit()
            .ok_or(Error::Internal(c"ERR internal error: a setting has no value"))?;
        let now = clock::now();
        let mut keys = call.open_all_to_write(&names)?;
        let Some(reservation) = find(keys.get(given.len())?, now)?.cloned() else {
            return Ok(Reply::Null);
        };
        let estimates = reservation.estimates();
        if !estimates.iter().map(|estimate| &estimate.key[..]).eq(given) {
            return Err(Error::argument(OTHER));
        }
        for (position, estimate) in estimates.iter().enumerate() {
            let key = keys.get(position)?;
            with_state!(estimate.origin.algorithm(), T => check::<T>(key, now)?);
        }
        let mut changes = Vec::with_capacity(estimates.len());
        for (position, estimate) in estimates.iter().enumerate() {
            let correction = match actual.as_ref().and_then(|actual| actual.get(position)) {
                Some(&actual) => estimate.correction(actual),
                None => Correction::Nothing,
            };
            let key = keys.get(position)?;
            changes.push(with_state!(estimate.origin.algorithm(), T => {
                settle::<T>(key, estimate, correction, max_entries.get(), now)?
            }));
        }
        keys.get(estimates.len())?.delete();
        drop(keys);
        let settled = names.range().zip(estimates).zip(changes);
        let units =
            settled.map(|((index, estimate), change)| record_change(call, index, estimate, change));
        let units = units.collect();
        call.notify(RESERVATION, SETTLE_EVENT);
        record_deletion(call, RESERVATION);
        info::reservations().add_settlement();
        Ok(Reply::Integers(units))
    }
}

const AMOUNTS: &[Argument] = &[Argument::integer(c"amount").multiple()];

const OTHER: &CStr = c"ERR keys must be those of the reservation, in the same order";

/// The change of one key that has not been published.
enum Change {
    /// The key has not changed.
    Nothing,
    /// Units were taken, or, negative, given back.
    Part(i64, Payload),
    /// Units were given back, and the key was deleted, because no unit is used.
    Rest(i64),
}

/// Checks that a key has a state of one type, or counts as missing.
fn check<T: DataType>(key: &ReadKey<'_>, now: Instant) -> Result<(), Error> {
    check_missing(key.get::<T>().err(), key, now)
}

/// Corrects the estimate of a key.
fn settle<T: DataType + Limiter + Settle>(
    key: &mut WriteKey<'_>,
    estimate: &Estimate,
    correction: Correction,
    max_entries: u32,
    now: Instant,
) -> Result<Change, Error> {
    let settle = |state: &mut T| {
        state.settle(estimate, correction, max_entries, now).ok_or(Error::Internal(OTHER_KIND))
    };
    let (settlement, expiry) = match key.get_mut::<T>() {
        Ok(Some(state)) => {
            let settlement = settle(state)?;
            let has_changed = settlement.effect.is_some();
            let reset_after = settlement.reset_after;
            (settlement, has_changed.then(|| Expiry::of_changed(state, now, reset_after)))
        }
        none => {
            check_missing(none.err(), key, now)?;
            let mut state = T::default();
            let settlement = settle(&mut state)?;
            if settlement.effect.is_some() {
                key.set(state)?;
            }
            let expiry = Expiry::of_new(now, settlement.reset_after);
            (settlement, Some(expiry))
        }
    };
    let Settlement { units, effect, .. } = settlement;
    Ok(match effect.zip(expiry) {
        Some((effect, expiry)) => {
            expiry.set(key);
            Change::Part(units, replicate::payload::<T>(expiry.millis, &effect))
        }
        None if units < 0 => {
            key.delete();
            Change::Rest(units)
        }
        None => Change::Nothing,
    })
}

const OTHER_KIND: &CStr = c"ERR internal error: an estimate is of another kind of state";

/// Publishes and counts the change of the key that an argument names. Returns the units.
fn record_change(call: &mut Call<'_>, index: usize, estimate: &Estimate, change: Change) -> i64 {
    let units = match change {
        Change::Nothing => return 0,
        Change::Part(units, payload) => {
            let event = if units < 0 { REFUND_EVENT } else { GRANT_EVENT };
            record(call, index, event, || payload);
            units
        }
        Change::Rest(units) => {
            call.notify(index, REFUND_EVENT);
            record_deletion(call, index);
            units
        }
    };
    let counters = counters(estimate.origin.algorithm());
    match u32::try_from(units) {
        Ok(taken) => counters.add_grant(taken),
        Err(_) => counters.add_refund(u32::try_from(units.unsigned_abs()).unwrap_or(u32::MAX)),
    }
    units
}
