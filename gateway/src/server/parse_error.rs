//! Answers to requests that are no HTTP.
//!
//! The HTTP library answers such a request itself, with a status and an empty body, before any service
//! gets the request, and has no option against that. The stream recognises this answer at the end of
//! the written bytes: it is the only answer without a request id, and the last one of its connection.
//! The stream adds the id and the body, and the answer is logged and counted like any other.
//!
//! The preface of HTTP/2 is the exception: the library closes the connection without an answer. The
//! stream therefore changes the first byte of the preface, and the library answers the result.
//!
//! Where larger heads are possible, the stream does not send the answer to a head that is too large. It
//! fails, and the connection reads the head again with larger bounds. Ordinary heads cost nothing more:
//! the library allocates room for each header of the larger bounds before it reads a head.

use std::{
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{body::Bytes, http::StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    error::ErrorBody,
    headers::{PROCESS_TIME, REQUEST_ID},
    request_log,
    telemetry::ClientAddress,
};

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// The beginning of every answer of the HTTP library itself.
const STATUS_LINE: &[u8] = b"HTTP/1.1 4";

/// The header of such an answer that is replaced.
const NO_BODY: &str = "\r\ncontent-length: 0";

/// The first word of the preface of HTTP/2, which is the method of no request (RFC 9113, 11.6).
const PREFACE: &[u8] = b"PRI ";

/// A stream that completes the answers to requests that are no HTTP.
#[derive(Debug)]
pub(super) struct ErrorAnswers<S> {
    stream: S,
    /// The address of the client, if the log must have it.
    client: Option<ClientAddress>,
    /// The rest of the answer that replaces the one of the HTTP library.
    answer: Vec<u8>,
    /// True until the first read.
    is_new: bool,
    /// True if a head that is too large is read again.
    repeats_large_head: bool,
    /// True after such a head.
    has_large_head: bool,
    /// The bytes to read before those of the stream.
    unread: Bytes,
}

impl<S> ErrorAnswers<S> {
    pub(super) fn new(stream: S, client: Option<ClientAddress>) -> Self {
        Self {
            stream,
            client,
            answer: Vec::new(),
            is_new: true,
            repeats_large_head: false,
            has_large_head: false,
            unread: Bytes::new(),
        }
    }

    /// Fails, once, in place of the answer to a head that is too large.
    pub(super) fn repeating_large_head(self) -> Self {
        Self { repeats_large_head: true, ..self }
    }

    /// Returns the stream from these bytes on, if it has failed because of a head that is too large.
    pub(super) fn after_large_head(self, unread: Bytes) -> Option<Self> {
        self.has_large_head.then_some(Self { has_large_head: false, unread, ..self })
    }
}

/// Returns whether an answer of the HTTP library is that to a head that is too large.
fn is_of_large_head(head: &str) -> bool {
    let status = head.split(' ').nth(1);
    status.is_some_and(|status| status == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.as_str())
}

/// Splits `bytes` before an answer of the HTTP library itself at their end, if there is one.
fn split(bytes: &[u8]) -> Option<(&[u8], &str)> {
    // Nearly all answers end with their body.
    if !bytes.ends_with(END_OF_HEAD) {
        return None;
    }
    let begin = bytes.windows(STATUS_LINE.len()).rposition(|window| window == STATUS_LINE)?;
    let (before, head) = bytes.split_at_checked(begin)?;
    let head = std::str::from_utf8(head).ok()?;
    let is_whole = head.find("\r\n\r\n")? + END_OF_HEAD.len() == head.len();
    (is_whole && head.contains(NO_BODY) && !head.contains(REQUEST_ID.as_str()))
        .then_some((before, head))
}

/// Returns the answer that replaces the one of the HTTP library, and logs and counts it.
fn complete(head: &str, client: Option<ClientAddress>) -> Option<String> {
    let status = head.split(' ').nth(1).and_then(|code| code.parse::<StatusCode>().ok())?;
    let id = request_log::record_parse_error(status, client);
    let detail = status.canonical_reason().unwrap_or_default().to_owned();
    let body = serde_json::to_string(&ErrorBody { detail, error_code: None }).ok()?;
    let length = body.len();
    let headers = format!(
        "\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         {REQUEST_ID}: {}\r\n{PROCESS_TIME}: 0",
        id.to_str().ok()?
    );
    Some(head.replace(NO_BODY, &headers) + &body)
}

impl<S: AsyncWrite + Unpin> ErrorAnswers<S> {
    /// Writes the answer that replaces the one of the HTTP library.
    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.answer.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(context, &self.answer))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.answer.drain(..count.min(self.answer.len())),
            };
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ErrorAnswers<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let count = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread.split_to(count));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if let Some(arrived) = buffer.filled_mut().get_mut(before..)
            && !arrived.is_empty()
            && mem::replace(&mut self.is_new, false)
            && arrived.starts_with(PREFACE)
        {
            // No method has such a byte.
            arrived[0] = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ErrorAnswers<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match split(bytes) {
            None => Pin::new(&mut self.stream).poll_write(context, bytes),
            Some(([], head)) if self.repeats_large_head && is_of_large_head(head) => {
                (self.repeats_large_head, self.has_large_head) = (false, true);
                Poll::Ready(Err(io::Error::other("the head is too large")))
            }
            Some(([], head)) => {
                let Some(answer) = complete(head, self.client) else {
                    return Pin::new(&mut self.stream).poll_write(context, bytes);
                };
                self.answer = answer.into_bytes();
                // A flush goes on with it.
                if let Poll::Ready(Err(error)) = self.poll_answer(context) {
                    return Poll::Ready(Err(error));
                }
                Poll::Ready(Ok(bytes.len()))
            }
            // The library writes the rest next, which is the answer then.
            Some((before, _)) => Pin::new(&mut self.stream).poll_write(context, before),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(last) = parts.iter().rposition(|part| !part.is_empty()) else {
            return Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        };
        match (parts.get(last), parts.get(..last)) {
            (Some(part), Some(before)) if split(part).is_some() => {
                if before.iter().all(|part| part.is_empty()) {
                    return self.poll_write(context, part);
                }
                Pin::new(&mut self.stream).poll_write_vectored(context, before)
            }
            _ => Pin::new(&mut self.stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_answer(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_answer(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::{ErrorAnswers, split};

    const ERROR: &str = "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\
                         date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";

    #[test]
    fn an_answer_of_the_library_is_found_after_other_answers() {
        let answer = "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\nx-request-id: 1\r\n\r\n{}";
        let split = |text: &str| {
            split(text.as_bytes()).map(|(before, head)| {
                (String::from_utf8(before.to_vec()).unwrap(), head.to_owned())
            })
        };
        assert_eq!(split(ERROR), Some((String::new(), ERROR.to_owned())));
        let both = format!("{answer}{ERROR}");
        assert_eq!(split(&both), Some((answer.to_owned(), ERROR.to_owned())));
    }

    #[test]
    fn no_other_answer_is_taken_for_one() {
        for text in [
            "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\nx-request-id: 1\r\n\r\n{}",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nx-request-id: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "a page about HTTP/1.1 400 Bad Request\r\n\r\n and more\r\n\r\n",
            "\r\n\r\n",
            "",
        ] {
            assert_eq!(split(text.as_bytes()), None, "{text}");
        }
    }

    #[tokio::test]
    async fn a_head_that_is_too_large_is_read_again_once() {
        let (mut client, stream) = duplex(1_024);
        let mut first = ErrorAnswers::new(stream, None).repeating_large_head();
        first.write_all(ERROR.as_bytes()).await.unwrap_err();
        let mut again = first.after_large_head(Bytes::from_static(b"GET /")).unwrap();
        client.write_all(b"login").await.unwrap();
        let mut head = [0; 10];
        again.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"GET /login");
        again.write_all(ERROR.as_bytes()).await.unwrap();
        again.flush().await.unwrap();
        assert!(again.after_large_head(Bytes::new()).is_none());
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 431 ") && answer.matches("HTTP/").count() == 1);
    }
}
