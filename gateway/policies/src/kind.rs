//! The kinds of limits.

use serde::Serialize;

/// The kind of a limit: the way in which grants are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Units come back steadily, and up to the capacity can be taken at once.
    TokenBucket,
    /// Each grant counts for exactly one window.
    SlidingWindow,
    /// All units come back at a known instant.
    FixedWindow,
    /// Units are held until they are released.
    Concurrency,
}

impl Kind {
    /// Returns the word in keys.
    #[must_use]
    pub const fn key_word(self) -> &'static str {
        match self {
            Self::TokenBucket => "tb",
            Self::SlidingWindow => "sw",
            Self::FixedWindow => "fw",
            Self::Concurrency => "lease",
        }
    }

    /// Returns the word in files and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TokenBucket => "token_bucket",
            Self::SlidingWindow => "sliding_window",
            Self::FixedWindow => "fixed_window",
            Self::Concurrency => "concurrency",
        }
    }
}
