//! Every answer that is not a success.

use aide::OperationOutput;
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::fault::Fault;

/// Seconds after which a client may try again when Redis cannot answer.
const RETRY_AFTER_OUTAGE: HeaderValue = HeaderValue::from_static("1");

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
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
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
            Self::Unavailable => {
                (status, [(RETRY_AFTER, RETRY_AFTER_OUTAGE)], Json(self.body())).into_response()
            }
            _ => (status, Json(self.body())).into_response(),
        }
    }
}

/// Errors are documented where they can happen; see the routes.
impl OperationOutput for Error {
    type Inner = ErrorBody;
}
