//! The log, on standard output.

use std::io;

use tracing::level_filters::LevelFilter;

use crate::config::LogFormat;

/// Starts the log.
pub fn start_log(format: LogFormat, level: LevelFilter) {
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stdout);
    match format {
        LogFormat::Json => log.json().flatten_event(true).with_span_list(false).init(),
        LogFormat::Text => log.with_ansi(false).init(),
    }
}
