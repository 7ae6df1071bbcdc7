//! Explains the decision of the policies on a request, and takes nothing.

use std::{collections::BTreeMap, sync::Arc};

use aide::{
    OperationInput, generate::GenContext, openapi::Operation, transform::TransformOperation,
};
use axum::{
    Json,
    extract::{FromRequest, Request, State},
    response::{IntoResponse, Response},
};
use policies::{Policies, explain::Explanation};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::{
    body::{self, RequestBytes},
    policies::{with_malformed_attributes, with_no_policies},
};
use crate::{
    error::Error,
    headers, openapi,
    policy_file::{
        PolicyFile, account::ExplainAnswer, end_users::RequestClaims, load::now, states::states,
    },
    request::{
        fields::Fields,
        lease::MAX_LEASE_BYTES,
        quota::{COST, default_units},
    },
    state::AppState,
};

/// The body of a request about policies.
#[derive(Debug)]
pub(crate) struct ExplainRequest(RequestBytes);

/// The schema of a check by policy.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "describes the fields; their values are read into a PolicyCheck")]
#[schemars(rename = "PolicyRequest", example = json!({
    "attributes": { "method": "POST", "path": "/login", "client.ip": "192.0.2.7" }
}))]
pub(super) struct PolicySchema {
    /// The policy to apply; the first that matches when this is left out.
    policy: Option<String>,
    /// The attributes of the request, by the names that the file has for them.
    #[schemars(with = "Option<BTreeMap<String, AttributeSchema>>")]
    attributes: Option<Map<String, Value>>,
    /// The attribute `identifier`.
    identifier: Option<String>,
    /// The token of the end user, the source of `jwt.*`.
    token: Option<String>,
    /// Units to take; 0 takes nothing. Numbers outside the bounds are clamped.
    #[schemars(range(min = *COST.start(), max = *COST.end()), default = "default_units")]
    cost: Option<u32>,
    /// The holder of leases: 1 to 64 bytes, for one attempt only. A check needs one where a limit is of
    /// what happens at the same time; the answer has the leases.
    #[schemars(length(min = 1, max = MAX_LEASE_BYTES))]
    lease: Option<String>,
}

/// Requires one of the fields that lead to a policy. The schema does not say that null is a field that is
/// left out, because pages of an API cannot merge the types.
pub(super) fn require_policy_or_attributes(schema: &mut Schema) {
    let any = ["policy", "attributes"].map(|name| json!({ "required": [name] }));
    schema.insert("anyOf".to_owned(), json!(any));
}

/// The value of an attribute; null when the request has none.
#[derive(Debug, JsonSchema)]
#[schemars(inline)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the values of attributes")]
enum AttributeSchema {
    Text(String),
    Number(f64),
    Boolean(bool),
    Null(()),
}

/// `POST /policies/explain`
pub(crate) async fn explain(
    State(state): State<Arc<AppState>>,
    ExplainRequest(body): ExplainRequest,
) -> Result<Response, Error> {
    let file = state.policies.as_ref().ok_or(Error::NoPolicies)?;
    let policies = file.current();
    let explanation = explanation(file, &policies, &body.bytes)?;
    // An explanation helps most while Redis does not answer.
    let enforced = states(&state.store, &explanation.limits).await.ok();
    let trials = states(&state.store, &explanation.shadow_limits).await.ok();
    let answer = ExplainAnswer::new(explanation, enforced, trials, state.store.key_prefix());
    Ok((headers::NO_STORE, Json(answer)).into_response())
}

/// Returns the account of the request in a body.
fn explanation<'p>(
    file: &PolicyFile,
    policies: &'p Policies,
    body: &[u8],
) -> Result<Explanation<'p>, Error> {
    let mut fields = Fields::from_body(body)?;
    let check = fields.only_policy_check();
    let check = fields.finish(check)?;
    let end_users = file.end_users();
    let claims = RequestClaims::new(end_users.as_deref(), check.token());
    let attributes = check.attributes(policies.path_form(), &claims, true)?;
    Ok(policies.explain(&attributes, now()))
}

impl FromRequest<Arc<AppState>> for ExplainRequest {
    type Rejection = Error;

    async fn from_request(request: Request, _: &Arc<AppState>) -> Result<Self, Error> {
        body::SINGLE.read(request.into_body()).await.map(Self)
    }
}

impl OperationInput for ExplainRequest {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        Json::<PolicySchema>::operation_input(context, operation);
    }
}

pub(crate) fn docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation
        .id("explain")
        .tag("policies")
        .summary("Explain a decision of the policies")
        .description(
            "Takes nothing. `attributes` may have `jwt.*` here. The values of secret attributes \
             are not in the answer.",
        )
        .response_with::<200, Json<ExplainAnswer<'static>>, _>(|response| {
            openapi::with_headers(response, &headers::NO_STORE_DOCS)
                .description("Each policy that was tried, and the limits that apply.")
        });
    let operation = with_malformed_attributes(with_no_policies(operation));
    openapi::with_body_errors(openapi::with_store_errors(operation), body::SINGLE.max_bytes)
}
