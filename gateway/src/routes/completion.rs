//! Work that goes on to its end when its client gives up.
//!
//! A handler is dropped at the place where it waits as soon as its client closes the connection.
//! Redis may do what it was asked for nevertheless, and what follows from that in this process,
//! such as forgetting a denial, must follow then as well.

use opentelemetry::context::FutureExt;

use crate::{error::Error, telemetry::Scope};

/// Does work in a task of its own, and returns its result to a handler that still waits for it.
///
/// # Errors
///
/// When the work panics.
pub(super) async fn complete<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Error> {
    let task = tokio::spawn(Scope::around_task(work).with_current_context());
    task.await.map_err(|_| Error::Internal)
}
