//! The time of a live server, set by the test.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::NamedTempFile;

use super::artifacts;

/// A start time, in microseconds since the Unix epoch: noon on a day in 2027, so that expiries in
/// the test lie in the future of real clocks too.
pub(crate) const NOON: u64 = 1_800_014_400_000_000;

/// The real-time clock of one or more servers, which stands still until it is set.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    micros: AtomicU64,
    /// The file that the servers have mapped.
    file: NamedTempFile,
}

impl Clock {
    /// A clock that stands at `micros` since the Unix epoch.
    pub(crate) fn at(micros: u64) -> Self {
        let file = NamedTempFile::new().expect("a file for the clock");
        let clock = Self { shared: Arc::new(Shared { micros: AtomicU64::new(0), file }) };
        clock.set(micros);
        clock
    }

    /// Returns the time of the clock, in microseconds.
    pub(crate) fn micros(&self) -> u64 {
        self.shared.micros.load(Ordering::Relaxed)
    }

    /// Sets the time, forwards or backwards.
    pub(crate) fn set(&self, micros: u64) {
        self.shared.micros.store(micros, Ordering::Relaxed);
        let file: &File = self.shared.file.as_file();
        file.write_all_at(&micros.to_ne_bytes(), 0).expect("the clock is written");
    }

    /// Moves the time forwards.
    pub(crate) fn advance(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).expect("fewer than 2^64 microseconds");
        self.set(self.micros() + micros);
    }

    /// Moves the time backwards.
    pub(crate) fn step_back(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).expect("fewer than 2^64 microseconds");
        self.set(self.micros() - micros);
    }

    /// Makes the process that `command` will start read this clock.
    pub(crate) fn preload(&self, command: &mut Command) {
        let path: PathBuf = self.shared.file.path().to_owned();
        command.env("LD_PRELOAD", artifacts::clock()).env("RATELIMIT_TEST_CLOCK", path);
    }
}
