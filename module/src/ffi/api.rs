//! The functions of the server that the module requires.
//!
//! The server passes its functions as pointers, and a pointer is null if the server lacks the
//! function. [`Api`] is the proof that all required pointers are set, so that no call checks one.

use std::ffi::{c_int, c_void};
use std::ptr;

use super::raw;

/// The proof that the server has every function that [`api!`] may name.
///
/// The pointers are written by `raw::initialize` alone. `load` calls it once, before any
/// other code of the module runs, so that reading a pointer later cannot race with a write.
#[derive(Clone, Copy)]
pub(super) struct Api(());

macro_rules! required {
    ($($function:ident),+ $(,)?) => {
        /// Every function that [`api!`] may name. Naming another one does not compile.
        #[allow(non_camel_case_types, reason = "the names are the server's")]
        #[allow(dead_code, reason = "only the names are used")]
        pub(super) enum Required { $($function),+ }

        impl Api {
            /// Checks that the server has all required functions.
            ///
            /// # Errors
            ///
            /// The name of a function that the server lacks.
            pub(super) fn of_server() -> Result<Self, &'static str> {
                $(
                    // SAFETY: see `Api`: no write can race with this read.
                    if unsafe { raw::$function }.is_none() {
                        return Err(stringify!($function));
                    }
                )+
                Ok(Self(()))
            }
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
    RedisModule_ReplyWithNull,
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
/// Taking the function is sound: the [`Api`] proves that the pointer is set.
macro_rules! api {
    ($api:expr, $function:ident) => {{
        let _: $crate::ffi::api::Api = $api;
        let _ = $crate::ffi::api::Required::$function;
        $crate::ffi::raw::$function.unwrap_unchecked()
    }};
}
pub(super) use api;

impl Api {
    /// Returns the proof for a callback of the server.
    ///
    /// # Safety
    ///
    /// The caller must be a callback that was passed to the server in exchange for an [`Api`].
    pub(super) unsafe fn of_callback() -> Self {
        Self(())
    }

    /// Sets the module options: a list of what the module can handle.
    ///
    /// # Safety
    ///
    /// The context must be that of the running OnLoad.
    pub(super) unsafe fn set_options(self, ctx: *mut raw::RedisModuleCtx) {
        // Read errors: the module refuses a malformed payload. Without this option the server
        // stops. Asynchronous loading by a replica: the module has no state outside keys. No
        // implicit signal: a key that was opened for writing and not changed must not fail WATCH.
        let mut options = raw::REDISMODULE_OPTIONS_HANDLE_IO_ERRORS
            | raw::REDISMODULE_OPTIONS_HANDLE_REPL_ASYNC_LOAD
            | raw::REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED;
        // Atomic slot migration: again, the module has no state outside keys.
        if is_valkey() {
            options |= VALKEY_HANDLES_ATOMIC_SLOT_MIGRATION;
        }
        // SAFETY: the caller vouches for the context.
        unsafe { api!(self, RedisModule_SetModuleOptions)(ctx, options.cast_signed()) };
    }
}

/// An option of Valkey alone: Redis does not have this bit, and may give it another meaning.
const VALKEY_HANDLES_ATOMIC_SLOT_MIGRATION: u32 = 1 << 5;

/// Returns whether the server has its functions under the names of Valkey too.
fn is_valkey() -> bool {
    // SAFETY: see `Api`: no write can race with this read.
    let Some(find) = (unsafe { raw::RedisModule_GetApi }) else {
        return false;
    };
    let mut function: *mut c_void = ptr::null_mut();
    // SAFETY: the name is a C string; the server writes one pointer, or none.
    let status =
        unsafe { find(c"ValkeyModule_SetModuleOptions".as_ptr(), (&raw mut function).cast()) };
    status == raw::REDISMODULE_OK as c_int
}
