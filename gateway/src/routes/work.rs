//! Permits for the work of large requests, so that a flood of them leaves time for other requests.
//!
//! A request with a thousand checks costs as much as hundreds of other requests: in this process, and
//! in Redis, which runs one command after the other. Only some large requests run at once, in the
//! order of their arrival, and only one body is parsed at a time. The others wait, and use no more
//! memory than their bytes.

use std::time::Duration;

use axum::body::Bytes;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::spawn_blocking,
    time::timeout,
};

use crate::error::Error;

/// Maximum size of all bodies that run at once: one of the largest, ten with a thousand checks each,
/// or hundreds with a few checks.
const BYTES: u32 = 256 * 1024;

/// Maximum size of a body that is parsed in the task that reads it, in some tenths of a millisecond.
/// Larger bodies are parsed in a separate thread, which the system can interrupt.
const SMALL_BYTES: usize = 16 * 1024;

/// Timeout for a permit.
const TIMEOUT: Duration = Duration::from_secs(1);

static WORK: Semaphore = Semaphore::const_new(BYTES as usize);

static PARSER: Semaphore = Semaphore::const_new(1);

/// The permit of a request. The work of the request ends when the permit is dropped.
pub(super) type WorkPermit = SemaphorePermit<'static>;

/// Waits until the work for a body of this size can begin.
///
/// # Errors
///
/// When the permit does not come in time.
pub(super) async fn begin(bytes: usize) -> Result<WorkPermit, Error> {
    let share = u32::try_from(bytes).unwrap_or(BYTES).min(BYTES);
    acquire(&WORK, share).await
}

/// Parses a body.
///
/// # Errors
///
/// When the parser returns an error, or when the parser of another body is not done in time.
pub(super) async fn parse<T: Send + 'static>(
    body: Bytes,
    parser: impl FnOnce(&[u8]) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    if body.len() <= SMALL_BYTES {
        return parser(&body);
    }
    let permit = acquire(&PARSER, 1).await?;
    let task = spawn_blocking(move || {
        let read = parser(&body);
        drop(permit);
        read
    });
    task.await.map_err(|_| Error::Internal)?
}

async fn acquire(semaphore: &'static Semaphore, permits: u32) -> Result<WorkPermit, Error> {
    match timeout(TIMEOUT, semaphore.acquire_many(permits)).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) | Err(_) => Err(Error::Overloaded),
    }
}
