//! Options of the policies.

use std::path::PathBuf;

use policies::digest::HashKey;

/// The file of policies, and the sources of the attributes that policies read.
#[derive(Debug, Clone)]
pub struct PolicyOptions {
    /// The file.
    pub file: PathBuf,
    /// The file with the last version that loaded.
    pub cache_file: Option<PathBuf>,
    /// The key of the digests that stand for secret values.
    pub hash_key: Option<HashKey>,
    /// The rules for tokens of end users.
    pub tokens: Option<TokenOptions>,
    /// True if each decision has a line in the log.
    pub logs_decisions: bool,
}

/// Rules for the tokens of end users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenOptions {
    /// The file with the key set that verifies signatures.
    pub jwks_file: PathBuf,
    /// The audience that a token must name.
    pub audience: String,
    /// The issuer that a token must name.
    pub issuer: String,
}
