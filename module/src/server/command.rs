//! A command as the rest of the module sees it, and its registration.

use std::ffi::{CStr, c_int};

use redis_module::{Context, Status, raw};

use super::api::api;
use super::call::Call;
use crate::error::Error;
use crate::reply::Reply;

/// A command: its facts, and what it does.
pub(crate) trait Command {
    /// Its name, in lower case.
    const NAME: &'static CStr;
    /// The server's flags for it, separated by spaces.
    const FLAGS: &'static CStr;
    /// Which of its arguments are keys.
    const KEYS: Keys;

    /// Runs one call of it. An error must leave everything as it was.
    fn run(call: &Call<'_>) -> Result<Reply, Error>;
}

/// Which arguments are keys.
pub(crate) enum Keys {
    /// The first one.
    First,
    /// All of them.
    All,
    /// As many as the first argument says, behind it.
    Counted,
}

/// Registers a command with the server.
pub(crate) fn register<C: Command>(ctx: &Context) -> Status {
    let (first, last, step) = match C::KEYS {
        Keys::First => (1, 1, 1),
        Keys::All => (1, -1, 1),
        Keys::Counted => (0, 0, 0),
    };
    // SAFETY: the context is that of the running OnLoad, the strings are static.
    let status = unsafe {
        api!(RedisModule_CreateCommand)(
            ctx.ctx,
            C::NAME.as_ptr(),
            Some(run::<C>),
            C::FLAGS.as_ptr(),
            first,
            last,
            step,
        )
    };
    if status != raw::REDISMODULE_OK as c_int {
        ctx.log_warning(&format!("cannot register the command {}", C::NAME.to_string_lossy()));
        return Status::Err;
    }
    Status::Ok
}

/// The callback of a command.
extern "C" fn run<C: Command>(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: the pointers are those that the server passed, and the call is dropped on return.
    let call = unsafe { Call::new(ctx, argv, argc) };
    call.reply(C::run(&call))
}
