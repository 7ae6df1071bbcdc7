//! A clock for a live server, preloaded into it: the real-time clocks read a file.
//!
//! The file named by `RATELIMIT_TEST_CLOCK` holds the microseconds since the Unix epoch as eight
//! bytes in native order. The library maps the file once, so that a test which writes those bytes
//! sets the time of the running process. The monotonic clock, which paces event loops, goes on, but
//! in steps. Without the variable, the system's own clocks answer.
//!
//! No function here allocates, because an allocator reads the time before it can serve a request.

use std::ffi::{CStr, c_char};
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use libc::{FILE, c_int, c_void, clockid_t, time_t, timespec, timeval};

/// The mapped file; null until the first use.
static CLOCK: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

/// Returns the fake time in microseconds, or `None` without a fake time.
fn fake_micros() -> Option<u64> {
    let mut clock = CLOCK.load(Ordering::Acquire);
    if clock.is_null() {
        clock = map_clock()?;
        CLOCK.store(clock, Ordering::Release);
    }
    // SAFETY: a pointer that is not null is a mapping of eight bytes that is never unmapped.
    Some(unsafe { &*clock }.load(Ordering::Relaxed))
}

/// Maps the file. Two concurrent calls both return a mapping of the same bytes.
fn map_clock() -> Option<*mut AtomicU64> {
    // SAFETY: the name ends with NUL, and nothing in a server under test changes its environment.
    let path = unsafe { libc::getenv(c"RATELIMIT_TEST_CLOCK".as_ptr()) };
    if path.is_null() {
        return None;
    }
    // SAFETY: a variable's value ends with NUL.
    let file = unsafe { libc::open(path, libc::O_RDONLY | libc::O_CLOEXEC) };
    if file < 0 {
        return None;
    }
    let size = size_of::<AtomicU64>();
    // SAFETY: the file is open, and a new mapping at an address of the kernel's choice touches no
    // memory that is in use.
    let clock =
        unsafe { libc::mmap(ptr::null_mut(), size, libc::PROT_READ, libc::MAP_SHARED, file, 0) };
    // SAFETY: the file was opened above and is not used again; a mapping outlives it.
    unsafe { libc::close(file) };
    (clock != libc::MAP_FAILED).then_some(clock.cast())
}

/// `clock_gettime(2)` with the fake time for the real-time clocks.
///
/// # Safety
///
/// `time` points to a `timespec` that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let Some(micros) = fake_micros() else {
        // SAFETY: the arguments are those of the call that this call replaces.
        return unsafe { system_time(clock, time) };
    };
    match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => {}
        libc::CLOCK_MONOTONIC => {
            // SAFETY: as above.
            return unsafe { coarse_monotonic_time(micros, time) };
        }
        // SAFETY: as above.
        _ => return unsafe { system_time(clock, time) },
    }
    let now = timespec {
        tv_sec: (micros / 1_000_000).cast_signed(),
        tv_nsec: (micros % 1_000_000 * 1_000).cast_signed(),
    };
    // SAFETY: the caller promises that `time` may be written.
    unsafe { time.write(now) };
    0
}

/// Returns the system's own answer.
///
/// # Safety
///
/// `time` points to a `timespec` that may be written.
unsafe fn system_time(clock: clockid_t, time: *mut timespec) -> c_int {
    // SAFETY: the caller promises that `time` may be written.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as c_int }
}

/// Writes the monotonic time in whole milliseconds, plus one for each change of the fake time.
///
/// Valkey 9.1 reads the real time only once in a millisecond, and adds the monotonic time that has
/// passed since. With these steps no monotonic time passes, and the server reads a new fake time at
/// once.
///
/// # Safety
///
/// `time` points to a `timespec` that may be written.
unsafe fn coarse_monotonic_time(micros: u64, time: *mut timespec) -> c_int {
    static SEEN: AtomicU64 = AtomicU64::new(0);
    static CHANGES: AtomicU64 = AtomicU64::new(0);
    if SEEN.swap(micros, Ordering::Relaxed) != micros {
        CHANGES.fetch_add(1, Ordering::Relaxed);
    }
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a local variable.
    let status = unsafe { system_time(libc::CLOCK_MONOTONIC, &raw mut now) };
    let millis = now.tv_sec.cast_unsigned() * 1_000
        + now.tv_nsec.cast_unsigned() / 1_000_000
        + CHANGES.load(Ordering::Relaxed);
    let now = timespec {
        tv_sec: (millis / 1_000).cast_signed(),
        tv_nsec: (millis % 1_000 * 1_000_000).cast_signed(),
    };
    // SAFETY: the caller promises that `time` may be written.
    unsafe { time.write(now) };
    status
}

/// Opens a file as `fopen(3)` does, but `/proc/cpuinfo` is empty. Servers read this file to find a
/// clock in the processor, and would read that clock without a call to this library.
///
/// # Safety
///
/// Both point to C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fopen(path: *const c_char, mode: *const c_char) -> *mut FILE {
    // SAFETY: the caller promises a C string.
    let path = match unsafe { CStr::from_ptr(path) } {
        name if name == c"/proc/cpuinfo" && fake_micros().is_some() => c"/dev/null".as_ptr(),
        name => name.as_ptr(),
    };
    // SAFETY: the name is a C string, and `next` has the type of `fopen`.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, c"fopen".as_ptr()) };
    if next.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: `next` is the address of `fopen`.
    let next: Fopen = unsafe { mem::transmute(next) };
    // SAFETY: the arguments are C strings.
    unsafe { next(path, mode) }
}

/// Opens a file as `fopen` does, under the name that programs built for large files call.
///
/// # Safety
///
/// Both point to C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fopen64(path: *const c_char, mode: *const c_char) -> *mut FILE {
    // SAFETY: the caller promises C strings.
    unsafe { fopen(path, mode) }
}

type Fopen = unsafe extern "C" fn(*const c_char, *const c_char) -> *mut FILE;

/// `gettimeofday(2)` with the fake time. The time zone is obsolete and left alone.
///
/// # Safety
///
/// `time` is null or points to a `timeval` that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(time: *mut timeval, _zone: *mut c_void) -> c_int {
    if time.is_null() {
        return 0;
    }
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a local variable.
    let status = unsafe { clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    let now = timeval { tv_sec: now.tv_sec, tv_usec: now.tv_nsec / 1_000 };
    // SAFETY: the caller promises that `time` may be written, as it is not null.
    unsafe { time.write(now) };
    status
}

/// `time(2)` with the fake time.
///
/// # Safety
///
/// `time` is null or points to a `time_t` that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn time(time: *mut time_t) -> time_t {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a local variable.
    unsafe { clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    if !time.is_null() {
        // SAFETY: the caller promises that `time` may be written, as it is not null.
        unsafe { time.write(now.tv_sec) };
    }
    now.tv_sec
}
