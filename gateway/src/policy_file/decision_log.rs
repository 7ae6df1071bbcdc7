//! The log of decisions: a line of JSON for each decision by the policies, in every form of the log.
//!
//! `ratelimit-gateway replay` reads the lines. A line has the attributes that policies read, and the
//! digests of secret values, so that the log has no secret.

use jiff::Timestamp;
use limiter::{Holder, Instant};
use policies::{Policies, attributes::Attributes, model::Entry, record::RecordedValue};
use serde::{Serialize, Serializer};

use super::policy_names::PolicyNames;
use crate::telemetry;

/// The source of decisions that need no states.
pub(crate) const BY_POLICY: &str = "policy";

/// A request that the policies have judged, for the line about its decision.
#[derive(Debug)]
pub(crate) struct DecisionRecord {
    time: Instant,
    entry: Entry,
    policy: Option<String>,
    cost: Option<u64>,
    lease: Option<String>,
    attributes: Vec<(String, RecordedValue)>,
    version: String,
}

/// The decision on a request.
#[derive(Debug, Serialize)]
pub(crate) struct LoggedDecision<'d> {
    #[serde(skip)]
    pub(crate) allowed: bool,
    /// The part that decided, or `policy` where no limit decides.
    pub(crate) source: &'static str,
    #[serde(flatten)]
    pub(crate) names: &'d PolicyNames,
    /// The names of the limits that decided.
    pub(crate) limits: &'d [String],
    /// The limits that denied the request, or another reason.
    pub(crate) violated: &'d [String],
}

/// A line of the log.
#[derive(Serialize)]
struct Line<'l> {
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    entry: Entry,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<&'l str>,
    #[serde(serialize_with = "as_map")]
    attributes: &'l [(String, RecordedValue)],
    allowed: bool,
    version: &'l str,
    decision: &'l LoggedDecision<'l>,
}

impl DecisionRecord {
    /// Returns the record of a request that `policies` have just judged at `now`.
    pub(super) fn new(
        policies: &Policies,
        attributes: &Attributes<'_>,
        lease: Option<Holder>,
        now: Instant,
    ) -> Self {
        let lease = lease.map(|holder| String::from_utf8_lossy(holder.as_bytes()).into_owned());
        let recorded = policies.record(attributes).into_iter();
        Self {
            time: now,
            entry: attributes.entry(),
            policy: attributes.policy().map(str::to_owned),
            cost: attributes.cost(),
            lease,
            attributes: recorded.map(|(name, value)| (name.to_owned(), value)).collect(),
            version: policies.version().to_owned(),
        }
    }

    /// Logs the decision on the request.
    pub(crate) fn log(&self, decision: &LoggedDecision<'_>) {
        let line = Line {
            time: microseconds(self.time),
            request_id: telemetry::current_request_id(),
            entry: self.entry,
            policy: self.policy.as_deref(),
            cost: self.cost,
            lease: self.lease.as_deref(),
            attributes: &self.attributes,
            allowed: decision.allowed,
            version: &self.version,
            decision,
        };
        match serde_json::to_string(&line) {
            Ok(line) => telemetry::log_line(line),
            Err(error) => tracing::error!(%error, "a decision has no form in JSON"),
        }
    }
}

fn as_map<S: Serializer>(
    attributes: &[(String, RecordedValue)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(attributes.iter().map(|(name, value)| (name, value)))
}

/// Returns a time as text (RFC 3339), always with six digits behind the second: a replay takes the
/// number of digits as the precision.
fn microseconds(time: Instant) -> String {
    let micros = i64::try_from(time.as_micros()).ok();
    // A time that no calendar has is wrong, and any time is as good.
    let time = micros.and_then(|micros| Timestamp::from_microsecond(micros).ok());
    time.unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}
