//! The scopes of callers.

/// A right that routes require.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// To take units.
    Check,
    /// To read, and take nothing.
    Read,
    /// To return units: a refund, or a reset.
    Reset,
    /// To take units that are not left: a check with `force`.
    Force,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [Self::Check, Self::Read, Self::Reset, Self::Force];

    /// The name in files, tokens and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Read => "read",
            Self::Reset => "reset",
            Self::Force => "force",
        }
    }

    /// Returns the scope with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }

    /// Returns all names, for messages.
    pub(super) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Returns true when the set has this scope.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Scope, Scopes};

    #[test]
    fn a_set_has_its_scopes_and_no_other() {
        let set: Scopes = [Scope::Check, Scope::Reset].into_iter().collect();
        assert_eq!(Scope::ALL.map(|scope| set.contains(scope)), [true, false, true, false]);
        assert_eq!(Scope::ALL.map(|scope| Scopes::default().contains(scope)), [false; 4]);
    }

    #[test]
    fn scopes_have_exact_names() {
        assert_eq!(Scope::ALL.map(|scope| Scope::from_name(scope.name())), Scope::ALL.map(Some));
        for unknown in ["", "Check", "admin", "check read"] {
            assert_eq!(Scope::from_name(unknown), None);
        }
    }
}
