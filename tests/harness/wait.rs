//! Waiting for other processes: by polling, and with a deadline.

use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Longest time for which a condition may fail to hold. A busy machine can be many times slower
/// than an idle one, and can stall for seconds. Sentinels do nothing for 30 s after such a stall.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

/// Longest time for which a condition may fail to hold on a server under a tool.
const LONGEST: Duration = Duration::from_secs(300);

const PAUSE: Duration = Duration::from_millis(5);

/// Returns the value of `probe` as soon as it has one. Panics when it has none before the deadline.
pub(crate) fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(TIMEOUT, probe).unwrap_or_else(|| panic!("not within {TIMEOUT:?}: {what}"))
}

/// Returns the value of `probe` as soon as it has one, or `None` after `timeout`, which grows with
/// the slowdown of servers.
pub(crate) fn within<T>(timeout: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let timeout = slowdown().map_or(timeout, |factor| (timeout * factor).min(LONGEST));
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if start.elapsed() > timeout {
            return None;
        }
        thread::sleep(PAUSE);
    }
}

/// Returns the factor by which servers are slower under a tool such as memcheck, read from
/// `RATELIMIT_TEST_SLOWDOWN`. Such a tool writes its report when a server ends, so servers must
/// then end by themselves.
pub(crate) fn slowdown() -> Option<u32> {
    let slowdown = env::var("RATELIMIT_TEST_SLOWDOWN").ok()?;
    Some(slowdown.parse().expect("RATELIMIT_TEST_SLOWDOWN is an integer"))
}

/// Returns the result of `work` and its duration, without the time that stalls of the machine may
/// have taken.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let (result, stall) = with_stall(work);
    (result, start.elapsed().saturating_sub(slack(stall)))
}

/// Returns the result of `work`, and the longest time for which a thread had to wait for the
/// machine during `work`.
pub(crate) fn with_stall<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stall = scope.spawn(|| longest_stall(&stop));
        // The guard stops the thread also when `work` panics, because the scope waits for its
        // threads.
        let guard = StopOnDrop(&stop);
        let result = work();
        drop(guard);
        (result, stall.join().expect("a thread that sleeps"))
    })
}

/// Returns the time that a busy machine may have added to one exchange: each thread that takes part
/// in the exchange can have waited as long as the longest stall.
pub(crate) fn slack(stall: Duration) -> Duration {
    4 * stall
}

fn longest_stall(stop: &AtomicBool) -> Duration {
    const NAP: Duration = Duration::from_millis(2);
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        thread::sleep(NAP);
        longest = longest.max(begin.elapsed().saturating_sub(NAP));
    }
    longest
}

/// Guard that sets a flag when it is dropped, to stop threads that read the flag.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
