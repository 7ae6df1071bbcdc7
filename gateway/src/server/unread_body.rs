//! Request bodies that the handler has not read to their end.
//!
//! The next request of a connection begins after the body of this request. An answer can be sent before
//! the body has arrived: for an unknown path, for a caller without a key, for a body that is too large.
//! Then the connection continues in one of two ways, and the answer names the way:
//!
//! 1. The connection stays open. The rest of the body is read and dropped, within bounds.
//! 2. The connection is closed, and the answer announces `Connection: close`.

use std::{
    mem,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Bytes, HttpBody},
    http::{
        HeaderValue, Request, Response, StatusCode,
        header::{CONNECTION, EXPECT},
    },
};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tokio::time::timeout;

use super::timed_stream::Phase;

/// Maximum size of the rest of a body that is read after the answer. A client that sends all of its
/// body before it reads would otherwise get a broken connection instead of the answer.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Timeout for the rest of a body after its answer.
const TIMEOUT: Duration = Duration::from_secs(10);

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// The body that a handler gets.
#[derive(Debug)]
pub(super) struct RequestBody<B: HttpBody> {
    /// `None` once there is nothing more to read.
    body: Option<B>,
    /// True when the handler has polled the body. A client that expects `100 Continue` sends nothing
    /// before that.
    is_wanted: bool,
    remainder: Arc<Mutex<Remainder<B>>>,
}

/// The part of a body that its handler did not read.
#[derive(Debug)]
pub(super) enum Remainder<B> {
    /// Nothing, or the handler still has the body.
    Nothing,
    /// The rest of the body.
    Rest { body: B, is_wanted: bool },
    /// The body failed, and nothing can be read after it.
    Broken,
}

/// Access to the remainder of a body after the answer.
#[derive(Debug)]
pub(super) struct Watch<B> {
    remainder: Arc<Mutex<Remainder<B>>>,
    expects_continue: bool,
}

/// Wraps the body of a request. If the handler drops the body before its end, the rest of the body is
/// handed back.
pub(super) fn watch<B: HttpBody>(request: Request<B>) -> (Request<RequestBody<B>>, Watch<B>) {
    let remainder = Arc::new(Mutex::new(Remainder::Nothing));
    let expects_continue = request.headers().contains_key(EXPECT);
    let watch = Watch { remainder: Arc::clone(&remainder), expects_continue };
    let request = request.map(|body| RequestBody { body: Some(body), is_wanted: false, remainder });
    (request, watch)
}

impl<B> Watch<B>
where
    B: HttpBody<Data = Bytes, Error: Send> + Send + Unpin + 'static,
{
    /// Discards the rest of the body, or lets the answer close the connection. Starts the next phase of
    /// the connection.
    pub(super) fn settle<A>(self, answer: &mut Response<A>, phase: &Phase) {
        let mut remainder = self.remainder.lock().unwrap_or_else(PoisonError::into_inner);
        match mem::replace(&mut *remainder, Remainder::Nothing) {
            Remainder::Nothing => phase.end_answer(),
            Remainder::Rest { body, is_wanted }
                if answer.status() != StatusCode::REQUEST_TIMEOUT
                    && (is_wanted || !self.expects_continue) =>
            {
                if body.size_hint().lower() > MAX_BYTES {
                    answer.headers_mut().insert(CONNECTION, CLOSE);
                }
                let guard = phase.begin_discard();
                tokio::spawn(async move {
                    let _ = timeout(TIMEOUT, discard(body)).await;
                    drop(guard);
                });
            }
            Remainder::Rest { .. } | Remainder::Broken => {
                answer.headers_mut().insert(CONNECTION, CLOSE);
                phase.end_answer();
            }
        }
    }
}

/// Reads a body up to its end or up to the bound. The connection is closed where a body is dropped
/// before its end.
async fn discard<B: HttpBody<Data = Bytes> + Unpin>(mut body: B) {
    let mut size = 0;
    while let Some(Ok(frame)) = body.frame().await {
        size += frame.data_ref().map_or(0, |data| data.len() as u64);
        if size > MAX_BYTES {
            break;
        }
    }
}

impl<B: HttpBody + Unpin> HttpBody for RequestBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let poll = Pin::new(body).poll_frame(context);
        self.is_wanted = true;
        match &poll {
            Poll::Ready(None) => self.body = None,
            Poll::Ready(Some(Err(_))) => {
                self.body = None;
                self.hand_back(Remainder::Broken);
            }
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl<B: HttpBody> RequestBody<B> {
    fn hand_back(&self, remainder: Remainder<B>) {
        *self.remainder.lock().unwrap_or_else(PoisonError::into_inner) = remainder;
    }
}

impl<B: HttpBody> Drop for RequestBody<B> {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            self.hand_back(Remainder::Rest { body, is_wanted: self.is_wanted });
        }
    }
}
