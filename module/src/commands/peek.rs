//! RATELIMIT.PEEK: what RATELIMIT.TB or RATELIMIT.SW would answer, without taking anything.
//!
//! ```text
//! RATELIMIT.PEEK key TB limit window [BURST capacity] [COST cost]
//! RATELIMIT.PEEK key SW limit window [COST cost]
//! ```
//!
//! Answers the same five integers: `granted` is what would be taken, `remaining` and
//! `reset_after_ms` are those of the key as it is. Works on a read-only replica. Constant cost for
//! a bucket, logarithmic in its length for a log.

use std::ffi::CStr;

use limiter::{Decision, Demand, SlidingWindowLog, TokenBucket};

use crate::args::{Args, Syntax};
use crate::clock;
use crate::commands::KEY;
use crate::error::Error;
use crate::reply::Reply;
use crate::server::call::Call;
use crate::server::command::{Command, Keys};
use crate::server::data_type::DataType;
use crate::server::key::Mode;

/// RATELIMIT.PEEK.
pub(crate) struct Peek;

impl Command for Peek {
    const NAME: &'static CStr = c"ratelimit.peek";
    const FLAGS: &'static CStr = c"readonly fast";
    const KEYS: Keys = Keys::First;

    fn run(call: &Call<'_>) -> Result<Reply, Error> {
        let mut args = Args::after_key(call);
        let algorithm = args.next()?;
        let decision = if algorithm.eq_ignore_ascii_case(b"TB") {
            let (limit, demand) = args.bucket_limit(&Syntax::PEEK_TOKEN_BUCKET)?;
            peek::<TokenBucket>(call, &limit, demand)?
        } else if algorithm.eq_ignore_ascii_case(b"SW") {
            let (limit, demand) = args.window_limit(&Syntax::PEEK_SLIDING_WINDOW)?;
            peek::<SlidingWindowLog>(call, &limit, demand)?
        } else {
            return Err(Error::argument(c"ERR algorithm must be TB or SW"));
        };
        Ok(decision.into())
    }
}

fn peek<T: DataType>(call: &Call<'_>, limit: &T::Limit, demand: Demand) -> Result<Decision, Error> {
    let now = clock::now();
    let key = call.open(KEY, Mode::Read)?;
    Ok(match key.get::<T>()? {
        Some(state) => state.peek(limit, demand.cost, now),
        None => T::default().peek(limit, demand.cost, now),
    })
}
