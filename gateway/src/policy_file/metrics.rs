//! Metrics of the file of policies.

use std::{fmt::Write, sync::LazyLock};

use metrics::{Counter, counter, describe_counter};
use tokio::sync::watch;

use super::{load::LoadError, state::FileState};
use crate::telemetry::Series;

const INFO: &str = "ratelimit_policies_info";

const LOADS: &str = "ratelimit_policies_loads_total";

const UNREAD: &str = "ratelimit_policy_unread_attributes_total";

/// The counter of attributes that no policy reads.
static UNREAD_ATTRIBUTES: LazyLock<Counter> = LazyLock::new(|| counter!(UNREAD));

/// The outcome of a load that took effect.
pub(super) const LOADED: &str = "loaded";

/// The outcome of a load of a file with errors, or with limits that Redis refuses.
const REFUSED: &str = "refused";

/// The outcome of a load of a file that cannot be read.
const UNREADABLE: &str = "unreadable";

/// Registers the metrics, with 0 for each outcome.
pub(super) fn register() {
    describe_counter!(LOADS, "Loads of POLICIES_FILE, by outcome.");
    for outcome in [LOADED, REFUSED, UNREADABLE] {
        counter!(LOADS, "outcome" => outcome).increment(0);
    }
    describe_counter!(
        UNREAD,
        "Words, parameters and headers in the attributes of checks that no policy reads, such as \
         misspelled ones."
    );
    UNREAD_ATTRIBUTES.increment(0);
}

/// Counts attributes of a check that no policy reads. Their names are those of callers, and are in no
/// metric.
pub(super) fn count_unread(attributes: usize) {
    if attributes > 0 {
        UNREAD_ATTRIBUTES.increment(attributes as u64);
    }
}

/// Counts a load.
pub(super) fn count_load(outcome: &'static str) {
    counter!(LOADS, "outcome" => outcome).increment(1);
}

/// Counts a load that failed.
pub(super) fn count_failure(error: &LoadError) {
    count_load(match error {
        LoadError::Unreadable(_) => UNREADABLE,
        LoadError::Refused(_) | LoadError::RefusedByRedis(_) | LoadError::WithoutTokens(_) => {
            REFUSED
        }
    });
}

/// The metric of the version in force, whose label changes with the version.
#[derive(Debug)]
pub(super) struct VersionSeries {
    state: watch::Receiver<FileState>,
}

impl VersionSeries {
    /// Returns the metric of this state.
    pub(super) fn new(state: watch::Receiver<FileState>) -> Self {
        Self { state }
    }
}

impl Series for VersionSeries {
    fn write(&self, page: &mut String) {
        let state = self.state.borrow();
        let version = state.policies.version();
        // Writing to text cannot fail.
        let _ = write!(
            page,
            "# HELP {INFO} Always 1; the label is the version of the policies in force.\n\
             # TYPE {INFO} gauge\n\
             {INFO}{{version=\"{version}\"}} 1\n\n"
        );
    }
}
