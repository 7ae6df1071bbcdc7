//! Metrics of callers.

use metrics::{counter, describe_counter};

const AUTH_FAILURES: &str = "ratelimit_auth_failures_total";
const LIMITED: &str = "ratelimit_callers_limited_total";
const DEADLINES: &str = "ratelimit_deadlines_total";

/// Registers the metrics, with 0 for each of these reasons.
pub(super) fn start(reasons: &[&'static str]) {
    describe_counter!(AUTH_FAILURES, "Requests without a valid key or token, by reason.");
    describe_counter!(LIMITED, "Requests of callers above their limit.");
    describe_counter!(
        DEADLINES,
        "Decisions by FAIL_MODE because Redis did not answer in time for the deadline of a caller."
    );
    counter!(LIMITED).increment(0);
    counter!(DEADLINES).increment(0);
    for &reason in reasons {
        counter!(AUTH_FAILURES, "reason" => reason).increment(0);
    }
}

/// Counts a request without a valid key or token.
pub(crate) fn count_auth_failure(reason: &'static str) {
    counter!(AUTH_FAILURES, "reason" => reason).increment(1);
}

/// Counts a decision without Redis because of the deadline of its caller.
pub(crate) fn count_deadline() {
    counter!(DEADLINES).increment(1);
}

/// Counts a request of a caller above its limit.
pub(crate) fn count_limited_caller() {
    counter!(LIMITED).increment(1);
}
