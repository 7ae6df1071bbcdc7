//! A module that loads another one and makes functions of the server fail for that one.
//!
//! `RATELIMIT_TEST_MODULE` is the path of the other module, which gets the arguments and the
//! context of this one. `RATELIMIT_TEST_FAULTS` is a list of words, separated by spaces:
//!
//! | word | effect |
//! |---|---|
//! | `RedisModule_X` | every call of the function fails |
//! | `-RedisModule_X` | the server does not have the function |
//!
//! Of the subscriptions to events, the first succeeds: the second one fails. Of the keys that are
//! opened for writing, about every fourth one cannot be opened.

use std::env;
use std::ffi::{CStr, CString, OsString, c_char, c_int, c_void};
use std::mem;
use std::os::unix::ffi::OsStringExt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

const ERR: c_int = 1;

type GetApi = unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> c_int;
type OnLoad = unsafe extern "C" fn(*mut *mut c_void, *mut *mut c_void, c_int) -> c_int;
type OpenKey = unsafe extern "C" fn(*mut c_void, *mut c_void, c_int) -> *mut c_void;
type Subscribe = unsafe extern "C" fn(*mut c_void, Event, *const c_void) -> c_int;

/// An event as the server's functions take it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Event {
    id: u64,
    version: u64,
}

/// The server's own function that looks up its functions.
static GET_API: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// The server's own function that subscribes to an event, and the number of its calls.
static SUBSCRIBE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static SUBSCRIPTIONS: AtomicUsize = AtomicUsize::new(0);

/// The server's own function that opens a key, and the number of keys opened for writing.
static OPEN_KEY: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static OPENINGS: AtomicUsize = AtomicUsize::new(0);

/// Loads the other module. If it refuses, it is unmapped, as a server unmaps a refused module.
///
/// # Safety
///
/// Only for the server to call, with a context whose first field is the address of the function
/// that looks up functions, and with the arguments of the module.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the server looks for this name")]
pub unsafe extern "C" fn RedisModule_OnLoad(
    ctx: *mut *mut c_void,
    argv: *mut *mut c_void,
    argc: c_int,
) -> c_int {
    let path = env::var_os("RATELIMIT_TEST_MODULE").map(OsString::into_vec);
    let Some(path) = path.and_then(|path| CString::new(path).ok()) else {
        return ERR;
    };
    // SAFETY: the path is a C string.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if library.is_null() {
        return ERR;
    }
    // SAFETY: the library is open, the name is a C string.
    let on_load = unsafe { libc::dlsym(library, c"RedisModule_OnLoad".as_ptr()) };
    if on_load.is_null() {
        return ERR;
    }
    // SAFETY: every module's function of this name has the type `OnLoad`.
    let on_load = unsafe { mem::transmute::<*mut c_void, OnLoad>(on_load) };
    // SAFETY: the caller promises that the first field of the context is the address of a function.
    GET_API.store(unsafe { ctx.replace(get_api as GetApi as *mut c_void) }, Ordering::Relaxed);
    // SAFETY: the pointers are those that the server passed.
    let status = unsafe { on_load(ctx, argv, argc) };
    // SAFETY: as above; the server gets its own function back.
    unsafe { ctx.write(GET_API.load(Ordering::Relaxed)) };
    if status == ERR {
        // SAFETY: the library is open, and no function of the library runs.
        unsafe { libc::dlclose(library) };
    }
    status
}

/// Looks up a function of the server or its replacement.
unsafe extern "C" fn get_api(name: *const c_char, function: *mut *mut c_void) -> c_int {
    // SAFETY: only a function of this type was stored there.
    let own = unsafe { mem::transmute::<*mut c_void, GetApi>(GET_API.load(Ordering::Relaxed)) };
    // SAFETY: the caller passes a C string.
    let Ok(text) = unsafe { CStr::from_ptr(name) }.to_str() else {
        return ERR;
    };
    let faults = env::var("RATELIMIT_TEST_FAULTS").unwrap_or_default();
    let has = |word: &str| faults.split(' ').any(|fault| fault == word);
    if has(&format!("-{text}")) {
        return ERR;
    }
    // SAFETY: the pointers are those that the caller passed.
    let status = unsafe { own(name, function) };
    if status != ERR && has(text) {
        let stand_in = match text {
            "RedisModule_SubscribeToServerEvent" => {
                // SAFETY: the server has just written its function there.
                SUBSCRIBE.store(unsafe { *function }, Ordering::Relaxed);
                subscribe as Subscribe as *mut c_void
            }
            "RedisModule_OpenKey" => {
                // SAFETY: as above.
                OPEN_KEY.store(unsafe { *function }, Ordering::Relaxed);
                open_key as OpenKey as *mut c_void
            }
            "RedisModule_CreateDataType" | "RedisModule_GetCommand" => {
                answers_null as extern "C" fn() -> *mut c_void as *mut c_void
            }
            _ => fails as extern "C" fn() -> c_int as *mut c_void,
        };
        // SAFETY: the caller passes where the address of a function is to be written.
        unsafe { *function = stand_in };
    }
    status
}

/// Fails. The function reads no arguments, so that a caller can pass any arguments.
extern "C" fn fails() -> c_int {
    ERR
}

/// Fails as `fails` does, for functions that return a pointer.
extern "C" fn answers_null() -> *mut c_void {
    ptr::null_mut()
}

/// Opens a key, but not about every fourth one that is to be written. The failures have no period,
/// so that each opening of a call fails in turn.
unsafe extern "C" fn open_key(ctx: *mut c_void, name: *mut c_void, mode: c_int) -> *mut c_void {
    const WRITE: c_int = 1 << 1;
    if mode & WRITE != 0 && scrambled(OPENINGS.fetch_add(1, Ordering::Relaxed) as u64) >> 62 == 3 {
        return ptr::null_mut();
    }
    // SAFETY: only a function of this type was stored there.
    let own = unsafe { mem::transmute::<*mut c_void, OpenKey>(OPEN_KEY.load(Ordering::Relaxed)) };
    // SAFETY: the arguments are those that the caller passed.
    unsafe { own(ctx, name, mode) }
}

/// Returns bits that look random, the same for the same number.
fn scrambled(number: u64) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    (0..3).fold(number, |bits, _| {
        let bits = bits.wrapping_mul(ODD);
        bits ^ (bits >> 32)
    })
}

/// Subscribes to the first event, fails for the next ones, and ends any subscription.
unsafe extern "C" fn subscribe(ctx: *mut c_void, event: Event, callback: *const c_void) -> c_int {
    let begins = !callback.is_null();
    if begins && SUBSCRIPTIONS.fetch_add(1, Ordering::Relaxed) > 0 {
        return ERR;
    }
    // SAFETY: only a function of this type was stored there.
    let own =
        unsafe { mem::transmute::<*mut c_void, Subscribe>(SUBSCRIBE.load(Ordering::Relaxed)) };
    // SAFETY: the arguments are those that the caller passed.
    unsafe { own(ctx, event, callback) }
}
