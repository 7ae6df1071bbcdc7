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

use limiter::{Decision, Instant, RetryAfter};

use crate::args::{Args, KeyRequest};
use crate::clock;
use crate::commands::{arguments, denied, peek, take};
use crate::error::Error;
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::{Access, Argument, Callers, Facts, Keys};
use crate::reply::Reply;
use crate::types::with_state;

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
        let requests = args.requests(keys.len())?;
        let now = clock::now();
        let decide = |decide: Decide| -> Result<Vec<Decision>, Error> {
            keys.clone()
                .zip(&requests)
                .map(|(key, request)| decide(call, key, request, now))
                .collect()
        };
        // All keys are looked at before any is changed, so that an error leaves them as they were.
        let decisions = decide(peek)?;
        let granted = decisions.iter().all(|key| key.retry_after == RetryAfter::Granted);
        if granted {
            return Ok(Reply::decisions(granted, &decide(take_from)?));
        }
        for ((key, request), decision) in keys.clone().zip(&requests).zip(&decisions) {
            if decision.retry_after != RetryAfter::Granted {
                with_state!(request.algorithm, T => denied::<T>(call, key, now));
            }
        }
        Ok(Reply::decisions(granted, &decisions))
    }
}

type Decide = fn(&Call<'_>, usize, &KeyRequest, Instant) -> Result<Decision, Error>;

fn take_from(
    call: &Call<'_>,
    key: usize,
    request: &KeyRequest,
    now: Instant,
) -> Result<Decision, Error> {
    let KeyRequest { algorithm, limit, request } = request;
    with_state!(*algorithm, T => take::<T>(call, key, limit, *request, now))
}
