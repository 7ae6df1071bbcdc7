//! Who runs a call, for a server on which commands of modules are in no access category.
//!
//! There every user with a right to all commands but the dangerous ones has a right to all of the
//! module's, and one that is not meant for users must see to that itself.

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
        flags.cast_unsigned() & FROM_A_SERVER != 0 || self.user_may_replicate()
    }

    /// Whether the client is one of a user who may run REPLCONF. Scripts and other modules are no
    /// such clients.
    fn user_may_replicate(&self) -> bool {
        // SAFETY: the context is that of the running callback.
        let client = unsafe { api!(RedisModule_GetClientId)(self.ctx()) };
        let Some(user) = self.user_of(client) else {
            return false;
        };
        // SAFETY: the context is as above, the name has as many bytes as that says.
        let command = unsafe {
            api!(RedisModule_CreateString)(self.ctx(), REPLCONF.as_ptr().cast(), REPLCONF.len())
        };
        let mut argv = [command];
        // SAFETY: the user is not null, the command has the one argument.
        let status =
            unsafe { api!(RedisModule_ACLCheckCommandPermissions)(user, argv.as_mut_ptr(), 1) };
        // SAFETY: the string was created with this context and is not used again.
        unsafe { api!(RedisModule_FreeString)(self.ctx(), command) };
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

const REPLCONF: &[u8] = b"REPLCONF";
