//! What a value takes in memory, and moving it to where memory is less fragmented.
//!
//! A value is a box, and the buffers that its state lends one by one. Each is an allocation of the
//! server's, without anything before it: the module's allocator passes sizes on and nothing else.

use std::ffi::{c_int, c_ulong, c_void};
use std::mem::ManuallyDrop;

use limiter::BufferVisitor;
use redis_module::raw;

use super::api::api;
use super::data_type::DataType;

/// The two objects in which a server keeps a module's value: 16 bytes each.
///
/// Redis 7.0 to 8.0 and Valkey 8 count neither of them in MEMORY USAGE, nor does anyone else know
/// them by address. Valkey 9 counts the first by itself, so it tells 16 bytes too many.
const WRAPPER_BYTES: usize = 32;

/// Buffers that are moved before the server is asked whether its time is up.
const BATCH: usize = 32;

/// What a value takes, as the allocator sees it. Costs as much as it has buffers.
///
/// # Safety
///
/// The address must be that of a boxed `T` which nothing refers to meanwhile.
pub(super) unsafe fn usage<T: DataType>(stored: *mut c_void) -> usize {
    // SAFETY: a box is an allocation, unless of a type without a size, which no state is.
    let own = unsafe { api!(RedisModule_MallocSize)(stored) };
    let mut usage = Usage(WRAPPER_BYTES + own);
    // SAFETY: the caller vouches for the address.
    let value = unsafe { &mut *stored.cast::<T>() };
    value.visit_buffers(0..value.buffers(), &mut usage);
    usage.0
}

struct Usage(usize);

impl BufferVisitor for Usage {
    fn visit<T>(&mut self, mut buffer: Vec<T>) -> Vec<T> {
        // SAFETY: a state lends buffers that are allocated, and by the server's allocator.
        self.0 += unsafe { api!(RedisModule_MallocSize)(buffer.as_mut_ptr().cast()) };
        buffer
    }
}

/// Moves a value, or a part of it: `true` when there is more to move and the time is up.
///
/// # Safety
///
/// The context must be that of a running defrag callback; `stored` must hold the address of a boxed
/// `T` which nothing refers to meanwhile.
pub(super) unsafe fn relocate<T: DataType>(
    ctx: *mut raw::RedisModuleDefragCtx,
    stored: &mut *mut c_void,
) -> bool {
    let Some(functions) = Functions::of_server() else {
        return false;
    };
    let mut mover = Mover { functions, ctx };
    let mut next = mover.cursor();
    if next == 0 {
        // SAFETY: a box is an allocation of the server's, whose old address is forgotten here.
        *stored = unsafe { mover.relocated(*stored) };
    }
    // SAFETY: the caller vouches for the address, and a box that was moved is a copy of it.
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
    /// The functions, or `None` on a server that lacks one of them.
    pub(super) fn of_server() -> Option<Self> {
        // SAFETY: the pointers are written once, before the module's own code runs.
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

/// Moves allocations for a running defrag callback.
struct Mover {
    functions: Functions,
    /// That of the callback.
    ctx: *mut raw::RedisModuleDefragCtx,
}

impl Mover {
    /// The number of the buffer to go on with; 0 at the start.
    fn cursor(&self) -> usize {
        let mut cursor = 0;
        // SAFETY: the context is that of the running callback.
        let status = unsafe { (self.functions.cursor_get)(self.ctx, &raw mut cursor) };
        if status == OK { usize::try_from(cursor).unwrap_or(0) } else { 0 }
    }

    /// Has the callback be called again, to go on; `false` where the server wants all at once.
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

    /// Where an allocation is now: the server moves it if that makes memory less fragmented.
    ///
    /// # Safety
    ///
    /// It must be an allocation of the server's, and its old address must not be used again.
    unsafe fn relocated(&self, allocation: *mut c_void) -> *mut c_void {
        // SAFETY: the context is that of the running callback; the caller vouches for the rest.
        let moved = unsafe { (self.functions.alloc)(self.ctx, allocation) };
        if moved.is_null() { allocation } else { moved }
    }
}

impl BufferVisitor for Mover {
    fn visit<T>(&mut self, buffer: Vec<T>) -> Vec<T> {
        let mut buffer = ManuallyDrop::new(buffer);
        let (len, capacity) = (buffer.len(), buffer.capacity());
        // SAFETY: a state lends buffers that are allocated, and by the server's allocator; the old
        // one is neither dropped nor used again.
        let moved = unsafe { self.relocated(buffer.as_mut_ptr().cast()) };
        // SAFETY: the elements are where they were, or were copied to an allocation of the same
        // size, which the server aligns as it does all of them; it is handed over here.
        unsafe { Vec::from_raw_parts(moved.cast(), len, capacity) }
    }
}

const OK: c_int = raw::REDISMODULE_OK as c_int;
