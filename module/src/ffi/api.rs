//! The functions of the server that the module cannot do without.
//!
//! The server hands its functions over as pointers that may be missing. All that the module needs
//! are checked once, when it is loaded, so that a call costs no check.

use std::ffi::{c_int, c_void};
use std::ptr;

use redis_module::{Context, Status, raw};

macro_rules! required {
    ($($function:ident),+ $(,)?) => {
        /// Every function that [`api!`] may name; naming another does not compile.
        #[allow(non_camel_case_types, reason = "the names are the server's")]
        #[allow(dead_code, reason = "they only need to exist")]
        #[derive(Clone, Copy)]
        pub(crate) enum Required { $($function),+ }

        /// The name of a function that this server does not have, if there is one.
        fn missing() -> Option<&'static str> {
            $(
                // SAFETY: the pointers are written once, before the module's own code runs.
                if unsafe { raw::$function }.is_none() {
                    return Some(stringify!($function));
                }
            )+
            None
        }
    };
}

required!(
    RedisModule_ACLCheckCommandPermissions,
    RedisModule_CloseKey,
    RedisModule_CreateCommand,
    RedisModule_CreateDataType,
    RedisModule_CreateString,
    RedisModule_DeleteKey,
    RedisModule_DigestAddStringBuffer,
    RedisModule_DigestEndSequence,
    RedisModule_EmitAOF,
    RedisModule_Free,
    RedisModule_FreeModuleUser,
    RedisModule_FreeServerInfo,
    RedisModule_FreeString,
    RedisModule_GetClientId,
    RedisModule_GetClientUserNameById,
    RedisModule_GetCommand,
    RedisModule_GetContextFlags,
    RedisModule_GetModuleUserFromUserName,
    RedisModule_GetNotifyKeyspaceEvents,
    RedisModule_GetSelectedDb,
    RedisModule_GetServerInfo,
    RedisModule_InfoAddFieldULongLong,
    RedisModule_InfoAddSection,
    RedisModule_IsIOError,
    RedisModule_IsKeysPositionRequest,
    RedisModule_KeyAtPos,
    RedisModule_KeyType,
    RedisModule_LoadConfigs,
    RedisModule_LoadStringBuffer,
    RedisModule_LogIOError,
    RedisModule_MallocSize,
    RedisModule_ModuleTypeGetType,
    RedisModule_ModuleTypeGetValue,
    RedisModule_ModuleTypeSetValue,
    RedisModule_NotifyKeyspaceEvent,
    RedisModule_OpenKey,
    RedisModule_RegisterInfoFunc,
    RedisModule_RegisterNumericConfig,
    RedisModule_Replicate,
    RedisModule_ReplicateVerbatim,
    RedisModule_ReplyWithArray,
    RedisModule_ReplyWithError,
    RedisModule_ReplyWithLongLong,
    RedisModule_ReplyWithSimpleString,
    RedisModule_ReplyWithStringBuffer,
    RedisModule_SaveStringBuffer,
    RedisModule_ServerInfoGetFieldUnsigned,
    RedisModule_SetAbsExpire,
    RedisModule_SetCommandInfo,
    RedisModule_SetModuleOptions,
    RedisModule_SignalModifiedKey,
    RedisModule_StringPtrLen,
    RedisModule_SubscribeToServerEvent,
    RedisModule_UnlinkKey,
    RedisModule_WrongArity,
);

/// The server's function of that name, to be called at once and so within `unsafe`.
///
/// Taking it is sound: `prepare` refused to load the module unless every required function is
/// there, and the pointers do not change afterwards.
macro_rules! api {
    ($function:ident) => {{
        let _ = $crate::ffi::api::Required::$function;
        redis_module::raw::$function.unwrap_unchecked()
    }};
}
pub(crate) use api;

/// Checks that the server has what the module needs, and tells it what the module handles.
///
/// Must have succeeded before any command or data type is registered.
pub(crate) fn prepare(ctx: &Context) -> Status {
    if let Some(function) = missing() {
        ctx.log_warning(&format!(
            "ratelimit needs Redis 7.0 or later, or Valkey: this server has no {function}"
        ));
        return Status::Err;
    }
    // Read errors are handled: a malformed payload is refused instead of stopping the server.
    // Loading during asynchronous replication is handled: the module has no state outside keys.
    // No implicit signal: a key that was opened for writing and not written must not fail a WATCH.
    let mut options = raw::REDISMODULE_OPTIONS_HANDLE_IO_ERRORS
        | raw::REDISMODULE_OPTIONS_HANDLE_REPL_ASYNC_LOAD
        | raw::REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED;
    // Atomic slot migration is handled: again, there is no state outside keys.
    if is_valkey() {
        options |= VALKEY_HANDLES_ATOMIC_SLOT_MIGRATION;
    }
    // SAFETY: the context is that of the running OnLoad.
    unsafe { api!(RedisModule_SetModuleOptions)(ctx.ctx, options.cast_signed()) };
    Status::Ok
}

/// An option of Valkey's own: no Redis knows this bit, and one might give it another meaning.
const VALKEY_HANDLES_ATOMIC_SLOT_MIGRATION: u32 = 1 << 5;

/// Whether the server has its functions under Valkey's names too.
fn is_valkey() -> bool {
    // SAFETY: the pointer is written once, before the module's own code runs.
    let Some(find) = (unsafe { raw::RedisModule_GetApi }) else {
        return false;
    };
    let mut function: *mut c_void = ptr::null_mut();
    // SAFETY: the name is a C string; the server writes one pointer, or none.
    let status =
        unsafe { find(c"ValkeyModule_SetModuleOptions".as_ptr(), (&raw mut function).cast()) };
    status == raw::REDISMODULE_OK as c_int
}

/// The server's own microseconds since the epoch, or `None` where it does not offer them.
pub(crate) fn cached_micros() -> Option<u64> {
    // SAFETY: the pointer is written once, before the module's own code runs.
    let cached = unsafe { raw::RedisModule_CachedMicroseconds }?;
    // SAFETY: the function has no requirements.
    Some(u64::try_from(unsafe { cached() }).unwrap_or(0))
}
