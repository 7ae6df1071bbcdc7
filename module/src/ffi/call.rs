//! One invocation of a command: its arguments, its reply, what it replicates.

use std::ffi::{c_char, c_int};
use std::ops::Range;
use std::{process, slice};

use redis_module::{Context, raw};

use super::api::api;
use super::key::{Key, Mode};
use crate::error::Error;
use crate::reply::{Integers, Reply};

/// One invocation of a command, for as long as its callback runs.
pub(crate) struct Call<'a> {
    ctx: *mut raw::RedisModuleCtx,
    args: &'a [*mut raw::RedisModuleString],
}

impl<'a> Call<'a> {
    /// # Safety
    ///
    /// The pointers must be those that the server passed to a command callback, and the callback
    /// must not return before the call is dropped.
    pub(super) unsafe fn new(
        ctx: *mut raw::RedisModuleCtx,
        argv: *mut *mut raw::RedisModuleString,
        argc: c_int,
    ) -> Self {
        let args = match usize::try_from(argc) {
            // SAFETY: the server passes `argc` strings at `argv`, and keeps them until the
            // callback returns.
            Ok(count) if !argv.is_null() => unsafe { slice::from_raw_parts(argv, count) },
            _ => &[],
        };
        Self { ctx, args }
    }

    pub(super) fn ctx(&self) -> *mut raw::RedisModuleCtx {
        self.ctx
    }

    /// Number of arguments, the command's name included.
    pub(crate) fn len(&self) -> usize {
        self.args.len()
    }

    /// The bytes of an argument; 0 is the command's name.
    pub(crate) fn arg(&self, index: usize) -> Option<&'a [u8]> {
        let string = *self.args.get(index)?;
        let mut len = 0;
        // SAFETY: the string is one of the call's arguments, which the server keeps until the
        // callback returns.
        let bytes = unsafe { api!(RedisModule_StringPtrLen)(string, &raw mut len) };
        // SAFETY: the server answers the address of `len` bytes, which live as long as the string
        // and are not written to while a command runs.
        Some(unsafe { slice::from_raw_parts(bytes.cast(), len) })
    }

    /// The number of the database that the caller has selected.
    pub(crate) fn database(&self) -> u32 {
        // SAFETY: the context is that of the running callback.
        unsafe { api!(RedisModule_GetSelectedDb)(self.ctx) }.cast_unsigned()
    }

    /// Writes a warning into the server's log.
    pub(crate) fn log_warning(&self, message: &str) {
        Context::new(self.ctx).log_warning(message);
    }

    /// Ends the process with a line in the log, as the server does when it cannot load its data.
    pub(crate) fn end_process(&self, reason: &str) -> ! {
        self.log_warning(reason);
        process::exit(1)
    }

    /// Opens the key that an argument names.
    pub(crate) fn open(&self, index: usize, mode: Mode) -> Result<Key<'_>, Error> {
        let name = *self.args.get(index).ok_or(Error::WrongArity)?;
        // SAFETY: the context is that of the running callback, the name one of its arguments; the
        // key borrows the call, so it is closed before the callback returns.
        Ok(unsafe { Key::open(self.ctx, name, mode) })
    }

    /// Whether the server does not want the call to run, but to know where its keys are.
    pub(super) fn is_asked_for_keys(&self) -> bool {
        // SAFETY: the context is that of the running callback.
        unsafe { api!(RedisModule_IsKeysPositionRequest)(self.ctx) != 0 }
    }

    /// Tells the server which arguments are keys, when it has asked for them.
    pub(super) fn tell_keys(&self, indexes: Range<usize>) {
        for index in indexes.filter_map(|index| c_int::try_from(index).ok()) {
            // SAFETY: the context is that of the running callback.
            unsafe { api!(RedisModule_KeyAtPos)(self.ctx, index) };
        }
    }

    /// Sends the reply; its status is what the callback returns.
    #[inline(always)]
    pub(super) fn reply(&self, reply: Result<Reply, Error>) -> c_int {
        match reply {
            Ok(Reply::Integer(integer)) => self.reply_integer(integer),
            Ok(Reply::Decision(integers)) => self.reply_integers(&integers),
            Ok(Reply::Decisions(granted, decisions)) => {
                self.reply_array(1 + decisions.len());
                self.reply_integer(i64::from(granted));
                decisions.iter().fold(0, |_, integers| self.reply_integers(integers))
            }
            Ok(Reply::Counts(counts)) => {
                let sent = self.reply_array(counts.len());
                counts.iter().fold(sent, |_, (key, count)| {
                    self.reply_array(2);
                    self.reply_bytes(key);
                    self.reply_integer(count.cast_signed())
                })
            }
            // SAFETY: the context is that of the running callback.
            Ok(Reply::Ok) => unsafe {
                api!(RedisModule_ReplyWithSimpleString)(self.ctx, c"OK".as_ptr())
            },
            // SAFETY: the context is that of the running callback.
            Err(Error::WrongArity) => unsafe { api!(RedisModule_WrongArity)(self.ctx) },
            // SAFETY: as above; the server copies the message before the call returns.
            Err(error) => unsafe {
                api!(RedisModule_ReplyWithError)(self.ctx, error.message().as_ptr())
            },
        }
    }

    /// Announces an array of that many elements, which must follow.
    fn reply_array(&self, len: usize) -> c_int {
        // SAFETY: the context is that of the running callback.
        unsafe { api!(RedisModule_ReplyWithArray)(self.ctx, len as i64) }
    }

    fn reply_bytes(&self, bytes: &[u8]) {
        let (start, len) = (bytes.as_ptr().cast::<c_char>(), bytes.len());
        // SAFETY: the context is that of the running callback; the server copies the bytes.
        unsafe { api!(RedisModule_ReplyWithStringBuffer)(self.ctx, start, len) };
    }

    fn reply_integers(&self, integers: &Integers) -> c_int {
        self.reply_array(integers.len());
        integers.iter().fold(0, |_, &integer| self.reply_integer(integer))
    }

    fn reply_integer(&self, integer: i64) -> c_int {
        // SAFETY: the context is that of the running callback.
        unsafe { api!(RedisModule_ReplyWithLongLong)(self.ctx, integer) }
    }
}
