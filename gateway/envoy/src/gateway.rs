//! The part that judges and decides.

use std::fmt;

use http::{Extensions, HeaderMap};

use crate::{
    answer::RateLimitAnswer,
    call::RateLimitCall,
    code::Code,
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

/// The part that judges calls by policies, decides, authenticates callers and records calls.
pub trait Gateway: Send + Sync + 'static {
    /// The record of a call.
    type Record: Record;

    /// Begins to record a call, before its message is read. `method` is the path of a method of the
    /// services, or `None` for any other path. `connection` has what the listener has added.
    fn record(
        &self,
        method: Option<&'static str>,
        metadata: &HeaderMap,
        connection: &Extensions,
    ) -> Self::Record;

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
}

/// The record of a call.
pub trait Record: Send + 'static {
    /// Runs the work of the call, and records its outcome. Where the future is dropped before its end,
    /// the client has gone, or the time of the call is over.
    fn run<T: Send>(
        self,
        work: impl Future<Output = (T, Outcome)> + Send,
    ) -> impl Future<Output = T> + Send;
}

/// The outcome of a call: for a stream of answers, that of its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The code.
    pub code: Code,
    /// The decision, if the answer has one: true if the request is granted.
    pub allowed: Option<bool>,
    /// The message of a fault.
    pub error: Option<String>,
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
