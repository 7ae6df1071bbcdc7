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
//! * `ffi`: the server's C API made safe, and all unsafe code.

mod args;
mod clock;
mod commands;
mod config;
mod error;
mod ffi;
mod info;
mod replicate;
mod reply;
mod top_keys;
mod types;

use redis_module::{Context, RedisString, Status};

use ffi::{api, command, replication};

/// Registers everything that the module adds to the server, which calls this when it loads it.
///
/// No step that can fail may follow a step with an effect that stays after a refused load. Of such
/// a load the server itself removes the commands, the settings, the data types, the section of
/// INFO and the options. Redis 7.0 does not remove subscriptions to events, command filters and
/// subscriptions to notifications: it would call into a library that it has unmapped, at the next
/// fork for example (redis/redis#12808). So the subscriptions come last, and undo themselves when
/// one of them fails.
fn init(ctx: &Context, arguments: &[RedisString]) -> Status {
    let Some(defaults) = config::defaults(ctx, arguments) else {
        return Status::Err;
    };
    let steps = [
        api::prepare,
        types::register,
        command::add_category,
        command::register::<commands::TakeTokenBucket>,
        command::register::<commands::TakeSlidingWindowLog>,
        command::register::<commands::Multi>,
        command::register::<commands::Peek>,
        command::register::<commands::Refund>,
        command::register::<commands::Reset>,
        command::register::<commands::Top>,
        command::register::<commands::Apply>,
        ffi::info::register,
    ];
    let registered = steps.iter().all(|step| step(ctx) == Status::Ok)
        && config::register(ctx, defaults) == Status::Ok;
    if !registered {
        return Status::Err;
    }
    replication::watch_audience(ctx)
}
