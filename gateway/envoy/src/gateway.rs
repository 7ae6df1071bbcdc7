//! The part that judges and decides.

use std::{fmt, time::Duration};

use http::{Extensions, HeaderMap};

use crate::{
    answer::RateLimitAnswer,
    call::RateLimitCall,
    original_request::{AuthorizationAnswer, OriginalRequest},
};

/// The metadata with the key of the caller.
pub const KEY: &str = "x-ratelimit-key";

/// The caller of a call, as far as the protocol describes it.
#[derive(Debug, Default)]
pub struct Caller {
    /// The metadata of the call.
    pub metadata: HeaderMap,
    /// The facts about the connection that the listener has added.
    pub connection: Extensions,
}

/// The part that judges calls by policies, decides, authenticates callers and counts.
pub trait Gateway: Send + Sync + 'static {
    /// Decides a call of the rate limit service.
    fn limit(
        &self,
        caller: Caller,
        call: RateLimitCall,
    ) -> impl Future<Output = Result<RateLimitAnswer, Fault>> + Send;

    /// Decides a request of an end user.
    fn authorize(
        &self,
        caller: Caller,
        request: OriginalRequest,
    ) -> impl Future<Output = Result<AuthorizationAnswer, Fault>> + Send;

    /// Returns whether Envoy should send calls.
    fn is_ready(&self) -> impl Future<Output = bool> + Send;

    /// Returns whether callers need credentials.
    fn needs_credentials(&self) -> bool;

    /// Records the end of a call with its code, such as `OK`.
    fn record(&self, method: &'static str, code: &'static str, time: Duration);
}

/// The reason why a call has no decision. Envoy lets the request pass or not, by its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call is malformed: a fault of the configuration of Envoy.
    Invalid(String),
    /// The caller is unknown.
    Unauthenticated,
    /// The caller lacks this scope.
    Forbidden(&'static str),
    /// Redis does not answer, or has too much to do.
    Unavailable,
    /// The gateway runs without policies.
    NoPolicies,
    /// A bug.
    Internal,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(rule) => f.write_str(rule),
            Self::Unauthenticated => {
                write!(f, "a valid key is required in the metadata {KEY}")
            }
            Self::Forbidden(scope) => write!(f, "the caller needs the scope `{scope}`"),
            Self::Unavailable => f.write_str("rate limiting service temporarily unavailable"),
            Self::NoPolicies => f.write_str("the gateway runs without POLICIES_FILE"),
            Self::Internal => f.write_str("internal error"),
        }
    }
}

impl std::error::Error for Fault {}
