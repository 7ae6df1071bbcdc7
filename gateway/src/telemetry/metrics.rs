//! The metrics for `/metrics`.
//!
//! Labels are few: a route is a pattern, a node is a server, a kind is a word of a list. Metrics with
//! a list of labels are registered at the start, with 0: an alert cannot distinguish a missing metric
//! from a good one, and the first event of a new metric is no increase.
//!
//! Metrics of every request are looked up once and stored: a lookup by labels takes ten times as
//! long as counting.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::Bytes;
use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tokio::{
    sync::Mutex,
    task::{JoinError, spawn_blocking},
};

use super::{callers, http, log, process};

const DROPPED_LINES: &str = "log_lines_dropped_total";
const BUILD: &str = "ratelimit_build_info";

/// Upper bounds of the latency buckets, in seconds: from an answer without Redis to a timeout.
const LATENCY_BUCKETS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// Interval at which samples move into the buckets of histograms. Other samples use memory, and many
/// of them at once delay the next answer of `/metrics`.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A metric whose labels change: the recorder keeps each label that it has counted, and the page has
/// those of the present.
pub trait Series: fmt::Debug + Send + Sync {
    /// Adds the metric to a page, in the Prometheus text format.
    fn write(&self, page: &mut String);
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    recorder: PrometheusHandle,
    series: Vec<Arc<dyn Series>>,
    last: Arc<Mutex<Page>>,
}

/// The last text of the metrics.
#[derive(Debug, Default)]
struct Page {
    start: Option<Instant>,
    text: Bytes,
}

impl Metrics {
    /// Adds a metric to the page.
    pub fn add(&mut self, series: Arc<dyn Series>) {
        self.series.push(series);
    }

    /// Returns the metrics in the Prometheus text format, not older than this call. One thread writes
    /// them for all calls that wait: a call gets a text whose writing began after the call.
    ///
    /// # Errors
    ///
    /// When writing panics, or the process is about to end.
    pub async fn page(&self) -> Result<Bytes, JoinError> {
        let asked = Instant::now();
        // The thread has the lock: a client that disconnects must not let a second thread start.
        let mut page = Arc::clone(&self.last).lock_owned().await;
        if page.start.is_some_and(|start| start >= asked) {
            return Ok(page.text.clone());
        }
        let (recorder, series) = (self.recorder.clone(), self.series.clone());
        // `process` reads files of the system, which can block.
        let write = move || {
            page.start = Some(Instant::now());
            process::collect();
            counter!(DROPPED_LINES).absolute(log::dropped_lines());
            let mut text = recorder.render();
            series.iter().for_each(|series| series.write(&mut text));
            page.text = text.into();
            page.text.clone()
        };
        spawn_blocking(write).await
    }
}

/// Starts to collect metrics for the whole process. Events before this call are not counted.
/// `auth_failures` are the reasons to refuse a request without a valid key or token. Needs the
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
    process::describe();
    http::start(max_connections);
    callers::start(auth_failures);
    describe_counter!(
        DROPPED_LINES,
        "Lines of the log that were dropped because standard output was not read."
    );
    describe_gauge!(BUILD, "Always 1; the labels are the version and the compiler.");
    let (version, rustc) = (env!("CARGO_PKG_VERSION"), env!("RUSTC_VERSION"));
    gauge!(BUILD, "version" => version, "rustc" => rustc).set(1);

    let upkeep = recorder.clone();
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            interval.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(Metrics { recorder, series: Vec::new(), last: Arc::default() })
}
