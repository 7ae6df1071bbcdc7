//! The keys of Redis.

use limiter::Algorithm;

use crate::limit_kind::CONCURRENCY;

/// Returns the key that holds the state of an identifier.
///
/// The identifier is its hash tag: all keys of an identifier are in one slot of a cluster.
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

/// A hash tag that begins with a closing brace is empty, and the slot would be that of the whole key.
/// Such an identifier has its closing braces percent-encoded. The `%` after the last brace, where no
/// other key has one, keeps the key apart from that of the identifier with this text.
fn tagged_key(prefix: &str, name: &str, identifier: &str) -> String {
    if identifier.starts_with('}') {
        let encoded = identifier.replace('%', "%25").replace('}', "%7D");
        return [prefix, name, ":{", &encoded, "}%"].concat();
    }
    [prefix, name, ":{", identifier, "}"].concat()
}

/// Returns whether keys with this prefix have the slots of their identifiers, or all one slot. A brace
/// that the prefix opens would begin the hash tag, and end it in the text after the prefix or at once.
#[must_use]
pub fn keeps_slots_together(prefix: &str) -> bool {
    match prefix.split_once('{') {
        None => true,
        Some((_, tag)) => tag.find('}').is_some_and(|end| end > 0),
    }
}

#[cfg(test)]
mod tests {
    use limiter::Algorithm;

    use super::{concurrency_key, keeps_slots_together, key, reservation_key};

    #[test]
    fn keys_hold_the_identifier_in_braces() {
        assert_eq!(key("", Algorithm::TokenBucket, "a/b"), "token_bucket:{a/b}");
        assert_eq!(key("app:", Algorithm::SlidingWindow, "x"), "app:sliding_window:{x}");
        assert_eq!(concurrency_key("app:", "x"), "app:concurrency:{x}");
        assert_eq!(reservation_key("app:", "x", "r"), "app:reservation:{x}:r");
    }

    #[test]
    fn all_keys_of_an_identifier_have_one_hash_tag_and_no_two_identifiers_share_a_key() {
        let identifiers = ["}a", "%7Da", "{}a", "}", "%7D", "}%", "%7D}%", "}{", "a}", "a}:r", "{"];
        let mut keys = std::collections::BTreeSet::new();
        for identifier in identifiers {
            let own = [
                key("", Algorithm::TokenBucket, identifier),
                key("", Algorithm::FixedWindow, identifier),
                concurrency_key("", identifier),
                reservation_key("", identifier, "r"),
                reservation_key("", identifier, "%:r"),
            ];
            let tags = own.iter().map(|key| {
                let (_, tag) = key.split_once('{').unwrap();
                tag.split_once('}').unwrap().0
            });
            let tags: Vec<_> = tags.collect();
            assert!(!tags[0].is_empty(), "{identifier}");
            assert!(tags.iter().all(|tag| *tag == tags[0]), "{identifier}: {tags:?}");
            for key in own {
                assert!(keys.insert(key.clone()), "{key}");
            }
        }
    }

    #[test]
    fn a_prefix_that_opens_a_hash_tag_must_end_it() {
        for prefix in ["", "app:", "{app}:", "a}b", "a{b}{"] {
            assert!(keeps_slots_together(prefix), "{prefix}");
        }
        for prefix in ["{", "a{b", "{}", "{}a{b}"] {
            assert!(!keeps_slots_together(prefix), "{prefix}");
        }
    }
}
