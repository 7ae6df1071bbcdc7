//! A command as the rest of the module defines it, and its registration.

use std::ffi::{CStr, CString, c_int};

use super::api::{Api, api};
use super::call::Call;
use super::command_info::{Callers, Facts, Keys, describe};
use super::error::Error;
use super::load::{LoadRefused, Loading};
use super::raw;
use super::reply::Reply;

/// A command: its facts, and the function that runs it.
pub(crate) trait Command {
    /// The facts that the server and its clients receive.
    const FACTS: Facts;

    /// Runs one call. An error must leave everything as it was.
    fn run(call: &mut Call<'_>) -> Result<Reply, Error>;
}

/// Adds the module's own access category, where the server has categories for modules.
///
/// Must be called before a command of the category is registered.
pub(crate) fn add_category(load: &Loading) {
    // SAFETY: see `Api`: no write can race with this read.
    if let Some(add) = unsafe { raw::RedisModule_AddACLCategory } {
        // The server refuses a category that exists, and one more than it can have. Then the
        // commands are in no category of the module.
        // SAFETY: the context is that of the running OnLoad, the name a C string.
        unsafe { add(load.ctx(), OWN_CATEGORY.as_ptr()) };
    }
}

const OWN_CATEGORY: &CStr = c"ratelimit";

/// Registers a command with the server.
pub(crate) fn register<C: Command>(load: &Loading) -> Result<(), LoadRefused> {
    let facts = &C::FACTS;
    if !create(load, facts, Some(run::<C>)) {
        let name = facts.name.to_string_lossy();
        return Err(load.refuse(&format!(
            "cannot register the command {name}: another module may have one of this name"
        )));
    }
    // SAFETY: the context is that of the running OnLoad, the name a C string.
    let command =
        unsafe { api!(load.api(), RedisModule_GetCommand)(load.ctx(), facts.name.as_ptr()) };
    // SAFETY: a command that is not null is the one that has just been created.
    let is_described = !command.is_null() && unsafe { describe(load.api(), command, facts) };
    // SAFETY: as above: only a described command gets here.
    if !is_described || !unsafe { categorize(command, facts) } {
        let name = facts.name.to_string_lossy();
        return Err(load.refuse(&format!("cannot describe the command {name}")));
    }
    Ok(())
}

/// Creates a command with its name and its flags only.
fn create(load: &Loading, facts: &Facts, callback: raw::RedisModuleCmdFunc) -> bool {
    let create = |flags: &CStr| {
        // SAFETY: the context is that of the running OnLoad, the strings are C strings.
        let status = unsafe {
            api!(load.api(), RedisModule_CreateCommand)(
                load.ctx(),
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
    // Before version 8, Redis does not route calls by a number of keys: it asks the command.
    let reports_keys = matches!(facts.keys, Keys::Counted { .. });
    let flags = reports_keys.then(|| with_word(facts.flags, c"getkeys-api")).flatten();
    let flags = flags.as_deref().unwrap_or(facts.flags);
    match facts.callers {
        Callers::Users | Callers::Operators => create(flags),
        // A server that has no internal commands refuses the flag.
        Callers::Servers => {
            with_word(flags, c"internal").is_some_and(|flags| create(&flags)) || create(flags)
        }
    }
}

/// Puts a command into its access categories, where the server has categories for modules.
///
/// # Safety
///
/// The command must be one that the running OnLoad has created.
unsafe fn categorize(command: *mut raw::RedisModuleCommand, facts: &Facts) -> bool {
    // SAFETY: see `Api`: no write can race with this read.
    let Some(set) = (unsafe { raw::RedisModule_SetCommandACLCategories }) else {
        return true;
    };
    let set = |categories: &CStr| {
        // SAFETY: the caller vouches for the command; the server copies the string.
        let status = unsafe { set(command, categories.as_ptr()) };
        status == raw::REDISMODULE_OK as c_int
    };
    // SAFETY: see `Api`: no write can race with this read.
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
///
/// # Safety
///
/// Only for the server to call, after [`register`].
unsafe extern "C" fn run<C: Command>(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: this callback was registered with the proof.
    let api = unsafe { Api::of_callback() };
    // SAFETY: the pointers are those that the server passed, and the call is dropped on return.
    let mut call = unsafe { Call::new(api, ctx, argv, argc) };
    if let Keys::Counted { find, .. } = C::FACTS.keys
        && call.is_keys_request()
    {
        // A call with wrong keys is refused when it runs.
        if let Some(names) = find(&call) {
            call.report_keys(names.indexes());
        }
        return raw::REDISMODULE_OK as c_int;
    }
    let is_permitted = match C::FACTS.callers {
        Callers::Users => true,
        Callers::Operators => call.may_act_as_an_operator(),
        Callers::Servers => call.may_act_as_a_server(),
    };
    let reply =
        if is_permitted { C::run(&mut call) } else { Err(Error::no_permission(C::FACTS.name)) };
    call.reply(reply)
}
