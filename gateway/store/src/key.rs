//! The keys of Redis.

use limiter::Algorithm;

use crate::limit_kind::CONCURRENCY;

/// Returns the key that holds the state of an identifier.
///
/// The identifier is its hash tag: both keys of an identifier are in one slot of a cluster, unless
/// the identifier begins with a closing brace.
pub(crate) fn key(prefix: &str, algorithm: Algorithm, identifier: &str) -> String {
    tagged_key(prefix, algorithm.name(), identifier)
}

/// Returns the key that holds the leases of an identifier. It is in the slot of the other keys of the
/// identifier.
pub(crate) fn concurrency_key(prefix: &str, identifier: &str) -> String {
    tagged_key(prefix, CONCURRENCY, identifier)
}

/// Returns the key that holds a reservation, in the slot of the keys of an identifier. The name of the
/// reservation has no braces, so that the last brace ends the identifier.
pub(crate) fn reservation_key(prefix: &str, identifier: &str, reservation: &str) -> String {
    format!("{}:{reservation}", tagged_key(prefix, "reservation", identifier))
}

/// Returns the key of a limit that has one of its own.
pub(crate) fn limit_key(prefix: &str, key: &str) -> String {
    [prefix, key].concat()
}

fn tagged_key(prefix: &str, name: &str, identifier: &str) -> String {
    format!("{prefix}{name}:{{{identifier}}}")
}

#[cfg(test)]
mod tests {
    use limiter::Algorithm;

    use super::{concurrency_key, key, reservation_key};

    #[test]
    fn keys_hold_the_identifier_in_braces() {
        assert_eq!(key("", Algorithm::TokenBucket, "a/b"), "token_bucket:{a/b}");
        assert_eq!(key("app:", Algorithm::SlidingWindow, "x"), "app:sliding_window:{x}");
        assert_eq!(concurrency_key("app:", "x"), "app:concurrency:{x}");
        assert_eq!(reservation_key("app:", "x", "r"), "app:reservation:{x}:r");
    }
}
