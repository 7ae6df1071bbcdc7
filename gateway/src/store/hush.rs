//! Keeps what repeats itself from flooding the log.

use std::time::{Duration, Instant};

/// Shortest time between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(1);

/// Lets one line of a kind through in each second, and counts the others.
#[derive(Debug)]
pub(super) struct Hush {
    last: Option<Instant>,
    held_back: u64,
}

impl Hush {
    pub(super) const fn new() -> Self {
        Self { last: None, held_back: 0 }
    }

    /// How many lines were held back since the last one, or `None` if this one is to be, too.
    pub(super) fn pass(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Hush;

    #[test]
    fn one_line_passes_in_each_second_and_counts_those_between() {
        let mut hush = Hush::new();
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let passed = [0, 1, 999, 1000, 1500, 2000, 4000].map(|millis| hush.pass(at(millis)));
        assert_eq!(passed, [Some(0), None, None, Some(2), None, Some(1), Some(0)]);
    }
}
