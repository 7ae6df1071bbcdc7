//! RATELIMIT.HOLDERS: the live leases of a key.
//!
//! ```text
//! RATELIMIT.HOLDERS key [COUNT count]
//! ```
//!
//! Returns an array of [holder, cost, milliseconds until the end, fence], the first to end first: at
//! most `count` of them (default: 100). The milliseconds are rounded down. Works on a read-only
//! replica. Logarithmic cost in the number of leases, and constant for each that is listed.

use limiter::{Instant, Lease, Leases};

use crate::args::Args;
use crate::clock;
use crate::commands::arguments;
use crate::commands::decision::{KEY, check_missing};
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::{Callers, Facts, KeyUsage, Keys};
use crate::ffi::error::Error;
use crate::ffi::reply::Reply;
use crate::reply;

/// The number of leases that are listed without the option COUNT.
const DEFAULT_COUNT: u32 = 100;

/// RATELIMIT.HOLDERS.
pub(crate) struct Holders;

impl Command for Holders {
    const FACTS: Facts = Facts {
        name: c"ratelimit.holders",
        summary: c"Lists the live leases of a key.",
        complexity: c"O(log(N)+M) where N is the number of leases of the key and M that of the \
                     leases that are listed.",
        since: c"1.1.0",
        flags: c"readonly fast",
        callers: Callers::Users,
        categories: c"read fast",
        tips: Some(c"nondeterministic_output"),
        arity: -2,
        keys: Keys::First(KeyUsage::Read),
        arguments: &[arguments::KEY, arguments::COUNT],
    };

    fn run(call: &mut Call<'_>) -> Result<Reply, Error> {
        let count = Args::after_key(call).count(DEFAULT_COUNT)?;
        let now = clock::now();
        let key = call.open_to_read(KEY)?;
        let listed = match key.get::<Leases>() {
            Ok(Some(leases)) => list(leases, count, now),
            none => {
                check_missing(none.err(), &key, now)?;
                vec![]
            }
        };
        Ok(reply::holders(&listed, now))
    }
}

/// Returns the live leases that end first, at most `count`.
fn list(leases: &Leases, count: usize, now: Instant) -> Vec<Lease> {
    let mut listed = vec![];
    leases.visit_counted(now, |lease| {
        listed.push(*lease);
        listed.len() < count
    });
    listed
}
