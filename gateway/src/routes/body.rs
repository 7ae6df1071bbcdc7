//! Bodies of requests, within bounds of size, of time, and of the memory of all bodies together.

use std::{
    future::poll_fn,
    io, iter, mem,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::{
    error::Error,
    request::fields::{Fields, Invalid},
};

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Timeout for a whole body.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The bounds for bodies of one kind.
#[derive(Debug)]
pub(super) struct Bound {
    /// Maximum size of one body.
    pub(super) max_bytes: usize,
    /// A permit for each byte of memory of all bodies together. A body takes permits as its bytes
    /// arrive: a length that is only announced takes none.
    room: Semaphore,
}

/// The bound for requests with one operation. A flood of batches takes no room from them.
pub(super) static SINGLE: Bound =
    Bound { max_bytes: 16 * 1024, room: Semaphore::const_new(32 * 1024 * 1024) };

/// The bound for batches and their answers.
pub(super) static BATCH: Bound =
    Bound { max_bytes: 1024 * 1024, room: Semaphore::const_new(64 * 1024 * 1024) };

/// Memory that stays reserved until this is dropped.
#[derive(Debug)]
pub(super) struct Room {
    bound: &'static Bound,
    permit: Option<SemaphorePermit<'static>>,
}

/// A whole body.
#[derive(Debug)]
pub(super) struct RequestBytes {
    pub(super) bytes: Bytes,
    pub(super) room: Room,
}

impl Bound {
    /// Reads the fields of a JSON body.
    ///
    /// # Errors
    ///
    /// As [`Bound::read`], and all faults of the fields.
    pub(super) async fn read_fields<T>(
        &'static self,
        body: Body,
        read: impl FnOnce(&mut Fields<'_>) -> Result<T, Invalid>,
    ) -> Result<T, Error> {
        let body = self.read(body).await?;
        let mut fields = Fields::from_body(&body.bytes)?;
        let value = read(&mut fields);
        fields.finish(value)
    }

    /// Reads a whole body, without the byte order mark that some clients put before JSON.
    ///
    /// # Errors
    ///
    /// When the body is too large, too slow or broken, or when there is no room for it.
    pub(super) async fn read<B>(&'static self, body: B) -> Result<RequestBytes, Error>
    where
        B: HttpBody<Data = Bytes, Error: std::error::Error + 'static> + Unpin,
    {
        let mut body = pin!(self.collect(body));
        let body = match poll_twice(body.as_mut()).await {
            Some(body) => body,
            // The timer is larger than the future of a body, and rare.
            None => Box::pin(timeout(TIMEOUT, body)).await.unwrap_or(Err(Error::BodyTooSlow)),
        };
        let mut body = body?;
        if body.bytes.starts_with(BYTE_ORDER_MARK) {
            body.bytes = body.bytes.slice(BYTE_ORDER_MARK.len()..);
        }
        Ok(body)
    }

    /// Collects a body. A body in one piece, as most are, is not copied.
    async fn collect<B>(&'static self, mut body: B) -> Result<RequestBytes, Error>
    where
        B: HttpBody<Data = Bytes, Error: std::error::Error + 'static> + Unpin,
    {
        let mut room = Room::new(self);
        let first = self.next_piece(&mut body, 0).await?.unwrap_or_default();
        room.grow(first.len())?;
        if body.is_end_stream() {
            return Ok(RequestBytes { bytes: first, room });
        }
        let mut bytes = Vec::with_capacity(first.len());
        bytes.extend_from_slice(&first);
        drop(first);
        while let Some(piece) = self.next_piece(&mut body, bytes.len()).await? {
            let size = bytes.len() + piece.len();
            if size > bytes.capacity() {
                let capacity = size.max(2 * bytes.capacity()).min(self.max_bytes);
                room.grow(capacity - bytes.capacity())?;
                bytes.reserve_exact(capacity - bytes.len());
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(RequestBytes { bytes: bytes.into(), room })
    }

    /// Returns the next bytes of a body of which this many were read; `None` at its end.
    async fn next_piece<B>(&self, body: &mut B, read: usize) -> Result<Option<Bytes>, Error>
    where
        B: HttpBody<Data = Bytes, Error: std::error::Error + 'static> + Unpin,
    {
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
            if read + piece.len() > self.max_bytes {
                // The server reads the rest of the body after the answer.
                return Err(Error::BodyTooLarge);
            }
            return Ok(Some(piece));
        }
        Ok(None)
    }
}

/// Polls a future now, and once more when its task runs next. Returns the output if there is one then.
///
/// The server hands over a body that has arrived with its head at the second poll. Such a body needs no
/// timer, which costs more than the body.
fn poll_twice<F: Future>(mut future: Pin<&mut F>) -> impl Future<Output = Option<F::Output>> {
    let mut is_first = true;
    poll_fn(move |context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if mem::take(&mut is_first) => {
            context.waker().wake_by_ref();
            Poll::Pending
        }
        Poll::Pending => Poll::Ready(None),
    })
}

/// The error about a body that has broken off: the client has gone, unless what it sent is invalid.
fn broken(error: &(dyn std::error::Error + 'static)) -> Error {
    let causes = iter::successors(Some(error), |error| error.source());
    let kind = causes.filter_map(|cause| cause.downcast_ref::<io::Error>()).last();
    match kind.map(io::Error::kind) {
        None | Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => Error::BodyBroken,
        Some(_) => Error::BodyCut,
    }
}

impl Room {
    fn new(bound: &'static Bound) -> Self {
        Self { bound, permit: None }
    }

    /// Reserves memory for more bytes.
    ///
    /// # Errors
    ///
    /// When there is no memory left. The client can try again later.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        let count = u32::try_from(bytes).map_err(|_| Error::Overloaded)?;
        let more = self.bound.room.try_acquire_many(count).map_err(|_| Error::Overloaded)?;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        io,
        pin::Pin,
        task::{Context, Poll},
    };

    use axum::body::{Body, Bytes};
    use hyper::body::Frame;
    use tokio::sync::Semaphore;

    use super::{Bound, SINGLE, broken};
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
        for size in [0, 1, SINGLE.max_bytes] {
            let read = SINGLE.read(Body::from(vec![b'x'; size])).await.unwrap();
            assert_eq!(read.bytes.len(), size);
        }
        let error = SINGLE.read(Body::from(vec![b'x'; SINGLE.max_bytes + 1])).await.unwrap_err();
        assert!(matches!(error, Error::BodyTooLarge));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_is_an_error() {
        let error = SINGLE.read(Body::new(Silence)).await.unwrap_err();
        assert!(matches!(error, Error::BodyTooSlow));
    }

    #[test]
    fn a_body_that_breaks_off_is_told_apart_from_one_that_is_invalid() {
        let of = |kind: io::ErrorKind| broken(&axum::Error::new(io::Error::from(kind)));
        for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset] {
            assert!(matches!(of(kind), Error::BodyCut));
        }
        assert!(matches!(of(io::ErrorKind::InvalidInput), Error::BodyBroken));
        assert!(matches!(broken(&axum::Error::new(std::fmt::Error)), Error::BodyBroken));
    }

    #[tokio::test]
    async fn the_memory_of_all_bodies_together_is_bounded() {
        static SMALL: Bound = Bound { max_bytes: 100, room: Semaphore::const_new(250) };
        let read = || SMALL.read(Body::from(vec![b'x'; 100]));
        let first = read().await.unwrap();
        let _second = read().await.unwrap();
        assert!(matches!(read().await.unwrap_err(), Error::Overloaded));
        // A body that is refused reserves nothing.
        let _small = SMALL.read(Body::from(vec![b'x'; 50])).await.unwrap();
        drop(first);
        let _third = read().await.unwrap();
        assert!(matches!(read().await.unwrap_err(), Error::Overloaded));
    }
}
