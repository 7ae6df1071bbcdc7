//! The allocator of the module, which is that of the server.

use std::alloc::{GlobalAlloc, Layout};
use std::ptr;

use super::raw;

/// All memory comes from the server, which counts and bounds it.
#[global_allocator]
static ALLOCATOR: ServerAllocator = ServerAllocator;

/// The allocator of the server, which has it from the load on.
struct ServerAllocator;

// SAFETY: the two functions of the server are an allocator: `RedisModule_Alloc` returns memory of at
// least the size, or ends the process, and only `RedisModule_Free` ends its use. No function panics.
unsafe impl GlobalAlloc for ServerAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // The allocator aligns an allocation by its size: one whose size is a multiple of the
        // alignment has this alignment.
        let size = layout.pad_to_align().size();
        // SAFETY: the pointers are written once, before any other code of the module runs.
        match unsafe { raw::RedisModule_Alloc } {
            // SAFETY: the function takes any size.
            Some(allocate) => unsafe { allocate(size).cast() },
            // Nothing is allocated before the load. The caller ends the process.
            None => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, address: *mut u8, _: Layout) {
        // SAFETY: the pointers are written once, before any other code of the module runs.
        if let Some(free) = unsafe { raw::RedisModule_Free } {
            // SAFETY: the caller vouches for the address, which `alloc` has returned.
            unsafe { free(address.cast()) };
        }
    }
}
