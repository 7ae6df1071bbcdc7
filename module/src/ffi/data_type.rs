//! A native data type as the rest of the module sees it, and its callbacks.
//!
//! The callbacks are written once, for any algorithm: its state turns itself into bytes and back.
//! The encoding version that the server knows of is always 1: it says that a value is one string.
//! What is in that string has a version of its own, which the limiter's codec writes and checks.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::{ptr, slice};

use limiter::Stored;
use limiter::codec::DecodeError;
use redis_module::{Context, Status, raw};

use super::api::api;
use super::memory;
use crate::replicate;

/// The state of an algorithm as a value that the server stores.
pub(crate) trait DataType: Stored + 'static {
    /// Its name in the server: nine characters. TYPE shows it and stored values carry it.
    const NAME: &'static CStr;

    /// Where the server's handle of the type is kept.
    fn native() -> &'static Native;
}

/// The server's handle of a data type: null until the type is registered.
#[derive(Debug)]
pub(crate) struct Native(AtomicPtr<raw::RedisModuleType>);

impl Native {
    pub(crate) const fn unregistered() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    pub(super) fn get(&self) -> *mut raw::RedisModuleType {
        // Written once, on the thread that runs all commands.
        self.0.load(Ordering::Relaxed)
    }
}

/// The only encoding version: a value is one string.
const ENCODING: c_int = 1;

/// Registers a data type with the server.
pub(crate) fn register<T: DataType>(ctx: &Context) -> Status {
    let mut methods = methods::<T>();
    // SAFETY: the context is that of the running OnLoad; the server copies name and methods.
    let native = unsafe {
        api!(RedisModule_CreateDataType)(ctx.ctx, T::NAME.as_ptr(), ENCODING, &raw mut methods)
    };
    if native.is_null() {
        ctx.log_warning(&format!("cannot register the type {}", T::NAME.to_string_lossy()));
        return Status::Err;
    }
    T::native().0.store(native, Ordering::Relaxed);
    Status::Ok
}

/// Every callback of a data type, with the reason for each that is left out.
fn methods<T: DataType>() -> raw::RedisModuleTypeMethods {
    raw::RedisModuleTypeMethods {
        version: u64::from(raw::REDISMODULE_TYPE_METHOD_VERSION),
        rdb_load: Some(rdb_load::<T>),
        rdb_save: Some(rdb_save::<T>),
        aof_rewrite: Some(aof_rewrite::<T>),
        mem_usage: Some(mem_usage::<T>),
        digest: Some(digest::<T>),
        free: Some(free::<T>),
        free_effort: Some(free_effort::<T>),
        copy: Some(copy::<T>),
        // Nothing is stored outside keys: settings are the server's to keep, and all else that the
        // module remembers is about this process only.
        aux_load: None,
        aux_save: None,
        aux_save2: None,
        aux_save_triggers: 0,
        // Called when a value leaves its key, also if it is freed later: a value is known to nobody
        // else who would have to be told.
        unlink: None,
        // A server that cannot move allocations leaves values where they are.
        defrag: memory::Functions::of_server().is_some().then_some(defrag::<T>),
        // The same with the key's name, which no callback needs.
        mem_usage2: None,
        free_effort2: None,
        unlink2: None,
        copy2: None,
    }
}

/// The value behind the pointer of a callback.
///
/// # Safety
///
/// The pointer must be one that the server keeps for a key of type `T`.
unsafe fn value<'a, T>(value: *const c_void) -> &'a T {
    // SAFETY: the server stores what `Key::set`, `rdb_load` and `copy` gave it: boxed `T`s.
    unsafe { &*value.cast::<T>() }
}

fn encoded<T: DataType>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    bytes
}

unsafe extern "C" fn rdb_load<T: DataType>(
    rdb: *mut raw::RedisModuleIO,
    enc: c_int,
) -> *mut c_void {
    if enc != ENCODING {
        log(rdb, c"stored in an encoding that this version of ratelimit cannot read: upgrade it");
        return ptr::null_mut();
    }
    let mut len = 0;
    // SAFETY: the server passes a stream to read from.
    let bytes = unsafe { api!(RedisModule_LoadStringBuffer)(rdb, &raw mut len) };
    if bytes.is_null() {
        // The server itself has logged that the stream is cut off.
        return ptr::null_mut();
    }
    // SAFETY: the server allocated `len` bytes there, for this callback alone.
    let decoded = T::decode(unsafe { slice::from_raw_parts(bytes.cast(), len) });
    // SAFETY: the bytes came from the server's allocator and are not used again.
    unsafe { api!(RedisModule_Free)(bytes.cast()) };
    match decoded {
        Ok(value) => Box::into_raw(Box::new(value)).cast(),
        Err(DecodeError::NewerVersion(_)) => {
            log(rdb, c"stored by a newer version of ratelimit: upgrade the module of this server");
            ptr::null_mut()
        }
        Err(DecodeError::Malformed) => {
            log(rdb, c"not a value that ratelimit has stored: the bytes are damaged");
            ptr::null_mut()
        }
    }
}

fn log(io: *mut raw::RedisModuleIO, message: &CStr) {
    // SAFETY: the stream is that of the running callback; the format takes one C string.
    unsafe {
        api!(RedisModule_LogIOError)(io, c"warning".as_ptr(), c"%s".as_ptr(), message.as_ptr());
    }
}

unsafe extern "C" fn rdb_save<T: DataType>(rdb: *mut raw::RedisModuleIO, stored: *mut c_void) {
    // SAFETY: the server passes the value of a key of this type.
    let bytes = encoded(unsafe { value::<T>(stored) });
    // SAFETY: the server passes a stream to write to, and copies the bytes.
    unsafe { api!(RedisModule_SaveStringBuffer)(rdb, bytes.as_ptr().cast(), bytes.len()) };
}

unsafe extern "C" fn aof_rewrite<T: DataType>(
    aof: *mut raw::RedisModuleIO,
    key: *mut raw::RedisModuleString,
    stored: *mut c_void,
) {
    // SAFETY: the server passes the value of a key of this type.
    let payload = replicate::restore(unsafe { value::<T>(stored) });
    // SAFETY: the format names what follows: a string of the server ("s"), then bytes with their
    // length ("b").
    unsafe {
        api!(RedisModule_EmitAOF)(
            aof,
            replicate::APPLY.as_ptr(),
            c"sb".as_ptr(),
            key,
            payload.as_ptr().cast::<c_char>(),
            payload.len(),
        );
    }
}

unsafe extern "C" fn mem_usage<T: DataType>(stored: *const c_void) -> usize {
    // SAFETY: the server passes the value of a key of this type, which it has as a mutable pointer;
    // no command that has opened the key runs meanwhile.
    unsafe { memory::usage::<T>(stored.cast_mut()) }
}

unsafe extern "C" fn digest<T: DataType>(md: *mut raw::RedisModuleDigest, stored: *mut c_void) {
    // SAFETY: the server passes the value of a key of this type.
    let bytes = encoded(unsafe { value::<T>(stored) });
    // SAFETY: the server passes a digest to add to, and reads the bytes before it returns.
    unsafe { api!(RedisModule_DigestAddStringBuffer)(md, bytes.as_ptr().cast(), bytes.len()) };
    // SAFETY: as above.
    unsafe { api!(RedisModule_DigestEndSequence)(md) };
}

unsafe extern "C" fn free<T: DataType>(stored: *mut c_void) {
    // SAFETY: the server gives back a value that it was given as a box, and forgets it.
    drop(unsafe { Box::from_raw(stored.cast::<T>()) });
}

unsafe extern "C" fn free_effort<T: DataType>(
    _key: *mut raw::RedisModuleString,
    stored: *const c_void,
) -> usize {
    // The number of allocations, that of the value itself included. Above 64 the server frees in
    // the background, and above `active-defrag-max-scan-fields` it moves a value in steps; both
    // also for 0, which stands for an unknown number.
    // SAFETY: the server passes the value of a key of this type.
    1 + unsafe { value::<T>(stored) }.buffers()
}

unsafe extern "C" fn copy<T: DataType>(
    _from: *mut raw::RedisModuleString,
    _to: *mut raw::RedisModuleString,
    stored: *const c_void,
) -> *mut c_void {
    // SAFETY: the server passes the value of a key of this type.
    Box::into_raw(Box::new(unsafe { value::<T>(stored) }.clone())).cast()
}

unsafe extern "C" fn defrag<T: DataType>(
    ctx: *mut raw::RedisModuleDefragCtx,
    _key: *mut raw::RedisModuleString,
    stored: *mut *mut c_void,
) -> c_int {
    // SAFETY: the server passes where it keeps the value of a key of this type, for the callback to
    // write the value's new address there; no command runs meanwhile.
    let unfinished = unsafe { memory::relocate::<T>(ctx, &mut *stored) };
    c_int::from(unfinished)
}
