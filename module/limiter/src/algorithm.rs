//! The algorithms, and the facts about each of them that commands, JSON and metrics depend on.

/// The facts about one algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The name of the algorithm in commands.
    pub word: &'static str,
    /// The name of the command that takes units.
    pub command: &'static str,
    /// The name of the algorithm in JSON, in keys, in metrics and in INFO.
    pub name: &'static str,
    /// True when the algorithm uses the capacity of a limit. Otherwise its capacity is the limit.
    pub takes_capacity: bool,
}

/// Defines [`Algorithm`] from one table, so that no list can lack an algorithm.
macro_rules! algorithms {
    ($($algorithm:ident: $summary:literal { $($fact:ident: $value:expr,)* })*) => {
        /// A way to count grants against a limit.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Algorithm {
            $(#[doc = $summary] $algorithm,)*
        }

        impl Algorithm {
            /// Every algorithm.
            pub const ALL: [Self; [$(Self::$algorithm),*].len()] = [$(Self::$algorithm),*];

            /// Returns the facts about this algorithm.
            #[must_use]
            #[inline(always)]
            pub const fn facts(self) -> &'static Facts {
                match self {
                    $(Self::$algorithm => &Facts { $($fact: $value,)* },)*
                }
            }
        }
    };
}

algorithms! {
    TokenBucket: "Units come back steadily, and up to the capacity can be taken at once." {
        word: "TB",
        command: "RATELIMIT.TB",
        name: "token_bucket",
        takes_capacity: true,
    }
    SlidingWindow: "Every grant counts for exactly one window." {
        word: "SW",
        command: "RATELIMIT.SW",
        name: "sliding_window",
        takes_capacity: false,
    }
    FixedWindow: "The whole quota comes back at the end of each window." {
        word: "FW",
        command: "RATELIMIT.FW",
        name: "fixed_window",
        takes_capacity: false,
    }
}

impl Algorithm {
    /// The name in JSON, in keys, in metrics and in INFO.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// The name in commands.
    #[must_use]
    pub const fn word(self) -> &'static str {
        self.facts().word
    }

    /// Returns the algorithm that commands call by this word, in capitals or not.
    #[must_use]
    pub fn from_word(word: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| word.eq_ignore_ascii_case(algorithm.word().as_bytes()))
    }

    /// Returns the algorithm with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| name == algorithm.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_algorithm_is_found_by_its_word_and_by_its_name() {
        for algorithm in Algorithm::ALL {
            let word = algorithm.word().to_ascii_lowercase();
            assert_eq!(Algorithm::from_word(word.as_bytes()), Some(algorithm));
            assert_eq!(Algorithm::from_word(algorithm.word().as_bytes()), Some(algorithm));
            assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
        }
        assert_eq!(Algorithm::from_word(b"TBS"), None);
        assert_eq!(Algorithm::from_name("Token_bucket"), None);
    }
}
