//! The keys of Redis.

use limiter::Algorithm;

/// Returns the key that holds the state of an identifier.
///
/// The identifier is its hash tag: both keys of an identifier are in one slot of a cluster, unless
/// the identifier begins with a closing brace.
pub(crate) fn key(prefix: &str, algorithm: Algorithm, identifier: &str) -> String {
    format!("{prefix}{}:{{{identifier}}}", algorithm.name())
}

#[cfg(test)]
mod tests {
    use limiter::Algorithm;

    use super::key;

    #[test]
    fn keys_hold_the_identifier_in_braces() {
        assert_eq!(key("", Algorithm::TokenBucket, "a/b"), "token_bucket:{a/b}");
        assert_eq!(key("app:", Algorithm::SlidingWindow, "x"), "app:sliding_window:{x}");
    }
}
