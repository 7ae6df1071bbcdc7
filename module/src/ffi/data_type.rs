//! A native data type as the rest of the module defines it, and its callbacks.
//!
//! The callbacks are written once, for every state that encodes and decodes itself. The encoding
//! version that the server knows is always 1: a value is one string. The content of that string has
//! a version of its own, which the limiter's codec writes and checks.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::{ptr, slice};

use limiter::Stored;
use limiter::codec::DecodeError;

use super::api::{Api, api};
use super::load::{LoadRefused, Loading};
use super::memory;
use super::raw;

/// A state that the server stores as the value of a key. The server may free a value on another
/// thread, hence `Send`.
pub(crate) trait DataType: Stored + Send + 'static {
    /// The name of the type in the server: nine characters. TYPE reports it, and stored values
    /// carry it.
    const NAME: &'static CStr;

    /// Returns false when COPY refuses values of the type.
    const CAN_BE_COPIED: bool = true;

    /// The command that gives a key a value of the type: `command key payload`.
    const RESTORE_COMMAND: &'static CStr;

    /// Returns the payload of that command for this value.
    fn restore_payload(&self) -> Vec<u8>;

    /// Takes note of a value that was loaded.
    fn observe(&self) {}

    /// Returns the place of the server's handle of the type.
    fn native() -> &'static Native<Self>;
}

/// The server's handle of the data type `T`: null until the type is registered.
///
/// [`register`] alone writes the handle, with a type whose values are boxed `T`s: the callbacks and
/// `WriteKey::set` give the server no others.
pub(crate) struct Native<T> {
    handle: AtomicPtr<raw::RedisModuleType>,
    values: PhantomData<fn() -> T>,
}

impl<T> Native<T> {
    pub(crate) const fn unregistered() -> Self {
        Self { handle: AtomicPtr::new(ptr::null_mut()), values: PhantomData }
    }

    #[inline(always)]
    pub(super) fn get(&self) -> *mut raw::RedisModuleType {
        // The handle is written once, on the thread that runs all commands.
        self.handle.load(Ordering::Relaxed)
    }
}

/// The only encoding version: a value is one string.
const ENCODING: c_int = 1;

/// Registers a data type with the server.
pub(crate) fn register<T: DataType>(load: &Loading) -> Result<(), LoadRefused> {
    let mut methods = methods::<T>();
    // SAFETY: the context is that of the running OnLoad; the server copies name and methods.
    let handle = unsafe {
        api!(load.api(), RedisModule_CreateDataType)(
            load.ctx(),
            T::NAME.as_ptr(),
            ENCODING,
            &raw mut methods,
        )
    };
    if handle.is_null() {
        let name = T::NAME.to_string_lossy();
        return Err(load.refuse(&format!("cannot register the type {name}")));
    }
    T::native().handle.store(handle, Ordering::Relaxed);
    Ok(())
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
        copy: T::CAN_BE_COPIED.then_some(copy::<T>),
        // Nothing is stored outside keys: the server stores the settings, and everything else that
        // the module remembers is about this process only.
        aux_load: None,
        aux_save: None,
        aux_save2: None,
        aux_save_triggers: 0,
        // Called when a value leaves its key, also if the value is freed later: no other part of
        // the module refers to a value.
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

/// Returns the value behind the pointer of a callback.
///
/// # Safety
///
/// The pointer must be the one that the server stores for a key of type `T`, and the value may not
/// change while the reference lives.
unsafe fn value<'a, T>(value: *const c_void) -> &'a T {
    // SAFETY: see `Native`: the value is a boxed `T`. The caller vouches for the rest.
    unsafe { &*value.cast::<T>() }
}

fn encoded<T: DataType>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    bytes
}

// Each callback below is only for the server to call, after `register`, with what the server passes
// to this callback. While it runs, no reference into a value lives: a command holds none while it
// calls a function of the server that can call back.

/// # Safety
///
/// Only for the server to call, after [`register`].
unsafe extern "C" fn rdb_load<T: DataType>(
    rdb: *mut raw::RedisModuleIO,
    enc: c_int,
) -> *mut c_void {
    // SAFETY: this callback was registered with the proof.
    let api = unsafe { Api::of_callback() };
    let reason = if enc == ENCODING {
        // SAFETY: the server passes a stream to read from.
        match unsafe { load::<T>(api, rdb) } {
            Some(Ok(value)) => {
                value.observe();
                return Box::into_raw(Box::new(value)).cast();
            }
            Some(Err(DecodeError::NewerVersion(_))) => {
                c"stored by a newer version of ratelimit: upgrade the module of this server"
            }
            Some(Err(DecodeError::Malformed)) => {
                c"not a value that ratelimit has stored: the bytes are damaged"
            }
            // The server itself has logged that the stream is cut off.
            None => return ptr::null_mut(),
        }
    } else {
        c"stored in an encoding that this version of ratelimit cannot read: upgrade it"
    };
    // SAFETY: the stream is that of the running callback; the format takes one C string.
    unsafe {
        api!(api, RedisModule_LogIOError)(
            rdb,
            c"warning".as_ptr(),
            c"%s".as_ptr(),
            reason.as_ptr(),
        );
    }
    ptr::null_mut()
}

/// Reads a value. Returns `None` if the stream is cut off.
///
/// # Safety
///
/// The stream must be one that a running callback may read from.
unsafe fn load<T: DataType>(
    api: Api,
    rdb: *mut raw::RedisModuleIO,
) -> Option<Result<T, DecodeError>> {
    let mut len = 0;
    // SAFETY: the caller vouches for the stream.
    let bytes = unsafe { api!(api, RedisModule_LoadStringBuffer)(rdb, &raw mut len) };
    if bytes.is_null() {
        return None;
    }
    // SAFETY: the server allocated `len` bytes there, for this function alone.
    let decoded = T::decode(unsafe { slice::from_raw_parts(bytes.cast(), len) });
    // SAFETY: the bytes came from the server's allocator and are not used again.
    unsafe { api!(api, RedisModule_Free)(bytes.cast()) };
    Some(decoded)
}

/// # Safety
///
/// As for [`rdb_load`].
unsafe extern "C" fn rdb_save<T: DataType>(rdb: *mut raw::RedisModuleIO, stored: *mut c_void) {
    // SAFETY: this callback was registered with the proof.
    let api = unsafe { Api::of_callback() };
    // SAFETY: the server passes the value of a key of this type.
    let bytes = encoded(unsafe { value::<T>(stored) });
    // SAFETY: the server passes a stream to write to, and copies the bytes.
    unsafe { api!(api, RedisModule_SaveStringBuffer)(rdb, bytes.as_ptr().cast(), bytes.len()) };
}

/// # Safety
///
/// As for [`rdb_load`].
unsafe extern "C" fn aof_rewrite<T: DataType>(
    aof: *mut raw::RedisModuleIO,
    key: *mut raw::RedisModuleString,
    stored: *mut c_void,
) {
    // SAFETY: this callback was registered with the proof.
    let api = unsafe { Api::of_callback() };
    // SAFETY: the server passes the value of a key of this type.
    let payload = unsafe { value::<T>(stored) }.restore_payload();
    // SAFETY: the format names what follows: a string of the server ("s"), then bytes with their
    // length ("b").
    unsafe {
        api!(api, RedisModule_EmitAOF)(
            aof,
            T::RESTORE_COMMAND.as_ptr(),
            c"sb".as_ptr(),
            key,
            payload.as_ptr().cast::<c_char>(),
            payload.len(),
        );
    }
}

/// # Safety
///
/// As for [`rdb_load`].
unsafe extern "C" fn mem_usage<T: DataType>(stored: *const c_void) -> usize {
    // SAFETY: this callback was registered with the proof.
    let api = unsafe { Api::of_callback() };
    // SAFETY: the server passes the value of a key of this type, which it has as a mutable pointer.
    // No reference into the value lives: see above.
    unsafe { memory::usage::<T>(api, stored.cast_mut()) }
}

/// # Safety
///
/// As for [`rdb_load`].
unsafe extern "C" fn digest<T: DataType>(md: *mut raw::RedisModuleDigest, stored: *mut c_void) {
    // SAFETY: this callback was registered with the proof.
    let api = unsafe { Api::of_callback() };
    // SAFETY: the server passes the value of a key of this type.
    let bytes = encoded(unsafe { value::<T>(stored) });
    // SAFETY: the server passes a digest to add to, and reads the bytes before it returns.
    unsafe { api!(api, RedisModule_DigestAddStringBuffer)(md, bytes.as_ptr().cast(), bytes.len()) };
    // SAFETY: as above.
    unsafe { api!(api, RedisModule_DigestEndSequence)(md) };
}

/// # Safety
///
/// As for [`rdb_load`].
unsafe extern "C" fn free<T: DataType>(stored: *mut c_void) {
    // SAFETY: see `Native`: the value is a boxed `T`. The server does not use it again. This may be
    // another thread than the one that made the value: `T` is `Send`.
    drop(unsafe { Box::from_raw(stored.cast::<T>()) });
}

/// # Safety
///
/// As for [`rdb_load`].
unsafe extern "C" fn free_effort<T: DataType>(
    _key: *mut raw::RedisModuleString,
    stored: *const c_void,
) -> usize {
    // The number of allocations, the value itself included. Above 64 the server frees a value in
    // the background, and above `active-defrag-max-scan-fields` it moves a value in steps. The
    // server does both for 0 too, which stands for an unknown number. SAFETY: the server passes the
    // value of a key of this type.
    1 + unsafe { value::<T>(stored) }.buffers()
}

/// # Safety
///
/// As for [`rdb_load`].
unsafe extern "C" fn copy<T: DataType>(
    _from: *mut raw::RedisModuleString,
    _to: *mut raw::RedisModuleString,
    stored: *const c_void,
) -> *mut c_void {
    // SAFETY: the server passes the value of a key of this type.
    Box::into_raw(Box::new(unsafe { value::<T>(stored) }.clone())).cast()
}

/// # Safety
///
/// As for [`rdb_load`].
unsafe extern "C" fn defrag<T: DataType>(
    ctx: *mut raw::RedisModuleDefragCtx,
    _key: *mut raw::RedisModuleString,
    stored: *mut *mut c_void,
) -> c_int {
    // SAFETY: the server passes the place of the address of a value of this type, for the callback
    // to write the new address there. No reference into the value lives: see above.
    let unfinished = unsafe { memory::relocate::<T>(ctx, &mut *stored) };
    c_int::from(unfinished)
}
