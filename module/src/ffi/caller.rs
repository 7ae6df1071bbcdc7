//! Checks of the caller, for commands that are not meant for users.
//!
//! Redis 7.0 cannot put commands of modules into access categories, so that a user with
//! `+@all -@dangerous` could run them all. On such servers the module checks the caller itself: the
//! caller must have the right to a command of the server that is in the same categories. If an
//! operator has renamed that command, no user has the right.

use std::ffi::{c_int, c_ulonglong};

use super::api::api;
use super::call::Call;
use super::raw;

impl Call<'_> {
    /// Returns whether the call comes from another server, from this server's append-only file, or
    /// from a user who has the right to a command that otherwise only servers run.
    ///
    /// Always true on a server with access categories for modules: such a server has refused all
    /// other callers itself, also for slot migration, which a module cannot detect.
    pub(super) fn may_act_as_a_server(&self) -> bool {
        // SAFETY: see `Api`: no write can race with this read.
        if unsafe { raw::RedisModule_SetCommandACLCategories }.is_some() {
            return true;
        }
        const FROM_A_SERVER: u32 =
            raw::REDISMODULE_CTX_FLAGS_REPLICATED | raw::REDISMODULE_CTX_FLAGS_LOADING;
        // SAFETY: the context is that of the running callback.
        let flags = unsafe { api!(self.api(), RedisModule_GetContextFlags)(self.ctx()) };
        flags.cast_unsigned() & FROM_A_SERVER != 0 || self.user_may_run([b"REPLCONF"])
    }

    /// Returns whether the call comes from a user who has the right to a command that only
    /// operators run. Always true on a server with access categories for modules.
    pub(super) fn may_act_as_an_operator(&self) -> bool {
        // SAFETY: see `Api`: no write can race with this read.
        unsafe { raw::RedisModule_SetCommandACLCategories }.is_some()
            || self.user_may_run([b"SLOWLOG", b"GET"])
    }

    /// Returns whether the server, which is starting, reads the call from its append-only file.
    pub(crate) fn is_from_append_only_file(&self) -> bool {
        /// The client that runs the commands of the append-only file.
        const FILE: c_ulonglong = c_ulonglong::MAX;
        // SAFETY: the context is that of the running callback.
        let flags = unsafe { api!(self.api(), RedisModule_GetContextFlags)(self.ctx()) };
        // SAFETY: as above.
        let client = unsafe { api!(self.api(), RedisModule_GetClientId)(self.ctx()) };
        flags.cast_unsigned() & raw::REDISMODULE_CTX_FLAGS_LOADING != 0 && client == FILE
    }

    /// Returns whether the client has a user who may run a command. The clients of scripts and of
    /// other modules have none.
    fn user_may_run<const WORDS: usize>(&self, command: [&[u8]; WORDS]) -> bool {
        // SAFETY: the context is that of the running callback.
        let client = unsafe { api!(self.api(), RedisModule_GetClientId)(self.ctx()) };
        let Some(user) = self.user_of(client) else {
            return false;
        };
        let mut argv = command.map(|word| {
            // SAFETY: the context is that of the running callback, the length that of the word.
            unsafe {
                api!(self.api(), RedisModule_CreateString)(
                    self.ctx(),
                    word.as_ptr().cast(),
                    word.len(),
                )
            }
        });
        // SAFETY: the user is not null, and the array has `WORDS` strings.
        let status = unsafe {
            api!(self.api(), RedisModule_ACLCheckCommandPermissions)(
                user,
                argv.as_mut_ptr(),
                WORDS as c_int,
            )
        };
        for word in argv {
            // SAFETY: the string was created with this context and is not used again.
            unsafe { api!(self.api(), RedisModule_FreeString)(self.ctx(), word) };
        }
        // SAFETY: the user is not used again; only the module's handle of it is freed.
        unsafe { api!(self.api(), RedisModule_FreeModuleUser)(user) };
        status == raw::REDISMODULE_OK as c_int
    }

    /// Returns the user of a client, to be freed by the caller, or `None` if there is no such
    /// client or it has no user.
    fn user_of(&self, client: c_ulonglong) -> Option<*mut raw::RedisModuleUser> {
        // The name is looked up by the client's id: the lookup by the running client dereferences
        // the user without a check, and some clients have none.
        // SAFETY: the context is that of the running callback.
        let name =
            unsafe { api!(self.api(), RedisModule_GetClientUserNameById)(self.ctx(), client) };
        if name.is_null() {
            return None;
        }
        // SAFETY: the name is a string of the server.
        let user = unsafe { api!(self.api(), RedisModule_GetModuleUserFromUserName)(name) };
        // SAFETY: the string is the caller's to free, and not used again.
        unsafe { api!(self.api(), RedisModule_FreeString)(self.ctx(), name) };
        (!user.is_null()).then_some(user)
    }
}
