//! The entry point of the module, and the proof that the server is loading it.

use std::ffi::{CStr, c_int};
use std::slice;

use super::api::{Api, api};
use super::{log, raw};

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
    arguments: Vec<Vec<u8>>,
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
        self.arguments.iter().map(Vec::as_slice).collect()
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
            ctx: *mut $crate::ffi::raw::RedisModuleCtx,
            argv: *mut *mut $crate::ffi::raw::RedisModuleString,
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
    let is_registered =
        unsafe { raw::initialize(ctx, NAME, VERSION, raw::REDISMODULE_APIVER_1 as c_int) };
    let loaded = if is_registered {
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
    (if loaded.is_ok() { raw::REDISMODULE_OK } else { raw::REDISMODULE_ERR }) as c_int
}

/// Checks that the server has all required functions, and sets the module options.
///
/// # Safety
///
/// As for [`load`], after `initialize` has succeeded.
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
    let arguments = (0..usize::try_from(argc).unwrap_or_default()).map(|index| {
        let mut len = 0;
        // SAFETY: the caller vouches for the array of `argc` strings.
        let string = unsafe { *argv.add(index) };
        // SAFETY: the string is an argument of the running load.
        let bytes = unsafe { api!(api, RedisModule_StringPtrLen)(string, &raw mut len) };
        // SAFETY: the server returns the address of `len` bytes.
        unsafe { slice::from_raw_parts(bytes.cast::<u8>(), len) }.to_vec()
    });
    Ok(Loading { ctx, api, arguments: arguments.collect() })
}

fn refuse(ctx: *mut raw::RedisModuleCtx, reason: &str) -> LoadRefused {
    log::warn(ctx, reason);
    LoadRefused
}
