//! A queue of grants in time order, three to six bytes each, with search by time and by unit.
//!
//! ```text
//!  older: chunk ─ chunk ─ chunk ─ ... ─ chunk     newest: one grant, decoded,
//!         │                                       so that grants of the same
//!         ├ first: time of its first grant        tick just add to it
//!         ├ before: units ever queued before it
//!         └ bytes: (time since the grant before, units), varints
//! ```
//!
//! A chunk holds up to [`CHUNK_BYTES`], so every operation touches one chunk and finds it by
//! bisection over `first` or `before`: logarithmic in the length, and constant at both ends.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem;
use core::ops::Range;

use crate::buffers::BufferVisitor;
use crate::math::Exact;
use crate::time::Instant;
use crate::varint;

/// Units that were granted at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) time: Instant,
    pub(crate) units: u32,
}

/// The queue. Times strictly increase; at most 2^32 - 1 units.
///
/// The fields of the newest entry stand side by side, without padding.
#[derive(Clone, Debug)]
pub(crate) struct Grants {
    /// Time of the newest entry: that of its latest grant.
    newest_time: Instant,
    /// Time of the first grant of the newest entry; [`UNKNOWN`] if other entries were newer.
    newest_first: Instant,
    /// Units of the newest entry; none if and only if the queue is empty.
    newest_units: u32,
    /// All grants before the newest, oldest first. No chunk is empty.
    older: VecDeque<Chunk>,
    /// Units ever queued in `older`; only differences count, so it may wrap.
    queued: u32,
}

/// Consecutive grants.
#[derive(Clone, Debug)]
struct Chunk {
    /// Time of the first grant that is still here.
    first: Instant,
    /// Time of the last grant.
    last: Instant,
    /// The value of [`Grants::queued`] before the first grant that is still here.
    before: u32,
    /// Where the first grant that is still here starts in `bytes`.
    start: u32,
    bytes: Vec<u8>,
}

/// The time of a first grant that was not kept: no entry but one at this time itself began so late.
const UNKNOWN: Instant = Instant::MAX;

/// A chunk is closed once it has this many bytes: small enough to be read through at once, large
/// enough that its own fields weigh little.
const CHUNK_BYTES: usize = 240;

/// A chunk that has less room than this for another grant, which few need, is given more:
const GRANT_BYTES: usize = 8;

/// so many bytes, of which an allocator wastes none.
const GROWTH_BYTES: usize = 32;

impl Grants {
    pub(crate) const fn new() -> Self {
        Self {
            newest_time: Instant::EPOCH,
            newest_first: Instant::EPOCH,
            newest_units: 0,
            older: VecDeque::new(),
            queued: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.newest_units == 0
    }

    /// Units in the whole queue.
    pub(crate) fn units(&self) -> u32 {
        self.older_units().plus(self.newest_units)
    }

    /// Time of the latest grant, or the epoch if there is none.
    pub(crate) fn newest_time(&self) -> Instant {
        self.newest_time
    }

    /// Time of the first grant of the newest entry, or `None` if it was not kept: the entry became
    /// the newest one when others were dropped.
    pub(crate) fn newest_first(&self) -> Option<Instant> {
        (self.newest_first <= self.newest_time).then_some(self.newest_first)
    }

    /// Sets what [`Grants::newest_first`] returns, which is not after [`Grants::newest_time`].
    pub(crate) fn set_newest_first(&mut self, first: Option<Instant>) {
        self.newest_first = first.unwrap_or(UNKNOWN);
    }

    /// Units granted at or before `time`.
    pub(crate) fn units_until(&self, time: Instant) -> u32 {
        if self.newest_time <= time {
            return self.units();
        }
        let Some(chunk) = self.last_chunk(|chunk| chunk.first <= time) else {
            return 0;
        };
        let within = chunk.grants().take_while(|grant| grant.time <= time);
        within.fold(self.units_before(chunk), |sum, grant| sum.plus(grant.units))
    }

    /// Time at which the `nth` oldest unit was granted, counted from 1; the latest grant's for any
    /// number beyond the queue.
    pub(crate) fn time_of_unit(&self, nth: u32) -> Instant {
        if nth > self.older_units() {
            return self.newest_time;
        }
        let Some(chunk) = self.last_chunk(|chunk| self.units_before(chunk) < nth) else {
            return self.newest_time;
        };
        let mut until = self.units_before(chunk);
        let holds_nth = |grant: &Grant| {
            until = until.plus(grant.units);
            until >= nth
        };
        chunk.grants().find(holds_nth).map_or(chunk.last, |grant| grant.time)
    }

    /// Adds a grant at `time`, as an entry of its own.
    ///
    /// If that is not after the newest grant, it joins that one.
    pub(crate) fn push(&mut self, time: Instant, units: u32) {
        if time > self.newest_time && !self.is_empty() {
            self.push_older(self.newest());
            (self.newest_time, self.newest_first, self.newest_units) = (time, time, units);
        } else {
            self.join_newest(time, units);
        }
    }

    /// Adds a grant to the newest entry, which then counts as made at the later of both times.
    pub(crate) fn join_newest(&mut self, time: Instant, units: u32) {
        if self.is_empty() {
            (self.newest_time, self.newest_first) = (time, time);
        }
        self.newest_time = self.newest_time.max(time);
        self.newest_units = self.newest_units.plus(units);
    }

    /// Drops all grants at or before `time`.
    pub(crate) fn drop_until(&mut self, time: Instant) {
        if self.newest_time <= time {
            *self = Self::new();
            return;
        }
        while let Some(chunk) = self.older.front_mut() {
            if chunk.last <= time {
                self.older.pop_front();
            } else {
                chunk.drop_until(time);
                break;
            }
        }
        self.give_memory_back();
    }

    /// Keeps the `units` oldest units and drops what was granted after them.
    pub(crate) fn truncate(&mut self, units: u32) {
        if units == 0 {
            *self = Self::new();
            return;
        }
        let older = self.older_units();
        if units > older {
            self.newest_units = self.newest_units.min(units.minus(older));
            return;
        }
        let dropped = self.dropped();
        while let Some(mut chunk) = self.older.pop_back() {
            let before = chunk.before.wrapping_sub(dropped);
            if before < units {
                let newest = chunk.split_off_unit(units.minus(before));
                (self.newest_time, self.newest_units) = (newest.time, newest.units);
                self.newest_first = UNKNOWN;
                self.queued = dropped.wrapping_add(units).wrapping_sub(newest.units);
                if !chunk.is_empty() {
                    self.older.push_back(chunk);
                }
                break;
            }
        }
        self.give_memory_back();
    }

    /// All grants, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Grant> + '_ {
        let newest = (!self.is_empty()).then_some(self.newest());
        self.older.iter().flat_map(Chunk::grants).chain(newest)
    }

    /// Number of buffers on the heap: the bytes of each chunk, and before them the chunks.
    pub(crate) fn buffers(&self) -> usize {
        self.older.len().plus(usize::from(self.older.capacity() > 0))
    }

    /// Lends the buffers with these numbers to `visitor`.
    pub(crate) fn visit_buffers(
        &mut self,
        numbers: Range<usize>,
        visitor: &mut impl BufferVisitor,
    ) {
        if numbers.contains(&0) && self.older.capacity() > 0 {
            self.older = visitor.visit(Vec::from(mem::take(&mut self.older))).into();
        }
        let first = numbers.start.saturating_sub(1);
        let count = numbers.end.saturating_sub(1).saturating_sub(first);
        for chunk in self.older.iter_mut().skip(first).take(count) {
            chunk.bytes = visitor.visit(mem::take(&mut chunk.bytes));
        }
    }

    fn newest(&self) -> Grant {
        Grant { time: self.newest_time, units: self.newest_units }
    }

    /// The last chunk of which `holds` is true, as it is of all chunks before that.
    fn last_chunk(&self, holds: impl Fn(&Chunk) -> bool) -> Option<&Chunk> {
        // What is looked for is mostly at the old end.
        let front = self.older.front().filter(|chunk| holds(chunk))?;
        match self.older.get(1) {
            Some(second) if holds(second) => {
                let later = self.older.partition_point(holds);
                later.checked_sub(1).and_then(|index| self.older.get(index))
            }
            _ => Some(front),
        }
    }

    /// Units in `older`.
    fn older_units(&self) -> u32 {
        self.queued.wrapping_sub(self.dropped())
    }

    /// Units in `older` that come before a chunk.
    fn units_before(&self, chunk: &Chunk) -> u32 {
        chunk.before.wrapping_sub(self.dropped())
    }

    /// The value of `queued` before the oldest grant that is still here.
    fn dropped(&self) -> u32 {
        self.older.front().map_or(self.queued, |chunk| chunk.before)
    }

    /// Gives most room for chunks back once a quarter suffices; what is left to grow into keeps
    /// this constant on average.
    fn give_memory_back(&mut self) {
        if self.older.len() < self.older.capacity() / 4 {
            self.older.shrink_to(self.older.len().times(2));
        }
    }

    fn push_older(&mut self, grant: Grant) {
        match self.older.back_mut() {
            Some(chunk) if !chunk.is_full() => chunk.push(grant),
            _ => {
                // By half of what there is: less than a queue that doubles, which weighs in short logs.
                if self.older.len() == self.older.capacity() {
                    self.older.reserve_exact((self.older.len() / 2).plus(1));
                }
                self.older.push_back(Chunk::new(grant, self.queued));
            }
        }
        self.queued = self.queued.wrapping_add(grant.units);
    }
}

impl Chunk {
    fn new(grant: Grant, before: u32) -> Self {
        let Grant { time, .. } = grant;
        let mut chunk = Self { first: time, last: time, before, start: 0, bytes: Vec::new() };
        chunk.push(grant);
        chunk
    }

    fn is_empty(&self) -> bool {
        self.bytes.len() == self.start as usize
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= CHUNK_BYTES
    }

    /// Appends a grant that is not before the last one.
    ///
    /// One integer says how many microseconds after it: bit 0 is set when a number of units
    /// follows, and clear for one unit.
    fn push(&mut self, grant: Grant) {
        let room = self.bytes.capacity().minus(self.bytes.len());
        if room < GRANT_BYTES {
            self.bytes.reserve_exact(room.plus(GROWTH_BYTES));
        }
        let step = grant.time.micros_since(self.last);
        varint::put(&mut self.bytes, step << 1 | u64::from(grant.units != 1));
        if grant.units != 1 {
            varint::put(&mut self.bytes, u64::from(grant.units));
        }
        self.last = grant.time;
    }

    fn grants(&self) -> ChunkGrants<'_> {
        let rest = self.bytes.get(self.start as usize..).unwrap_or(&[]);
        ChunkGrants { rest, time: None, first: self.first }
    }

    /// Drops the grants at or before `time`, which is before the last one.
    fn drop_until(&mut self, time: Instant) {
        let mut dropped = 0_u32;
        let mut grants = self.grants();
        let mut left = grants.rest.len();
        let first = loop {
            match grants.next() {
                Some(grant) if grant.time <= time => dropped = dropped.plus(grant.units),
                Some(grant) => break grant.time,
                None => return,
            }
            left = grants.rest.len();
        };
        self.first = first;
        self.before = self.before.wrapping_add(dropped);
        self.start = self.bytes.len().minus(left) as u32;
    }

    /// Takes off the grant that holds the `nth` unit, cut down to that unit, and drops what was
    /// granted after it.
    fn split_off_unit(&mut self, nth: u32) -> Grant {
        let (mut before, mut last) = (0_u32, self.first);
        let mut grants = self.grants();
        let mut left = grants.rest.len();
        let found = loop {
            match grants.next() {
                Some(grant) if before.plus(grant.units) < nth => {
                    before = before.plus(grant.units);
                    last = grant.time;
                    left = grants.rest.len();
                }
                Some(grant) => break grant.time,
                None => break last,
            }
        };
        self.last = last;
        self.bytes.truncate(self.bytes.len().minus(left));
        Grant { time: found, units: nth.minus(before) }
    }
}

/// The grants of a chunk, oldest first.
struct ChunkGrants<'a> {
    /// What has not been read yet.
    rest: &'a [u8],
    /// Time of the grant read last.
    time: Option<Instant>,
    /// Time of the first grant, whose own step counts from one that is gone.
    first: Instant,
}

impl Iterator for ChunkGrants<'_> {
    type Item = Grant;

    fn next(&mut self) -> Option<Grant> {
        let head = varint::take(&mut self.rest)?;
        let units = if head & 1 == 0 { 1 } else { varint::take(&mut self.rest)? };
        let time = self.time.map_or(self.first, |time| time.plus_micros(head >> 1));
        self.time = Some(time);
        Some(Grant { time, units: u32::try_from(units).ok()? })
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests {
    use super::*;

    /// Grants that fill several chunks, and of all shapes: one unit and many, short steps and
    /// one of half of all time.
    fn grants() -> Vec<Grant> {
        let mut time = Instant::EPOCH;
        let grant = |index: u64| {
            time = match index {
                250 => time.plus_micros(1 << 61),
                _ => time.plus_micros(1 + index * index % 20_000),
            };
            Grant { time, units: if index.is_multiple_of(3) { 1 + index as u32 } else { 1 } }
        };
        (0..500).map(grant).collect()
    }

    fn queue(grants: &[Grant]) -> Grants {
        let mut queue = Grants::new();
        for grant in grants {
            queue.push(grant.time, grant.units);
        }
        queue
    }

    fn units(grants: &[Grant]) -> u32 {
        grants.iter().map(|grant| grant.units).sum()
    }

    /// The grants that hold the `units` oldest units, the last of them cut down to fit.
    fn oldest_units(grants: &[Grant], mut units: u32) -> Vec<Grant> {
        let mut oldest = Vec::new();
        for grant in grants {
            let taken = grant.units.min(units);
            units -= taken;
            oldest.extend((taken > 0).then_some(Grant { units: taken, ..*grant }));
        }
        oldest
    }

    /// Checks everything that a queue can be asked against the grants that it should hold.
    fn assert_holds(queue: &Grants, grants: &[Grant]) {
        assert!(queue.iter().eq(grants.iter().copied()));
        assert_eq!(queue.units(), units(grants));
        assert_eq!(queue.is_empty(), grants.is_empty());
        let mut until = 0;
        for &Grant { time, units } in grants {
            let just_before = Instant::from_micros(time.as_micros() - 1);
            assert_eq!(queue.units_until(just_before), until, "before {time:?}");
            assert_eq!(queue.time_of_unit(until + 1), time);
            until += units;
            assert_eq!(queue.units_until(time), until, "until {time:?}");
            assert_eq!(queue.time_of_unit(until), time);
        }
        assert_eq!(queue.units_until(Instant::MAX), until);
        assert_eq!(queue.time_of_unit(until + 1), queue.newest_time());
    }

    #[test]
    fn grants_are_found_by_time_and_by_unit_across_chunks() {
        let grants = grants();
        let queue = queue(&grants);
        assert!(queue.older.len() > 4, "{} chunks", queue.older.len());
        assert_holds(&queue, &grants);
    }

    #[test]
    fn a_grant_that_is_not_later_joins_the_newest() {
        let mut queue = Grants::new();
        for (micros, units) in [(5, 1), (5, 2), (3, 4), (6, 8)] {
            queue.push(Instant::from_micros(micros), units);
        }
        queue.join_newest(Instant::from_micros(7), 16);
        let entry = |micros, units| Grant { time: Instant::from_micros(micros), units };
        assert_holds(&queue, &[entry(5, 7), entry(7, 24)]);
        assert_eq!(queue.newest_first(), Some(Instant::from_micros(6)));
    }

    #[test]
    fn the_time_of_the_first_grant_is_kept_as_long_as_its_entry_is_the_newest() {
        let first_of = |queue: &Grants| queue.newest_first().map(Instant::as_micros);
        let mut queue = Grants::new();
        queue.push(Instant::from_micros(5), 2);
        queue.join_newest(Instant::from_micros(7), 2);
        queue.truncate(1);
        assert_eq!(first_of(&queue), Some(5));
        queue.push(Instant::from_micros(9), 1);
        assert_eq!(first_of(&queue), Some(9));
        queue.truncate(1);
        assert_eq!(first_of(&queue), None);
        queue.join_newest(Instant::from_micros(8), 1);
        assert_eq!(first_of(&queue), None);
        queue.drop_until(Instant::from_micros(8));
        queue.push(Instant::from_micros(8), 1);
        assert_eq!(first_of(&queue), Some(8));
    }

    #[test]
    fn a_queue_takes_56_bytes_with_the_time_of_a_first_grant() {
        assert_eq!(size_of::<Grants>(), 56);
    }

    #[test]
    fn truncation_keeps_the_oldest_units_whatever_their_number() {
        let grants = &grants()[..200];
        let whole = queue(grants);
        for kept in 0..=units(grants) {
            let mut queue = whole.clone();
            queue.truncate(kept);
            let oldest = oldest_units(grants, kept);
            assert!(queue.iter().eq(oldest.iter().copied()), "{kept} units");
            let newest = oldest.last().map_or(Instant::EPOCH, |grant| grant.time);
            assert_eq!((queue.units(), queue.newest_time()), (kept, newest));
            assert!(!queue.older.iter().any(Chunk::is_empty), "{kept} units");
        }
    }

    #[test]
    fn what_has_been_dropped_and_truncated_anywhere_can_be_searched_and_grown() {
        let grants = grants();
        let later = Grant { time: Instant::MAX, units: 5 };
        for dropped in (0..=grants.len()).step_by(7) {
            let kept = &grants[dropped..];
            for units in (0..=units(kept)).step_by(19_973) {
                let mut queue = queue(&grants);
                if let Some(last) = dropped.checked_sub(1) {
                    queue.drop_until(grants[last].time);
                }
                queue.truncate(units);
                let mut expected = oldest_units(kept, units);
                assert_holds(&queue, &expected);
                queue.push(later.time, later.units);
                expected.push(later);
                assert_holds(&queue, &expected);
            }
        }
    }

    #[test]
    fn dropping_drops_what_is_at_or_before_a_time_and_nothing_else() {
        let grants = grants();
        for (index, grant) in grants.iter().enumerate() {
            let (mut exactly, mut just_before) = (queue(&grants), queue(&grants));
            exactly.drop_until(grant.time);
            just_before.drop_until(Instant::from_micros(grant.time.as_micros() - 1));
            assert!(exactly.iter().eq(grants[index + 1..].iter().copied()));
            assert!(just_before.iter().eq(grants[index..].iter().copied()));
        }
    }

    #[test]
    fn the_count_of_units_ever_queued_may_wrap() {
        let mut queue = Grants::new();
        let entry =
            |index: u64| Grant { time: Instant::from_micros(1 + index), units: 900_000_000 };
        for index in 0..100_u64 {
            let grant = entry(index);
            queue.push(grant.time, grant.units);
            if let Some(left) = index.checked_sub(3) {
                queue.drop_until(entry(left).time);
            }
            let held: Vec<_> = (index.saturating_sub(2)..=index).map(entry).collect();
            assert_holds(&queue, &held);
        }
    }

    #[test]
    fn a_grant_a_few_milliseconds_after_another_takes_at_most_four_bytes() {
        for step in [1_000, 2_500, 5_000, 8_191] {
            let bytes = heap_bytes(100_000, step);
            assert!(bytes <= 400_000, "{bytes} for steps of {step} µs");
        }
    }

    #[test]
    fn a_grant_takes_at_most_eight_bytes_with_everything_around_it() {
        for len in (100..1_000).chain([100_000]) {
            for step in [1, 5_000, 1_000_000] {
                let bytes = size_of::<Grants>() + heap_bytes(len, step);
                assert!(bytes as u64 <= len * 8, "{bytes} for {len} at steps of {step} µs");
            }
        }
    }

    #[test]
    fn a_short_queue_has_little_room_to_grow() {
        for (len, step, most) in [(2, 1_000, 80), (10, 360_000_000, 120), (100, 36_000_000, 560)] {
            let bytes = heap_bytes(len, step);
            assert!(bytes <= most, "{bytes} for {len}");
        }
    }

    #[test]
    fn memory_is_given_back_when_most_grants_are_gone() {
        let grant = |index: u64| Grant { time: Instant::from_micros(1 + index * 5_000), units: 1 };
        let all = queue(&(0..100_000).map(grant).collect::<Vec<_>>());
        let (mut dropped, mut truncated) = (all.clone(), all);
        dropped.drop_until(grant(99_799).time);
        truncated.truncate(200);
        for queue in [dropped, truncated] {
            assert_eq!(queue.units(), 200);
            let bytes = capacity_bytes(queue);
            assert!(bytes <= 8 * 200, "{bytes} bytes");
        }
    }

    /// What `len` grants of one unit take, `step` microseconds apart.
    fn heap_bytes(len: u64, step: u64) -> usize {
        let mut queue = Grants::new();
        for index in 0..len {
            queue.push(Instant::from_micros(1 + index * step), 1);
        }
        capacity_bytes(queue)
    }

    /// Sums what the buffers can hold.
    fn capacity_bytes(mut queue: Grants) -> usize {
        struct Sum(usize);
        impl BufferVisitor for Sum {
            fn visit<T>(&mut self, buffer: Vec<T>) -> Vec<T> {
                self.0 += buffer.capacity() * size_of::<T>();
                buffer
            }
        }
        let mut sum = Sum(0);
        queue.visit_buffers(0..queue.buffers(), &mut sum);
        sum.0
    }

    /// Copies every buffer to a new place.
    struct Mover {
        moved: usize,
    }

    impl BufferVisitor for Mover {
        fn visit<T>(&mut self, mut buffer: Vec<T>) -> Vec<T> {
            let capacity = buffer.capacity();
            assert!(capacity > 0, "every buffer is allocated");
            let mut moved = Vec::with_capacity(capacity);
            moved.append(&mut buffer);
            assert_eq!(moved.capacity(), capacity);
            self.moved += 1;
            moved
        }
    }

    #[test]
    fn buffers_can_be_moved_some_at_a_time_and_each_once() {
        let grants = grants();
        for dropped in [0_usize, 1, 100, 499, 500] {
            for step in [1, 2, 3, 1_000] {
                let (mut queue, mut mover) = (queue(&grants), Mover { moved: 0 });
                if let Some(last) = dropped.checked_sub(1) {
                    queue.drop_until(grants[last].time);
                }
                let buffers = queue.buffers();
                for first in (0..buffers).step_by(step) {
                    queue.visit_buffers(first..first + step, &mut mover);
                }
                assert_eq!((mover.moved, queue.buffers()), (buffers, buffers));
                assert_holds(&queue, &grants[dropped..]);
                queue.push(Instant::MAX, 1);
                assert_eq!(queue.units(), units(&grants[dropped..]) + 1);
            }
        }
    }
}
