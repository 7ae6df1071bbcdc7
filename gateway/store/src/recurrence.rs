//! The times of lines about failures that go on.
//!
//! One rule for all of them: at once, then about every ten seconds with sums, and one line at the
//! end. A log then shows how long an outage has lasted, and is not filled by it.

use std::time::{Duration, Instant};

/// Time between two lines about the same failure.
const PERIOD: Duration = Duration::from_secs(10);

/// Shortest time between the first lines about two failures of a kind, one of which may come and go.
const PAUSE: Duration = Duration::from_secs(1);

/// Most faults of a course that have a line at once. Addresses and times may make each another one.
const MAX_FAULTS: usize = 8;

/// A failure that can go on, with the time of the last line about it and the sums for the next.
#[derive(Debug, Default)]
pub struct Recurrence {
    begin: Option<Instant>,
    last: Option<Instant>,
    count: u64,
    /// The time of the last line, about this failure or the one before.
    line: Option<Instant>,
    /// Set when a line about this failure was written.
    is_known: bool,
    /// The faults that had a line.
    faults: Vec<String>,
}

/// Sums for a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Number of failures.
    pub count: u64,
    /// Whole seconds from the first failure to the last.
    pub seconds: u64,
}

impl Recurrence {
    /// Nothing has failed.
    pub const fn new() -> Self {
        Self { begin: None, last: None, count: 0, line: None, is_known: false, faults: vec![] }
    }

    /// Counts a failure, and returns the sums if a line is to be written now.
    pub fn note(&mut self, now: Instant) -> Option<Sums> {
        self.begin.get_or_insert(now);
        self.last = Some(now);
        self.count += 1;
        let pause = if self.is_known { PERIOD } else { PAUSE };
        if self.line.is_some_and(|line| now.saturating_duration_since(line) < pause) {
            return None;
        }
        Some(self.write(now))
    }

    /// Does so for a failure whose end nothing reports: it has ended when it was away for as long as
    /// a line is.
    pub fn note_unending(&mut self, now: Instant) -> Option<Sums> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) >= PERIOD) {
            self.end();
        }
        self.note(now)
    }

    /// Does so for a failure of which lines show the fault. One that is new has its line at once.
    pub fn note_fault(&mut self, fault: &str, now: Instant) -> Option<Sums> {
        let noted = self.note(now);
        if self.faults.iter().any(|known| known == fault) || self.faults.len() >= MAX_FAULTS {
            return noted;
        }
        let is_another = !self.faults.is_empty();
        if noted.is_some() || is_another {
            self.faults.push(fault.to_owned());
        }
        noted.or_else(|| is_another.then(|| self.write(now)))
    }

    /// Returns true when the last failure is as long ago as the end of an outage must last.
    pub fn is_calm(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE)
    }

    /// Ends the failure, and returns the sums if there is to be a line about the end.
    pub fn end(&mut self) -> Option<Sums> {
        let sums = self.is_known.then(|| self.sums());
        *self = Self { line: self.line, ..Self::new() };
        sums
    }

    fn write(&mut self, now: Instant) -> Sums {
        self.line = Some(now);
        self.is_known = true;
        self.sums()
    }

    fn sums(&self) -> Sums {
        let lasted = self.begin.zip(self.last).map(|(begin, last)| last - begin);
        Sums { count: self.count, seconds: lasted.unwrap_or_default().as_secs() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{MAX_FAULTS, Recurrence, Sums};

    fn sums(count: u64, seconds: u64) -> Option<Sums> {
        Some(Sums { count, seconds })
    }

    #[test]
    fn a_failure_has_a_line_at_once_then_every_ten_seconds_and_one_at_its_end() {
        let (mut failure, start) = (Recurrence::new(), Instant::now());
        let mut lines = vec![];
        for second in 0..=45 {
            let noted = failure.note(start + Duration::from_secs(second));
            lines.extend(noted.map(|sums| (second, sums.count)));
        }
        assert_eq!(lines, [(0, 1), (10, 11), (20, 21), (30, 31), (40, 41)]);
        assert!(!failure.is_calm(start + Duration::from_millis(45_999)));
        assert!(failure.is_calm(start + Duration::from_secs(46)));
        assert_eq!(failure.end(), sums(46, 45));
        assert_eq!(failure.end(), None);
    }

    #[test]
    fn a_failure_that_comes_and_goes_has_a_line_a_second() {
        let (mut failure, start) = (Recurrence::new(), Instant::now());
        let (mut begins, mut ends) = (0, 0);
        for tenth in 0..50 {
            begins +=
                usize::from(failure.note(start + Duration::from_millis(100 * tenth)).is_some());
            ends += usize::from(failure.end().is_some());
        }
        assert_eq!((begins, ends), (5, 5));
    }

    #[test]
    fn a_failure_without_an_end_is_over_when_it_stays_away() {
        let (mut failure, start) = (Recurrence::new(), Instant::now());
        let mut note = |second| failure.note_unending(start + Duration::from_secs(second));
        assert_eq!([0, 1, 9, 10].map(&mut note), [sums(1, 0), None, None, sums(4, 10)]);
        assert_eq!([19, 29].map(&mut note), [None, sums(1, 0)]);
    }

    #[test]
    fn a_new_fault_has_its_line_at_once_and_only_once() {
        let (mut failure, now) = (Recurrence::new(), Instant::now());
        let mut note = |fault: &str| failure.note_fault(fault, now).map(|sums| sums.count);
        let noted = ["refused", "refused", "timed out", "refused", "timed out"].map(&mut note);
        assert_eq!(noted, [Some(1), None, Some(3), None, None]);
        let many = (0..100).filter(|number| note(&number.to_string()).is_some());
        assert_eq!(many.count(), MAX_FAULTS - 2);
    }
}
