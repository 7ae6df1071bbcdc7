//! Every answer that is not a success.

use aide::OperationOutput;
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::{
    fault::{BrokenRule, Fault, Place},
    quota::Quota,
    store::{Argument, StoreError},
};

/// Seconds after which a client may try again when this service has no answer now.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// Why a request got no answer of its own.
#[derive(Debug)]
pub enum Error {
    /// The request has these faults, all of them.
    Invalid(Vec<Fault>),
    /// The body broke off or is not valid HTTP.
    BodyBroken,
    /// The body did not arrive in time.
    BodyTooSlow,
    /// The body is larger than any valid one.
    BodyTooLarge,
    /// No route has this path.
    NotFound,
    /// The route has no such method.
    MethodNotAllowed,
    /// There was nothing to reset for this identifier.
    NothingStored(String),
    /// Redis gave no decision.
    Unavailable,
    /// The client came on a connection more than there may be.
    TooManyConnections,
    /// A bug.
    Internal,
}

/// The body of an error that has one cause.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorBody {
    /// What is wrong, for people.
    pub detail: String,
    /// What is wrong, for programs; only where the status does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<&'static str>,
}

/// The body of an answer to an invalid request.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FaultsBody {
    /// All faults of the request.
    pub detail: Vec<Fault>,
}

impl Error {
    /// What a caller learns when the store has no decision on a `quota` and a `cost` that were
    /// found at `loc`.
    pub(crate) fn of_store(
        error: StoreError,
        mut loc: Vec<Place>,
        quota: &Quota,
        cost: u32,
    ) -> Self {
        let StoreError::Refused { argument, rule } = error else {
            return Self::Unavailable;
        };
        let (name, input) = match argument {
            Argument::Limit => ("limit", json!(quota.limit)),
            Argument::Window => ("window_seconds", json!(quota.window)),
            Argument::Capacity => ("burst", json!(quota.capacity())),
            Argument::Cost => ("cost", json!(cost)),
        };
        let rule = BrokenRule::new("value_error", format!("Value error, {rule}"));
        loc.push(Place::Name(name));
        Self::Invalid(vec![rule.at(loc, input)])
    }

    /// The status of the answer.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotFound | Self::NothingStored(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unavailable | Self::TooManyConnections => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The body of the answer, for all but invalid requests, which have a [`FaultsBody`].
    pub(crate) fn body(&self) -> ErrorBody {
        ErrorBody { detail: self.detail(), error_code: self.code() }
    }

    fn detail(&self) -> String {
        match self {
            Self::Unavailable => "Rate limiting service temporarily unavailable".to_owned(),
            Self::TooManyConnections => "Too many connections".to_owned(),
            Self::Internal => "Internal server error".to_owned(),
            Self::NothingStored(identifier) => {
                format!("No rate limit data found for {identifier}")
            }
            _ => self.status().canonical_reason().unwrap_or_default().to_owned(),
        }
    }

    const fn code(&self) -> Option<&'static str> {
        match self {
            Self::Unavailable => Some("REDIS_ERROR"),
            Self::TooManyConnections => Some("TOO_MANY_CONNECTIONS"),
            Self::Internal => Some("INTERNAL_ERROR"),
            _ => None,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = self.status();
        match self {
            Self::Invalid(detail) => (status, Json(FaultsBody { detail })).into_response(),
            Self::Unavailable | Self::TooManyConnections => {
                (status, [(RETRY_AFTER, RETRY_AFTER_SECONDS)], Json(self.body())).into_response()
            }
            _ => (status, Json(self.body())).into_response(),
        }
    }
}

/// Errors are documented where they can happen; see the routes.
impl OperationOutput for Error {
    type Inner = ErrorBody;
}

#[cfg(test)]
mod tests {
    use axum::{body::to_bytes, response::IntoResponse};

    use super::Error;

    #[tokio::test]
    async fn every_error_has_its_status_and_body() {
        for (error, status, body) in [
            (Error::Invalid(vec![]), 422, r#"{"detail":[]}"#),
            (Error::BodyBroken, 400, r#"{"detail":"Bad Request"}"#),
            (Error::BodyTooSlow, 408, r#"{"detail":"Request Timeout"}"#),
            (Error::BodyTooLarge, 413, r#"{"detail":"Payload Too Large"}"#),
            (Error::NotFound, 404, r#"{"detail":"Not Found"}"#),
            (Error::MethodNotAllowed, 405, r#"{"detail":"Method Not Allowed"}"#),
            (
                Error::NothingStored("x".to_owned()),
                404,
                r#"{"detail":"No rate limit data found for x"}"#,
            ),
            (
                Error::Unavailable,
                503,
                r#"{"detail":"Rate limiting service temporarily unavailable","error_code":"REDIS_ERROR"}"#,
            ),
            (
                Error::TooManyConnections,
                503,
                r#"{"detail":"Too many connections","error_code":"TOO_MANY_CONNECTIONS"}"#,
            ),
            (
                Error::Internal,
                500,
                r#"{"detail":"Internal server error","error_code":"INTERNAL_ERROR"}"#,
            ),
        ] {
            let response = error.into_response();
            assert_eq!(response.status(), status);
            assert_eq!(response.headers().contains_key("Retry-After"), status == 503);
            assert_eq!(to_bytes(response.into_body(), 1024).await.unwrap(), body);
        }
    }
}
