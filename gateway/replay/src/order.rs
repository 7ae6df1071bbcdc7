//! The order of requests: sorted by time, and spread over the unit in which the log counts.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::record::Record;

/// The disorder of a log that is sorted, in microseconds.
const DISORDER: u64 = 60_000_000;

/// Requests whose time may still be followed by an earlier one.
#[derive(Debug, Default)]
pub(crate) struct Order {
    waiting: BinaryHeap<Reverse<Waiting>>,
    numbers: u64,
    latest: u64,
    /// The time of the last request that was returned.
    passed: u64,
    /// The number of requests that came more than [`DISORDER`] late.
    pub(crate) late: u64,
}

#[derive(Debug)]
struct Waiting {
    micros: u64,
    number: u64,
    record: Record,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.micros, self.number).cmp(&(other.micros, other.number))
    }
}

impl Order {
    /// Adds a request, unless the request is too late.
    pub(crate) fn add(&mut self, record: Record) {
        let micros = record.time.micros;
        if micros < self.latest.saturating_sub(DISORDER) {
            self.late += 1;
            return;
        }
        self.latest = self.latest.max(micros);
        self.numbers += 1;
        self.waiting.push(Reverse(Waiting { micros, number: self.numbers, record }));
    }

    /// Passes the requests that no request can precede any more to `take`, with their times; all
    /// requests at the end of the log.
    pub(crate) fn pass(&mut self, is_end: bool, mut take: impl FnMut(Record, u64)) {
        let settled = if is_end { u64::MAX } else { self.latest.saturating_sub(DISORDER) };
        while let Some(Reverse(next)) = self.waiting.peek()
            && next.micros < settled
        {
            let micros = next.micros;
            let mut same = Vec::new();
            while let Some(Reverse(next)) = self.waiting.peek()
                && next.micros == micros
                && let Some(Reverse(next)) = self.waiting.pop()
            {
                same.push(next.record);
            }
            let count = same.len() as u64;
            for (number, record) in (0..).zip(same) {
                // Units of a mixed log overlap; time runs forward all the same.
                let spread = micros.saturating_add(record.time.unit * number / count);
                self.passed = self.passed.max(spread);
                take(record, self.passed);
            }
        }
    }
}
