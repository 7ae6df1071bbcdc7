//! The identifier in a path.

use aide::{OperationInput, generate::GenContext, openapi::Operation};
use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use schemars::JsonSchema;

use crate::{
    error::Error,
    request::{
        field_error::{BrokenRule, Place},
        fields::Fields,
        input::Input,
    },
};

/// The parameter of a path.
#[derive(JsonSchema)]
#[schemars(inline)]
struct IdentifierPath {
    /// The identifier of the object that is limited: 1 to 256 bytes, percent-encoded.
    #[expect(dead_code, reason = "describes the parameter; its value is read into Fields")]
    identifier: String,
}

/// Returns the field `identifier` of a path, percent-decoded.
pub(super) async fn fields(parts: &mut Parts) -> Result<Fields<'static>, Error> {
    let Ok(Path(identifier)) = Path::<String>::from_request_parts(parts, &()).await else {
        let path = parts.uri.path();
        let path = path.strip_suffix('/').unwrap_or(path);
        let encoded = path.rsplit('/').next().unwrap_or_default();
        let rule = BrokenRule::new(
            "string_unicode",
            "Input should be a valid string, unable to parse raw data as a unicode string",
        );
        let loc = vec![Place::Name("path"), Place::Name("identifier")];
        return Err(Error::Invalid(vec![rule.at(loc, Input::Text(encoded.into()).echo())]));
    };
    Ok(Fields::from_path(identifier))
}

/// Adds the path parameter to the description of an operation.
pub(super) fn describe(context: &mut GenContext, operation: &mut Operation) {
    Path::<IdentifierPath>::operation_input(context, operation);
}
