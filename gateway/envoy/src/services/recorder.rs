//! The record of every call, also of calls that end before a method has their message.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use tonic::{Status, body::Body, service::Routes};
use tower_service::Service;

use super::{
    authorization::Check,
    method::{Allowed, BoxFuture, Method},
    rate_limit::ShouldRateLimit,
};
use crate::{
    code::Code,
    gateway::{Gateway, Outcome, Record},
};

/// The paths of all methods. Any other path has no method.
const METHODS: [&str; 6] = [
    ShouldRateLimit::PATH,
    Check::PATH,
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// All services, with a record of each call.
pub(super) struct Recorder<G> {
    services: Routes,
    gateway: Arc<G>,
}

impl<G> Recorder<G> {
    pub(super) fn new(services: Routes, gateway: Arc<G>) -> Self {
        Self { services, gateway }
    }
}

impl<G> Clone for Recorder<G> {
    fn clone(&self) -> Self {
        Self::new(self.services.clone(), Arc::clone(&self.gateway))
    }
}

impl<G: Gateway> Service<http::Request<Body>> for Recorder<G> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<http::Request<Body>>::poll_ready(&mut self.services, context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let method = METHODS.into_iter().find(|method| *method == path);
        let record = self.gateway.record(method, request.headers(), request.extensions());
        let answer = self.services.call(request);
        Box::pin(record.run(async move {
            let Ok(response) = answer.await;
            let outcome = outcome(&response);
            (Ok(response), outcome)
        }))
    }
}

/// Returns the outcome of a call with this response. Only the head of an error has its status.
fn outcome(response: &http::Response<Body>) -> Outcome {
    let allowed = response.extensions().get::<Allowed>().and_then(|Allowed(allowed)| *allowed);
    match Status::from_header_map(response.headers()) {
        None => Outcome { code: Code::OK, allowed, error: None },
        Some(status) => {
            let error = Some(status.message().to_owned());
            Outcome { code: code(status.code()), allowed, error }
        }
    }
}

/// Returns the code with the same number.
const fn code(code: tonic::Code) -> Code {
    Code::from_number(code as u8)
}

#[cfg(test)]
mod tests {
    use super::code;

    #[test]
    fn the_names_of_the_codes_are_those_of_grpc() {
        for number in 0..17 {
            let known = tonic::Code::from_i32(number);
            let code = code(known);
            let name = code.name().replace('_', "").to_lowercase();
            assert_eq!(format!("{known:?}").to_lowercase(), name);
            assert_eq!(i32::from(code.number()), number);
        }
    }
}
