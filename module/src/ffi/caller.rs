//! Who runs a call.
//!
//! On Redis 7.0 commands of modules are in no access category. There every user with a right to all
//! commands but the dangerous ones has a right to all of the module's, so that a command which is
//! not meant for users checks the caller itself: the caller must have the right to a command of the
//! server that is in the same categories. If an operator has renamed that command, no user has the
//! right.

use std::ffi::{c_int, c_ulonglong};

use redis_module::raw;

use super::api::api;
use super::call::Call;

impl Call<'_> {
    /// Whether the call comes from another server, from this one's append-only file, or from a
    /// user who may run commands that only servers run otherwise.
    ///
    /// Always so where the server has access categories for commands of modules: it has kept others
    /// from the call then, and knows streams, such as those of moved slots, that a module could
    /// only guess at.
    pub(super) fn may_act_as_a_server(&self) -> bool {
        // SAFETY: the pointer is written once, before the module's own code runs.
        if unsafe { raw::RedisModule_SetCommandACLCategories }.is_some() {
            return true;
        }
        const FROM_A_SERVER: u32 =
            raw::REDISMODULE_CTX_FLAGS_REPLICATED | raw::REDISMODULE_CTX_FLAGS_LOADING;
        // SAFETY: the context is that of the running callback.
        let flags = unsafe { api!(RedisModule_GetContextFlags)(self.ctx()) };
        flags.cast_unsigned() & FROM_A_SERVER != 0 || self.user_may_run([b"REPLCONF"])
    }

    /// Whether the call comes from a user who may run commands that only operators run. Always so
    /// where the server has access categories for commands of modules.
    pub(super) fn may_act_as_an_operator(&self) -> bool {
        // SAFETY: the pointer is written once, before the module's own code runs.
        unsafe { raw::RedisModule_SetCommandACLCategories }.is_some()
            || self.user_may_run([b"SLOWLOG", b"GET"])
    }

    /// Whether the call is read from the append-only file by the server that starts.
    pub(crate) fn is_from_append_only_file(&self) -> bool {
        /// The client by which a server runs what is in its append-only file.
        const FILE: c_ulonglong = c_ulonglong::MAX;
        // SAFETY: the context is that of the running callback.
        let flags = unsafe { api!(RedisModule_GetContextFlags)(self.ctx()) };
        // SAFETY: as above.
        let client = unsafe { api!(RedisModule_GetClientId)(self.ctx()) };
        flags.cast_unsigned() & raw::REDISMODULE_CTX_FLAGS_LOADING != 0 && client == FILE
    }

    /// Whether the client is one of a user who may run a command. Scripts and other modules are no
    /// such clients.
    fn user_may_run<const WORDS: usize>(&self, command: [&[u8]; WORDS]) -> bool {
        // SAFETY: the context is that of the running callback.
        let client = unsafe { api!(RedisModule_GetClientId)(self.ctx()) };
        let Some(user) = self.user_of(client) else {
            return false;
        };
        let mut argv = command.map(|word| {
            // SAFETY: the context is as above, the word has as many bytes as that says.
            unsafe { api!(RedisModule_CreateString)(self.ctx(), word.as_ptr().cast(), word.len()) }
        });
        // SAFETY: the user is not null, and an array has so many words.
        let status = unsafe {
            api!(RedisModule_ACLCheckCommandPermissions)(user, argv.as_mut_ptr(), WORDS as c_int)
        };
        for word in argv {
            // SAFETY: the string was created with this context and is not used again.
            unsafe { api!(RedisModule_FreeString)(self.ctx(), word) };
        }
        // SAFETY: as above, for the user, of which only the module's handle is freed.
        unsafe { api!(RedisModule_FreeModuleUser)(user) };
        status == raw::REDISMODULE_OK as c_int
    }

    /// The user of a client, to be freed; `None` if there is no such client or it has none.
    fn user_of(&self, client: c_ulonglong) -> Option<*mut raw::RedisModuleUser> {
        // The name is asked for by the client's id, as the server would trip over a running
        // client that has no user.
        // SAFETY: the context is that of the running callback.
        let name = unsafe { api!(RedisModule_GetClientUserNameById)(self.ctx(), client) };
        if name.is_null() {
            return None;
        }
        // SAFETY: the name is a string of the server.
        let user = unsafe { api!(RedisModule_GetModuleUserFromUserName)(name) };
        // SAFETY: the string is the caller's to free, and not used again.
        unsafe { api!(RedisModule_FreeString)(self.ctx(), name) };
        (!user.is_null()).then_some(user)
    }
}
