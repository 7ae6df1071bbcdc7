//! Options of forward authentication.

pub use super::client_address::Networks;

/// The proxies, and the place of the token of an end user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthzOptions {
    /// The proxies whose elements of `X-Forwarded-For` are true.
    pub trusted_proxies: Networks,
    /// The proxies that need no key.
    pub peers: Networks,
    /// The cookie with the token of an end user; empty for none.
    pub cookie: String,
}
