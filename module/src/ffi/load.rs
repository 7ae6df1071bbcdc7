//! What the server calls when it loads the module.

use std::ffi::{CStr, c_int};

use redis_module::alloc::RedisAlloc;
use redis_module::{Context, Status, decode_args, raw};

/// All memory comes from the server, which counts it and can bound it.
#[global_allocator]
static ALLOCATOR: RedisAlloc = RedisAlloc;

const NAME: &CStr = c"ratelimit";

/// The version that MODULE LIST shows: 1.2.3 as 10203.
const VERSION: c_int = match (
    c_int::from_str_radix(env!("CARGO_PKG_VERSION_MAJOR"), 10),
    c_int::from_str_radix(env!("CARGO_PKG_VERSION_MINOR"), 10),
    c_int::from_str_radix(env!("CARGO_PKG_VERSION_PATCH"), 10),
) {
    (Ok(major), Ok(minor @ 0..100), Ok(patch @ 0..100)) => major * 10_000 + minor * 100 + patch,
    _ => panic!("this version cannot be told as one number"),
};

/// # Safety
///
/// Only for the server to call, with the context and the arguments of a module that is loaded.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the server looks for this name")]
unsafe extern "C" fn RedisModule_OnLoad(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    // Nothing may be allocated before this: the allocator is among what it fetches.
    // SAFETY: the context is the server's, the name a C string.
    let status = unsafe {
        raw::Export_RedisModule_Init(
            ctx,
            NAME.as_ptr(),
            VERSION,
            raw::REDISMODULE_APIVER_1 as c_int,
        )
    };
    let ctx = Context::new(ctx);
    if status != raw::REDISMODULE_OK as c_int {
        // The one reason is that the name is taken. Redis 7.0 logs none.
        ctx.log_warning(
            "ratelimit is loaded already, and a server loads it once: leave loadmodule out of the \
             configuration file or of the command line (CONFIG REWRITE writes it into the file)",
        );
        return Status::Err as c_int;
    }
    crate::init(&ctx, &decode_args(ctx.ctx, argv, argc)) as c_int
}
