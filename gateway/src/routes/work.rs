//! Permits for the work of large requests, so that a flood of them leaves time for all others.
//!
//! A request that holds a thousand checks costs as much as hundreds of others: in this process, and
//! in Redis, which runs one command after the other. However many such requests there are, only
//! some are worked on at once, in the order of their arrival, and only one of them has its body
//! parsed at a time. The others wait with nothing but their bytes.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::spawn_blocking,
    time::timeout,
};

use crate::error::Error;

/// Most bytes of bodies that are worked on at once: one of the largest, ten with a thousand checks
/// each, or hundreds with a few.
const BYTES: u32 = 256 * 1024;

/// Bodies up to this size are parsed where they are read, which takes some tenths of a millisecond.
/// Larger ones have a thread, which the system interrupts for others.
const SMALL_BYTES: usize = 16 * 1024;

/// Longest wait for a permit.
const TIMEOUT: Duration = Duration::from_secs(1);

static WORK: Semaphore = Semaphore::const_new(BYTES as usize);

static PARSER: Semaphore = Semaphore::const_new(1);

/// The permit of a request, whose work ends when this is dropped.
pub(super) type WorkPermit = SemaphorePermit<'static>;

/// Waits until work for a body of so many bytes can begin.
///
/// # Errors
///
/// When the wait is too long.
pub(super) async fn begin(bytes: usize) -> Result<WorkPermit, Error> {
    let share = u32::try_from(bytes).unwrap_or(BYTES).min(BYTES);
    acquire(&WORK, share).await
}

/// Parses a body.
///
/// # Errors
///
/// When the parser returns one, or when the wait for another body is too long.
pub(super) async fn parse<T: Send + 'static>(
    body: Vec<u8>,
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
