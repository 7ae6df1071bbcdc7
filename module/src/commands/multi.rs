//! RATELIMIT.MULTI: takes units from several keys, or from none of them.
//!
//! ```text
//! RATELIMIT.MULTI numkeys key [key ...] limit-of-key-1 [limit-of-key-2 ...]
//!
//! a limit:  TB limit window [BURST capacity] [COST cost]
//!           SW limit window [COST cost]
//! ```
//!
//! Grants the call when every key would grant its cost, at one and the same time. Answers 1 when it
//! did and 0 when nothing was taken, then five integers for each key, in the order of the keys: as
//! RATELIMIT.TB or RATELIMIT.SW would have answered when granted, as RATELIMIT.PEEK when not. Costs
//! as much as the calls of which it is made.

use limiter::{Decision, Instant, RetryAfter, SlidingWindowLog, TokenBucket};

use crate::args::{Args, Limit};
use crate::clock;
use crate::commands::{arguments, denied, peek, take};
use crate::error::Error;
use crate::reply::Reply;
use crate::server::call::Call;
use crate::server::command::Command;
use crate::server::command_info::{Access, Argument, Callers, Facts, Keys};

/// RATELIMIT.MULTI.
pub(crate) struct Multi;

impl Command for Multi {
    const FACTS: Facts = Facts {
        name: c"ratelimit.multi",
        summary: c"Takes units from several keys, or from none of them.",
        complexity: c"O(N) where N is the number of keys, times what RATELIMIT.TB or RATELIMIT.SW \
                     costs for each.",
        since: c"1.0.0",
        flags: c"write deny-oom fast",
        callers: Callers::Users,
        categories: c"write fast",
        tips: Some(c"nondeterministic_output"),
        arity: -6,
        keys: Keys::Counted(Access::Update),
        arguments: &[
            Argument::integer(c"numkeys"),
            arguments::KEY.multiple(),
            arguments::EITHER_LIMIT.multiple(),
        ],
    };

    fn run(call: &Call<'_>) -> Result<Reply, Error> {
        let mut args = Args::after_name(call);
        let keys = args.keys()?;
        let limits = args.limits(keys.len())?;
        let now = clock::now();
        let decide = |decide: Decide| -> Result<Vec<Decision>, Error> {
            keys.clone().zip(&limits).map(|(key, limit)| decide(call, key, limit, now)).collect()
        };
        // All keys are looked at before any is changed, so that an error leaves them as they were.
        let decisions = decide(peek)?;
        let granted = decisions.iter().all(|key| key.retry_after == RetryAfter::Granted);
        if granted {
            return Ok(Reply::decisions(granted, &decide(take_from)?));
        }
        for ((key, limit), decision) in keys.clone().zip(&limits).zip(&decisions) {
            if decision.retry_after != RetryAfter::Granted {
                denied_by(call, key, limit, now);
            }
        }
        Ok(Reply::decisions(granted, &decisions))
    }
}

type Decide = fn(&Call<'_>, usize, &Limit, Instant) -> Result<Decision, Error>;

fn take_from(call: &Call<'_>, key: usize, limit: &Limit, now: Instant) -> Result<Decision, Error> {
    match limit {
        Limit::TokenBucket(limit, demand) => take::<TokenBucket>(call, key, limit, *demand, now),
        Limit::SlidingWindow(limit, demand) => {
            take::<SlidingWindowLog>(call, key, limit, *demand, now)
        }
    }
}

fn denied_by(call: &Call<'_>, key: usize, limit: &Limit, now: Instant) {
    match limit {
        Limit::TokenBucket(..) => denied::<TokenBucket>(call, key, now),
        Limit::SlidingWindow(..) => denied::<SlidingWindowLog>(call, key, now),
    }
}
