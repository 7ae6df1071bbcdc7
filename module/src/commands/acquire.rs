//! RATELIMIT.ACQUIRE: takes a lease, which its holder has until it is released or expires.
//!
//! ```text
//! RATELIMIT.ACQUIRE key limit ttl holder [COST cost]
//! ```
//!
//! Grants the call if `cost` (default: 1) and the costs of the live leases of other holders are at
//! most `limit`. The lease expires after `ttl` seconds. The holder of a live lease keeps its fence
//! when it calls again: with the same or a lower cost the call is always granted, and the expiry is
//! the later of both. So a client repeats a call whose answer was lost.
//!
//! Returns granted, limit, remaining, retry_after_ms, reset_after_ms, the fence of the lease (0 if
//! the holder has none) and the milliseconds until the lease ends, rounded down. `retry_after_ms`
//! is the time until enough leases of other holders have expired, and `reset_after_ms` the time
//! until the last lease of the key expires. Logarithmic cost in the number of leases.

use limiter::{Acquired, Acquisition, AcquisitionError, Instant, LeaseEffect, Leases};

use crate::args::Args;
use crate::clock;
use crate::commands::arguments;
use crate::commands::change::ACQUIRE_EVENT;
use crate::commands::decision::{KEY, check_missing, list_denial};
use crate::commands::expiry::Expiry;
use crate::commands::leases::record_leases;
use crate::fences;
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::Facts;
use crate::ffi::error::Error;
use crate::ffi::key::WriteKey;
use crate::ffi::reply::Reply;
use crate::info::lease_counters;
use crate::reply;

/// RATELIMIT.ACQUIRE.
pub(crate) struct Acquire;

impl Command for Acquire {
    const FACTS: Facts = Facts {
        name: c"ratelimit.acquire",
        summary: c"Takes a lease, which its holder has until it is released or expires.",
        complexity: c"O(log(N)) where N is the number of leases of the key.",
        since: c"1.1.0",
        arity: -5,
        arguments: &[
            arguments::KEY,
            arguments::LIMIT,
            arguments::TTL,
            arguments::HOLDER,
            arguments::COST,
        ],
        ..Facts::OF_TAKING
    };

    fn run(call: &mut Call<'_>) -> Result<Reply, Error> {
        let acquisition = Args::after_key(call).acquisition()?;
        let now = clock::now();
        let mut key = call.open_to_write(KEY)?;
        let (acquired, expiry) = acquire(&mut key, &acquisition, now)?;
        drop(key);
        if let (Some(expiry), Some(lease)) = (expiry, acquired.lease) {
            record_leases(call, ACQUIRE_EVENT, expiry.millis, || {
                LeaseEffect::of_acquisition(&acquisition, lease.fence, now)
            });
        }
        match acquired.decision.granted {
            0 => {
                lease_counters().add_denial();
                list_denial(call, KEY, now);
            }
            units => lease_counters().add_grant(units),
        }
        Ok(reply::acquired(&acquired))
    }
}

/// Takes a lease of an open key. Returns the expiry of the key if the call has changed the leases.
#[inline(always)]
fn acquire(
    key: &mut WriteKey<'_>,
    call: &Acquisition,
    now: Instant,
) -> Result<(Acquired, Option<Expiry>), Error> {
    let (acquired, expiry) = match key.get_mut::<Leases>() {
        Ok(Some(leases)) => {
            let acquired = acquire_from(leases, call, now)?;
            if !acquired.has_changed {
                return Ok((acquired, None));
            }
            (acquired, Expiry::of_changed(leases, now, acquired.decision.reset_after))
        }
        none => {
            check_missing(none.err(), key, now)?;
            let mut leases = Leases::new();
            let acquired = acquire_from(&mut leases, call, now)?;
            if !acquired.has_changed {
                return Ok((acquired, None));
            }
            key.set(leases)?;
            (acquired, Expiry::of_new(now, acquired.decision.reset_after))
        }
    };
    expiry.set(key);
    Ok((acquired, Some(expiry)))
}

fn acquire_from(leases: &mut Leases, call: &Acquisition, now: Instant) -> Result<Acquired, Error> {
    leases.acquire(call, &mut fences::lock(), now).map_err(|error| match error {
        AcquisitionError::TooManyLeases => Error::argument(
            c"ERR the key has as many leases as the setting ratelimit.leases-max allows",
        ),
        AcquisitionError::NoFence => {
            Error::argument(c"ERR no fence is left: the highest one, 9007199254740991, was given")
        }
    })
}
