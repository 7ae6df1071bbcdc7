//! One invocation of a command: its arguments, its caller's database, its reply.

use std::ffi::{c_char, c_int};
use std::{process, slice};

use limiter::Holder;

use super::api::{Api, api};
use super::error::Error;
use super::log;
use super::raw;
use super::reply::{Integers, Reply};

/// One invocation of a command. A call lives no longer than the callback that runs the command.
///
/// A key that is open borrows the call mutably. So at most one opening is in use at a time, and no
/// function of the call, some of which run other code of the server, runs while a value of a key is
/// borrowed.
pub(crate) struct Call<'a> {
    ctx: *mut raw::RedisModuleCtx,
    api: Api,
    args: &'a [*mut raw::RedisModuleString],
}

impl<'a> Call<'a> {
    /// # Safety
    ///
    /// The pointers must be those that the server passed to a command callback, and the call must
    /// be dropped before the callback returns.
    pub(super) unsafe fn new(
        api: Api,
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
        Self { ctx, api, args }
    }

    /// The context of the running callback.
    pub(super) fn ctx(&self) -> *mut raw::RedisModuleCtx {
        self.ctx
    }

    pub(super) fn api(&self) -> Api {
        self.api
    }

    /// Returns the number of arguments, the command's name included.
    pub(crate) fn len(&self) -> usize {
        self.args.len()
    }

    /// Returns an argument as the server's string, which is valid until the callback returns.
    pub(super) fn string(&self, index: usize) -> Result<*mut raw::RedisModuleString, Error> {
        self.args.get(index).copied().ok_or(Error::WrongArity)
    }

    /// Returns the bytes of an argument; 0 is the command's name.
    pub(crate) fn arg(&self, index: usize) -> Option<&'a [u8]> {
        let string = *self.args.get(index)?;
        let mut len = 0;
        // SAFETY: the string is one of the call's arguments, which the server keeps until the
        // callback returns.
        let bytes = unsafe { api!(self.api, RedisModule_StringPtrLen)(string, &raw mut len) };
        // SAFETY: the server returns the address of `len` bytes, which live as long as the string
        // and are not written to while a command runs.
        Some(unsafe { slice::from_raw_parts(bytes.cast(), len) })
    }

    /// Returns the number of the database that the caller has selected.
    pub(crate) fn database(&self) -> u32 {
        // SAFETY: the context is that of the running callback.
        unsafe { api!(self.api, RedisModule_GetSelectedDb)(self.ctx) }.cast_unsigned()
    }

    /// Writes a warning into the server's log.
    pub(crate) fn log_warning(&self, message: &str) {
        log::warn(self.ctx, message);
    }

    /// Ends the process with a line in the log, as the server does when it cannot load its data.
    pub(crate) fn end_process(&self, reason: &str) -> ! {
        self.log_warning(reason);
        process::exit(1)
    }

    /// Returns whether the server asks for the places of the keys, and does not run the call.
    pub(super) fn is_keys_request(&self) -> bool {
        // SAFETY: the context is that of the running callback.
        unsafe { api!(self.api, RedisModule_IsKeysPositionRequest)(self.ctx) != 0 }
    }

    /// Reports the arguments that are keys, in answer to such a request.
    pub(super) fn report_keys(&self, indexes: impl Iterator<Item = usize>) {
        for index in indexes.filter_map(|index| c_int::try_from(index).ok()) {
            // SAFETY: the context is that of the running callback.
            unsafe { api!(self.api, RedisModule_KeyAtPos)(self.ctx, index) };
        }
    }

    /// Sends the reply. Returns the status that the callback returns.
    #[inline(always)]
    pub(super) fn reply(&self, reply: Result<Reply, Error>) -> c_int {
        match reply {
            Ok(Reply::Integer(integer)) => self.reply_integer(integer),
            Ok(Reply::Integers(integers)) => self.reply_integers(&integers),
            // SAFETY: the context is that of the running callback.
            Ok(Reply::Null) => unsafe { api!(self.api, RedisModule_ReplyWithNull)(self.ctx) },
            Ok(Reply::Decision(integers)) => self.reply_integers(&integers),
            Ok(Reply::Decisions(granted, decisions)) => self.reply_decisions(granted, &decisions),
            Ok(Reply::Counts(counts)) => self.reply_counts(&counts),
            Ok(Reply::Lease(integers)) => self.reply_integers(&integers),
            Ok(Reply::Fences(leases)) => self.reply_fences(&leases),
            Ok(Reply::Holders(leases)) => self.reply_holders(&leases),
            // SAFETY: the context is that of the running callback.
            Ok(Reply::Ok) => unsafe {
                api!(self.api, RedisModule_ReplyWithSimpleString)(self.ctx, c"OK".as_ptr())
            },
            // SAFETY: the context is that of the running callback.
            Err(Error::WrongArity) => unsafe { api!(self.api, RedisModule_WrongArity)(self.ctx) },
            // SAFETY: as above; the server copies the message before the call returns.
            Err(error) => unsafe {
                api!(self.api, RedisModule_ReplyWithError)(self.ctx, error.message().as_ptr())
            },
        }
    }

    fn reply_decisions(&self, granted: bool, decisions: &[Integers]) -> c_int {
        let status = self.reply_array(1 + decisions.len());
        self.reply_integer(i64::from(granted));
        for integers in decisions {
            self.reply_integers(integers);
        }
        status
    }

    fn reply_counts(&self, counts: &[(Vec<u8>, u64)]) -> c_int {
        let status = self.reply_array(counts.len());
        for (key, count) in counts {
            self.reply_array(2);
            self.reply_bytes(key);
            self.reply_integer(count.cast_signed());
        }
        status
    }

    fn reply_fences(&self, leases: &[[i64; 2]]) -> c_int {
        let status = self.reply_array(leases.len());
        for lease in leases {
            self.reply_integers(lease);
        }
        status
    }

    fn reply_holders(&self, leases: &[(Holder, [i64; 3])]) -> c_int {
        let status = self.reply_array(leases.len());
        for (holder, integers) in leases {
            self.reply_array(1 + integers.len());
            self.reply_bytes(holder.as_bytes());
            for &integer in integers {
                self.reply_integer(integer);
            }
        }
        status
    }

    #[inline(always)]
    fn reply_integers(&self, integers: &[i64]) -> c_int {
        let status = self.reply_array(integers.len());
        for &integer in integers {
            self.reply_integer(integer);
        }
        status
    }

    /// Announces an array of `len` elements, which must follow.
    fn reply_array(&self, len: usize) -> c_int {
        // SAFETY: the context is that of the running callback.
        unsafe { api!(self.api, RedisModule_ReplyWithArray)(self.ctx, len as i64) }
    }

    fn reply_bytes(&self, bytes: &[u8]) {
        let (start, len) = (bytes.as_ptr().cast::<c_char>(), bytes.len());
        // SAFETY: the context is that of the running callback; the server copies the bytes.
        unsafe { api!(self.api, RedisModule_ReplyWithStringBuffer)(self.ctx, start, len) };
    }

    fn reply_integer(&self, integer: i64) -> c_int {
        // SAFETY: the context is that of the running callback.
        unsafe { api!(self.api, RedisModule_ReplyWithLongLong)(self.ctx, integer) }
    }
}
