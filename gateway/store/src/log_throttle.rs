//! A limit on the log lines about a failure that continues.
//!
//! All failures have the same rule: one line at once, then one line about every ten seconds with
//! sums, and one line at the end. The log then has the duration of an outage, and an outage does not
//! fill the log.

use std::time::{Duration, Instant};

/// Time between two lines about the same failure.
const PERIOD: Duration = Duration::from_secs(10);

/// Shortest time between the first lines about two failures of one kind. A failure can come and go.
const PAUSE: Duration = Duration::from_secs(1);

/// Most different errors of one failure that are logged at once. An address or a time in the text
/// could otherwise make each error a new one.
const MAX_ERRORS: usize = 8;

/// The state of one failure that can continue: the time of its last line, and the sums for the next.
#[derive(Debug, Default)]
pub struct LogThrottle {
    begin: Option<Instant>,
    last: Option<Instant>,
    count: u64,
    /// The time of the last line, about this failure or the one before.
    line: Option<Instant>,
    /// Set when this failure has had a line.
    is_logged: bool,
    /// The errors that have had a line.
    errors: Vec<String>,
}

/// Sums for a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Number of failures.
    pub count: u64,
    /// Whole seconds from the first failure to the last.
    pub seconds: u64,
}

impl LogThrottle {
    /// Returns a throttle without a failure.
    #[must_use]
    pub const fn new() -> Self {
        Self { begin: None, last: None, count: 0, line: None, is_logged: false, errors: vec![] }
    }

    /// Counts a failure. Returns the sums for a line if a line is due, or `None` to suppress it.
    pub fn record(&mut self, now: Instant) -> Option<Sums> {
        self.begin.get_or_insert(now);
        self.last = Some(now);
        self.count += 1;
        let pause = if self.is_logged { PERIOD } else { PAUSE };
        if self.line.is_some_and(|line| now.saturating_duration_since(line) < pause) {
            return None;
        }
        Some(self.log(now))
    }

    /// Counts a failure whose end is not reported, as [`Self::record`] does. The failure has ended
    /// when it did not occur for the time between two lines.
    pub fn record_without_end(&mut self, now: Instant) -> Option<Sums> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) >= PERIOD) {
            self.end();
        }
        self.record(now)
    }

    /// Counts a failure whose line contains `error`, as [`Self::record`] does. A line is due at once
    /// for an error that has had none.
    pub fn record_error(&mut self, error: &str, now: Instant) -> Option<Sums> {
        let due = self.record(now);
        if self.errors.iter().any(|known| known == error) || self.errors.len() >= MAX_ERRORS {
            return due;
        }
        let is_another = !self.errors.is_empty();
        if due.is_some() || is_another {
            self.errors.push(error.to_owned());
        }
        due.or_else(|| is_another.then(|| self.log(now)))
    }

    /// Returns whether no failure has occurred for long enough to call the outage over.
    #[must_use]
    pub fn is_quiet(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE)
    }

    /// Ends the failure. Returns the sums for a line about the end if the failure has had a line.
    pub fn end(&mut self) -> Option<Sums> {
        let sums = self.is_logged.then(|| self.sums());
        *self = Self { line: self.line, ..Self::new() };
        sums
    }

    fn log(&mut self, now: Instant) -> Sums {
        self.line = Some(now);
        self.is_logged = true;
        self.sums()
    }

    fn sums(&self) -> Sums {
        let duration = self.begin.zip(self.last).map(|(begin, last)| last - begin);
        Sums { count: self.count, seconds: duration.unwrap_or_default().as_secs() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{LogThrottle, MAX_ERRORS, Sums};

    fn sums(count: u64, seconds: u64) -> Option<Sums> {
        Some(Sums { count, seconds })
    }

    #[test]
    fn a_failure_has_a_line_at_once_then_every_ten_seconds_and_one_at_its_end() {
        let (mut failure, start) = (LogThrottle::new(), Instant::now());
        let mut lines = vec![];
        for second in 0..=45 {
            let due = failure.record(start + Duration::from_secs(second));
            lines.extend(due.map(|sums| (second, sums.count)));
        }
        assert_eq!(lines, [(0, 1), (10, 11), (20, 21), (30, 31), (40, 41)]);
        assert!(!failure.is_quiet(start + Duration::from_millis(45_999)));
        assert!(failure.is_quiet(start + Duration::from_secs(46)));
        assert_eq!(failure.end(), sums(46, 45));
        assert_eq!(failure.end(), None);
    }

    #[test]
    fn a_failure_that_comes_and_goes_has_a_line_a_second() {
        let (mut failure, start) = (LogThrottle::new(), Instant::now());
        let (mut begins, mut ends) = (0, 0);
        for tenth in 0..50 {
            begins +=
                usize::from(failure.record(start + Duration::from_millis(100 * tenth)).is_some());
            ends += usize::from(failure.end().is_some());
        }
        assert_eq!((begins, ends), (5, 5));
    }

    #[test]
    fn a_failure_without_an_end_is_over_after_ten_seconds() {
        let (mut failure, start) = (LogThrottle::new(), Instant::now());
        let mut record = |second| failure.record_without_end(start + Duration::from_secs(second));
        assert_eq!([0, 1, 9, 10].map(&mut record), [sums(1, 0), None, None, sums(4, 10)]);
        assert_eq!([19, 29].map(&mut record), [None, sums(1, 0)]);
    }

    #[test]
    fn a_new_error_has_its_line_at_once_and_only_once() {
        let (mut failure, now) = (LogThrottle::new(), Instant::now());
        let mut record = |error: &str| failure.record_error(error, now).map(|sums| sums.count);
        let due = ["refused", "refused", "timed out", "refused", "timed out"].map(&mut record);
        assert_eq!(due, [Some(1), None, Some(3), None, None]);
        let many = (0..100).filter(|number| record(&number.to_string()).is_some());
        assert_eq!(many.count(), MAX_ERRORS - 2);
    }
}
