//! `envoy.service.auth.v3.Authorization`

use std::time::Duration;

use envoy_types::pb::{
    envoy::{
        config::core::v3::{
            HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction,
        },
        service::auth::v3::{
            CheckResponse, DeniedHttpResponse, OkHttpResponse, check_response::HttpResponse,
        },
        r#type::v3::HttpStatus,
    },
    google::rpc,
};
use tonic::{Code, server::NamedService};

use super::{
    authorization_request::CheckRequest,
    method::{Method, MethodService},
};
use crate::{
    answer::HeaderList,
    gateway::{Caller, Fault, Gateway},
    original_request::{Authorization, AuthorizationAnswer, OriginalRequest},
};

/// The status of a denial by a limit.
const TOO_MANY_REQUESTS: u16 = 429;

/// The method `Check`.
pub(super) struct Check;

impl<G> NamedService for MethodService<Check, G> {
    const NAME: &'static str = "envoy.service.auth.v3.Authorization";
}

impl Method for Check {
    const PATH: &'static str = "/envoy.service.auth.v3.Authorization/Check";
    type Request = CheckRequest;
    type Response = CheckResponse;

    async fn answer<G: Gateway>(
        gateway: &G,
        caller: Caller,
        request: CheckRequest,
        max_wait: Option<Duration>,
    ) -> Result<CheckResponse, Fault> {
        let Some(request) = request.into_original() else {
            return Err(Fault::Invalid("the request must be one of HTTP".to_owned()));
        };
        let request = OriginalRequest { max_wait, ..request };
        Ok(gateway.authorize(caller, request).await?.into())
    }

    fn allowed(answer: &CheckResponse) -> Option<bool> {
        match answer.http_response.as_ref()? {
            HttpResponse::OkResponse(_) => Some(true),
            HttpResponse::DeniedResponse(_) => Some(false),
            HttpResponse::ErrorResponse(_) => None,
        }
    }
}

impl From<AuthorizationAnswer> for CheckResponse {
    fn from(AuthorizationAnswer { decision, headers }: AuthorizationAnswer) -> Self {
        let headers = options(headers);
        let with_status = |status: u16, headers| DeniedHttpResponse {
            status: Some(HttpStatus { code: status.into() }),
            headers,
            body: String::new(),
        };
        // Envoy reads the code first: a denied response with the code of success would let pass.
        let (code, response) = match decision {
            Authorization::Allowed => (
                Code::Ok,
                HttpResponse::OkResponse(OkHttpResponse {
                    response_headers_to_add: headers,
                    ..Default::default()
                }),
            ),
            Authorization::Denied(status) => {
                // Any code but that of success denies.
                let code = match status {
                    TOO_MANY_REQUESTS => Code::ResourceExhausted,
                    _ => Code::InvalidArgument,
                };
                (code, HttpResponse::DeniedResponse(with_status(status, headers)))
            }
            Authorization::Failed(status) => {
                (Code::Unavailable, HttpResponse::ErrorResponse(with_status(status, headers)))
            }
        };
        let status = rpc::Status { code: code.into(), ..Default::default() };
        Self { status: Some(status), http_response: Some(response), dynamic_metadata: None }
    }
}

/// Returns headers that replace those of the same name.
fn options(headers: HeaderList) -> Vec<HeaderValueOption> {
    let option = |(name, value): (http::HeaderName, http::HeaderValue)| HeaderValueOption {
        header: Some(HeaderValue {
            key: name.as_str().to_owned(),
            value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
            raw_value: Vec::new(),
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..Default::default()
    };
    headers.into_iter().map(option).collect()
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::auth::v3::{CheckResponse, check_response::HttpResponse};
    use http::{HeaderName, HeaderValue};

    use crate::original_request::{Authorization, AuthorizationAnswer};

    fn answer(decision: Authorization) -> (i32, HttpResponse) {
        let name = HeaderName::from_static("retry-after");
        let headers = vec![(name, HeaderValue::from_static("7"))];
        let response = CheckResponse::from(AuthorizationAnswer { decision, headers });
        (response.status.unwrap().code, response.http_response.unwrap())
    }

    #[test]
    fn a_denial_never_has_the_code_of_success() {
        let (code, response) = answer(Authorization::Allowed);
        let HttpResponse::OkResponse(allowed) = response else { panic!("{response:?}") };
        assert_eq!(code, 0);
        // Headers of `headers` would go to the service behind Envoy.
        assert!(allowed.headers.is_empty());
        let [option] = &allowed.response_headers_to_add[..] else { panic!("{allowed:?}") };
        assert_eq!(option.append_action, 2);
        let header = option.header.as_ref().unwrap();
        assert_eq!((header.key.as_str(), header.value.as_str()), ("retry-after", "7"));

        let (code, response) = answer(Authorization::Denied(429));
        let HttpResponse::DeniedResponse(denied) = response else { panic!("{response:?}") };
        assert_eq!((code, denied.status.unwrap().code), (8, 429));
        assert_eq!((denied.headers[0].append_action, denied.body.as_str()), (2, ""));

        let (code, response) = answer(Authorization::Denied(400));
        let HttpResponse::DeniedResponse(denied) = response else { panic!("{response:?}") };
        assert_eq!((code, denied.status.unwrap().code), (3, 400));

        let (code, response) = answer(Authorization::Failed(503));
        let HttpResponse::ErrorResponse(failed) = response else { panic!("{response:?}") };
        assert_eq!((code, failed.status.unwrap().code), (14, 503));
    }
}
