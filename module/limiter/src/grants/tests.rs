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
    let entries = grants.len() as u32;
    assert!(queue.has_entries(entries) && !queue.has_entries(entries + 1));
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
fn units_are_taken_out_of_the_entry_at_a_time_or_after_it() {
    let grants = &grants()[..240];
    let whole = queue(grants);
    assert!(whole.older.len() > 2, "{} chunks", whole.older.len());
    for (index, &grant) in grants.iter().enumerate() {
        let before = Instant::from_micros(grant.time.as_micros() - 1);
        let is_alone = index == 0 || grants[index - 1].time < before;
        assert_eq!(whole.entry_at(grant.time), Some(grant));
        assert!(!is_alone || whole.entry_at(before) == Some(grant));
        for units in [1, grant.units / 2, grant.units] {
            let (mut queue, mut expected) = (whole.clone(), grants.to_vec());
            queue.take_out(grant.time, units);
            expected[index].units -= units;
            expected.retain(|grant| grant.units > 0);
            assert_holds(&queue, &expected);
            assert!(!queue.older.iter().any(Chunk::is_empty));
            queue.push(Instant::MAX, 3);
            expected.push(Grant { time: Instant::MAX, units: 3 });
            assert_holds(&queue, &expected);
        }
    }
    assert_eq!(whole.entry_at(Instant::MAX), None);
    assert_eq!(Grants::new().entry_at(Instant::EPOCH), None);
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
    let entry = |index: u64| Grant { time: Instant::from_micros(1 + index), units: 900_000_000 };
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

/// Returns the size of `len` grants of one unit, `step` microseconds apart.
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

#[test]
fn an_unknown_first_time_stays_unknown_at_the_end_of_all_time() {
    let mut queue =
        queue(&[1, 2].map(|micros| Grant { time: Instant::from_micros(micros), units: 1 }));
    queue.truncate(1);
    assert_eq!(queue.newest_first(), None);
    queue.join_newest(Instant::MAX, 1);
    assert_eq!((queue.newest_time(), queue.newest_first()), (Instant::MAX, None));
}
