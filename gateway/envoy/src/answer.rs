//! The decisions on the descriptors of a call.

use http::{HeaderName, HeaderValue};
use store::{Decision, Millis};

use crate::time_unit::TimeUnit;

/// Headers, in their order.
pub type HeaderList = Vec<(HeaderName, HeaderValue)>;

/// The answer to a call of the rate limit service.
#[derive(Clone, Debug, Default)]
pub struct RateLimitAnswer {
    /// False if any descriptor is denied.
    pub allowed: bool,
    /// The decisions, in the order of the descriptors.
    pub descriptors: Vec<DescriptorAnswer>,
    /// The headers that Envoy adds to its response.
    pub headers: HeaderList,
}

/// The decision on a descriptor.
#[derive(Clone, Debug, Default)]
pub struct DescriptorAnswer {
    /// The wait of a descriptor that is denied whatever the states of its limits are.
    pub denied_for: Option<Millis>,
    /// The limits that have decided.
    pub limits: Vec<LimitAnswer>,
    /// True if the end user may see the limits.
    pub is_visible: bool,
}

/// The decision on a limit.
#[derive(Clone, Debug)]
pub struct LimitAnswer {
    /// The name.
    pub name: String,
    /// The unit of time of its windows.
    pub unit: TimeUnit,
    /// The decision.
    pub decision: Decision,
}

impl DescriptorAnswer {
    /// Returns whether the descriptor is allowed.
    #[must_use]
    pub fn allowed(&self) -> bool {
        self.denied_for.is_none() && self.limits.iter().all(|limit| limit.decision.allowed)
    }

    /// Returns the time until the descriptor would be allowed, if the descriptor is denied.
    #[must_use]
    pub fn wait(&self) -> Option<Millis> {
        let denied = self.limits.iter().filter(|limit| !limit.decision.allowed);
        denied.map(|limit| limit.decision.retry_after).chain(self.denied_for).max()
    }
}
