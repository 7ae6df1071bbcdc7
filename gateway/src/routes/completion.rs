//! Work that continues when its client disconnects.
//!
//! When a client closes its connection, the runtime drops the handler of its request. Redis may still
//! run the command, and then this process must also do its part, such as dropping a cached denial.

use opentelemetry::context::FutureExt;

use crate::{error::Error, telemetry::LogContext};

/// Runs work in a task of its own, and returns the result to the handler, if it still waits.
///
/// # Errors
///
/// When the work panics.
pub(crate) async fn complete<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Error> {
    let task = tokio::spawn(LogContext::attach_current(work).with_current_context());
    task.await.map_err(|_| Error::Internal)
}
