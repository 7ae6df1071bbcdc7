//! The value of a key on one server, to be compared with the value on another server.

use super::client::Client;

/// A key, the digest of its value, and its expiry in Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) key: String,
    pub(crate) digest: String,
    pub(crate) expiry: i64,
}

impl Snapshot {
    /// Returns the snapshot of one key, which must exist.
    pub(crate) fn of(client: &mut Client, key: &str) -> Self {
        let [digest]: [String; 1] = client.call(&format!("DEBUG DIGEST-VALUE {key}"));
        assert!(digest.contains(|digit| digit != '0'), "{key} is missing");
        let expiry = client.call(&format!("PEXPIRETIME {key}"));
        Self { key: key.to_owned(), digest, expiry }
    }

    /// Returns the snapshots of some keys, all of which must exist.
    pub(crate) fn all<K: AsRef<str>>(client: &mut Client, keys: &[K]) -> Vec<Self> {
        keys.iter().map(|key| Self::of(client, key.as_ref())).collect()
    }

    /// Panics at the first key that differs.
    pub(crate) fn assert_same(expected: &[Self], found: &[Self]) {
        assert_eq!(expected.len(), found.len());
        for (expected, found) in expected.iter().zip(found) {
            assert_eq!(expected, found);
        }
    }
}
