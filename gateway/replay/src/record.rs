//! A request of a log: its time and its attributes.

use limiter::Holder;
use policies::Policies;
use policies::attributes::{AttributeError, Attributes};
use policies::digest::HashKey;
use policies::model::Entry;
use policies::record::RecordedValue;

/// A time of a log, in microseconds since the epoch, and the unit in which the log counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogTime {
    pub(crate) micros: u64,
    pub(crate) unit: u64,
}

/// A request of a log.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) time: LogTime,
    pub(crate) entry: Entry,
    /// The policy that the request names.
    pub(crate) policy: Option<String>,
    pub(crate) cost: Option<u64>,
    /// The holder of a lease.
    pub(crate) lease: Option<Holder>,
    /// The microseconds that the request took.
    pub(crate) duration: Option<u64>,
    /// The decision of the gateway. A line with a decision has all attributes of the request.
    pub(crate) allowed: Option<bool>,
    /// The attributes by their names.
    pub(crate) attributes: Vec<(String, RecordedValue)>,
}

/// The reason for which a line is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRequest {
    /// The line has another form than a log.
    Malformed,
    /// The line is of the log of a gateway, and no decision.
    OtherEvent,
}

/// A malformed attribute of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl From<Malformed> for NoRequest {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<AttributeError> for Malformed {
    fn from(_: AttributeError) -> Self {
        Self
    }
}

impl Record {
    /// Returns a request with a time and no attributes.
    pub(crate) const fn at(time: LogTime, entry: Entry) -> Self {
        Self {
            time,
            entry,
            policy: None,
            cost: None,
            lease: None,
            duration: None,
            allowed: None,
            attributes: Vec::new(),
        }
    }

    /// Returns the attributes for these policies. `hash_key` is the key of the digests in the log, if it
    /// is known.
    pub(crate) fn attributes<'r>(
        &'r self,
        policies: &Policies,
        hash_key: Option<&'r HashKey>,
    ) -> Result<Attributes<'r>, Malformed> {
        let mut attributes = Attributes::new(self.entry, policies.path_form());
        if let Some(policy) = &self.policy {
            attributes.set_policy(policy.as_str());
        }
        if let Some(cost) = self.cost {
            attributes.set_cost(cost);
        }
        if self.lease.is_some() {
            attributes.set_lease();
        }
        for (name, value) in &self.attributes {
            // Only a gateway writes digests: in other logs such a text is the value itself.
            if self.allowed.is_some() {
                policies.restore(&mut attributes, name, value, hash_key)?;
            } else {
                attributes.set_recorded(name, value)?;
            }
        }
        Ok(attributes)
    }
}
