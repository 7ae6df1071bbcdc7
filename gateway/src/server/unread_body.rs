//! Request bodies that no handler has read to their end.
//!
//! The next request of a connection begins behind the body of this one. An answer can be sent
//! before that body has arrived: a path that does not exist, a caller without a key, a body that is
//! too large. Then there are two ways, and the client learns which one it is:
//!
//! 1. The connection is kept. The rest of the body is read and dropped, within bounds.
//! 2. The rest is not worth that, and the answer announces `Connection: close`.

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

/// Most bytes that are read of a body after its answer. A client that sends all of it before it
/// reads would otherwise find a broken connection instead of the answer.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Longest wait for the rest of a body after its answer.
const TIMEOUT: Duration = Duration::from_secs(10);

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// The body that a handler gets.
#[derive(Debug)]
pub(super) struct RequestBody<B: HttpBody> {
    /// `None` once there is nothing more to read.
    body: Option<B>,
    /// Whether a handler has asked for the body: a client that expects `100 Continue` sends nothing
    /// before.
    is_wanted: bool,
    remainder: Arc<Mutex<Remainder<B>>>,
}

/// The part of a body that its handler did not read.
#[derive(Debug)]
pub(super) enum Remainder<B> {
    /// Nothing, or the handler still has the body.
    Nothing,
    /// The rest of the body, and whether a handler has begun to read it.
    Rest { body: B, is_wanted: bool },
    /// Nothing can be read behind what has arrived.
    Broken,
}

/// The way to the remainder of a body, for the time when the answer is there.
#[derive(Debug)]
pub(super) struct Watch<B> {
    remainder: Arc<Mutex<Remainder<B>>>,
    expects_continue: bool,
}

/// Has the body of a request handed back if its handler drops it before its end.
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
    /// Decides what becomes of the rest of the body once the answer is known, and takes the
    /// connection to its next phase.
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
                phase.begin_discard();
                let phase = phase.clone();
                tokio::spawn(async move {
                    let _ = timeout(TIMEOUT, discard(body)).await;
                    phase.end_discard();
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
