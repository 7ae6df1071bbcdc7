//! Callers in the description of the API.

use aide::{
    openapi::{
        ApiKeyLocation, OpenApi, Operation, PathItem, ReferenceOr, Response, SchemaObject,
        SecurityScheme, StatusCode,
    },
    transform::TransformOperation,
};
use axum::{
    Json,
    http::{HeaderName, header::WWW_AUTHENTICATE},
};
use schemars::{Schema, json_schema};
use store::Millis;

use super::{API_KEY, Callers, scope::Scope};
use crate::{
    error::{Error, ErrorBody},
    headers, openapi,
};

/// The names of the two ways to authenticate.
const KEY_SCHEME: &str = "apiKey";
const BEARER_SCHEME: &str = "bearer";

/// The documentation of the header of a refusal.
const CHALLENGE: (HeaderName, &str, &str) = (
    WWW_AUTHENTICATE,
    "The way to authenticate, and the error of the key or token (RFC 6750).",
    "Bearer realm=\"ratelimit\"",
);

const TOO_MANY: StatusCode = StatusCode::Code(429);

/// The requirement of a route for its callers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Requirement {
    /// The route.
    pub(crate) path: &'static str,
    /// The required scope.
    pub(crate) scope: Scope,
    /// True when the limit of a caller holds for the route.
    pub(crate) limited: bool,
}

/// Adds the requirements of routes to their descriptions.
pub(crate) fn document(callers: &Callers, requirements: &[Requirement], api: &mut OpenApi) {
    let schemes = schemes(callers);
    for Requirement { path, scope, limited } in requirements {
        let Some(ReferenceOr::Item(item)) =
            api.paths.as_mut().and_then(|paths| paths.paths.get_mut(*path))
        else {
            continue;
        };
        let PathItem { get, post, put, delete, .. } = item;
        for operation in [get, post, put, delete].into_iter().flatten() {
            for (name, _) in &schemes {
                let requirement = [((*name).to_owned(), vec![scope.name().to_owned()])];
                operation.security.push(requirement.into_iter().collect());
            }
            describe_refusals(operation, *scope);
            if *limited {
                describe_limit(operation);
            }
        }
    }
    let components = api.components.get_or_insert_default();
    for (name, scheme) in schemes {
        components.security_schemes.insert(name.to_owned(), ReferenceOr::Item(scheme));
    }
}

fn schemes(callers: &Callers) -> Vec<(&'static str, SecurityScheme)> {
    let key = SecurityScheme::ApiKey {
        location: ApiKeyLocation::Header,
        name: API_KEY.to_string(),
        description: Some("A key of this service.".to_owned()),
        extensions: Default::default(),
    };
    let (format, meaning) = match (callers.has_keys(), callers.has_tokens()) {
        (true, true) => (None, "A key of this service, or a JSON Web Token."),
        (false, true) => (Some("JWT"), "A JSON Web Token."),
        _ => (None, "A key of this service."),
    };
    let bearer = SecurityScheme::Http {
        scheme: "bearer".to_owned(),
        bearer_format: format.map(str::to_owned),
        description: Some(meaning.to_owned()),
        extensions: Default::default(),
    };
    let key = callers.has_keys().then_some((KEY_SCHEME, key));
    key.into_iter().chain([(BEARER_SCHEME, bearer)]).collect()
}

fn describe_refusals(operation: &mut Operation, scope: Scope) {
    let unauthenticated = Error::Unauthenticated { has_credential: false };
    let _ = TransformOperation::new(operation)
        .response_with::<401, Json<ErrorBody>, _>(|response| {
            openapi::with_headers(response, &[CHALLENGE])
                .description("There is no key or token, or it is not valid.")
                .example(unauthenticated.body())
        })
        .response_with::<403, Json<ErrorBody>, _>(|response| {
            openapi::with_headers(response, &[CHALLENGE])
                .description(&format!("The caller does not have the scope `{}`.", scope.name()))
                .example(Error::Forbidden(scope).body())
        });
}

/// Adds the answer to a caller above its limit. Some routes have a denial with the same status, so that
/// the answer is one of two.
fn describe_limit(operation: &mut Operation) {
    let denial = operation.responses.as_mut().and_then(|all| all.responses.swap_remove(&TOO_MANY));
    let limited = Error::CallerLimited(Millis(1_000));
    let _ =
        TransformOperation::new(operation).response_with::<429, Json<ErrorBody>, _>(|response| {
            openapi::with_headers(response, &[headers::DENIAL_DOCS])
                .description("The caller exceeds its limit.")
                .example(limited.body())
        });
    let limited = operation.responses.as_mut().and_then(|all| all.responses.get_mut(&TOO_MANY));
    if let (Some(ReferenceOr::Item(denial)), Some(ReferenceOr::Item(limited))) = (denial, limited) {
        join(denial, limited);
    }
}

/// Makes `limited` the description of both answers.
fn join(denial: Response, limited: &mut Response) {
    limited.description = format!("{} Or: {}", denial.description, limited.description);
    limited.headers.extend(denial.headers);
    for (name, denial) in denial.content {
        let Some(limited) = limited.content.get_mut(&name) else { continue };
        limited.example = denial.example;
        let schemas = [denial.schema, limited.schema.take()]
            .map(|schema| schema.map_or_else(Schema::default, |schema| schema.json_schema));
        limited.schema = Some(SchemaObject {
            json_schema: json_schema!({ "anyOf": schemas }),
            external_docs: None,
            example: None,
        });
    }
}
