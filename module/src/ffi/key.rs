//! The keys of a call, opened for reading or for writing.
//!
//! What makes the references into values sound:
//!
//! 1. An open key borrows its [`Call`] mutably, so that no function of the call runs meanwhile.
//! 2. A value is borrowed from its open key, or from all keys that are open together. So no
//!    function of a key runs while a value is borrowed: the server cannot call back into the
//!    module.
//! 3. Keys that are open together have different names, so that no value is borrowed through two of
//!    them, and no key is removed under another one that is open.
//! 4. No key is open while key events are published, since those run code of other modules.

use std::ffi::{CStr, c_int};
use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::ptr::{self, NonNull};

use super::api::{Api, api};
use super::call::Call;
use super::data_type::DataType;
use super::error::Error;
use super::raw;

/// The most names that are compared one by one.
const FEW: usize = 4;

/// A key that is open for reading. It may not exist. Closed on drop.
pub(crate) struct ReadKey<'c> {
    api: Api,
    /// Null for a key that does not exist.
    key: *mut raw::RedisModuleKey,
    call: PhantomData<&'c mut ()>,
}

/// A key that is open for writing. Opening it changes nothing and is not seen by WATCH.
pub(crate) struct WriteKey<'c> {
    key: NonNull<raw::RedisModuleKey>,
    /// The same key. It is closed on drop.
    read: ReadKey<'c>,
}

/// Keys that are open for writing together, each under another name.
pub(crate) struct WriteKeys<'c>(Vec<WriteKey<'c>>);

/// Arguments of a call that name keys, each under another name.
pub(crate) struct KeyNames<'a> {
    range: Range<usize>,
    /// One more argument, which is the last in the order of the keys.
    other: Option<usize>,
    /// The arguments are those of the one call that lives as long.
    call: PhantomData<&'a ()>,
}

impl<'a> Call<'a> {
    /// Opens the key that an argument names, for reading.
    #[inline(always)]
    pub(crate) fn open_to_read(&mut self, index: usize) -> Result<ReadKey<'_>, Error> {
        let name = self.string(index)?;
        // Redis 7.0 does not have the second flag, and publishes keymiss for a missing key.
        let mode = raw::REDISMODULE_READ | raw::REDISMODULE_OPEN_KEY_NONOTIFY;
        // SAFETY: the name is an argument of the call, which the key borrows mutably.
        Ok(unsafe { ReadKey::open(self, name, mode) })
    }

    /// Opens the key that an argument names, for writing.
    #[inline(always)]
    pub(crate) fn open_to_write(&mut self, index: usize) -> Result<WriteKey<'_>, Error> {
        let name = self.string(index)?;
        // SAFETY: the name is an argument of the call, which the key borrows mutably.
        unsafe { WriteKey::open(self, name) }
    }

    /// Opens keys for writing.
    pub(crate) fn open_all_to_write(
        &mut self,
        names: &KeyNames<'a>,
    ) -> Result<WriteKeys<'_>, Error> {
        let mut keys = Vec::with_capacity(names.indexes().count());
        for index in names.indexes() {
            let name = self.string(index)?;
            // SAFETY: the name is an argument of the call, which the keys borrow mutably, and is
            // another one than those of the keys that are open already.
            keys.push(unsafe { WriteKey::open(self, name) }?);
        }
        Ok(WriteKeys(keys))
    }

    /// Opens the keys that the arguments in a range name for writing, each of them once, also if
    /// its name is repeated. Returns the first argument of each name with the keys.
    pub(crate) fn open_each_to_write(
        &mut self,
        range: Range<usize>,
    ) -> Result<(Vec<usize>, WriteKeys<'_>), Error> {
        let mut indexes: Vec<_> = range.collect();
        // The sort is stable, so that the first argument of each name stays the first.
        indexes.sort_by_key(|&index| self.arg(index));
        indexes.dedup_by_key(|index| self.arg(*index));
        indexes.sort_unstable();
        let mut keys = Vec::with_capacity(indexes.len());
        for &index in &indexes {
            let name = self.string(index)?;
            // SAFETY: the name is an argument of the call, which the keys borrow mutably, and is
            // another one than those of the keys that are open already.
            keys.push(unsafe { WriteKey::open(self, name) }?);
        }
        Ok((indexes, WriteKeys(keys)))
    }

    /// Returns the arguments in a range, and one more, as names of keys, or `None` if a name is
    /// repeated.
    pub(crate) fn key_names(
        &self,
        range: Range<usize>,
        other: Option<usize>,
    ) -> Option<KeyNames<'a>> {
        let keys = KeyNames { range, other, call: PhantomData };
        let is_repeated = if keys.indexes().count() <= FEW {
            // Without an allocation: nearly all calls name few keys.
            keys.indexes().any(|index| {
                let mut earlier = keys.indexes().take_while(|&other| other != index);
                earlier.any(|other| self.arg(other) == self.arg(index))
            })
        } else {
            let mut names: Vec<_> = keys.indexes().map(|index| self.arg(index)).collect();
            names.sort_unstable();
            names.windows(2).any(|pair| matches!(pair, [name, next] if name == next))
        };
        (!is_repeated).then_some(keys)
    }

    /// Publishes an event of the key that an argument names, in the class of modules, if the server
    /// publishes that class.
    ///
    /// The class is checked first, because the server calls other modules before it checks.
    #[inline(always)]
    pub(crate) fn notify(&mut self, index: usize, event: &CStr) {
        // SAFETY: the function has no requirements.
        let published = unsafe { api!(self.api(), RedisModule_GetNotifyKeyspaceEvents)() };
        if published & raw::REDISMODULE_NOTIFY_MODULE != 0 {
            self.publish(index, raw::REDISMODULE_NOTIFY_MODULE, event);
        }
    }

    /// Publishes that the key which an argument names has been deleted.
    pub(crate) fn notify_deletion(&mut self, index: usize) {
        self.publish(index, raw::REDISMODULE_NOTIFY_GENERIC, c"del");
    }

    fn publish(&mut self, index: usize, class: c_int, event: &CStr) {
        let Ok(name) = self.string(index) else { return };
        // SAFETY: context and name are valid until the callback returns; the event is a C string.
        unsafe {
            api!(self.api(), RedisModule_NotifyKeyspaceEvent)(
                self.ctx(),
                class,
                event.as_ptr(),
                name,
            );
        }
    }

    /// Reports to WATCH and to client-side caches that the key which an argument names has changed.
    #[inline(always)]
    pub(crate) fn signal_modified(&mut self, index: usize) {
        let Ok(name) = self.string(index) else { return };
        // SAFETY: context and name are valid until the callback returns.
        unsafe { api!(self.api(), RedisModule_SignalModifiedKey)(self.ctx(), name) };
    }
}

impl KeyNames<'_> {
    /// Returns the numbers of the arguments, without the one that is beside the range.
    pub(crate) fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Returns the numbers of all arguments.
    pub(super) fn indexes(&self) -> impl Iterator<Item = usize> {
        self.range().chain(self.other)
    }
}

impl<'c> WriteKeys<'c> {
    /// Returns the key at a position in the order of the names. Only one of the keys is borrowed at
    /// a time, so that no two values are.
    pub(crate) fn get(&mut self, position: usize) -> Result<&mut WriteKey<'c>, Error> {
        self.0.get_mut(position).ok_or(Error::Internal(c"ERR internal error: a key is not open"))
    }
}

impl ReadKey<'_> {
    /// # Safety
    ///
    /// The name must be an argument of the call. The key must borrow the call mutably, and no key
    /// of the same name may be open.
    #[inline(always)]
    unsafe fn open(call: &Call<'_>, name: *mut raw::RedisModuleString, mode: u32) -> Self {
        // SAFETY: the context is that of the running callback; the caller vouches for the name.
        let key =
            unsafe { api!(call.api(), RedisModule_OpenKey)(call.ctx(), name, mode.cast_signed()) };
        Self { api: call.api(), key: key.cast(), call: PhantomData }
    }

    /// Returns the value, or `None` if there is no such key.
    #[inline(always)]
    pub(crate) fn get<T: DataType>(&self) -> Result<Option<&T>, Error> {
        // SAFETY: the address is that of a valid `T`, which is borrowed mutably only while `self`
        // is.
        Ok(unsafe { self.value::<T>()?.as_ref() })
    }

    /// Returns whether there is a key of this type.
    pub(crate) fn holds<T: DataType>(&self) -> bool {
        matches!(self.value::<T>(), Ok(value) if !value.is_null())
    }

    /// Returns whether there is no such key.
    pub(crate) fn is_missing(&self) -> bool {
        // SAFETY: the key is open, or null, for which the server returns the type of a missing key.
        unsafe { api!(self.api, RedisModule_KeyType)(self.key) == EMPTY }
    }

    /// Returns the address of the value, or null if there is no such key.
    #[inline(always)]
    fn value<T: DataType>(&self) -> Result<*mut T, Error> {
        // SAFETY: the key is open, or null, for which the server returns null.
        let native = unsafe { api!(self.api, RedisModule_ModuleTypeGetType)(self.key) };
        if native == T::native().get() {
            // SAFETY: as above. The value of a key of this type is a boxed `T`, as `Native`
            // explains. If the type is null, because it is not registered, so is the value.
            return Ok(unsafe { api!(self.api, RedisModule_ModuleTypeGetValue)(self.key) }.cast());
        }
        if self.is_missing() { Ok(ptr::null_mut()) } else { Err(Error::WrongType) }
    }
}

impl Drop for ReadKey<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the key is open, or null, which the server ignores; it is not used again.
        unsafe { api!(self.api, RedisModule_CloseKey)(self.key) };
    }
}

impl<'c> Deref for WriteKey<'c> {
    type Target = ReadKey<'c>;

    fn deref(&self) -> &ReadKey<'c> {
        &self.read
    }
}

impl WriteKey<'_> {
    /// # Safety
    ///
    /// As for [`ReadKey::open`].
    #[inline(always)]
    unsafe fn open(call: &Call<'_>, name: *mut raw::RedisModuleString) -> Result<Self, Error> {
        // SAFETY: the caller vouches for it.
        let read =
            unsafe { ReadKey::open(call, name, raw::REDISMODULE_READ | raw::REDISMODULE_WRITE) };
        // A server that saves without a fork (Valkey 9.2) refuses a key that it is saving. Such a
        // server delays commands that name the key until then, so that no client gets the error.
        let key = NonNull::new(read.key).ok_or(Error::InUse)?;
        Ok(Self { key, read })
    }

    /// Returns the value, to be changed in place, or `None` if there is no such key. A change must
    /// be signalled and replicated.
    #[inline(always)]
    pub(crate) fn get_mut<T: DataType>(&mut self) -> Result<Option<&mut T>, Error> {
        // SAFETY: the address is that of a valid `T`, which belongs to this key alone. No other
        // open key has the same name, and `self` is borrowed mutably.
        Ok(unsafe { self.value::<T>()?.as_mut() })
    }

    /// Gives the key a new value, in place of any it had. The key does not expire.
    pub(crate) fn set<T: DataType>(&mut self, value: T) -> Result<(), Error> {
        const REFUSED: Error = Error::Internal(c"ERR internal error: a value cannot be stored");
        let native = NonNull::new(T::native().get()).ok_or(REFUSED)?;
        let value = Box::into_raw(Box::new(value));
        // SAFETY: the key is open for writing, and no value of it is borrowed, as `self` is
        // borrowed mutably. The type is registered, and its callbacks take what this value is: a
        // leaked box of `T`. From here the server owns the value.
        let status = unsafe {
            api!(self.read.api, RedisModule_ModuleTypeSetValue)(
                self.key.as_ptr(),
                native.as_ptr(),
                value.cast(),
            )
        };
        if status != OK {
            // SAFETY: the server did not take the value, so that it is still a box of this
            // function.
            drop(unsafe { Box::from_raw(value) });
            return Err(REFUSED);
        }
        Ok(())
    }

    /// Lets the key expire when the server's clock has passed this Unix time in milliseconds.
    #[inline(always)]
    pub(crate) fn expire_at(&mut self, millis: u64) {
        // SAFETY: the key is open for writing.
        unsafe {
            api!(self.read.api, RedisModule_SetAbsExpire)(self.key.as_ptr(), millis.cast_signed());
        }
    }

    /// Deletes the key, which stays open. A large value is freed in the background. The caller
    /// publishes the deletion.
    pub(crate) fn delete(&mut self) {
        // SAFETY: the key is open for writing; no value of it is borrowed, as `self` is borrowed
        // mutably.
        unsafe { api!(self.read.api, RedisModule_UnlinkKey)(self.key.as_ptr()) };
    }
}

const EMPTY: c_int = raw::REDISMODULE_KEYTYPE_EMPTY as c_int;
const OK: c_int = raw::REDISMODULE_OK as c_int;
