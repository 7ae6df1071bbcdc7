//! A command as the rest of the module sees it, and its registration.

use std::ffi::{CStr, CString, c_int};

use redis_module::{Context, Status, raw};

use super::api::api;
use super::call::Call;
use super::command_info::{Callers, Facts, Keys, describe};
use crate::args::Args;
use crate::error::Error;
use crate::reply::Reply;

/// A command: its facts, and what it does.
pub(crate) trait Command {
    /// What the server and its clients are told of it.
    const FACTS: Facts;

    /// Runs one call of it. An error must leave everything as it was.
    fn run(call: &Call<'_>) -> Result<Reply, Error>;
}

/// Adds the module's own access category, where the server can.
///
/// Must be called before a command is registered that belongs to it.
pub(crate) fn add_category(ctx: &Context) -> Status {
    // SAFETY: the pointer is written once, before the module's own code runs.
    if let Some(add) = unsafe { raw::RedisModule_AddACLCategory } {
        // It fails when the category is there already, or when the server can have no more of
        // them: then the commands do without.
        // SAFETY: the context is that of the running OnLoad, the name a C string.
        unsafe { add(ctx.ctx, OWN_CATEGORY.as_ptr()) };
    }
    Status::Ok
}

const OWN_CATEGORY: &CStr = c"ratelimit";

/// Registers a command with the server.
pub(crate) fn register<C: Command>(ctx: &Context) -> Status {
    let facts = &C::FACTS;
    if !create(ctx, facts, Some(run::<C>)) {
        ctx.log_warning(&format!("cannot register the command {}", facts.name.to_string_lossy()));
        return Status::Err;
    }
    // SAFETY: the context is that of the running OnLoad, the name a C string.
    let command = unsafe { api!(RedisModule_GetCommand)(ctx.ctx, facts.name.as_ptr()) };
    // SAFETY: a command that is not null is the one that has just been created.
    let described = !command.is_null() && unsafe { describe(command, facts) };
    if !described || !categorize(command, facts) {
        ctx.log_warning(&format!("cannot describe the command {}", facts.name.to_string_lossy()));
        return Status::Err;
    }
    Status::Ok
}

/// Creates a command that the server knows nothing of but its name and its flags.
fn create(ctx: &Context, facts: &Facts, callback: raw::RedisModuleCmdFunc) -> bool {
    let create = |flags: &CStr| {
        // SAFETY: the context is that of the running OnLoad, the strings are C strings.
        let status = unsafe {
            api!(RedisModule_CreateCommand)(
                ctx.ctx,
                facts.name.as_ptr(),
                callback,
                flags.as_ptr(),
                0,
                0,
                0,
            )
        };
        status == raw::REDISMODULE_OK as c_int
    };
    // Before version 8, Redis does not route calls by facts of this kind: it asks the command.
    let asked = matches!(facts.keys, Keys::Counted(_));
    let flags = asked.then(|| with_word(facts.flags, c"getkeys-api")).flatten();
    let flags = flags.as_deref().unwrap_or(facts.flags);
    match facts.callers {
        Callers::Users | Callers::Operators => create(flags),
        // A server that knows no internal commands refuses the flag.
        Callers::Servers => {
            with_word(flags, c"internal").is_some_and(|flags| create(&flags)) || create(flags)
        }
    }
}

/// Puts a command into its access categories, where the server has them for commands of modules.
fn categorize(command: *mut raw::RedisModuleCommand, facts: &Facts) -> bool {
    // SAFETY: the pointer is written once, before the module's own code runs.
    let Some(set) = (unsafe { raw::RedisModule_SetCommandACLCategories }) else {
        return true;
    };
    let set = |categories: &CStr| {
        // SAFETY: the command was created by the running OnLoad; the server copies the string.
        let status = unsafe { set(command, categories.as_ptr()) };
        status == raw::REDISMODULE_OK as c_int
    };
    // SAFETY: the pointer is written once, before the module's own code runs.
    let has_own = unsafe { raw::RedisModule_AddACLCategory }.is_some();
    match facts.callers {
        Callers::Users if has_own => {
            with_word(facts.categories, OWN_CATEGORY).is_some_and(|categories| set(&categories))
                || set(facts.categories)
        }
        Callers::Users | Callers::Operators | Callers::Servers => set(facts.categories),
    }
}

fn with_word(words: &CStr, word: &CStr) -> Option<CString> {
    CString::new([words.to_bytes(), b" ", word.to_bytes()].concat()).ok()
}

/// The callback of a command.
extern "C" fn run<C: Command>(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: the pointers are those that the server passed, and the call is dropped on return.
    let call = unsafe { Call::new(ctx, argv, argc) };
    if matches!(C::FACTS.keys, Keys::Counted(_)) && call.is_asked_for_keys() {
        // A call that does not say where its keys are is refused when it runs.
        if let Ok(keys) = Args::after_name(&call).keys() {
            call.tell_keys(keys);
        }
        return raw::REDISMODULE_OK as c_int;
    }
    let permitted = match C::FACTS.callers {
        Callers::Users => true,
        Callers::Operators => call.may_act_as_an_operator(),
        Callers::Servers => call.may_act_as_a_server(),
    };
    if !permitted {
        return call.reply(Err(Error::no_permission(C::FACTS.name)));
    }
    call.reply(C::run(&call))
}
