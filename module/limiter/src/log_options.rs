//! The limit and the options of a call that is logged: its resolution, and the most entries of a
//! log.

use core::num::NonZeroU64;

use crate::limits::{Units, Window};
use crate::math::Exact;

/// The units that callers may take of a sliding window log: `limit` in any interval as long as
/// `window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimit {
    /// Units per window.
    pub limit: Units,
    /// The time over which `limit` is counted.
    pub window: Window,
    /// The rules by which a grant is logged.
    pub options: LogOptions,
}

impl LogLimit {
    /// Returns a limit of `limit` units per `window`, with the usual options.
    #[must_use]
    pub const fn new(limit: Units, window: Window) -> Self {
        Self { limit, window, options: LogOptions::USUAL }
    }

    /// Returns the most entries that calls with this limit make, unless they are forced.
    #[must_use]
    pub fn most_entries(&self) -> u64 {
        self.options.entries_per_window(self.window).min(u64::from(self.limit.get()))
    }
}

/// The rules by which a grant is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// The tick within which grants share an entry, at most the window. Without it, a thousandth
    /// of the window, at most 1 ms.
    pub resolution: Option<Window>,
    /// The number of entries from which on a forced grant gets no entry of its own.
    pub max_entries: u32,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self::USUAL
    }
}

impl LogOptions {
    /// The usual resolution, and a million entries.
    pub const USUAL: Self = Self { resolution: None, max_entries: 1_000_000 };

    /// Returns the tick of these options in a window.
    pub(crate) fn tick_micros(self, window: Window) -> NonZeroU64 {
        match self.resolution {
            Some(resolution) => resolution.min(window).nonzero_micros(),
            None => tick_micros(window),
        }
    }

    /// Returns the most entries that calls with this window and these options make, unless they are
    /// forced: `ceil(window / resolution) + 1`.
    #[must_use]
    pub fn entries_per_window(self, window: Window) -> u64 {
        window.as_micros().div_ceil(self.tick_micros(window).get()).plus(1)
    }
}

/// The usual time within which grants share an entry: a thousandth of the window, 1 ms at most.
pub(crate) fn tick_micros(window: Window) -> NonZeroU64 {
    const MAX: NonZeroU64 = NonZeroU64::new(1_000).unwrap();
    // A window in milliseconds is as long as its thousandths are in microseconds.
    NonZeroU64::new(window.as_millis()).map_or(MAX, |micros| micros.min(MAX))
}
