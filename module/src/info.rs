//! The section `ratelimit` of INFO.
//!
//! Every count is that of this server since the module was loaded. Effects that replicas and the
//! append-only file receive are not counted again. CONFIG RESETSTAT does not reach modules, so that
//! it leaves these counts unchanged. For each algorithm (`token_bucket`, `sliding_window`), with
//! the prefix `ratelimit_`:
//!
//! | field | counts |
//! |---|---|
//! | `token_bucket_calls` | decisions that could take units: grants and denials |
//! | `token_bucket_granted` | those that took units, with PARTIAL also fewer than the cost |
//! | `token_bucket_denied` | those that took none |
//! | `token_bucket_granted_units` | units taken |
//! | `token_bucket_peeks` | calls of RATELIMIT.PEEK that were not refused |
//! | `token_bucket_refunds` | calls of RATELIMIT.REFUND that gave units back |
//! | `token_bucket_refunded_units` | units given back |
//!
//! For leases:
//!
//! | field | counts |
//! |---|---|
//! | `concurrency_calls` | calls of RATELIMIT.ACQUIRE: grants and denials |
//! | `concurrency_granted` | those that were granted, repeated ones included |
//! | `concurrency_denied` | those that were denied |
//! | `concurrency_granted_units` | units granted |
//! | `concurrency_renewals` | leases renewed |
//! | `concurrency_lost` | leases that RATELIMIT.RENEW reported as lost |
//! | `concurrency_releases` | leases released |
//!
//! `reservations_granted`, `reservations_denied` and `reservations_repeated` count calls of
//! RATELIMIT.RESERVE, and `reservations_settled` those of RATELIMIT.SETTLE that found a reservation.
//! Their keys count as those of RATELIMIT.MULTI; units that a settlement takes or gives back count
//! as a grant or a refund.
//!
//! RATELIMIT.MULTI counts once for each key that it took from, or for each key that denied it; keys
//! that would have granted it when another did not are not counted. Refused calls are not counted:
//! `INFO commandstats` has them. `replication_failures` is the number of changes that the server
//! refused to send to replicas and the append-only file. `top_keys_tracked` is the number of keys,
//! of all databases, whose recent denials are counted; crash reports do not have it.

use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};

use limiter::Algorithm;

use crate::clock;
use crate::ffi::info::{Fields, Section};
use crate::replicate;
use crate::top_keys;

/// The counters of one algorithm, since the module was loaded.
pub(crate) struct Counters {
    granted: Counter,
    granted_units: Counter,
    denied: Counter,
    peeks: Counter,
    refunds: Counter,
    refunded_units: Counter,
}

/// The counters of reservations, since the module was loaded.
pub(crate) struct ReservationCounters {
    granted: Counter,
    denied: Counter,
    repeated: Counter,
    settled: Counter,
}

/// Returns the counters of reservations.
pub(crate) fn reservations() -> &'static ReservationCounters {
    static COUNTERS: ReservationCounters = ReservationCounters {
        granted: Counter::new(),
        denied: Counter::new(),
        repeated: Counter::new(),
        settled: Counter::new(),
    };
    &COUNTERS
}

impl ReservationCounters {
    /// Counts a reservation that was made.
    pub(crate) fn add_grant(&self) {
        self.granted.add(1);
    }

    /// Counts a reservation that was denied.
    pub(crate) fn add_denial(&self) {
        self.denied.add(1);
    }

    /// Counts a repeated call of a live reservation.
    pub(crate) fn add_repetition(&self) {
        self.repeated.add(1);
    }

    /// Counts a reservation that was settled.
    pub(crate) fn add_settlement(&self) {
        self.settled.add(1);
    }
}

/// Returns the counters of an algorithm.
#[inline(always)]
pub(crate) fn counters(algorithm: Algorithm) -> &'static Counters {
    static COUNTERS: [Counters; Algorithm::ALL.len()] =
        [const { Counters::new() }; Algorithm::ALL.len()];
    &COUNTERS[algorithm as usize]
}

/// The counters of leases, since the module was loaded.
pub(crate) struct LeaseCounters {
    granted: Counter,
    granted_units: Counter,
    denied: Counter,
    renewals: Counter,
    lost: Counter,
    releases: Counter,
}

/// Returns the counters of leases.
pub(crate) fn lease_counters() -> &'static LeaseCounters {
    static COUNTERS: LeaseCounters = LeaseCounters {
        granted: Counter::new(),
        granted_units: Counter::new(),
        denied: Counter::new(),
        renewals: Counter::new(),
        lost: Counter::new(),
        releases: Counter::new(),
    };
    &COUNTERS
}

impl LeaseCounters {
    /// Counts a lease of that many units that was taken, or taken again.
    pub(crate) fn add_grant(&self, units: u32) {
        self.granted.add(1);
        self.granted_units.add(units);
    }

    /// Counts a denial.
    pub(crate) fn add_denial(&self) {
        self.denied.add(1);
    }

    /// Counts leases that were renewed, and those that were lost.
    pub(crate) fn add_renewals(&self, renewed: usize, lost: usize) {
        self.renewals.add(renewed as u32);
        self.lost.add(lost as u32);
    }

    /// Counts leases that were released.
    pub(crate) fn add_releases(&self, released: usize) {
        self.releases.add(released as u32);
    }

    fn fill(&self, fields: &Fields) {
        let calls = self.granted.get().wrapping_add(self.denied.get());
        for (count, value) in [
            ("calls", calls),
            ("granted", self.granted.get()),
            ("denied", self.denied.get()),
            ("granted_units", self.granted_units.get()),
            ("renewals", self.renewals.get()),
            ("lost", self.lost.get()),
            ("releases", self.releases.get()),
        ] {
            add(fields, CONCURRENCY, count, value);
        }
    }
}

/// The name of leases in INFO and in metrics.
const CONCURRENCY: &str = "concurrency";

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
    pub(crate) fn add_grant(&self, units: u32) {
        self.granted.add(1);
        self.granted_units.add(units);
    }

    /// Counts a denial.
    pub(crate) fn add_denial(&self) {
        self.denied.add(1);
    }

    /// Counts a peek.
    pub(crate) fn add_peek(&self) {
        self.peeks.add(1);
    }

    /// Counts a refund of that many units.
    pub(crate) fn add_refund(&self, units: u32) {
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

    /// Adds to the count, in two steps: the server runs one command at a time, and one atomic step
    /// would cost as much as all other steps together.
    fn add(&self, more: u32) {
        self.0.store(self.get().wrapping_add(u64::from(more)), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The section `ratelimit`.
pub(crate) struct Ratelimit;

impl Section for Ratelimit {
    /// A crash report has the counters alone: the number of keys is behind a lock.
    fn fill(fields: &Fields, in_crash_report: bool) {
        for algorithm in Algorithm::ALL {
            let counters = counters(algorithm);
            for (count, value) in [
                ("calls", counters.calls()),
                ("granted", counters.granted.get()),
                ("denied", counters.denied.get()),
                ("granted_units", counters.granted_units.get()),
                ("peeks", counters.peeks.get()),
                ("refunds", counters.refunds.get()),
                ("refunded_units", counters.refunded_units.get()),
            ] {
                add(fields, algorithm.name(), count, value);
            }
        }
        lease_counters().fill(fields);
        let reservations = reservations();
        fields.add(c"reservations_granted", reservations.granted.get());
        fields.add(c"reservations_denied", reservations.denied.get());
        fields.add(c"reservations_repeated", reservations.repeated.get());
        fields.add(c"reservations_settled", reservations.settled.get());
        fields.add(c"replication_failures", replicate::failures());
        if !in_crash_report {
            fields.add(c"top_keys_tracked", top_keys::len(clock::now()) as u64);
        }
    }
}

/// Adds the field of a count of one algorithm, or of leases. The name is made without an allocation, as a crash
/// report can be written inside the allocator.
fn add(fields: &Fields, name_of_kind: &str, count: &str, value: u64) {
    /// More than the longest name, so that a zero follows it.
    const MAX_BYTES: usize = 64;
    let mut name = [0; MAX_BYTES];
    let bytes = [name_of_kind, "_", count].into_iter().flat_map(str::bytes);
    for (place, byte) in name.iter_mut().zip(bytes) {
        *place = byte;
    }
    let name = CStr::from_bytes_until_nul(&name);
    debug_assert!(name.is_ok(), "a name of fewer than {MAX_BYTES} bytes");
    if let Ok(name) = name {
        fields.add(name, value);
    }
}
