//! What a server holds under a key, to be compared with what another one holds.

use super::client::Client;

/// A key, the digest of its value, and when it expires in Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) key: String,
    pub(crate) digest: String,
    pub(crate) expiry: i64,
}

impl Held {
    /// What is held under one key, which must exist.
    pub(crate) fn under(client: &mut Client, key: &str) -> Self {
        let [digest]: [String; 1] = client.call(&format!("DEBUG DIGEST-VALUE {key}"));
        assert!(digest.contains(|digit| digit != '0'), "{key} is missing");
        let expiry = client.call(&format!("PEXPIRETIME {key}"));
        Self { key: key.to_owned(), digest, expiry }
    }

    /// What is held under each of some keys, all of which must exist.
    pub(crate) fn all<K: AsRef<str>>(client: &mut Client, keys: &[K]) -> Vec<Self> {
        keys.iter().map(|key| Self::under(client, key.as_ref())).collect()
    }

    /// Fails at the first key that is not held alike.
    pub(crate) fn assert_same(expected: &[Self], found: &[Self]) {
        assert_eq!(expected.len(), found.len());
        for (expected, found) in expected.iter().zip(found) {
            assert_eq!(expected, found);
        }
    }
}
