//! A clock for a live server, preloaded into it: the real-time clocks read a file.
//!
//! The file named by `RATELIMIT_TEST_CLOCK` holds the microseconds since the Unix epoch as eight
//! bytes in native order. It is mapped once, so that a test which writes those bytes sets the time
//! of the running process. Without the variable, and for the monotonic clocks that pace event
//! loops, the system's own clocks answer.
//!
//! Nothing here allocates: an allocator asks for the time before it can serve anyone.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use libc::{c_int, c_void, clockid_t, time_t, timespec, timeval};

/// The mapped file; null until the first time it is needed.
static CLOCK: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

/// The fake time in microseconds, or `None` where there is none.
fn fake_micros() -> Option<u64> {
    let mut clock = CLOCK.load(Ordering::Acquire);
    if clock.is_null() {
        clock = map_clock()?;
        CLOCK.store(clock, Ordering::Release);
    }
    // SAFETY: a pointer that is not null is a mapping of eight bytes that is never unmapped.
    Some(unsafe { &*clock }.load(Ordering::Relaxed))
}

/// Maps the file. Two threads that do so at once both get a mapping of the same bytes.
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
    let fake = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => fake_micros(),
        _ => None,
    };
    let Some(micros) = fake else {
        // SAFETY: the arguments are those of the call that this one stands in for.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as c_int;
    };
    let now = timespec {
        tv_sec: (micros / 1_000_000).cast_signed(),
        tv_nsec: (micros % 1_000_000 * 1_000).cast_signed(),
    };
    // SAFETY: the caller promises that `time` may be written.
    unsafe { time.write(now) };
    0
}

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
