//! The kinds of limits that an identifier can have.

use limiter::Algorithm;

/// The name of leases in JSON, in keys and in metrics.
pub(crate) const CONCURRENCY: &str = "concurrency";

/// A kind of limit: a quota of one of the algorithms, or leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// Units of a quota.
    Quota(Algorithm),
    /// Units that are taken until they are released or expire.
    Concurrency,
}

impl LimitKind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; Algorithm::ALL.len() + 1] = {
        let [bucket, log, window] = Algorithm::ALL;
        [Self::Quota(bucket), Self::Quota(log), Self::Quota(window), Self::Concurrency]
    };

    /// Returns the name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quota(algorithm) => algorithm.name(),
            Self::Concurrency => CONCURRENCY,
        }
    }

    /// Returns the kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Returns the number that identifies the kind.
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Quota(algorithm) => algorithm as u32,
            Self::Concurrency => Algorithm::ALL.len() as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LimitKind;

    #[test]
    fn each_kind_has_a_name_and_a_number_of_its_own() {
        for (number, kind) in LimitKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.number() as usize, number);
            assert_eq!(LimitKind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(LimitKind::from_name("leases"), None);
    }
}
