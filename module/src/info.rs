//! What INFO says about the module: the section `ratelimit`.
//!
//! Every count is of this server since the module was loaded: what replicas and the append-only
//! file receive is not counted again. CONFIG RESETSTAT does not reach modules, so it leaves these
//! counts alone. For either algorithm (`token_bucket`, `sliding_window`), with the prefix
//! `ratelimit_`:
//!
//! | field | counts |
//! |---|---|
//! | `token_bucket_calls` | decisions that could take units: grants and denials |
//! | `token_bucket_granted` | those that took units, with PARTIAL also fewer than asked for |
//! | `token_bucket_denied` | those that took none |
//! | `token_bucket_granted_units` | units taken |
//! | `token_bucket_peeks` | calls of RATELIMIT.PEEK that were answered |
//! | `token_bucket_refunds` | calls of RATELIMIT.REFUND that gave something back |
//! | `token_bucket_refunded_units` | units given back |
//!
//! RATELIMIT.MULTI counts once for each key that it took from, or for each key that denied it; keys
//! that would have granted it when another did not are not counted. Refused calls are not counted:
//! `INFO commandstats` has them. `replication_failures` is the number of changes that the server
//! refused to send to replicas and the append-only file. `top_keys_tracked` is the number of keys,
//! of all databases, whose recent denials are known; it is left out of crash reports.

use std::sync::atomic::{AtomicU64, Ordering};

use limiter::{SlidingWindowLog, TokenBucket};

use crate::clock;
use crate::replicate;
use crate::server::info::Section;
use crate::top_keys;

/// An algorithm whose calls are counted.
pub(crate) trait Counted {
    /// What was counted since the module was loaded.
    fn counters() -> &'static Counters;
}

impl Counted for TokenBucket {
    fn counters() -> &'static Counters {
        static COUNTERS: Counters = Counters::new();
        &COUNTERS
    }
}

impl Counted for SlidingWindowLog {
    fn counters() -> &'static Counters {
        static COUNTERS: Counters = Counters::new();
        &COUNTERS
    }
}

/// What is counted for one algorithm.
pub(crate) struct Counters {
    granted: Counter,
    granted_units: Counter,
    denied: Counter,
    peeks: Counter,
    refunds: Counter,
    refunded_units: Counter,
}

impl Counters {
    const fn new() -> Self {
        Self {
            granted: Counter::new(),
            granted_units: Counter::new(),
            denied: Counter::new(),
            peeks: Counter::new(),
            refunds: Counter::new(),
            refunded_units: Counter::new(),
        }
    }

    /// Counts a grant of that many units.
    pub(crate) fn granted(&self, units: u32) {
        self.granted.add(1);
        self.granted_units.add(units);
    }

    /// Counts a denial.
    pub(crate) fn denied(&self) {
        self.denied.add(1);
    }

    /// Counts a peek.
    pub(crate) fn peeked(&self) {
        self.peeks.add(1);
    }

    /// Counts a refund of that many units.
    pub(crate) fn refunded(&self, units: u32) {
        self.refunds.add(1);
        self.refunded_units.add(units);
    }

    fn calls(&self) -> u64 {
        self.granted.get().wrapping_add(self.denied.get())
    }
}

struct Counter(AtomicU64);

impl Counter {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Not one atomic step, which would cost as much as all the rest: the server runs one command
    /// at a time.
    fn add(&self, more: u32) {
        self.0.store(self.get().wrapping_add(u64::from(more)), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Fills the section. A crash report is written wherever the server happened to be, perhaps with
/// the lock of the denied keys held, so it gets the counters alone.
pub(crate) fn show(section: &Section, in_crash_report: bool) {
    let (bucket, window) = (TokenBucket::counters(), SlidingWindowLog::counters());
    for (field, value) in [
        (c"token_bucket_calls", bucket.calls()),
        (c"token_bucket_granted", bucket.granted.get()),
        (c"token_bucket_denied", bucket.denied.get()),
        (c"token_bucket_granted_units", bucket.granted_units.get()),
        (c"token_bucket_peeks", bucket.peeks.get()),
        (c"token_bucket_refunds", bucket.refunds.get()),
        (c"token_bucket_refunded_units", bucket.refunded_units.get()),
        (c"sliding_window_calls", window.calls()),
        (c"sliding_window_granted", window.granted.get()),
        (c"sliding_window_denied", window.denied.get()),
        (c"sliding_window_granted_units", window.granted_units.get()),
        (c"sliding_window_peeks", window.peeks.get()),
        (c"sliding_window_refunds", window.refunds.get()),
        (c"sliding_window_refunded_units", window.refunded_units.get()),
        (c"replication_failures", replicate::failures()),
    ] {
        section.field(field, value);
    }
    if !in_crash_report {
        section.field(c"top_keys_tracked", top_keys::len(clock::now()) as u64);
    }
}
