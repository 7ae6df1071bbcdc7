//! A request of an end user that Envoy asks about, and the answer.

use std::{net::IpAddr, time::Duration};

use crate::answer::HeaderList;

/// A request of an end user, as Envoy describes the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginalRequest {
    /// The method.
    pub method: Vec<u8>,
    /// The host.
    pub host: Vec<u8>,
    /// The path with its query.
    pub target: Vec<u8>,
    /// The headers; a name may occur more than once.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The address from which the request came to Envoy.
    pub peer: Option<IpAddr>,
    /// The policy that the configuration of the route names.
    pub policy: Option<String>,
    /// The longest time that a decision may take.
    pub max_wait: Option<Duration>,
}

/// The answer to a question about a request.
#[derive(Clone, Debug)]
pub struct AuthorizationAnswer {
    /// The decision.
    pub decision: Authorization,
    /// The headers for the end user.
    pub headers: HeaderList,
}

/// A decision on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// The request passes.
    Allowed,
    /// The end user gets an answer with this status.
    Denied(u16),
    /// There is no decision; Envoy answers with this status, unless its configuration lets the request
    /// pass.
    Failed(u16),
}
