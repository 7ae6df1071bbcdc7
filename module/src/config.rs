//! The module's settings, as CONFIG shows them with the prefix `ratelimit.`.

use std::sync::atomic::{AtomicI64, Ordering};

use limiter::Units;

/// `ratelimit.sliding-window-max-limit`: the highest limit that RATELIMIT.SW accepts.
///
/// A log may hold as many entries as its limit has units, so this bounds what one caller can make
/// the server hold for one key: some three bytes for each.
pub(crate) static SLIDING_WINDOW_MAX_LIMIT: AtomicI64 = AtomicI64::new(1_000_000);

/// The name of [`SLIDING_WINDOW_MAX_LIMIT`], without the prefix.
pub(crate) const SLIDING_WINDOW_MAX_LIMIT_NAME: &str = "sliding-window-max-limit";
/// Its default, if neither the module's arguments nor the server's configuration set it.
pub(crate) const SLIDING_WINDOW_MAX_LIMIT_DEFAULT: i64 = 1_000_000;
/// Its least and greatest value: those of any limit.
pub(crate) const SLIDING_WINDOW_MAX_LIMIT_RANGE: (i64, i64) =
    (Units::MIN.get() as i64, Units::MAX.get() as i64);

/// The highest limit that RATELIMIT.SW accepts now.
pub(crate) fn sliding_window_max_limit() -> Units {
    let limit = SLIDING_WINDOW_MAX_LIMIT.load(Ordering::Relaxed);
    u64::try_from(limit).ok().and_then(Units::new).unwrap_or(Units::MAX)
}
