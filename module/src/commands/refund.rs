//! RATELIMIT.REFUND: gives back units that were taken and not used.
//!
//! ```text
//! RATELIMIT.REFUND key amount
//! ```
//!
//! Returns the number of units that were given back: at most the used units as the latest grant
//! counts them, where any part of a unit counts as one, and 0 for a missing key. A log gives back
//! its newest grants first. When the whole quota is back, the key is deleted. Constant cost,
//! amortised over the grants.

use limiter::{Duration, Instant, Limiter, Units};

use crate::args::Args;
use crate::clock;
use crate::commands::arguments;
use crate::commands::change::{Change, REFUND_EVENT, record, record_deletion};
use crate::commands::decision::{KEY, check_missing};
use crate::commands::expiry::Expiry;
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::{Argument, Callers, Facts, KeyUsage, Keys};
use crate::ffi::data_type::DataType;
use crate::ffi::error::Error;
use crate::ffi::key::WriteKey;
use crate::ffi::reply::Reply;
use crate::info::counters;
use crate::replicate;
use crate::types::{Kind, with_state};

/// RATELIMIT.REFUND.
pub(crate) struct Refund;

impl Command for Refund {
    const FACTS: Facts = Facts {
        name: c"ratelimit.refund",
        summary: c"Gives back units that were taken and not used.",
        complexity: c"O(1), amortised over the grants.",
        since: c"1.0.0",
        flags: c"write fast",
        callers: Callers::Users,
        categories: c"write fast",
        tips: Some(c"nondeterministic_output"),
        arity: 3,
        keys: Keys::First(KeyUsage::Update),
        arguments: &[arguments::KEY, Argument::integer(c"amount")],
    };

    fn run(call: &mut Call<'_>) -> Result<Reply, Error> {
        let amount = Args::after_key(call).amount()?;
        let now = clock::now();
        let key = call.open_to_write(KEY)?;
        let refunded = match Kind::of(&key) {
            Some(Kind::Limiter(algorithm)) => with_state!(algorithm, T => {
                let outcome = refund::<T>(key, amount, now)?;
                record_refund::<T>(call, outcome)
            }),
            None if key.is_missing() => 0,
            // What these keys hold is given back by commands of their own.
            Some(Kind::Leases | Kind::Reservation) | None => {
                check_missing(Some(Error::WrongType), &key, now)?;
                0
            }
        };
        Ok(Reply::Integer(i64::from(refunded)))
    }
}

/// The outcome of a refund.
enum Outcome<E> {
    /// No units were given back.
    Nothing,
    /// Units were given back.
    Part(Units, Change<E>),
    /// Units were given back, and the key was deleted, because no unit is used.
    Rest(Units),
}

/// Gives units back to a key, and closes the key.
fn refund<T: DataType + Limiter>(
    mut key: WriteKey<'_>,
    amount: Units,
    now: Instant,
) -> Result<Outcome<T::Effect>, Error> {
    let Some(state) = key.get_mut::<T>()? else {
        return Ok(Outcome::Nothing);
    };
    let refund = state.refund(amount, now);
    let Some(refunded) = Units::new(u64::from(refund.refunded)) else {
        return Ok(Outcome::Nothing);
    };
    if refund.reset_after == Duration::ZERO {
        key.delete();
        return Ok(Outcome::Rest(refunded));
    }
    let effect = state.effect_of_refund(refunded, now);
    let expiry = Expiry::of_changed(state, now, refund.reset_after);
    expiry.set(&mut key);
    Ok(Outcome::Part(refunded, Change { expiry_millis: expiry.millis, effect }))
}

/// Publishes and counts a refund. Returns the number of units.
fn record_refund<T: Limiter>(call: &mut Call<'_>, outcome: Outcome<T::Effect>) -> u32 {
    let refunded = match outcome {
        Outcome::Nothing => return 0,
        Outcome::Part(refunded, Change { expiry_millis, effect }) => {
            let payload = || replicate::payload::<T>(expiry_millis, &effect);
            record(call, KEY, REFUND_EVENT, payload);
            refunded
        }
        Outcome::Rest(refunded) => {
            call.notify(KEY, REFUND_EVENT);
            record_deletion(call, KEY);
            refunded
        }
    };
    counters(T::ALGORITHM).add_refund(refunded.get());
    refunded.get()
}
