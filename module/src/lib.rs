//! Rate limiting commands for Redis and Valkey, on native data types.
//!
//! This file is the index: the settings, the data types and the commands. What decides is the
//! pure crate `limiter`; this one supplies its state and its time, and makes the result durable.
//!
//! * `commands`: one file per command: semantics, syntax, facts, run.
//! * `args`: text to validated limits; `reply`: decisions to replies; `error`: what is refused.
//! * `types`: the data types, one per algorithm.
//! * `replicate`: what leaves this server, and when nothing does.
//! * `info`: what INFO shows; `top_keys`: the keys that were denied most lately.
//! * `clock`: the one place where time is read; `config`: the settings.
//! * `server`: the server's C API made safe, and all unsafe code.

mod args;
mod clock;
mod commands;
mod config;
mod error;
mod info;
mod replicate;
mod reply;
mod server;
mod top_keys;
mod types;

use limiter::{SlidingWindowLog, TokenBucket};
use redis_module::{Context, RedisString, Status};

use server::{api, command, data_type, replication};

/// Registers everything that the module adds to the server, which calls this when it loads it.
fn init(ctx: &Context, arguments: &[RedisString]) -> Status {
    let steps = [
        api::prepare,
        replication::watch_audience,
        data_type::register::<TokenBucket>,
        data_type::register::<SlidingWindowLog>,
        command::add_category,
        command::register::<commands::TakeTokenBucket>,
        command::register::<commands::TakeSlidingWindowLog>,
        command::register::<commands::Multi>,
        command::register::<commands::Peek>,
        command::register::<commands::Refund>,
        command::register::<commands::Reset>,
        command::register::<commands::Top>,
        command::register::<commands::Apply>,
        server::info::register,
    ];
    if steps.iter().any(|step| step(ctx) == Status::Err) {
        return Status::Err;
    }
    config::register(ctx, arguments)
}
