//! Callers that are refused, counted.

use metrics::{counter, describe_counter};

const AUTH_FAILURES: &str = "ratelimit_auth_failures_total";
const LIMITED: &str = "ratelimit_callers_limited_total";

/// Shows all of them, with 0.
pub(super) fn start(reasons: &[&'static str]) {
    describe_counter!(AUTH_FAILURES, "Requests that do not show who calls, by reason.");
    describe_counter!(LIMITED, "Requests of callers that asked more often than they may.");
    counter!(LIMITED).increment(0);
    for &reason in reasons {
        counter!(AUTH_FAILURES, "reason" => reason).increment(0);
    }
}

/// Counts a request that does not show who calls.
pub(crate) fn count_auth_failure(reason: &'static str) {
    counter!(AUTH_FAILURES, "reason" => reason).increment(1);
}

/// Counts a request of a caller that asked more often than it may.
pub(crate) fn count_limited_caller() {
    counter!(LIMITED).increment(1);
}
