//! Errors of requests: status, body and headers.

use aide::OperationOutput;
use axum::{
    Extension, Json,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use store::{Argument, Millis, QuotaRule, StoreError};

use crate::{
    callers::scope::Scope,
    request::field_error::{BrokenRule, FieldError, Place},
    seconds::Seconds,
};

/// Seconds after which a client may try again when this service has no answer now.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// Marks an answer whose client has disconnected, for the log and the metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientGone;

/// The reason why a request has no successful answer.
#[derive(Debug)]
pub enum Error {
    /// A request of HTTP/1.1 has no Host header, or a request of any version has several.
    HostInvalid,
    /// A page of an origin that may not call sends a request with an unsafe method.
    OriginExcluded,
    /// The request has no valid key or token.
    Unauthenticated {
        /// True when the request has a key or a token, which is not valid then.
        has_credential: bool,
    },
    /// The caller does not have this scope.
    Forbidden(Scope),
    /// The caller exceeds its limit, and may try again after this time.
    CallerLimited(Millis),
    /// The request has these errors, which are all of its errors.
    Invalid(Vec<FieldError>),
    /// A value of an end user in an attribute is malformed.
    AttributeMalformed(String),
    /// The request has limits of its own, and the service runs with INLINE_LIMITS=false.
    InlineLimits,
    /// The head is larger than that of any valid request, or has too many headers.
    HeadTooLarge,
    /// The body is not valid HTTP.
    BodyBroken,
    /// The client has closed the connection, or its half of it, in the middle of the body.
    BodyCut,
    /// The body did not arrive in time.
    BodyTooSlow,
    /// The body is larger than any valid one.
    BodyTooLarge,
    /// There is no file of policies.
    NoPolicies,
    /// No route has this path.
    NotFound,
    /// The route has no such method.
    MethodNotAllowed,
    /// There is nothing to reset for this identifier.
    NothingStored(String),
    /// The lease does not exist any more, or has another fence.
    LeaseLost,
    /// The identifier has as many live leases as Redis allows, though its limit allows more.
    TooManyLeases,
    /// There is no such reservation: it was settled, or has ended.
    NoReservation,
    /// The reservation has other limits.
    ReservationDiffers,
    /// Redis gave no decision.
    Unavailable,
    /// The service has no room, or no time, for another request now. Nothing was decided. FAIL_MODE
    /// does not decide, because Redis has not failed.
    Overloaded,
    /// The connection is above MAX_CONNECTIONS.
    TooManyConnections,
    /// A bug.
    Internal,
}

/// The body of an error with one cause.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorBody {
    /// The error, for people.
    pub detail: String,
    /// The error, for programs; only where the status does not identify the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<&'static str>,
}

/// The body of an answer to an invalid request.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FieldErrorsBody {
    /// All errors of the request.
    pub detail: Vec<FieldError>,
}

impl Error {
    /// Returns the error when the store has no decision on a `quota` and a `cost` that are located at
    /// `loc`.
    pub(crate) fn of_store(
        error: StoreError,
        mut loc: Vec<Place>,
        quota: &QuotaRule,
        cost: u32,
    ) -> Self {
        let StoreError::Refused { argument, rule } = error else {
            return Self::without_answer(&error);
        };
        let (name, input) = match argument {
            Argument::Limit => ("limit", json!(quota.limit().get())),
            Argument::Window => ("window_seconds", json!(window_of(quota).map(Seconds))),
            Argument::Capacity => ("burst", json!(quota.capacity().get())),
            Argument::Cost => ("cost", json!(cost)),
            // A check has no such argument.
            Argument::Reservation | Argument::Identifiers | Argument::Leases => {
                return Self::Internal;
            }
        };
        let rule = BrokenRule::new("value_error", format!("Value error, {rule}"));
        loc.push(Place::Name(name));
        Self::Invalid(vec![rule.at(loc, input)])
    }

    /// Returns the error when the store has no answer to a valid request.
    pub(crate) const fn without_answer(error: &StoreError) -> Self {
        match error {
            StoreError::Overloaded => Self::Overloaded,
            StoreError::Internal => Self::Internal,
            StoreError::Unavailable { .. } | StoreError::Refused { .. } => Self::Unavailable,
        }
    }

    /// Returns the status of the answer.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Unauthenticated { .. } => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) | Self::OriginExcluded | Self::InlineLimits => StatusCode::FORBIDDEN,
            Self::CallerLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::BodyBroken | Self::BodyCut | Self::HostInvalid | Self::AttributeMalformed(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotFound | Self::NothingStored(_) | Self::NoReservation | Self::NoPolicies => {
                StatusCode::NOT_FOUND
            }
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unavailable | Self::Overloaded | Self::TooManyConnections => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::LeaseLost | Self::TooManyLeases | Self::ReservationDiffers => {
                StatusCode::CONFLICT
            }
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns the body of the answer. Invalid requests have a [`FieldErrorsBody`] instead.
    pub(crate) fn body(&self) -> ErrorBody {
        ErrorBody { detail: self.detail(), error_code: self.code() }
    }

    fn detail(&self) -> String {
        match self {
            Self::HostInvalid => "A request must have one Host header".to_owned(),
            Self::OriginExcluded => {
                "CORS_ALLOW_ORIGINS excludes the origin of this page".to_owned()
            }
            Self::AttributeMalformed(detail) => detail.clone(),
            Self::InlineLimits => {
                "Only policies decide here: a request has no limits of its own".to_owned()
            }
            Self::Unauthenticated { .. } => "Not authenticated".to_owned(),
            Self::Forbidden(scope) => format!("The caller needs the scope {}", scope.name()),
            Self::CallerLimited(_) => "Too many requests".to_owned(),
            Self::Unavailable => "Rate limiting service temporarily unavailable".to_owned(),
            Self::Overloaded => "The service is overloaded".to_owned(),
            Self::TooManyConnections => "Too many connections".to_owned(),
            Self::LeaseLost => "The lease is lost".to_owned(),
            Self::TooManyLeases => {
                "The identifier has as many live leases as ratelimit.leases-max allows".to_owned()
            }
            Self::NoReservation => "There is no such reservation".to_owned(),
            Self::NoPolicies => "The service runs without POLICIES_FILE".to_owned(),
            Self::ReservationDiffers => "The reservation has other limits".to_owned(),
            Self::Internal => "Internal server error".to_owned(),
            Self::NothingStored(identifier) => {
                format!("No rate limit data found for {identifier}")
            }
            _ => self.status().canonical_reason().unwrap_or_default().to_owned(),
        }
    }

    const fn code(&self) -> Option<&'static str> {
        match self {
            Self::OriginExcluded => Some("ORIGIN_EXCLUDED"),
            Self::AttributeMalformed(_) => Some("ATTRIBUTE_MALFORMED"),
            Self::InlineLimits => Some("INLINE_LIMITS"),
            Self::Unauthenticated { .. } => Some("UNAUTHENTICATED"),
            Self::Forbidden(_) => Some("FORBIDDEN"),
            Self::CallerLimited(_) => Some("CALLER_LIMITED"),
            Self::LeaseLost => Some("LEASE_LOST"),
            Self::TooManyLeases => Some("TOO_MANY_LEASES"),
            Self::NoReservation => Some("NO_RESERVATION"),
            Self::NoPolicies => Some("NO_POLICIES"),
            Self::ReservationDiffers => Some("RESERVATION_DIFFERS"),
            Self::Unavailable => Some("REDIS_ERROR"),
            Self::Overloaded => Some("OVERLOADED"),
            Self::TooManyConnections => Some("TOO_MANY_CONNECTIONS"),
            Self::Internal => Some("INTERNAL_ERROR"),
            _ => None,
        }
    }

    /// Returns the header for the next attempt, if there is one. Challenges follow RFC 6750.
    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"ratelimit\"");
        const INVALID: HeaderValue =
            HeaderValue::from_static("Bearer realm=\"ratelimit\", error=\"invalid_token\"");
        match self {
            Self::Unauthenticated { has_credential: false } => Some((WWW_AUTHENTICATE, CHALLENGE)),
            Self::Unauthenticated { has_credential: true } => Some((WWW_AUTHENTICATE, INVALID)),
            Self::Forbidden(scope) => {
                let (realm, error) = ("realm=\"ratelimit\"", "error=\"insufficient_scope\"");
                let challenge = format!("Bearer {realm}, {error}, scope=\"{}\"", scope.name());
                Some((WWW_AUTHENTICATE, HeaderValue::try_from(challenge).unwrap_or(CHALLENGE)))
            }
            Self::CallerLimited(wait) => Some((RETRY_AFTER, wait.whole_seconds().max(1).into())),
            Self::Unavailable | Self::Overloaded | Self::TooManyConnections => {
                Some((RETRY_AFTER, RETRY_AFTER_SECONDS))
            }
            _ => None,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = self.status();
        match self {
            Self::Invalid(detail) => (status, Json(FieldErrorsBody { detail })).into_response(),
            Self::BodyCut => (status, Extension(ClientGone), Json(self.body())).into_response(),
            _ => (status, self.header().map(|header| [header]), Json(self.body())).into_response(),
        }
    }
}

/// Returns the window of a quota that has the same window at all times.
fn window_of(quota: &QuotaRule) -> Option<Millis> {
    match quota {
        QuotaRule::Constant(quota) => quota.window().map(Millis::from),
        QuotaRule::Calendar { .. } => None,
    }
}

/// The routes document their errors.
impl OperationOutput for Error {
    type Inner = ErrorBody;
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use axum::{body::to_bytes, http::HeaderValue, response::IntoResponse};
    use store::Millis;

    use super::Error;
    use crate::callers::scope::Scope;

    /// Returns every error, and the status and the body of its answer.
    fn every_error() -> Vec<(Error, u16, &'static str)> {
        vec![
            (
                Error::Unauthenticated { has_credential: true },
                401,
                r#"{"detail":"Not authenticated","error_code":"UNAUTHENTICATED"}"#,
            ),
            (
                Error::Forbidden(Scope::Reset),
                403,
                r#"{"detail":"The caller needs the scope reset","error_code":"FORBIDDEN"}"#,
            ),
            (
                Error::CallerLimited(Millis(1)),
                429,
                r#"{"detail":"Too many requests","error_code":"CALLER_LIMITED"}"#,
            ),
            (
                Error::OriginExcluded,
                403,
                r#"{"detail":"CORS_ALLOW_ORIGINS excludes the origin of this page","error_code":"ORIGIN_EXCLUDED"}"#,
            ),
            (
                Error::InlineLimits,
                403,
                r#"{"detail":"Only policies decide here: a request has no limits of its own","error_code":"INLINE_LIMITS"}"#,
            ),
            (
                Error::NoPolicies,
                404,
                r#"{"detail":"The service runs without POLICIES_FILE","error_code":"NO_POLICIES"}"#,
            ),
            (
                Error::AttributeMalformed("a path must not contain control characters".to_owned()),
                400,
                r#"{"detail":"a path must not contain control characters","error_code":"ATTRIBUTE_MALFORMED"}"#,
            ),
            (Error::HostInvalid, 400, r#"{"detail":"A request must have one Host header"}"#),
            (Error::Invalid(vec![]), 422, r#"{"detail":[]}"#),
            (Error::HeadTooLarge, 431, r#"{"detail":"Request Header Fields Too Large"}"#),
            (Error::BodyBroken, 400, r#"{"detail":"Bad Request"}"#),
            (Error::BodyCut, 400, r#"{"detail":"Bad Request"}"#),
            (Error::BodyTooSlow, 408, r#"{"detail":"Request Timeout"}"#),
            (Error::BodyTooLarge, 413, r#"{"detail":"Payload Too Large"}"#),
            (Error::NotFound, 404, r#"{"detail":"Not Found"}"#),
            (Error::MethodNotAllowed, 405, r#"{"detail":"Method Not Allowed"}"#),
            (
                Error::NothingStored("x".to_owned()),
                404,
                r#"{"detail":"No rate limit data found for x"}"#,
            ),
            (Error::LeaseLost, 409, r#"{"detail":"The lease is lost","error_code":"LEASE_LOST"}"#),
            (
                Error::TooManyLeases,
                409,
                r#"{"detail":"The identifier has as many live leases as ratelimit.leases-max allows","error_code":"TOO_MANY_LEASES"}"#,
            ),
            (
                Error::NoReservation,
                404,
                r#"{"detail":"There is no such reservation","error_code":"NO_RESERVATION"}"#,
            ),
            (
                Error::ReservationDiffers,
                409,
                r#"{"detail":"The reservation has other limits","error_code":"RESERVATION_DIFFERS"}"#,
            ),
            (
                Error::Unavailable,
                503,
                r#"{"detail":"Rate limiting service temporarily unavailable","error_code":"REDIS_ERROR"}"#,
            ),
            (
                Error::Overloaded,
                503,
                r#"{"detail":"The service is overloaded","error_code":"OVERLOADED"}"#,
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
        ]
    }

    #[tokio::test]
    async fn every_error_has_its_status_and_body() {
        for (error, status, body) in every_error() {
            let response = error.into_response();
            assert_eq!(response.status(), status);
            let retry_after = response.headers().get("Retry-After").map(HeaderValue::as_bytes);
            assert_eq!(retry_after, [429, 503].contains(&status).then_some(&b"1"[..]));
            assert_eq!(to_bytes(response.into_body(), 1024).await.unwrap(), body);
        }
    }

    #[test]
    fn the_page_on_the_api_has_a_row_for_every_status_and_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/http.md");
        let page = fs::read_to_string(path).unwrap();
        let (_, table) = page.split_once("\n## Errors\n").unwrap();
        // Each row begins with the statuses and the code.
        let cells = |row: &str| {
            let mut cells = row.split('|').skip(1).map(|cell| cell.trim().to_owned());
            Some((cells.next()?, cells.next()?))
        };
        let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1).filter_map(cells);
        let rows: BTreeSet<_> = rows.collect();
        let row_of = |(error, status, _): (Error, u16, _)| {
            let code = error.code().map_or_else(String::new, |code| format!("`{code}`"));
            (status.to_string(), code)
        };
        let expected: BTreeSet<_> = every_error().into_iter().map(row_of).collect();
        assert_eq!(rows, expected);
        // A new error is added to the list in this file, and so to the page.
        let source = include_str!("error.rs");
        for (code, _) in source.split("=> Some(\"").skip(1).filter_map(|rest| rest.split_once('"'))
        {
            let is_listed = |(error, ..): &(Error, u16, _)| error.code() == Some(code);
            assert!(every_error().iter().any(is_listed), "{code}");
        }
    }

    #[test]
    fn a_refusal_has_a_challenge() {
        for (error, challenge) in [
            (Error::Unauthenticated { has_credential: false }, r#"Bearer realm="ratelimit""#),
            (
                Error::Unauthenticated { has_credential: true },
                r#"Bearer realm="ratelimit", error="invalid_token""#,
            ),
            (
                Error::Forbidden(Scope::Reset),
                r#"Bearer realm="ratelimit", error="insufficient_scope", scope="reset""#,
            ),
        ] {
            assert_eq!(error.into_response().headers()["WWW-Authenticate"], challenge);
        }
    }
}
