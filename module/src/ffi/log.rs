//! Lines in the log of the server.

use std::ffi::CString;

use super::raw;

/// Writes a warning into the log of the server. Zero bytes, with which no line can be written, become
/// spaces.
///
/// The context must be that of a running callback, or of the running load.
pub(super) fn warn(ctx: *mut raw::RedisModuleCtx, message: &str) {
    let message = CString::new(message.replace('\0', " ")).unwrap_or_default();
    // SAFETY: the pointers are written once, before any other code of the module runs.
    if let Some(log) = unsafe { raw::RedisModule_Log } {
        // SAFETY: the callers pass the context of a callback. The format takes one C string: the
        // message itself can have a percent sign.
        unsafe { log(ctx, c"warning".as_ptr(), c"%s".as_ptr(), message.as_ptr()) };
    }
}
