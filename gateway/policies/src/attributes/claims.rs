//! Claims of the end user: those of a verified token, and those that are written by name.

use serde_json::{Map, Value as Json};

/// The verified claims of the end user's token.
pub type Claims = Map<String, Json>;

/// The source of verified claims, called only when a policy that is tried reads a claim.
pub trait ClaimSource {
    /// Returns the claims, or `None` without a valid token.
    fn claims(&self) -> Option<&Claims>;

    /// Returns true if the claims are known without a verification.
    fn is_known(&self) -> bool {
        true
    }
}

impl ClaimSource for Claims {
    fn claims(&self) -> Option<&Claims> {
        Some(self)
    }
}

/// A claim that is written by name.
#[derive(Clone)]
pub(super) enum WrittenClaim {
    Text(Vec<u8>),
    List(Vec<Vec<u8>>),
}
