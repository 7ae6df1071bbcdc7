//! The ways on which requests arrive.

use serde::Serialize;

/// A way on which requests arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A check by a caller.
    Check,
    /// Forward authentication over HTTP or gRPC.
    Authz,
    /// The rate limit service of Envoy.
    Rls,
}

/// The entries that can select a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Checks by callers.
    pub check: bool,
    /// Forward authentication.
    pub authz: bool,
    /// The rate limit service of Envoy.
    pub rls: bool,
}

impl Entries {
    /// Returns whether the entry is among them.
    #[must_use]
    pub const fn contains(self, entry: Entry) -> bool {
        match entry {
            Entry::Check => self.check,
            Entry::Authz => self.authz,
            Entry::Rls => self.rls,
        }
    }

    /// Returns whether every entry of `other` is among them.
    pub(crate) const fn contain_all(self, other: Self) -> bool {
        (self.check || !other.check) && (self.authz || !other.authz) && (self.rls || !other.rls)
    }

    /// Returns whether a request can arrive in which the end user writes attributes.
    pub(crate) const fn take_end_users(self) -> bool {
        self.authz || self.rls
    }
}
