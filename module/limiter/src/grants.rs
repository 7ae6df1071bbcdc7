//! A queue of grants in time order, with search by time and by unit. A grant takes three to six
//! bytes.
//!
//! ```text
//!  older: chunk ─ chunk ─ chunk ─ ... ─ chunk     newest: one grant, decoded,
//!         │                                       so that a grant of the same
//!         ├ first: time of its first grant        tick only adds to it
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
/// The order of the fields avoids padding.
#[derive(Clone, Debug)]
pub(crate) struct Grants {
    /// The time of the newest entry, which is that of its latest grant.
    newest_time: Instant,
    /// The time of the first grant of the newest entry, or [`UNKNOWN`] if other entries were newer.
    newest_first: Instant,
    /// The units of the newest entry: 0 if and only if the queue is empty.
    newest_units: u32,
    /// All grants before the newest, oldest first. No chunk is empty.
    older: VecDeque<Chunk>,
    /// The units ever queued in `older`. The sum may wrap, since only differences are used.
    queued: u32,
}

/// Consecutive grants.
#[derive(Clone, Debug)]
struct Chunk {
    /// The time of the first grant that has not been dropped.
    first: Instant,
    /// The time of the last grant.
    last: Instant,
    /// The value of [`Grants::queued`] before the first grant that has not been dropped.
    before: u32,
    /// The index in `bytes` of the first grant that has not been dropped.
    start: u16,
    /// The number of grants that have not been dropped.
    grants: u16,
    bytes: Vec<u8>,
}

/// Marks an unknown time of a first grant. No entry begins so late.
const UNKNOWN: Instant = Instant::AFTER_MAX;

/// A chunk is full once it has this many bytes. A chunk of this size is read quickly from end to
/// end, and is large in comparison with its own fields.
const CHUNK_BYTES: usize = 240;

/// A chunk grows if fewer bytes than this are free, which is more than most grants need.
const GRANT_BYTES: usize = 8;

/// The bytes by which a chunk grows, so that its size is one that jemalloc does not round up.
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

    /// Returns the units in the whole queue.
    pub(crate) fn units(&self) -> u32 {
        self.older_units().plus(self.newest_units)
    }

    /// Returns the time of the latest grant, or the epoch if there is none.
    pub(crate) fn newest_time(&self) -> Instant {
        self.newest_time
    }

    /// Returns the time of the first grant of the newest entry, or `None` if the time is unknown,
    /// because the entry became the newest one when others were dropped.
    pub(crate) fn newest_first(&self) -> Option<Instant> {
        (self.newest_first <= self.newest_time).then_some(self.newest_first)
    }

    /// Sets what [`Grants::newest_first`] returns, which is not after [`Grants::newest_time`].
    pub(crate) fn set_newest_first(&mut self, first: Option<Instant>) {
        self.newest_first = first.unwrap_or(UNKNOWN);
    }

    /// Returns the units granted at or before `time`.
    #[inline(always)]
    pub(crate) fn units_until(&self, time: Instant) -> u32 {
        if self.newest_time <= time {
            return self.units();
        }
        self.older_units_until(time)
    }

    /// Units of entries before the newest one, granted at or before `time`.
    fn older_units_until(&self, time: Instant) -> u32 {
        let Some(chunk) = self.last_chunk(|chunk| chunk.first <= time) else {
            return 0;
        };
        let within = chunk.grants().take_while(|grant| grant.time <= time);
        within.fold(self.units_before(chunk), |sum, grant| sum.plus(grant.units))
    }

    /// Returns whether there are at least that many entries. Constant cost, unless the answer is
    /// near: the chunks are counted then.
    pub(crate) fn has_entries(&self, entries: u32) -> bool {
        let newest = u64::from(!self.is_empty());
        let at_most = (self.older.len() as u64).times(CHUNK_BYTES as u64).plus(newest);
        if at_most < u64::from(entries) {
            return false;
        }
        let mut counted = newest;
        for chunk in &self.older {
            counted = counted.plus(u64::from(chunk.grants));
        }
        counted >= u64::from(entries)
    }

    /// Returns the first entry that is not before `time`.
    pub(crate) fn entry_at(&self, time: Instant) -> Option<Grant> {
        let chunk = self.older.get(self.chunk_at(time));
        let older = chunk.and_then(|chunk| chunk.grants().find(|grant| grant.time >= time));
        older.or_else(|| Some(self.newest()).filter(|grant| grant.time >= time && grant.units > 0))
    }

    /// Takes units, at most those of the entry, out of the entry at `time`.
    ///
    /// The cost is that of a search, and a few instructions for each later chunk.
    pub(crate) fn take_out(&mut self, time: Instant, units: u32) {
        let index = self.chunk_at(time);
        let Some(chunk) = self.older.get_mut(index) else {
            let rest = self.units().minus(units);
            return self.truncate(rest);
        };
        let is_empty = chunk.take_out(time, units);
        for later in self.older.iter_mut().skip(index.plus(1)) {
            later.before = later.before.wrapping_sub(units);
        }
        self.queued = self.queued.wrapping_sub(units);
        if is_empty {
            self.older.remove(index);
        }
        self.give_memory_back();
    }

    /// Returns the number of the first chunk with a grant that is not before `time`.
    fn chunk_at(&self, time: Instant) -> usize {
        self.older.partition_point(|chunk| chunk.last < time)
    }

    /// Returns the time at which the `nth` oldest unit was granted, counted from 1, or the time of
    /// the latest grant for a number beyond the queue.
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
    /// A grant that is not after the newest one joins its entry.
    #[inline(always)]
    pub(crate) fn push(&mut self, time: Instant, units: u32) {
        if time > self.newest_time && !self.is_empty() {
            self.push_older(self.newest());
            (self.newest_time, self.newest_first, self.newest_units) = (time, time, units);
        } else {
            self.join_newest(time, units);
        }
    }

    /// Adds a grant to the newest entry. The time of the entry is then the later of both times.
    #[inline]
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

    /// Drops all units but the `units` oldest ones.
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

    /// Returns all grants, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Grant> + '_ {
        let newest = (!self.is_empty()).then_some(self.newest());
        self.older.iter().flat_map(Chunk::grants).chain(newest)
    }

    /// Returns the number of buffers on the heap: the list of chunks, then the bytes of each chunk.
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

    /// Returns the last chunk for which `holds` is true. It must be true for all chunks before
    /// that.
    fn last_chunk(&self, holds: impl Fn(&Chunk) -> bool) -> Option<&Chunk> {
        // The chunk is mostly at the old end.
        let front = self.older.front().filter(|chunk| holds(chunk))?;
        match self.older.get(1) {
            Some(second) if holds(second) => {
                let later = self.older.partition_point(holds);
                later.checked_sub(1).and_then(|index| self.older.get(index))
            }
            _ => Some(front),
        }
    }

    /// Returns the units in `older`.
    fn older_units(&self) -> u32 {
        self.queued.wrapping_sub(self.dropped())
    }

    /// Returns the units in `older` before a chunk.
    fn units_before(&self, chunk: &Chunk) -> u32 {
        chunk.before.wrapping_sub(self.dropped())
    }

    /// Returns the value of `queued` before the oldest grant that has not been dropped.
    fn dropped(&self) -> u32 {
        self.older.front().map_or(self.queued, |chunk| chunk.before)
    }

    /// Frees half of the room for chunks or more once less than a quarter is used. The rest of the
    /// room makes the cost constant on average.
    fn give_memory_back(&mut self) {
        if self.older.len() < self.older.capacity() / 4 {
            self.older.shrink_to(self.older.len().times(2));
        }
    }

    fn push_older(&mut self, grant: Grant) {
        match self.older.back_mut() {
            Some(chunk) if !chunk.is_full() => chunk.push(grant),
            _ => {
                // The room grows by half: doubling it would waste memory in short logs.
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
        let mut chunk =
            Self { first: time, last: time, before, start: 0, grants: 0, bytes: Vec::new() };
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
    /// The first integer is `microseconds << 1 | has_units`, where the microseconds are those since
    /// the last grant. Without `has_units`, the grant has one unit; else the second integer is the
    /// number of units.
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
        // At most one for each byte.
        self.grants = self.grants.wrapping_add(1);
    }

    /// Takes units out of the grant at `time`; returns whether the chunk is empty then.
    fn take_out(&mut self, time: Instant, units: u32) -> bool {
        let mut rest: Option<Self> = None;
        for mut grant in self.grants() {
            if grant.time == time {
                grant.units = grant.units.minus(units);
            }
            if grant.units > 0 {
                match &mut rest {
                    None => rest = Some(Self::new(grant, self.before)),
                    Some(rest) => rest.push(grant),
                }
            }
        }
        let is_empty = rest.is_none();
        if let Some(rest) = rest {
            *self = rest;
        }
        is_empty
    }

    fn grants(&self) -> ChunkGrants<'_> {
        let rest = self.bytes.get(self.start as usize..).unwrap_or(&[]);
        ChunkGrants { rest, time: None, first: self.first }
    }

    /// Drops the grants at or before `time`, which is before the last one.
    fn drop_until(&mut self, time: Instant) {
        let (mut dropped, mut count) = (0_u32, 0_u16);
        let mut grants = self.grants();
        let mut left = grants.rest.len();
        let first = loop {
            match grants.next() {
                Some(grant) if grant.time <= time => {
                    (dropped, count) = (dropped.plus(grant.units), count.wrapping_add(1));
                }
                Some(grant) => break grant.time,
                None => return,
            }
            left = grants.rest.len();
        };
        self.first = first;
        self.before = self.before.wrapping_add(dropped);
        self.start = self.bytes.len().minus(left) as u16;
        self.grants = self.grants.wrapping_sub(count);
    }

    /// Removes the grant with the `nth` unit and all later grants. Returns that grant without its
    /// units after the `nth`.
    fn split_off_unit(&mut self, nth: u32) -> Grant {
        let (mut before, mut last, mut count) = (0_u32, self.first, 0_u16);
        let mut grants = self.grants();
        let mut left = grants.rest.len();
        let found = loop {
            match grants.next() {
                Some(grant) if before.plus(grant.units) < nth => {
                    before = before.plus(grant.units);
                    last = grant.time;
                    left = grants.rest.len();
                    count = count.wrapping_add(1);
                }
                Some(grant) => break grant.time,
                None => break last,
            }
        };
        (self.last, self.grants) = (last, count);
        self.bytes.truncate(self.bytes.len().minus(left));
        Grant { time: found, units: nth.minus(before) }
    }
}

/// The grants of a chunk, oldest first.
struct ChunkGrants<'a> {
    /// The bytes that have not been read yet.
    rest: &'a [u8],
    /// The time of the grant that was read last.
    time: Option<Instant>,
    /// The time of the first grant, whose own step counts from a grant that was dropped.
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
mod tests;
