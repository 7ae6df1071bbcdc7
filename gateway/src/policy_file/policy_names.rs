//! The names of the parts of the policies that apply to a check.

use policies::overrides::OverrideInfo;
use schemars::JsonSchema;
use serde::Serialize;

use crate::telemetry;

/// The parts of the policies that apply to a check.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct PolicyNames {
    /// The policy that applies.
    pub(crate) policy: Option<String>,
    /// The plan whose limits apply; null when the policy or the override has its own.
    pub(crate) plan: Option<String>,
    /// The override that applies.
    pub(crate) r#override: Option<AppliedOverride>,
}

impl PolicyNames {
    /// Adds the names, and the reasons of a denial, to the log line about the current request.
    pub(crate) fn log(self, violated: &[String]) {
        telemetry::log_policy(self.policy, self.plan, violated);
    }
}

/// An override of the policy that applies.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct AppliedOverride {
    /// The patterns of the identity.
    by: Vec<String>,
    /// The reason.
    reason: String,
    /// The end, as the file has it.
    until: Option<String>,
    /// The place of the override.
    source: &'static str,
}

impl From<OverrideInfo<'_>> for AppliedOverride {
    fn from(info: OverrideInfo<'_>) -> Self {
        Self {
            by: info.by.iter().map(ToString::to_string).collect(),
            reason: info.reason.to_owned(),
            until: info.until.map(str::to_owned),
            source: info.source,
        }
    }
}
