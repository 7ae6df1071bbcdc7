//! RATELIMIT.RENEW: moves the expiry of leases.
//!
//! ```text
//! RATELIMIT.RENEW key ttl holder [holder ...]
//! RATELIMIT.RENEW key ttl FENCED holder fence [holder fence ...]
//! ```
//!
//! Each lease expires `ttl` seconds from now, unless its expiry is later already. Returns for each
//! holder an array of the fence of its lease and the milliseconds until the lease ends, rounded
//! down; [0, 0] if the lease is lost: it has expired, was released, or has another fence than the
//! one given with FENCED. The word FENCED is never a holder. Logarithmic cost in the number
//! of leases for each holder.

use limiter::{Instant, LeaseEffect, Leases, Renewed, Window};

use crate::args::Args;
use crate::args::leases::NamedLease;
use crate::clock;
use crate::commands::arguments;
use crate::commands::change::RENEW_EVENT;
use crate::commands::decision::KEY;
use crate::commands::expiry::Expiry;
use crate::commands::leases::{expiry_of, leases_of, record_leases};
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::{Callers, Facts, KeyUsage, Keys};
use crate::ffi::error::Error;
use crate::ffi::reply::Reply;
use crate::info::lease_counters;
use crate::reply;

/// RATELIMIT.RENEW.
pub(crate) struct Renew;

impl Command for Renew {
    const FACTS: Facts = Facts {
        name: c"ratelimit.renew",
        summary: c"Moves the expiry of leases.",
        complexity:
            c"O(M*log(N)) where M is the number of holders and N that of the leases of the \
                     key.",
        since: c"1.1.0",
        // Not deny-oom: a lease must not be lost because memory is full.
        flags: c"write fast",
        callers: Callers::Users,
        categories: c"write fast",
        tips: Some(c"nondeterministic_output"),
        arity: -4,
        keys: Keys::First(KeyUsage::Update),
        arguments: &[
            arguments::KEY,
            arguments::TTL,
            arguments::FENCED,
            arguments::NAMED_LEASE.multiple(),
        ],
    };

    fn run(call: &mut Call<'_>) -> Result<Reply, Error> {
        let mut args = Args::after_key(call);
        let (ttl, named) = (args.ttl()?, args.named_leases()?);
        let now = clock::now();
        let mut key = call.open_to_write(KEY)?;
        let (renewed, expiry) = match leases_of(&mut key, now)? {
            Some(leases) => renew(leases, &named, ttl, now),
            None => (named.iter().map(|_| Renewed::LOST).collect(), None),
        };
        if let Some(expiry) = &expiry {
            expiry.set(&mut key);
        }
        drop(key);
        if let Some(expiry) = expiry {
            record_leases(call, RENEW_EVENT, expiry.millis, || {
                let all = named.iter().zip(&renewed);
                let changed = all.filter(|(_, renewed)| renewed.has_changed);
                let holders = changed.map(|(lease, _)| lease.holder).collect();
                LeaseEffect::Renewal { time: now, ttl, holders }
            });
        }
        let lost = renewed.iter().filter(|renewed| renewed.lease.is_none()).count();
        lease_counters().add_renewals(renewed.len() - lost, lost);
        Ok(reply::renewed(&renewed))
    }
}

/// Renews leases. Returns the expiry of the key if one of them was changed.
fn renew(
    leases: &mut Leases,
    named: &[NamedLease],
    ttl: Window,
    now: Instant,
) -> (Vec<Renewed>, Option<Expiry>) {
    let renew = |lease: &NamedLease| leases.renew(&lease.holder, lease.fence, ttl, now);
    let renewed: Vec<_> = named.iter().map(renew).collect();
    let has_changed = renewed.iter().any(|renewed| renewed.has_changed);
    let expiry = has_changed.then(|| expiry_of(leases, now));
    (renewed, expiry)
}
