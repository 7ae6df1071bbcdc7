//! Bodies, bounded in size and in time.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use http_body_util::LengthLimitError;
use tokio::time::timeout;

use crate::error::Error;

/// Most bytes of a body.
const MAX_BYTES: usize = 16 * 1024;

/// Longest wait for a whole body.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads a whole body.
pub(super) async fn read(body: Body) -> Result<Bytes, Error> {
    match timeout(PATIENCE, to_bytes(body, MAX_BYTES)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_large(&error) => Err(Error::BodyTooLarge),
        Ok(Err(_)) => Err(Error::BodyBroken),
        Err(_) => Err(Error::BodyTooSlow),
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<LengthLimitError>())
}
