//! A request of a log: its time and its attributes.

use limiter::Holder;
use policies::attributes::{AttributeError, Attributes};
use policies::model::Entry;
use policies::path::{PathError, PathForm};

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
    pub(crate) attributes: Vec<(String, String)>,
}

/// The reason for which a line is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl From<AttributeError> for Malformed {
    fn from(_: AttributeError) -> Self {
        Self
    }
}

impl From<PathError> for Malformed {
    fn from(_: PathError) -> Self {
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

    /// Returns the attributes for policies with this form of paths.
    pub(crate) fn attributes(&self, form: PathForm) -> Result<Attributes<'_>, Malformed> {
        let mut attributes = Attributes::new(self.entry, form);
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
            match name.as_str() {
                // A log has the target of a request: the path and the query.
                "path" => attributes.set_target(value.as_bytes())?,
                name if name.starts_with("jwt.") => attributes.set_claim(name, value)?,
                name => attributes.set(name, value)?,
            }
        }
        Ok(attributes)
    }
}
