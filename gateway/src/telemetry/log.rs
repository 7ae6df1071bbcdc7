//! The log, on standard output.
//!
//! Lines are written by a thread of their own: whoever reads standard output may be slow, or stand
//! still, and must not hold up requests. What does not fit into the queue meanwhile is dropped,
//! and counted.

use std::{
    fmt,
    fs::File,
    io::{self, BufWriter},
    os::fd::AsFd,
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};

use super::line::{Line, LogFormat};

/// Most lines that wait to be written: some seconds of the busiest log, in a few megabytes.
const QUEUE: usize = 16_384;

/// Bytes that are written at once when lines come faster than they can be written one by one.
const BUFFER: usize = 64 * 1024;

/// Longest wait for the last lines to be written when the process ends.
const FLUSH: Duration = Duration::from_secs(1);

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// The log of the process. Lines that are still waiting when it is dropped are written, unless
/// that takes longer than a second.
pub struct Log(Option<WorkerGuard>);

/// Starts the log.
///
/// # Errors
///
/// When there is no standard output.
pub fn start_log(format: LogFormat, level: LevelFilter) -> io::Result<Log> {
    // Not through the standard library's handle, which writes each line by itself.
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let (queue, worker) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUE)
        .thread_name("log")
        .finish(BufWriter::with_capacity(BUFFER, output));
    // Fails only when it was started before, and then `init` panics below.
    let _ = DROPPED.set(queue.error_counter());
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(queue).with_ansi(false);
    log.event_format(Line(format)).init();
    Ok(Log(Some(worker)))
}

impl Drop for Log {
    fn drop(&mut self) {
        let (done, written) = mpsc::channel();
        let worker = self.0.take();
        // Dropping the worker writes them, and can block for as long as nobody reads the output.
        thread::spawn(move || {
            drop(worker);
            done.send(())
        });
        let _ = written.recv_timeout(FLUSH);
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

/// How many lines were dropped.
pub(super) fn dropped_lines() -> u64 {
    let dropped = DROPPED.get().map_or(0, ErrorCounter::dropped_lines);
    u64::try_from(dropped).unwrap_or(u64::MAX)
}
