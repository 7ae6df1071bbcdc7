//! RATELIMIT.RELEASE: ends leases.
//!
//! ```text
//! RATELIMIT.RELEASE key holder [holder ...]
//! RATELIMIT.RELEASE key FENCED holder fence [holder fence ...]
//! ```
//!
//! Returns the number of leases that the call has ended. A lease that has expired or was released,
//! or has another fence than the one given with FENCED, is not one of them. The word FENCED is
//! never a holder. When the last lease has ended, the key is deleted. Logarithmic cost in the number
//! of leases for each holder.

use limiter::{Holder, Instant, LeaseEffect, Stored};

use crate::args::Args;
use crate::args::leases::NamedLease;
use crate::clock;
use crate::commands::arguments;
use crate::commands::change::{RELEASE_EVENT, record_deletion};
use crate::commands::decision::KEY;
use crate::commands::leases::{expiry_of, leases_of, record_leases};
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::{Callers, Facts, KeyUsage, Keys};
use crate::ffi::error::Error;
use crate::ffi::key::WriteKey;
use crate::ffi::reply::Reply;
use crate::info::lease_counters;

/// RATELIMIT.RELEASE.
pub(crate) struct Release;

impl Command for Release {
    const FACTS: Facts = Facts {
        name: c"ratelimit.release",
        summary: c"Ends leases.",
        complexity:
            c"O(M*log(N)) where M is the number of holders and N that of the leases of the \
                     key.",
        since: c"1.1.0",
        // Not deny-oom: a server that is out of memory must be able to free some.
        flags: c"write fast",
        callers: Callers::Users,
        categories: c"write fast",
        tips: Some(c"nondeterministic_output"),
        arity: -3,
        keys: Keys::First(KeyUsage::Update),
        arguments: &[arguments::KEY, arguments::FENCED, arguments::NAMED_LEASE.multiple()],
    };

    fn run(call: &mut Call<'_>) -> Result<Reply, Error> {
        let named = Args::after_key(call).named_leases()?;
        let now = clock::now();
        let key = call.open_to_write(KEY)?;
        let Released { holders, expiry_millis } = release(key, &named, now)?;
        let released = holders.len();
        if released == 0 {
            return Ok(Reply::Integer(0));
        }
        if let Some(expiry_millis) = expiry_millis {
            let effect = || LeaseEffect::Release { time: now, holders };
            record_leases(call, RELEASE_EVENT, expiry_millis, effect);
        } else {
            call.notify(KEY, RELEASE_EVENT);
            record_deletion(call, KEY);
        }
        lease_counters().add_releases(released);
        Ok(Reply::Integer(released as i64))
    }
}

/// The leases that a call has ended.
struct Released {
    /// Their holders, in the order of the call.
    holders: Vec<Holder>,
    /// The expiry of the key; `None` if the key was deleted, or if no lease was ended.
    expiry_millis: Option<u64>,
}

/// Ends leases of a key, and closes the key.
fn release(mut key: WriteKey<'_>, named: &[NamedLease], now: Instant) -> Result<Released, Error> {
    let Some(leases) = leases_of(&mut key, now)? else {
        return Ok(Released { holders: vec![], expiry_millis: None });
    };
    let is_released = |lease: &&NamedLease| leases.release(&lease.holder, lease.fence, now);
    let holders: Vec<_> = named.iter().filter(is_released).map(|lease| lease.holder).collect();
    if holders.is_empty() {
        return Ok(Released { holders, expiry_millis: None });
    }
    if leases.has_ended(now) {
        key.delete();
        return Ok(Released { holders, expiry_millis: None });
    }
    let expiry = expiry_of(leases, now);
    expiry.set(&mut key);
    Ok(Released { holders, expiry_millis: Some(expiry.millis) })
}
