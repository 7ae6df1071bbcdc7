//! Metrics of callers that are not known.

use metrics::{counter, describe_counter};

use crate::callers::Refusal;

const AUTH_FAILURES: &str = "ratelimit_auth_failures_total";

/// Shows all of them, with 0.
pub(super) fn start() {
    describe_counter!(AUTH_FAILURES, "Requests that do not show who calls, by reason.");
    for refusal in Refusal::ALL {
        counter!(AUTH_FAILURES, "reason" => refusal.name()).increment(0);
    }
}

/// Counts a request that does not show who calls.
pub(crate) fn count_auth_failure(refusal: Refusal) {
    counter!(AUTH_FAILURES, "reason" => refusal.name()).increment(1);
}
