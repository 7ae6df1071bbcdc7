//! The metrics, as `/metrics` shows them.
//!
//! Labels are few and known: a route is a pattern, a node is a server, a kind is one of a list.
//! What has a known list is shown from the start, with 0: an alert cannot tell a metric that is
//! missing from one that is fine, and the first event of a new metric is no increase.
//!
//! What is counted at every request is found once and kept, since finding a metric by its labels
//! takes ten times as long as counting.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::Bytes;
use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use tokio::{
    sync::Mutex,
    task::{JoinError, spawn_blocking},
};

use super::{callers, http, log};

const DROPPED_LINES: &str = "log_lines_dropped_total";
const BUILD: &str = "ratelimit_build_info";

/// Upper bounds of the latency buckets, in seconds: from an answer without Redis to a time-out.
const LATENCY_BUCKETS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// How often times are put into their buckets when nobody reads them. Until then each takes
/// memory, and more of them hold up whoever sorts them for longer.
const UPKEEP: Duration = Duration::from_secs(1);

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    recorder: PrometheusHandle,
    process: Collector,
    last: Arc<Mutex<Page>>,
}

/// The metrics as they were written last.
#[derive(Debug, Default)]
struct Page {
    begun: Option<Instant>,
    text: Bytes,
}

impl Metrics {
    /// Returns the page in the Prometheus text format, not older than this call. However many ask
    /// at once, one thread writes it, and the others get what was begun after they asked.
    ///
    /// # Errors
    ///
    /// When writing it panics, or the process is about to end.
    pub async fn page(&self) -> Result<Bytes, JoinError> {
        let asked = Instant::now();
        // The lock goes with the thread: a client that hangs up must not have another one started
        // beside it.
        let mut page = Arc::clone(&self.last).lock_owned().await;
        if page.begun.is_some_and(|begun| begun >= asked) {
            return Ok(page.text.clone());
        }
        let (recorder, process) = (self.recorder.clone(), self.process.clone());
        // It reads files of the system, which can block.
        let write = move || {
            page.begun = Some(Instant::now());
            process.collect();
            counter!(DROPPED_LINES).absolute(log::dropped_lines());
            page.text = recorder.render().into();
            page.text.clone()
        };
        spawn_blocking(write).await
    }
}

/// Starts to collect metrics for the whole process. What is counted before is lost. Needs the
/// runtime.
///
/// # Errors
///
/// When another recorder is installed already.
pub fn start_metrics(
    max_connections: usize,
    auth_failures: &[&'static str],
) -> Result<Metrics, BuildError> {
    let recorder = PrometheusBuilder::new().set_buckets(&LATENCY_BUCKETS)?.install_recorder()?;
    let process = Collector::default();
    process.describe();
    http::start(max_connections);
    callers::start(auth_failures);
    describe_counter!(DROPPED_LINES, "Lines of the log that were not written: nobody read them.");
    describe_gauge!(BUILD, "Always 1; the labels tell the version and the compiler.");
    let (version, rustc) = (env!("CARGO_PKG_VERSION"), env!("RUSTC_VERSION"));
    gauge!(BUILD, "version" => version, "rustc" => rustc).set(1);

    let upkeep = recorder.clone();
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(UPKEEP);
        loop {
            interval.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(Metrics { recorder, process, last: Arc::default() })
}
