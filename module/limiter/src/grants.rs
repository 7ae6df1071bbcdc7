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
    start: u16,
    /// The number of grants that are still here.
    grants: u16,
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

    /// Returns whether there are so many entries. Constant cost, unless the answer is near: the
    /// chunks are counted then.
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

    /// Takes so many units, which are at most those of the entry, out of the entry at `time`.
    ///
    /// The cost is that of a search, and a few instructions for each later chunk.
    pub(crate) fn take_out(&mut self, time: Instant, units: u32) {
        let index = self.chunk_at(time);
        let Some(chunk) = self.older.get_mut(index) else {
            let kept = self.units().minus(units);
            return self.truncate(kept);
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

    /// Takes off the grant that holds the `nth` unit, cut down to that unit, and drops what was
    /// granted after it.
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
mod tests;
