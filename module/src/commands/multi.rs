//! RATELIMIT.MULTI: takes units from several keys, or from none of them.
//!
//! ```text
//! RATELIMIT.MULTI numkeys key [key ...] limit-of-key-1 [limit-of-key-2 ...]
//!
//! a limit:  TB limit window [BURST capacity] [COST cost]
//!           SW limit window [RESOLUTION seconds] [COST cost]
//!           FW limit WINDOW [COST cost]
//! ```
//!
//! Grants the call if every key would grant its cost, at one and the same time. Returns 1 if the
//! call was granted and 0 if it took nothing, then five integers for each key, in the order of the
//! keys: those of RATELIMIT.TB, RATELIMIT.SW or RATELIMIT.FW if the call was granted, else those of
//! RATELIMIT.PEEK. Costs as much as one of these calls for each key.

use crate::args::Args;
use crate::clock;
use crate::commands::all_or_none::{count_denials, record_grants, take};
use crate::commands::arguments;
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::{Argument, Callers, Facts, KeyUsage, Keys};
use crate::ffi::error::Error;
use crate::ffi::reply::Reply;
use crate::reply;

/// RATELIMIT.MULTI.
pub(crate) struct Multi;

impl Command for Multi {
    const FACTS: Facts = Facts {
        name: c"ratelimit.multi",
        summary: c"Takes units from several keys, or from none of them.",
        complexity:
            c"O(N) where N is the number of keys, times what RATELIMIT.TB, RATELIMIT.SW or \
                     RATELIMIT.FW costs for each.",
        since: c"1.0.0",
        flags: c"write deny-oom fast",
        callers: Callers::Users,
        categories: c"write fast",
        tips: Some(c"nondeterministic_output"),
        arity: -6,
        keys: Keys::Counted {
            first: None,
            number: 1,
            usage: KeyUsage::Update,
            find: |call| Args::after_name(call).keys().ok(),
        },
        arguments: &[
            Argument::integer(c"numkeys"),
            arguments::KEY.multiple(),
            arguments::EITHER_LIMIT.multiple(),
        ],
    };

    /// All keys are open before any is changed, so that an error leaves them as they were. All are
    /// closed before the first change is published, so that no other code changes one in between.
    fn run(call: &mut Call<'_>) -> Result<Reply, Error> {
        let mut args = Args::after_name(call);
        let names = args.keys()?;
        let requests = args.requests(names.range().len())?;
        let now = clock::now();
        let mut keys = call.open_all_to_write(&names)?;
        let outcome = take(&mut keys, &requests, now)?;
        drop(keys);
        if outcome.granted {
            record_grants(call, names.range(), &requests, &outcome);
        } else {
            count_denials(call, names.range(), &requests, &outcome, now);
        }
        Ok(reply::decisions(outcome.granted, outcome.decisions()))
    }
}
