//! The module's section of INFO and of crash reports.

use std::ffi::{CStr, c_int};
use std::ptr;

use super::api::{Api, api};
use super::load::{LoadRefused, Loading};
use super::raw;

/// The content of the section.
pub(crate) trait Section {
    /// Adds all fields.
    ///
    /// A crash report can be written at any point of the server's code, also inside the allocator
    /// and while a lock is taken.
    fn fill(fields: &Fields, in_crash_report: bool);
}

/// The fields of the section, while the server writes it.
pub(crate) struct Fields {
    api: Api,
    ctx: *mut raw::RedisModuleInfoCtx,
}

impl Fields {
    /// Adds a field. The server prefixes its name with the module's.
    pub(crate) fn add(&self, name: &CStr, value: u64) {
        // SAFETY: the context is that of the running callback; the server copies the name.
        unsafe {
            api!(self.api, RedisModule_InfoAddFieldULongLong)(self.ctx, name.as_ptr(), value);
        }
    }
}

/// Registers the section with the server.
pub(crate) fn register<S: Section>(load: &Loading) -> Result<(), LoadRefused> {
    // SAFETY: the context is that of the running OnLoad.
    let status =
        unsafe { api!(load.api(), RedisModule_RegisterInfoFunc)(load.ctx(), Some(write::<S>)) };
    if status == raw::REDISMODULE_OK as c_int {
        return Ok(());
    }
    Err(load.refuse("cannot register the section of INFO"))
}

/// The callback of the section, which is named after the module alone.
///
/// # Safety
///
/// Only for the server to call, after [`register`].
unsafe extern "C" fn write<S: Section>(ctx: *mut raw::RedisModuleInfoCtx, in_crash_report: c_int) {
    // SAFETY: this callback was registered with the proof.
    let api = unsafe { Api::of_callback() };
    // SAFETY: the server passes a context to write to.
    let status = unsafe { api!(api, RedisModule_InfoAddSection)(ctx, ptr::null()) };
    // The server refuses the section when the client requested other sections only.
    if status == raw::REDISMODULE_OK as c_int {
        S::fill(&Fields { api, ctx }, in_crash_report != 0);
    }
}
