//! A method of a service, with messages of its own types.

use std::{
    convert::Infallible,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use prost::Message;
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    server::{Grpc, UnaryService},
};
use tonic_prost::ProstCodec;
use tower_service::Service;

use crate::{
    deadline,
    gateway::{Caller, Fault, Gateway},
};

/// The most bytes of a message. Each entry of each descriptor can repeat parts of an end user's head of at
/// most 60 KiB, and Envoy lets the request pass when the message is refused: so the bound is the usual
/// one of gRPC, above sixty such entries.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// The metadata with the timeout of a call.
const TIMEOUT: &str = "grpc-timeout";

/// The decision of an answer, which its response has among its extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed(pub(super) Option<bool>);

pub(super) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A method: its path, its messages and its work.
pub(super) trait Method: 'static {
    const PATH: &'static str;
    type Request: Message + Default + 'static;
    type Response: Message + 'static;

    /// Returns the answer to a call, for which a decision may take so long.
    fn answer<G: Gateway>(
        gateway: &G,
        caller: Caller,
        request: Self::Request,
        max_wait: Option<Duration>,
    ) -> impl Future<Output = Result<Self::Response, Fault>> + Send;

    /// Returns whether an answer grants the request, if the answer has a decision.
    fn allowed(answer: &Self::Response) -> Option<bool>;
}

/// The service of a method, which has no other one.
pub(super) struct MethodService<M, G> {
    gateway: Arc<G>,
    method: PhantomData<fn(M)>,
}

impl<M, G> MethodService<M, G> {
    pub(super) fn new(gateway: &Arc<G>) -> Self {
        Self { gateway: Arc::clone(gateway), method: PhantomData }
    }
}

impl<M, G> Clone for MethodService<M, G> {
    fn clone(&self) -> Self {
        Self::new(&self.gateway)
    }
}

impl<M: Method, G: Gateway> Service<http::Request<Body>> for MethodService<M, G> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            if request.uri().path() != M::PATH {
                return Ok(Status::unimplemented("there is no such method").into_http());
            }
            let codec = ProstCodec::<M::Response, M::Request>::default();
            let mut grpc =
                Grpc::new(codec).apply_max_message_size_config(Some(MAX_MESSAGE_BYTES), None);
            Ok(grpc.unary(service, request).await)
        })
    }
}

impl<M: Method, G: Gateway> UnaryService<M::Request> for MethodService<M, G> {
    type Response = M::Response;
    type Future = BoxFuture<Result<Response<M::Response>, Status>>;

    fn call(&mut self, request: Request<M::Request>) -> Self::Future {
        let gateway = Arc::clone(&self.gateway);
        Box::pin(async move {
            let (metadata, connection, message) = request.into_parts();
            let metadata = metadata.into_headers();
            let timeout = metadata.get(TIMEOUT);
            let max_wait = timeout.and_then(|timeout| deadline::max_wait(timeout.as_bytes()));
            let caller = Caller { metadata, connection };
            let answer = M::answer(&*gateway, caller, message, max_wait).await;
            let answer = answer.map_err(|fault| status(&fault))?;
            let allowed = Allowed(M::allowed(&answer));
            let mut response = Response::new(answer);
            response.extensions_mut().insert(allowed);
            Ok(response)
        })
    }
}

fn status(fault: &Fault) -> Status {
    let code = match fault {
        Fault::Invalid(_) => Code::InvalidArgument,
        Fault::Unauthenticated => Code::Unauthenticated,
        Fault::Forbidden(_) => Code::PermissionDenied,
        Fault::Unavailable => Code::Unavailable,
        Fault::NoPolicies => Code::FailedPrecondition,
        Fault::Internal => Code::Internal,
    };
    Status::new(code, fault.to_string())
}
