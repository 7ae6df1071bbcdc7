//! The module's section of INFO and of crash reports.

use std::ffi::{CStr, c_int};
use std::ptr;

use redis_module::{Context, Status, raw};

use super::api::api;
use crate::info;

/// The section that is being written, for as long as the server's callback runs.
pub(crate) struct Section(*mut raw::RedisModuleInfoCtx);

impl Section {
    /// Adds a field; the server puts the module's name before its name.
    pub(crate) fn field(&self, name: &CStr, value: u64) {
        // SAFETY: the context is that of the running callback; the server copies the name.
        unsafe { api!(RedisModule_InfoAddFieldULongLong)(self.0, name.as_ptr(), value) };
    }
}

/// Has the server ask for the section.
pub(crate) fn register(ctx: &Context) -> Status {
    // SAFETY: the context is that of the running OnLoad.
    let status = unsafe { api!(RedisModule_RegisterInfoFunc)(ctx.ctx, Some(show)) };
    if status == raw::REDISMODULE_OK as c_int {
        return Status::Ok;
    }
    ctx.log_warning("cannot register the section of INFO");
    Status::Err
}

/// The callback of the section, which is named after the module alone.
unsafe extern "C" fn show(ctx: *mut raw::RedisModuleInfoCtx, for_crash_report: c_int) {
    // SAFETY: the server passes a context to write to.
    let status = unsafe { api!(RedisModule_InfoAddSection)(ctx, ptr::null()) };
    // It is refused when INFO was asked for other sections only.
    if status == raw::REDISMODULE_OK as c_int {
        info::show(&Section(ctx), for_crash_report != 0);
    }
}
