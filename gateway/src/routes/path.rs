//! The identifier and the lease in a path.

use aide::{OperationInput, generate::GenContext, openapi::Operation};
use axum::{
    extract::{FromRequestParts, MatchedPath, Path, path::ErrorKind, rejection::PathRejection},
    http::request::Parts,
};
use schemars::JsonSchema;

use crate::{
    error::Error,
    request::{
        field_error::{BrokenRule, Place},
        fields::Fields,
        input::Input,
        json::known_name,
    },
};

/// The parameter of the path of an identifier.
#[derive(JsonSchema)]
#[schemars(inline)]
struct IdentifierPath {
    /// The identifier of the object that is limited: 1 to 256 bytes, percent-encoded.
    #[expect(dead_code, reason = "describes the parameter; its value is read into Fields")]
    identifier: String,
}

/// The parameters of the path of a lease.
#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "describes the parameters; their values are read into Fields")]
struct LeasePath {
    /// The identifier of the object that is limited: 1 to 256 bytes, percent-encoded.
    identifier: String,
    /// The name of the lease: 1 to 64 bytes, percent-encoded.
    lease: String,
}

/// Returns the parameters of a path as fields, percent-decoded.
pub(super) async fn fields(parts: &mut Parts) -> Result<Fields<'static>, Error> {
    match Path::<Vec<(String, String)>>::from_request_parts(parts, &()).await {
        Ok(Path(parameters)) => {
            let known = |(name, value): (String, String)| Some((known_name(&name)?, value));
            Ok(Fields::from_path(parameters.into_iter().filter_map(known).collect()))
        }
        Err(PathRejection::FailedToDeserializePathParams(error)) => match error.into_kind() {
            ErrorKind::InvalidUtf8InPathParam { key } => Err(not_text(&key, parts)),
            _ => Err(Error::Internal),
        },
        Err(_) => Err(Error::Internal),
    }
}

/// Returns the error of a parameter that is not text.
fn not_text(parameter: &str, parts: &Parts) -> Error {
    let Some(name) = known_name(parameter) else { return Error::Internal };
    let pattern = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let place = pattern.split('/').position(|part| part == format!("{{{name}}}"));
    let encoded = place.and_then(|place| parts.uri.path().split('/').nth(place));
    let rule = BrokenRule::new(
        "string_unicode",
        "Input should be a valid string, unable to parse raw data as a unicode string",
    );
    let loc = vec![Place::Name("path"), Place::Name(name)];
    let input = Input::Text(encoded.unwrap_or_default().into()).echo();
    Error::Invalid(vec![rule.at(loc, input)])
}

/// Adds the parameters of the path of a lease to the description of an operation.
pub(super) fn describe_lease(context: &mut GenContext, operation: &mut Operation) {
    Path::<LeasePath>::operation_input(context, operation);
}

/// Adds the parameter of the path of an identifier to the description of an operation.
pub(super) fn describe(context: &mut GenContext, operation: &mut Operation) {
    Path::<IdentifierPath>::operation_input(context, operation);
}
