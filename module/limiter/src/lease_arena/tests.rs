use alloc::format;

use super::*;

fn lease(holder: u64, expiry: u64) -> Lease {
    Lease {
        holder: Holder::new(format!("{holder}")).unwrap(),
        cost: Units::MIN,
        ttl: Window::MIN,
        expiry: Instant::from_micros(expiry),
        fence: 1,
    }
}

#[test]
fn a_lease_takes_64_bytes_and_at_most_96_with_everything_around_it() {
    assert_eq!(size_of::<Node>(), 64);
    for len in (1_000..1_200).step_by(7).chain([20_000]) {
        for width in [1, 20, 36, 64] {
            let mut arena = LeaseArena::new();
            for number in 0..len {
                let holder = format!("{number:0>width$}");
                let holder = Holder::new(&holder[holder.len().saturating_sub(64)..]).unwrap();
                arena.push(&Key::of(&Lease { holder, ..lease(0, 5 + number) }));
            }
            let holders: usize = arena.chunks.iter().map(|chunk| chunk.text.len()).sum();
            let bytes = capacity_bytes(&mut arena.clone()) - holders;
            assert!(bytes as u64 <= 90 * len, "{bytes} for {len} of {width} bytes");
        }
    }
}

#[test]
fn memory_is_given_back_when_most_leases_are_gone() {
    let mut arena = LeaseArena::new();
    for number in 0..10_000 {
        arena.push(&Key::of(&lease(number, 5 + number)));
    }
    for _ in 0..9_990 {
        assert!(arena.pop().is_some());
    }
    let bytes = capacity_bytes(&mut arena);
    assert!(bytes < 6_000, "{bytes}");
}

/// Sums what the buffers can hold, and replaces each of them.
fn capacity_bytes(arena: &mut LeaseArena) -> usize {
    struct Replaced(usize);
    impl BufferVisitor for Replaced {
        fn visit<T>(&mut self, buffer: Vec<T>) -> Vec<T> {
            assert!(buffer.capacity() > 0, "every buffer is allocated");
            let mut other = Vec::with_capacity(buffer.capacity());
            self.0 += buffer.capacity() * size_of::<T>();
            other.extend(buffer);
            other
        }
    }
    let mut replaced = Replaced(0);
    for number in 0..arena.buffers() {
        arena.visit_buffers(number..number + 1, &mut replaced);
    }
    replaced.0
}
