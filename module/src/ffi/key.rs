//! One key, opened for reading or for writing.

use std::ffi::{CStr, c_int};
use std::marker::PhantomData;
use std::ptr;

use redis_module::raw;

use super::api::api;
use super::data_type::DataType;
use crate::error::Error;

/// What a key is opened for.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    /// To look only: allowed on a read-only replica.
    Read,
    /// To look and to change. Opening alone changes nothing and is not seen by WATCH.
    Write,
}

/// An open key. Closed on drop.
pub(crate) struct Key<'a> {
    ctx: *mut raw::RedisModuleCtx,
    name: *mut raw::RedisModuleString,
    /// Null for a key that does not exist and was opened for reading.
    key: *mut raw::RedisModuleKey,
    call: PhantomData<&'a ()>,
}

impl Key<'_> {
    /// # Safety
    ///
    /// The context must be that of a running callback, which must not return before the key is
    /// dropped, and the name one of its arguments.
    pub(super) unsafe fn open(
        ctx: *mut raw::RedisModuleCtx,
        name: *mut raw::RedisModuleString,
        mode: Mode,
    ) -> Self {
        let mode = match mode {
            Mode::Read => raw::REDISMODULE_READ,
            Mode::Write => raw::REDISMODULE_READ | raw::REDISMODULE_WRITE,
        };
        // SAFETY: the caller vouches for both pointers.
        let key = unsafe { api!(RedisModule_OpenKey)(ctx, name, mode.cast_signed()) };
        Self { ctx, name, key: key.cast(), call: PhantomData }
    }

    pub(super) fn name(&self) -> *mut raw::RedisModuleString {
        self.name
    }

    /// The value, or `None` if there is no such key.
    pub(crate) fn get<T: DataType>(&self) -> Result<Option<&T>, Error> {
        // SAFETY: the address is that of a valid `T`, and no mutable borrow of it can exist while
        // `self` is borrowed.
        Ok(unsafe { self.value::<T>()?.as_ref() })
    }

    /// The value, to be changed in place, or `None` if there is no such key.
    ///
    /// Whoever changes it must see to it that the change is signalled and replicated.
    pub(crate) fn get_mut<T: DataType>(&mut self) -> Result<Option<&mut T>, Error> {
        // SAFETY: the address is that of a valid `T`, which belongs to this key alone; a key is
        // opened once at a time and `self` is borrowed mutably.
        Ok(unsafe { self.value::<T>()?.as_mut() })
    }

    /// Whether there is a key of this type.
    pub(crate) fn holds<T: DataType>(&self) -> bool {
        matches!(self.value::<T>(), Ok(value) if !value.is_null())
    }

    /// Whether there is no such key.
    pub(crate) fn is_missing(&self) -> bool {
        // SAFETY: the key is open, or null, which the server takes for a missing key.
        self.key.is_null() || unsafe { api!(RedisModule_KeyType)(self.key) } == EMPTY
    }

    /// Gives the key a new value, in place of any it had; it does not expire.
    pub(crate) fn set<T: DataType>(&mut self, value: T) {
        let value = Box::into_raw(Box::new(value));
        // SAFETY: the key is open; the value is a leaked box of `T`, which is what the type's
        // callbacks take; from here the server owns it.
        let status = unsafe {
            api!(RedisModule_ModuleTypeSetValue)(self.key, T::native().get(), value.cast())
        };
        if status != OK {
            // Not opened for writing: cannot happen, and costs the value only.
            // SAFETY: the server did not take the value, so it is still ours.
            drop(unsafe { Box::from_raw(value) });
        }
    }

    /// Lets the key expire when the server's clock has passed this Unix time in milliseconds.
    pub(crate) fn expire_at(&mut self, millis: u64) {
        // SAFETY: the key is open.
        unsafe { api!(RedisModule_SetAbsExpire)(self.key, millis.cast_signed()) };
    }

    /// Deletes the key; a large value is freed in the background.
    pub(crate) fn delete(&mut self) {
        // SAFETY: the key is open for writing; no borrow of its value exists, as `self` is
        // borrowed mutably.
        unsafe { api!(RedisModule_UnlinkKey)(self.key) };
        self.publish(raw::REDISMODULE_NOTIFY_GENERIC, c"del");
    }

    /// Publishes an event of this key, in the class of modules, if the server publishes that class.
    ///
    /// The server calls other modules before it looks at the class, so it is asked first.
    #[inline(always)]
    pub(crate) fn notify(&self, event: &CStr) {
        // SAFETY: the function has no requirements.
        let published = unsafe { api!(RedisModule_GetNotifyKeyspaceEvents)() };
        if published & raw::REDISMODULE_NOTIFY_MODULE != 0 {
            self.publish(raw::REDISMODULE_NOTIFY_MODULE, event);
        }
    }

    fn publish(&self, class: c_int, event: &CStr) {
        // SAFETY: context and name are valid until the callback returns; the event is a C string.
        unsafe {
            api!(RedisModule_NotifyKeyspaceEvent)(self.ctx, class, event.as_ptr(), self.name);
        }
    }

    /// Tells WATCH and client-side caches that the key has changed.
    pub(crate) fn signal_modified(&self) {
        // SAFETY: context and name are valid until the callback returns.
        unsafe { api!(RedisModule_SignalModifiedKey)(self.ctx, self.name) };
    }

    /// The address of the value, or null if there is no such key.
    fn value<T: DataType>(&self) -> Result<*mut T, Error> {
        // SAFETY: the key is open, or null, for which the server answers null.
        if unsafe { api!(RedisModule_ModuleTypeGetType)(self.key) } == T::native().get() {
            // SAFETY: the key is open and of this type, whose values are boxed `T`s.
            return Ok(unsafe { api!(RedisModule_ModuleTypeGetValue)(self.key) }.cast());
        }
        if self.is_missing() { Ok(ptr::null_mut()) } else { Err(Error::WrongType) }
    }
}

impl Drop for Key<'_> {
    fn drop(&mut self) {
        // SAFETY: the key is open, or null, which the server ignores; it is not used again.
        unsafe { api!(RedisModule_CloseKey)(self.key) };
    }
}

const EMPTY: c_int = raw::REDISMODULE_KEYTYPE_EMPTY as c_int;
const OK: c_int = raw::REDISMODULE_OK as c_int;
