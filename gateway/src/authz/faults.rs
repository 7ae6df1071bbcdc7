//! The reasons why a request of an end user has no decision.
//!
//! Some proxies let a request pass when the gateway answers with an error, so that a fault which an end
//! user can cause has a status of 4xx. Faults of the configuration and of the gateway have one of 5xx,
//! but for a request that the proxy has not described.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use axum::http::StatusCode;
use policies::{attributes::RequestError, path::PathError};
use store::{LogThrottle, Sums};

use crate::{callers::refusal::Refusal, error::Error, telemetry};

/// The reason why a request of an end user has no decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The end user has sent a malformed request.
    Malformed(String),
    /// The configuration of the proxy or of the gateway is wrong.
    Misconfigured(Misconfiguration),
    /// Redis gave no decision, and the fail mode grants nothing.
    Unavailable,
    /// The gateway has no room, or no time, for another request now.
    Overloaded,
    /// A bug.
    Internal,
}

/// A fault of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Misconfiguration {
    /// A policy reads `client.ip`, which is unknown.
    ClientAddressUnknown,
    /// The proxy names a policy that it cannot name.
    Policy(String),
    /// The options in the path are malformed.
    Options(String),
    /// The proxy is not authenticated.
    Proxy(Refusal),
    /// The proxy has not sent this header, which describes the request of the end user.
    Description(&'static str),
}

impl Misconfiguration {
    /// Returns the name in the log.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::ClientAddressUnknown => "client_address_unknown",
            Self::Policy(_) => "policy_unknown",
            Self::Options(_) => "options_malformed",
            Self::Proxy(refusal) => refusal.name(),
            Self::Description(_) => "request_not_described",
        }
    }

    /// Returns the status of the answer.
    const fn status(&self) -> StatusCode {
        match self {
            // As for a malformed header.
            Self::Description(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns the place of the throttle of its log lines.
    const fn place(&self) -> usize {
        match self {
            Self::ClientAddressUnknown => 0,
            Self::Policy(_) => 1,
            Self::Options(_) => 2,
            Self::Proxy(_) => 3,
            Self::Description(_) => 4,
        }
    }

    /// Returns the fault and the setting or the part of the proxy's configuration to change.
    fn advice(&self) -> String {
        match self {
            Self::ClientAddressUnknown => {
                let rule = RequestError::ClientAddressUnknown;
                format!("{rule} with the address of the end user")
            }
            Self::Policy(error) | Self::Options(error) => {
                format!("{error}; the path of the proxy's requests names policy and status")
            }
            Self::Proxy(_) => {
                "a proxy is not authenticated: it needs a key with the scope check in \
                               X-RateLimit-Key, an address in AUTHZ_PEERS, or a certificate of \
                               AUTHZ_CLIENT_CA_FILE"
                    .to_owned()
            }
            Self::Description(header) => {
                format!("the proxy must send {header}, or use the path of another contract")
            }
        }
    }
}

impl Fault {
    /// Returns the status of the answer.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Misconfigured(fault) => fault.status(),
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl From<RequestError> for Fault {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Repeated(_) | RequestError::ClientAddressMalformed => {
                Self::Malformed(error.to_string())
            }
            RequestError::ClientAddressUnknown => {
                Self::Misconfigured(Misconfiguration::ClientAddressUnknown)
            }
            RequestError::UnknownPolicy(_) | RequestError::PolicyNotForEntry(_) => {
                Self::Misconfigured(Misconfiguration::Policy(error.to_string()))
            }
            // The time is that of the gateway.
            RequestError::Secret(_) | RequestError::Time => Self::Internal,
        }
    }
}

impl From<PathError> for Fault {
    fn from(error: PathError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<Error> for Fault {
    /// Takes the error of a decision, which is one of the store or a bug.
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable => Self::Unavailable,
            Error::Overloaded => Self::Overloaded,
            _ => Self::Internal,
        }
    }
}

/// The log of faults. A proxy that is configured wrongly has one with every request, so that each kind
/// has a line at once, and then one every ten seconds.
#[derive(Debug, Default)]
pub(crate) struct FaultLog([Mutex<LogThrottle>; 5]);

impl FaultLog {
    /// Logs a fault, and adds its name to the log line of the request.
    pub(crate) fn record(&self, fault: &Fault) {
        match fault {
            Fault::Malformed(detail) => {
                telemetry::log_refusal("request_malformed");
                tracing::debug!(detail, "the request of an end user is malformed");
            }
            Fault::Misconfigured(fault) => {
                telemetry::log_refusal(fault.name());
                self.record_misconfiguration(fault);
            }
            Fault::Unavailable | Fault::Overloaded | Fault::Internal => {}
        }
    }

    fn record_misconfiguration(&self, fault: &Misconfiguration) {
        let Some(throttle) = self.0.get(fault.place()) else { return };
        let mut throttle = throttle.lock().unwrap_or_else(PoisonError::into_inner);
        let due = throttle.record_without_end(Instant::now());
        drop(throttle);
        if let Some(Sums { count, seconds }) = due {
            tracing::error!(
                fault = fault.name(),
                requests = count,
                seconds,
                "requests of a proxy have status {}: {}",
                fault.status().as_u16(),
                fault.advice()
            );
        }
    }
}
