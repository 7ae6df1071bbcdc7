//! Decisions, counted.

use std::sync::LazyLock;

use metrics::{Counter, counter, describe_counter};

use crate::{quota::Algorithm, store::Source};

const DECISIONS: &str = "ratelimit_decisions_total";
const NO_ROOM: &str = "ratelimit_local_no_room_total";

type Counters = [[[Counter; Source::ALL.len()]; 2]; Algorithm::ALL.len()];

/// By algorithm, by whether it was allowed, and by source, each in the order of its `ALL`.
static COUNTERS: LazyLock<Counters> = LazyLock::new(|| {
    let counter = |algorithm: Algorithm, outcome: &'static str, source: Source| {
        counter!(DECISIONS, "algorithm" => algorithm.name(), "outcome" => outcome,
            "source" => source.name())
    };
    Algorithm::ALL.map(|algorithm| {
        ["denied", "allowed"]
            .map(|outcome| Source::ALL.map(|source| counter(algorithm, outcome, source)))
    })
});

/// Shows all of them, with 0.
pub(super) fn start() {
    describe_counter!(
        DECISIONS,
        "Checks that were decided, by algorithm, outcome, and source: redis, local (this process), \
         cache (an earlier denial) or open (nobody: Redis could not answer)."
    );
    describe_counter!(
        NO_ROOM,
        "Checks that this process denied because LOCAL_MAX_KEYS is taken by quotas that deny."
    );
    LazyLock::force(&COUNTERS);
    counter!(NO_ROOM).increment(0);
}

/// Counts a check that was denied because the local store has no room for its quota.
pub(crate) fn count_no_room() {
    counter!(NO_ROOM).increment(1);
}

/// Counts a decision.
pub fn count_decision(algorithm: Algorithm, allowed: bool, source: Source) {
    COUNTERS[algorithm as usize][usize::from(allowed)][source as usize].increment(1);
}

#[cfg(test)]
mod tests {
    use crate::{quota::Algorithm, store::Source};

    #[test]
    fn decisions_are_counted_by_the_place_of_their_labels() {
        for (place, algorithm) in Algorithm::ALL.into_iter().enumerate() {
            assert_eq!(algorithm as usize, place);
        }
        for (place, source) in Source::ALL.into_iter().enumerate() {
            assert_eq!(source as usize, place);
        }
        // A variant that is missing in ALL would have no place.
        assert!(matches!(Source::ALL[Source::ALL.len() - 1], Source::Open));
    }
}
