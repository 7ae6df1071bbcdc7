//! The memory of a value: its size, and its move to a place where memory is less fragmented.
//!
//! A value is a box and the buffers that its state lends one by one. Each of them is one allocation
//! of the server, and its address is that of the allocation: the module's allocator adds no header.

use std::ffi::{c_int, c_ulong, c_void};
use std::mem::ManuallyDrop;

use limiter::{BufferVisitor, Stored};

use super::api::{Api, api};
use super::raw;

/// The size of the two objects in which a server keeps a module's value: 16 bytes each.
///
/// Redis 7.0 to 8.0 and Valkey 8 count neither of them in MEMORY USAGE. Valkey 9 counts the first
/// one, so that it reports 16 bytes too many.
const WRAPPER_BYTES: usize = 32;

/// The alignment that an allocation of any size has at least.
const MIN_ALIGNMENT: usize = 8;

/// The number of buffers that are moved before the server is asked whether its time is up.
const BATCH: usize = 32;

/// Returns the size of a value as the allocator counts it. Costs as much as it has buffers.
///
/// # Safety
///
/// The address must be that of a boxed `T`, and no other reference into the value may live.
pub(super) unsafe fn usage<T: Stored>(api: Api, stored: *mut c_void) -> usize {
    const { assert!(size_of::<T>() > 0, "the box of the state is an allocation") };
    // SAFETY: the box is an allocation, as the state has a size, and one of the server's allocator,
    // which is the module's global allocator.
    let own = unsafe { api!(api, RedisModule_MallocSize)(stored) };
    let mut usage = Usage { api, bytes: WRAPPER_BYTES + own };
    // SAFETY: the caller vouches for the address.
    let value = unsafe { &mut *stored.cast::<T>() };
    value.visit_buffers(0..value.buffers(), &mut usage);
    usage.bytes
}

/// The bytes that have been counted so far.
struct Usage {
    api: Api,
    bytes: usize,
}

impl BufferVisitor for Usage {
    fn visit<T>(&mut self, mut buffer: Vec<T>) -> Vec<T> {
        if is_allocated(&buffer) {
            // SAFETY: the buffer is an allocation of the module's global allocator, which is the
            // server's.
            self.bytes +=
                unsafe { api!(self.api, RedisModule_MallocSize)(buffer.as_mut_ptr().cast()) };
        }
        buffer
    }
}

/// Returns whether the address of a buffer is that of an allocation.
fn is_allocated<T>(buffer: &Vec<T>) -> bool {
    size_of::<T>() > 0 && buffer.capacity() > 0
}

/// Moves a value, or a part of it. Returns whether a part is left because the time is up.
///
/// # Safety
///
/// The context must be that of a running defrag callback. `stored` must hold the address of a boxed
/// `T`, and no other reference into the value may live.
pub(super) unsafe fn relocate<T: Stored>(
    ctx: *mut raw::RedisModuleDefragCtx,
    stored: &mut *mut c_void,
) -> bool {
    const { assert!(size_of::<T>() > 0, "the box of the state is an allocation") };
    const { assert!(align_of::<T>() <= MIN_ALIGNMENT, "a moved state is aligned") };
    let Some(functions) = Functions::of_server() else {
        return false;
    };
    let mut mover = Mover { functions, ctx };
    let mut next = mover.cursor();
    if next == 0 {
        // SAFETY: the box is an allocation of the server's allocator, as the state has a size; its
        // old address is overwritten here.
        *stored = unsafe { mover.relocated(*stored) };
    }
    // SAFETY: the caller vouches for the address; a box that was moved has the same bytes, and an
    // alignment that suffices for any `T`, as asserted above.
    let value = unsafe { &mut *stored.cast::<T>() };
    while next < value.buffers() {
        value.visit_buffers(next..next.saturating_add(BATCH), &mut mover);
        next = next.saturating_add(BATCH);
        if next < value.buffers() && mover.should_stop() && mover.set_cursor(next) {
            return true;
        }
    }
    false
}

/// The server's functions for a defrag callback.
#[derive(Clone, Copy)]
pub(super) struct Functions {
    alloc: unsafe extern "C" fn(*mut raw::RedisModuleDefragCtx, *mut c_void) -> *mut c_void,
    should_stop: unsafe extern "C" fn(*mut raw::RedisModuleDefragCtx) -> c_int,
    cursor_get: unsafe extern "C" fn(*mut raw::RedisModuleDefragCtx, *mut c_ulong) -> c_int,
    cursor_set: unsafe extern "C" fn(*mut raw::RedisModuleDefragCtx, c_ulong) -> c_int,
}

impl Functions {
    /// Returns the functions, or `None` on a server that lacks one of them.
    pub(super) fn of_server() -> Option<Self> {
        // SAFETY: see `Api`: no write can race with these reads.
        unsafe {
            Some(Self {
                alloc: raw::RedisModule_DefragAlloc?,
                should_stop: raw::RedisModule_DefragShouldStop?,
                cursor_get: raw::RedisModule_DefragCursorGet?,
                cursor_set: raw::RedisModule_DefragCursorSet?,
            })
        }
    }
}

/// The context in which allocations are moved.
struct Mover {
    functions: Functions,
    /// The context of the running defrag callback.
    ctx: *mut raw::RedisModuleDefragCtx,
}

impl Mover {
    /// Returns the number of the first buffer that has not been moved; 0 at the start.
    fn cursor(&self) -> usize {
        let mut cursor = 0;
        // SAFETY: the context is that of the running callback.
        let status = unsafe { (self.functions.cursor_get)(self.ctx, &raw mut cursor) };
        if status == OK { usize::try_from(cursor).unwrap_or(0) } else { 0 }
    }

    /// Asks the server to call the callback again for the rest. Returns false if the server wants
    /// all in one call.
    fn set_cursor(&self, next: usize) -> bool {
        let Ok(cursor) = c_ulong::try_from(next) else {
            return false;
        };
        // SAFETY: the context is that of the running callback.
        unsafe { (self.functions.cursor_set)(self.ctx, cursor) == OK }
    }

    fn should_stop(&self) -> bool {
        // SAFETY: the context is that of the running callback.
        unsafe { (self.functions.should_stop)(self.ctx) != 0 }
    }

    /// Returns the new address of an allocation, which the server moves if that makes memory less
    /// fragmented.
    ///
    /// # Safety
    ///
    /// The address must be that of an allocation of the server, and must not be used again.
    unsafe fn relocated(&self, allocation: *mut c_void) -> *mut c_void {
        // SAFETY: the context is that of the running callback; the caller vouches for the rest.
        let moved = unsafe { (self.functions.alloc)(self.ctx, allocation) };
        if moved.is_null() { allocation } else { moved }
    }
}

impl BufferVisitor for Mover {
    fn visit<T>(&mut self, buffer: Vec<T>) -> Vec<T> {
        const { assert!(align_of::<T>() <= MIN_ALIGNMENT, "moved elements are aligned") };
        if !is_allocated(&buffer) {
            return buffer;
        }
        let mut buffer = ManuallyDrop::new(buffer);
        let (len, capacity) = (buffer.len(), buffer.capacity());
        // SAFETY: the buffer is an allocation of the module's global allocator, which is the
        // server's. The old buffer is neither dropped nor used again.
        let moved = unsafe { self.relocated(buffer.as_mut_ptr().cast()) };
        // SAFETY: the elements are where they were, or were copied to an allocation of the same
        // size and of an alignment that suffices for any `T`, as asserted above.
        unsafe { Vec::from_raw_parts(moved.cast(), len, capacity) }
    }
}

const OK: c_int = raw::REDISMODULE_OK as c_int;
