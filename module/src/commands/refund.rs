//! RATELIMIT.REFUND: gives back units that were taken and not used after all.
//!
//! ```text
//! RATELIMIT.REFUND key amount
//! ```
//!
//! Answers how many units were given back: at most what is used as the latest grant counts it, any
//! part of a unit as a whole one, and 0 for a missing key. A log gives back its newest grants
//! first. When the whole quota is back, the key is gone. Constant cost, amortised over the grants.

use limiter::{Duration, Limiter, Units};

use crate::args::Args;
use crate::clock;
use crate::commands::{KEY, REFUND_EVENT, arguments, record, remove};
use crate::error::Error;
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::{Access, Argument, Callers, Facts, Keys};
use crate::ffi::data_type::DataType;
use crate::ffi::key::{Key, Mode};
use crate::info::counters;
use crate::reply::Reply;
use crate::types::{algorithm_of, with_state};

/// RATELIMIT.REFUND.
pub(crate) struct Refund;

impl Command for Refund {
    const FACTS: Facts = Facts {
        name: c"ratelimit.refund",
        summary: c"Gives back units that were taken and not used after all.",
        complexity: c"O(1), amortised over the grants.",
        since: c"1.0.0",
        flags: c"write fast",
        callers: Callers::Users,
        categories: c"write fast",
        tips: Some(c"nondeterministic_output"),
        arity: 3,
        keys: Keys::First(Access::Update),
        arguments: &[arguments::KEY, Argument::integer(c"amount")],
    };

    fn run(call: &Call<'_>) -> Result<Reply, Error> {
        let amount = Args::after_key(call).amount()?;
        let key = call.open(KEY, Mode::Write)?;
        let refunded = match algorithm_of(&key) {
            Some(algorithm) => with_state!(algorithm, T => refund::<T>(call, key, amount)?),
            None if key.is_missing() => 0,
            None => return Err(Error::WrongType),
        };
        Ok(Reply::Integer(i64::from(refunded)))
    }
}

fn refund<T: DataType + Limiter>(
    call: &Call<'_>,
    mut key: Key<'_>,
    amount: Units,
) -> Result<u32, Error> {
    let now = clock::now();
    let Some(state) = key.get_mut::<T>()? else {
        return Ok(0);
    };
    let refund = state.refund(amount, now);
    let Some(refunded) = Units::new(u64::from(refund.refunded)) else {
        return Ok(0);
    };
    if refund.reset_after == Duration::ZERO {
        key.notify(REFUND_EVENT);
        remove(call, &mut key);
    } else {
        let expiry_millis = now.expiry_millis(refund.reset_after);
        let effect = |state: &T| state.effect_of_refund(refunded, now);
        record(call, &mut key, REFUND_EVENT, expiry_millis, effect);
    }
    counters(T::ALGORITHM).add_refund(refund.refunded);
    Ok(refund.refunded)
}
