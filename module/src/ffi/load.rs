//! The entry point of the module, and the proof that the server is loading it.

use std::ffi::{CStr, c_int};

use redis_module::alloc::RedisAlloc;
use redis_module::{Context, RedisString, Status, decode_args, raw};

use super::api::Api;

/// All memory comes from the server, which counts and bounds it.
#[global_allocator]
static ALLOCATOR: RedisAlloc = RedisAlloc;

const NAME: &CStr = c"ratelimit";

/// The version that MODULE LIST reports: 1.2.3 as 10203.
const VERSION: c_int = match (
    c_int::from_str_radix(env!("CARGO_PKG_VERSION_MAJOR"), 10),
    c_int::from_str_radix(env!("CARGO_PKG_VERSION_MINOR"), 10),
    c_int::from_str_radix(env!("CARGO_PKG_VERSION_PATCH"), 10),
) {
    (Ok(major), Ok(minor @ 0..100), Ok(patch @ 0..100)) => major * 10_000 + minor * 100 + patch,
    _ => panic!("this version does not fit into one number"),
};

/// The running load of the module. Registration demands it, so that nothing can be registered
/// before the server's functions have been checked, nor after the load.
pub(crate) struct Loading {
    ctx: *mut raw::RedisModuleCtx,
    api: Api,
    arguments: Vec<RedisString>,
}

/// The error of a load that is refused. The reason is in the server's log.
#[derive(Debug)]
pub(crate) struct LoadRefused;

impl Loading {
    /// The context of the running OnLoad.
    pub(super) fn ctx(&self) -> *mut raw::RedisModuleCtx {
        self.ctx
    }

    /// The proof that the server has all required functions.
    pub(super) fn api(&self) -> Api {
        self.api
    }

    /// Returns the arguments that the operator gave the module.
    pub(crate) fn arguments(&self) -> Vec<&[u8]> {
        self.arguments.iter().map(RedisString::as_slice).collect()
    }

    /// Logs the reason for which the load is refused.
    pub(crate) fn refuse(&self, reason: &str) -> LoadRefused {
        refuse(self.ctx, reason)
    }
}

/// Defines the function that the server calls when it loads the module. The function checks the
/// server, and calls the named one with the [`Loading`].
macro_rules! entry_point {
    ($init:path) => {
        /// # Safety
        ///
        /// Only for the server to call, with the context and the arguments of the running load.
        #[unsafe(no_mangle)]
        #[allow(unsafe_code, reason = "this is code of `ffi`: the server looks for a symbol")]
        #[allow(non_snake_case, reason = "the server looks for this name")]
        unsafe extern "C" fn RedisModule_OnLoad(
            ctx: *mut redis_module::raw::RedisModuleCtx,
            argv: *mut *mut redis_module::raw::RedisModuleString,
            argc: std::ffi::c_int,
        ) -> std::ffi::c_int {
            // SAFETY: the contract of the caller is that of `load`.
            unsafe { $crate::ffi::load::load(ctx, argv, argc, $init) }
        }
    };
}
pub(crate) use entry_point;

/// Loads the module.
///
/// # Safety
///
/// The pointers must be those that the server passed to the running OnLoad.
pub(crate) unsafe fn load(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
    init: fn(&Loading) -> Result<(), LoadRefused>,
) -> c_int {
    // Nothing may be allocated before this: it also fetches the allocator.
    // SAFETY: the caller vouches for the context; the name is a C string.
    let status = unsafe {
        raw::Export_RedisModule_Init(
            ctx,
            NAME.as_ptr(),
            VERSION,
            raw::REDISMODULE_APIVER_1 as c_int,
        )
    };
    let loaded = if status == raw::REDISMODULE_OK as c_int {
        // SAFETY: the caller vouches for the pointers.
        unsafe { loading(ctx, argv, argc) }.and_then(|loading| init(&loading))
    } else {
        // The name is taken: there is no other reason. Redis 7.0 logs none.
        Err(refuse(
            ctx,
            "ratelimit is loaded already, and a server loads it once: leave loadmodule out of the \
             configuration file or of the command line (CONFIG REWRITE writes it into the file)",
        ))
    };
    (if loaded.is_ok() { Status::Ok } else { Status::Err }) as c_int
}

/// Checks that the server has all required functions, and sets the module options.
///
/// # Safety
///
/// As for [`load`], after `Export_RedisModule_Init` has succeeded.
unsafe fn loading(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> Result<Loading, LoadRefused> {
    let api = Api::of_server().map_err(|function| {
        let rule = "ratelimit needs Redis 7.0 or later, or Valkey";
        refuse(ctx, &format!("{rule}: this server has no {function}"))
    })?;
    // SAFETY: the caller vouches for the context.
    unsafe { api.set_options(ctx) };
    Ok(Loading { ctx, api, arguments: decode_args(ctx, argv, argc) })
}

fn refuse(ctx: *mut raw::RedisModuleCtx, reason: &str) -> LoadRefused {
    Context::new(ctx).log_warning(reason);
    LoadRefused
}
