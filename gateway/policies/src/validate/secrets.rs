//! The attributes whose values are secret.

use hashbrown::HashSet;

use crate::attribute::AttributeName;

/// Returns whether the value of an attribute is secret in a file that names these as secret.
pub(super) fn is_secret(secrets: &HashSet<AttributeName>, attribute: &AttributeName) -> bool {
    let named = match attribute {
        AttributeName::ClientIp(_) => {
            secrets.iter().any(|secret| matches!(secret, AttributeName::ClientIp(_)))
        }
        _ => secrets.contains(attribute),
    };
    named || attribute.is_always_secret()
}
