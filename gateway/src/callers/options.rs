//! Options of callers.

use std::path::PathBuf;

use limiter::{Units, Window};

/// Files that identify callers, and the default limit of a caller. Without a file of keys and
/// without a key set, any client may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerOptions {
    /// The file with the hashed keys of callers.
    pub api_keys_file: Option<PathBuf>,
    /// The rules for tokens of callers.
    pub jwt: Option<JwtOptions>,
    /// Requests that each caller may make per window; `None` is any number.
    pub limit: Option<Units>,
    /// The window of `limit`.
    pub window: Window,
    /// True when any client may read the metrics.
    pub metrics_open: bool,
}

/// Rules for JSON Web Tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtOptions {
    /// The file with the key set that verifies signatures.
    pub jwks_file: PathBuf,
    /// The audience that a token must name.
    pub audience: String,
    /// The issuer that a token must name.
    pub issuer: String,
    /// The place of scopes in a token.
    pub scopes: ScopeOptions,
}

/// The place of the scopes in a JSON Web Token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeOptions {
    /// Claims that hold names of scopes: names, or paths of names with dots between them.
    pub claims: Vec<String>,
    /// Text before the name of each scope.
    pub prefix: String,
}
