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

use crate::args::Args;
use crate::clock;
use crate::commands::{KEY, peek};
use crate::error::Error;
use crate::reply::Reply;
use crate::server::call::Call;
use crate::server::command::{Command, Keys};

/// RATELIMIT.PEEK.
pub(crate) struct Peek;

impl Command for Peek {
    const NAME: &'static CStr = c"ratelimit.peek";
    const FLAGS: &'static CStr = c"readonly fast";
    const KEYS: Keys = Keys::First;

    fn run(call: &Call<'_>) -> Result<Reply, Error> {
        let limit = Args::after_key(call).limit()?;
        Ok(peek(call, KEY, &limit, clock::now())?.into())
    }
}
