use alloc::collections::BTreeMap;
use alloc::format;

use alloc::vec::Vec;

use super::*;
use crate::limits::{Units, Window};

fn lease(holder: u64, expiry: u64, cost: u64) -> Lease {
    Lease {
        holder: Holder::new(format!("{holder}")).unwrap(),
        cost: Units::new(cost).unwrap(),
        ttl: Window::from_millis(1 + expiry % 31_622_400_000).unwrap(),
        expiry: Instant::from_micros(expiry),
        fence: 1 + holder,
    }
}

/// Checks everything that an index can be asked against the leases that it should hold.
fn assert_holds(index: &LeaseIndex, leases: &BTreeMap<Holder, Lease>) {
    assert_eq!(index.len() as usize, leases.len());
    let mut sorted: Vec<_> = leases.values().copied().collect();
    sorted.sort_by_key(|lease| (lease.expiry, lease.holder));
    let mut visited = Vec::new();
    index.visit_after(Instant::EPOCH, &mut |lease| {
        visited.push(lease);
        true
    });
    assert_eq!(visited, sorted);
    let first = index.first_to_expire(Instant::MAX).map(|entry| entry.lease);
    assert_eq!(first, sorted.first().copied());
    assert_eq!(index.last_expiry(), sorted.last().map_or(Instant::EPOCH, |lease| lease.expiry));
    let latest = sorted.iter().map(Lease::start).max().unwrap_or(Instant::EPOCH);
    assert!(index.latest_start() >= latest);
    for lease in &sorted {
        assert_eq!(index.find(&lease.holder).unwrap().lease, *lease);
    }
    let by_holder = index.roots_by_holder.map(|root| assert_balanced(index, Tree::Holder, root));
    assert_eq!(by_holder.iter().sum::<u32>(), index.len());
    assert_balanced(index, Tree::Expiry, index.root_by_expiry);
}

/// Checks the weights of a subtree; returns the number of its nodes.
fn assert_balanced(index: &LeaseIndex, tree: Tree, root: Index) -> u32 {
    if index.arena.node(root).is_none() {
        return 0;
    }
    let Links { left, right, count } = index.arena.links(tree, root);
    let [left, right] = [left, right].map(|root| assert_balanced(index, tree, root));
    assert!(3 * (left + 1) > right && 3 * (right + 1) > left, "{left} and {right}");
    assert_eq!(count, left + right + 1);
    count
}

/// A sequence of numbers without order.
fn shuffled(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40
}

#[test]
fn leases_are_inserted_and_removed_in_any_order() {
    let orders: [fn(u64) -> u64; 3] = [|number| number, |number| 10_000 - number, shuffled];
    for order in orders {
        let (mut index, mut leases) = (LeaseIndex::new(), BTreeMap::new());
        for number in 0..400 {
            let new = lease(order(number), 1 + shuffled(number) % 500, 1 + number);
            if leases.insert(new.holder, new).is_none() {
                index.insert(&new);
            }
            if number % 50 == 0 {
                assert_holds(&index, &leases);
            }
        }
        assert_holds(&index, &leases);
        for number in 0..400 {
            let gone = lease(order(shuffled(number) % 400), 1, 1).holder;
            if let Some(gone) = leases.remove(&gone) {
                index.remove(&index.find(&gone.holder).unwrap());
            }
            if let Some(old) = leases.values().next().copied() {
                let new = Lease { expiry: old.expiry.plus_micros(number), ..old };
                index.replace(&index.find(&old.holder).unwrap(), &new);
                leases.insert(new.holder, new);
            }
            if number % 20 == 0 {
                assert_holds(&index, &leases);
            }
        }
        for holder in leases.keys() {
            index.remove(&index.find(holder).unwrap());
        }
        assert_holds(&index, &BTreeMap::new());
        assert!(index.arena.buffers() <= 1);
    }
}

#[test]
fn costs_are_summed_and_found_by_time() {
    let (mut index, mut leases) = (LeaseIndex::new(), Vec::new());
    for number in 0..300 {
        let new = lease(number, 1 + shuffled(number) % 200, 1 + number % 7);
        index.insert(&new);
        leases.push(new);
    }
    let costs_after = |time: u64, without: &Holder| -> (u32, u64) {
        let after = leases.iter().filter(|lease| lease.expiry.as_micros() > time);
        let after = after.filter(|lease| lease.holder != *without);
        after.fold((0, 0), |(count, costs), lease| (count + 1, costs + u64::from(lease.cost.get())))
    };
    let nothing = Holder::new("nothing").unwrap();
    for time in 0..=201 {
        assert_eq!(index.after(Instant::from_micros(time)), costs_after(time, &nothing));
    }
    for without in [nothing, leases[7].holder, leases[150].holder, leases[299].holder] {
        let own = index.find(&without).map(|entry| entry.lease);
        for costs in (0..1_400).step_by(13) {
            let time = (0..=201).find(|&time| costs_after(time, &without).1 <= costs).unwrap();
            let found = index.time_of_costs(costs, own.as_ref()).as_micros();
            assert_eq!(found, time, "{costs} without {without:?}");
        }
    }
}

#[test]
fn leases_with_a_later_start_are_removed() {
    let (mut index, mut leases) = (LeaseIndex::new(), BTreeMap::new());
    for number in 0..300 {
        let new = Lease { ttl: Window::MIN, ..lease(number, 2_001 + shuffled(number) % 500, 1) };
        index.insert(&new);
        leases.insert(new.holder, new);
    }
    let time = Instant::from_micros(200);
    index.remove_later_starts(time);
    leases.retain(|_, lease| lease.start() <= time);
    assert!((50..250).contains(&leases.len()), "{}", leases.len());
    assert_holds(&index, &leases);
    assert!(index.latest_start() <= time);
}
