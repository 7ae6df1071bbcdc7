//! Bodies, bounded in size and in time.

use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::error::Error;

/// Most bytes of a body, where nothing else is said.
pub(super) const MAX_BYTES: usize = 16 * 1024;

/// Most bytes of a body that holds a whole batch.
pub(super) const MAX_BATCH_BYTES: usize = 1024 * 1024;

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Longest wait for a whole body.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads a whole body of at most `max_bytes`, without the byte order mark that some clients put
/// before JSON.
pub(super) async fn read(body: Body, max_bytes: usize) -> Result<Vec<u8>, Error> {
    let body = timeout(PATIENCE, collect(body, max_bytes)).await;
    let mut body = body.unwrap_or(Err(Error::BodyTooSlow))?;
    if body.starts_with(BYTE_ORDER_MARK) {
        body.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(body)
}

async fn collect(mut body: Body, max_bytes: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Error::BodyBroken)?.into_data() else { continue };
        if data.len() > max_bytes.saturating_sub(bytes.len()) {
            // The server reads the rest, behind the answer.
            return Err(Error::BodyTooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use axum::body::{Body, Bytes};
    use hyper::body::Frame;

    use super::{MAX_BYTES, read};
    use crate::error::Error;

    /// A body that never arrives.
    struct Silence;

    impl hyper::body::Body for Silence {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_largest_size() {
        for size in [0, 1, MAX_BYTES] {
            assert_eq!(read(Body::from(vec![b'x'; size]), MAX_BYTES).await.unwrap().len(), size);
        }
        let error = read(Body::from(vec![b'x'; MAX_BYTES + 1]), MAX_BYTES).await.unwrap_err();
        assert!(matches!(error, Error::BodyTooLarge));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_is_given_up() {
        let error = read(Body::new(Silence), MAX_BYTES).await.unwrap_err();
        assert!(matches!(error, Error::BodyTooSlow));
    }
}
