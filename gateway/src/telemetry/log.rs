//! The log, on standard output.
//!
//! A separate thread writes the lines: the reader of standard output can be slow, and must not delay
//! requests. Lines that do not fit into the queue are dropped and counted.

use std::{
    fmt,
    fs::File,
    io::{self, BufWriter, Write},
    os::fd::AsFd,
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::line::{Line, LogFormat};

/// Maximum number of lines in the queue: some seconds of the busiest log, in a few megabytes.
const QUEUE: usize = 16_384;

/// Size of a write when lines come faster than single writes.
const BUFFER: usize = 64 * 1024;

/// Timeout for the last lines when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// The queue of lines that have no level.
static LINES: OnceLock<NonBlocking> = OnceLock::new();

/// The log of the process. Dropping it writes the lines of the queue, for at most a second.
pub struct Log(Option<WorkerGuard>);

/// Starts the log.
///
/// # Errors
///
/// When the process has no standard output.
pub fn start_log(format: LogFormat, level: LevelFilter) -> io::Result<Log> {
    // The handle of the standard library would write each line on its own.
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let (queue, worker) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUE)
        .thread_name("log")
        .finish(BufWriter::with_capacity(BUFFER, output));
    // Fails only when the log was started before, and then `init` panics below.
    let _ = DROPPED.set(queue.error_counter());
    let _ = LINES.set(queue.clone());
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(queue).with_ansi(false);
    log.event_format(Line(format)).init();
    Ok(Log(Some(worker)))
}

impl Drop for Log {
    fn drop(&mut self) {
        let (done, written) = mpsc::channel();
        let worker = self.0.take();
        // Dropping the worker writes the lines, and blocks while standard output is not read.
        thread::spawn(move || {
            drop(worker);
            done.send(())
        });
        let _ = written.recv_timeout(FLUSH_TIMEOUT);
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

/// Logs a line as it is, with every level and in every form of the log.
pub(crate) fn log_line(mut line: String) {
    if let Some(queue) = LINES.get() {
        line.push('\n');
        // A line that does not fit into the queue is counted there.
        let _ = queue.clone().write_all(line.as_bytes());
    }
}

/// Returns the number of lines that were dropped.
pub(super) fn dropped_lines() -> u64 {
    let dropped = DROPPED.get().map_or(0, ErrorCounter::dropped_lines);
    u64::try_from(dropped).unwrap_or(u64::MAX)
}
