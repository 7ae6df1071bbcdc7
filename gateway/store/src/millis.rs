//! The unit of time of decisions.

use std::fmt;

use limiter::Window;

/// Milliseconds. Redis reads them as seconds with at most three decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    /// Returns whole seconds, rounded up, so that no client retries too early.
    #[must_use]
    pub const fn whole_seconds(self) -> u64 {
        self.0.div_ceil(1000)
    }
}

impl From<Window> for Millis {
    fn from(window: Window) -> Self {
        Self(window.as_millis())
    }
}

impl fmt::Display for Millis {
    /// Writes seconds without needless zeros: `60`, `0.6`, `0.025`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0 / 1000, self.0 % 1000);
        if millis == 0 {
            return write!(f, "{seconds}");
        }
        let decimals = format!("{millis:03}");
        write!(f, "{seconds}.{}", decimals.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::Millis;

    #[test]
    fn milliseconds_are_written_as_seconds_without_needless_zeros() {
        for (millis, text) in [
            (0, "0"),
            (1, "0.001"),
            (25, "0.025"),
            (600, "0.6"),
            (1_000, "1"),
            (59_999, "59.999"),
            (60_000, "60"),
            (31_622_400_000, "31622400"),
        ] {
            assert_eq!(Millis(millis).to_string(), text);
        }
    }

    #[test]
    fn milliseconds_are_rounded_up_to_whole_seconds() {
        for (millis, seconds) in [(0, 0), (1, 1), (999, 1), (1_000, 1), (1_001, 2)] {
            assert_eq!(Millis(millis).whole_seconds(), seconds);
        }
    }
}
