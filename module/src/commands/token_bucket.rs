//! RATELIMIT.TB: takes units from a token bucket.
//!
//! ```text
//! RATELIMIT.TB key limit window [BURST capacity] [COST cost] [PARTIAL]
//! ```
//!
//! Grants the call when `cost` (1 unless given) fits into what is left of `capacity` (`limit`
//! unless given), which comes back at `limit` units per `window` seconds. With PARTIAL it takes
//! what there is when that is less. Answers granted, capacity, remaining, retry_after_ms and
//! reset_after_ms. Constant cost.

use std::ffi::CStr;

use limiter::TokenBucket;

use crate::args::{Args, Syntax};
use crate::clock;
use crate::commands::{KEY, take};
use crate::error::Error;
use crate::reply::Reply;
use crate::server::call::Call;
use crate::server::command::{Command, Keys};

/// RATELIMIT.TB.
pub(crate) struct TakeTokenBucket;

impl Command for TakeTokenBucket {
    const NAME: &'static CStr = c"ratelimit.tb";
    const FLAGS: &'static CStr = c"write deny-oom fast";
    const KEYS: Keys = Keys::First;

    fn run(call: &Call<'_>) -> Result<Reply, Error> {
        let (limit, demand) = Args::after_key(call).bucket_limit(&Syntax::TAKE_TOKEN_BUCKET)?;
        Ok(take::<TokenBucket>(call, KEY, &limit, demand, clock::now())?.into())
    }
}
