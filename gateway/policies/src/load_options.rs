//! The circumstances in which a file is loaded.

use limiter::Instant;

use crate::digest::HashKey;

/// The circumstances in which a file is loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The text before every key.
    pub key_prefix: String,
    /// The key of the digests that stand for secret values. Without it, a policy that reads a
    /// secret attribute is an error.
    pub hash_key: Option<HashKey>,
    /// True if a file without `end: true` is an error.
    pub require_end: bool,
    /// The present time, for warnings about overrides that have ended.
    pub now: Instant,
}
