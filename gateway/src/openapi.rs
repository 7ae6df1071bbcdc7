//! Parts of the description of the API that several routes share.

use aide::{
    generate,
    openapi::{
        Header, HeaderStyle, Info, License, OpenApi, ParameterSchemaOrContent, ReferenceOr,
        SchemaObject, Server, Tag,
    },
    transform::{TransformOperation, TransformResponse},
};
use axum::{Json, http::HeaderName};
use schemars::json_schema;
use serde_json::json;

use crate::{
    error::{Error, ErrorBody, FieldErrorsBody},
    request::{field_error::Place, input::Input, value},
};

/// Returns a description without routes.
pub(crate) fn start() -> OpenApi {
    generate::extract_schemas(true);
    generate::infer_responses(false);
    let tag = |name: &str| Tag { name: name.to_owned(), ..Tag::default() };
    OpenApi {
        info: Info {
            title: "Rate limiter".to_owned(),
            description: Some(
                "Rate limits with token buckets, sliding windows and fixed windows, decided in \
                 Redis.\n\n\
                 Every answer has `X-Request-Id`, that of the request or a new one, and \
                 `X-Process-Time` in milliseconds."
                    .to_owned(),
            ),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            license: Some(License {
                name: env!("CARGO_PKG_LICENSE").to_owned(),
                ..License::default()
            }),
            ..Info::default()
        },
        // The place beside the description, also behind a proxy with a prefix.
        servers: vec![Server { url: ".".to_owned(), ..Server::default() }],
        tags: ["rate limit", "policies", "leases", "reservations", "health"].map(tag).to_vec(),
        ..OpenApi::default()
    }
}

/// Adds headers to a response: name, meaning, example.
pub(crate) fn with_headers<'t, T>(
    mut response: TransformResponse<'t, T>,
    headers: &[(HeaderName, &str, &str)],
) -> TransformResponse<'t, T> {
    for (name, meaning, example) in headers {
        let header = Header {
            description: Some((*meaning).to_owned()),
            style: HeaderStyle::Simple,
            required: false,
            deprecated: None,
            format: ParameterSchemaOrContent::Schema(SchemaObject {
                json_schema: json_schema!({ "type": "string" }),
                external_docs: None,
                example: None,
            }),
            example: Some(json!(example)),
            examples: Default::default(),
            extensions: Default::default(),
        };
        response.inner().headers.insert(name.to_string(), ReferenceOr::Item(header));
    }
    response
}

/// Adds the errors of a route with a body of at most `max_bytes`.
pub(crate) fn with_body_errors(
    operation: TransformOperation<'_>,
    max_bytes: usize,
) -> TransformOperation<'_> {
    let operation =
        error::<408>(operation, &Error::BodyTooSlow, "The body did not arrive in time.");
    let too_large = format!("The body has more than {} KiB.", max_bytes / 1024);
    error::<413>(operation, &Error::BodyTooLarge, &too_large)
}

/// Adds the error of a route that answers 503 only for overload.
pub(crate) fn with_overload(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    error::<503>(operation, &Error::Overloaded, "The service is overloaded.")
}

/// Adds the errors of a route that needs Redis.
pub(crate) fn with_store_errors(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    error::<503>(
        with_field_errors(operation),
        &Error::Unavailable,
        "Redis cannot answer, or the service is overloaded.",
    )
}

/// Adds the errors of a route that reads fields.
pub(crate) fn with_field_errors(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation.response_with::<422, Json<FieldErrorsBody>, _>(|response| {
        let input = Input::Number(0.into());
        let loc = vec![Place::Name("body"), Place::Name("limit")];
        let error = value::units(&input).err().map(|rule| rule.at(loc, input.echo()));
        response
            .description("The request has errors. All of them are listed.")
            .example(FieldErrorsBody { detail: Vec::from_iter(error) })
    });
    error::<500>(operation, &Error::Internal, "A bug. Details are in the log of the service.")
}

fn error<'t, const STATUS: u16>(
    operation: TransformOperation<'t>,
    error: &Error,
    meaning: &str,
) -> TransformOperation<'t> {
    operation.response_with::<STATUS, Json<ErrorBody>, _>(|response| {
        response.description(meaning).example(error.body())
    })
}
