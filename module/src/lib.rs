//! Rate limiting commands for Redis and Valkey, on native data types.
//!
//! This file is the index: the settings, the data types and the commands. The pure crate `limiter`
//! decides; this crate supplies state and time, and makes the result durable.
//!
//! Each file imports only files below it in this list.
//!
//! * `commands`: one file per command: semantics, syntax, facts, run.
//! * `types`: the data types, one for each kind of key.
//! * `args`: arguments to validated limits; `reply`: decisions to replies.
//! * `info`: the section of INFO.
//! * `replicate`: the effects that replicas and the append-only file receive.
//! * `config`: the settings; `top_keys`: the keys with the most recent denials; `fences`: the
//!   highest fence.
//! * `clock`: the only place where time is read; `number`: numbers from text.
//! * `ffi`: the server's C API made safe, and all unsafe code.

#![deny(unsafe_code)]

mod args;
mod clock;
mod commands;
mod config;
mod fences;
#[allow(unsafe_code, reason = "all unsafe code of the module is in this directory")]
mod ffi;
mod info;
mod number;
mod replicate;
mod reply;
mod top_keys;
mod types;

use ffi::load::{LoadRefused, Loading};
use ffi::{command, replication};

ffi::load::entry_point!(init);

/// Registers everything that the module adds to the server.
///
/// No step that can fail may follow a step with an effect that stays after a refused load. After
/// such a load the server itself removes the commands, the settings, the data types, the section of
/// INFO and the options. Redis 7.0 does not remove subscriptions to events, command filters and
/// subscriptions to notifications: it would call into a library that it has unmapped, at the next
/// fork for example (redis/redis#12808). So the subscriptions come last, and undo themselves when
/// one of them fails.
fn init(load: &Loading) -> Result<(), LoadRefused> {
    let arguments = config::arguments(load)?;
    types::register(load)?;
    command::add_category(load);
    command::register::<commands::TakeTokenBucket>(load)?;
    command::register::<commands::TakeSlidingWindowLog>(load)?;
    command::register::<commands::TakeFixedWindow>(load)?;
    command::register::<commands::Multi>(load)?;
    command::register::<commands::Peek>(load)?;
    command::register::<commands::Refund>(load)?;
    command::register::<commands::Reset>(load)?;
    command::register::<commands::Acquire>(load)?;
    command::register::<commands::Renew>(load)?;
    command::register::<commands::Release>(load)?;
    command::register::<commands::Holders>(load)?;
    command::register::<commands::Reserve>(load)?;
    command::register::<commands::SettleReservation>(load)?;
    command::register::<commands::Top>(load)?;
    command::register::<commands::Apply>(load)?;
    if arguments.has_cl_throttle {
        command::register::<commands::Throttle>(load)?;
    }
    ffi::info::register::<info::Ratelimit>(load)?;
    config::register(load, &arguments)?;
    replication::subscribe(load)
}
