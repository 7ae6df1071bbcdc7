//! The result of matching: the limits to take for one request.

use limiter::{Bounds, Units, Window};
use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::kind::Kind;
use crate::limit::{Charge, Rate};
use crate::model::{OnError, Policy};
use crate::overrides::Override;

/// The result of matching one request.
#[derive(Clone, Debug)]
pub struct Judgement<'p> {
    /// The decision, as far as it needs no state.
    pub outcome: Outcome<'p>,
    /// The policy that applies.
    pub policy: Option<&'p Policy>,
    /// The name of the plan whose limits apply, unless the policy or override has its own.
    pub plan: Option<&'p str>,
    /// The override that applies.
    pub r#override: Option<&'p Override>,
    /// The limits that are enforced, all or nothing; no key occurs twice.
    pub limits: Vec<JudgedLimit<'p>>,
    /// Trials: decided after the limits were granted, without an effect on the request.
    pub shadows: Vec<Shadow<'p>>,
    /// The policies, trials included, that match and skip the request, because the request lacks an
    /// attribute of their identities.
    pub skipped: Vec<&'p Policy>,
}

/// The decision about a request, as far as it needs no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'p> {
    /// The limits decide; without an enforced limit the request is allowed.
    Limited,
    /// The request is allowed without limits.
    Unlimited,
    /// An override denies the request, until the end in milliseconds since the epoch.
    Blocked {
        /// The end, or `None` without an end.
        until_ms: Option<i64>,
    },
    /// The request is denied because it lacks an attribute of an identity.
    Missing {
        /// The attribute.
        attribute: &'p crate::attribute::AttributeName,
    },
    /// No policy applies.
    Unmatched {
        /// True if such requests are denied.
        deny: bool,
    },
}

/// A trial: a policy or a limit that is decided and counted, and prevents nothing.
#[derive(Clone, Debug)]
pub struct Shadow<'p> {
    /// The policy.
    pub policy: &'p Policy,
    /// The name of the plan whose limits these are.
    pub plan: Option<&'p str>,
    /// The override that applies.
    pub r#override: Option<&'p Override>,
    /// True if the trial denies the request without any state: a block, or a missing attribute.
    pub denied: bool,
    /// The limits.
    pub limits: Vec<JudgedLimit<'p>>,
}

/// A limit of one request: its key, its numbers and the cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JudgedLimit<'p> {
    /// The key in Redis.
    pub key: String,
    /// The name.
    pub name: &'p str,
    /// The kind.
    pub kind: Kind,
    /// The units per window, or at the same time.
    #[serde(serialize_with = "units")]
    pub limit: Units,
    /// The window.
    pub window: JudgedWindow,
    /// The most units at once.
    #[serde(serialize_with = "units")]
    pub capacity: Units,
    /// The resolution of time of a sliding window in milliseconds, unless Redis chooses the
    /// resolution.
    #[serde(rename = "resolution_ms", serialize_with = "optional_millis")]
    pub resolution: Option<Window>,
    /// The units to take; with 0 the request takes nothing.
    pub cost: u32,
    /// The rule by which the cost is taken.
    pub charge: Charge,
    /// The numbers as the file has them, with the windows of all times.
    #[serde(skip)]
    pub rate: &'p Rate,
}

/// The window of a limit in one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JudgedWindow {
    /// A length; of a concurrency limit the longest time without a renewal.
    #[serde(rename = "length_ms", serialize_with = "millis")]
    Length(Window),
    /// The bounds of a calendar window.
    #[serde(serialize_with = "bounds")]
    Calendar(Bounds),
}

impl<'p> Judgement<'p> {
    /// Returns a judgement without limits.
    pub(crate) const fn new(outcome: Outcome<'p>) -> Self {
        Self {
            outcome,
            policy: None,
            plan: None,
            r#override: None,
            limits: Vec::new(),
            shadows: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// Returns false if the request is denied whatever the states of the limits are.
    #[must_use]
    pub fn can_be_allowed(&self) -> bool {
        match self.outcome {
            Outcome::Limited => self
                .limits
                .iter()
                .all(|limit| limit.charge == Charge::Always || limit.cost <= limit.capacity.get()),
            Outcome::Unlimited => true,
            Outcome::Unmatched { deny } => !deny,
            Outcome::Blocked { .. } | Outcome::Missing { .. } => false,
        }
    }

    /// Returns whether answers to end users have rate limit headers.
    #[must_use]
    pub fn headers(&self) -> bool {
        self.policy.is_none_or(|policy| policy.headers)
    }

    /// Returns the decision while Redis does not answer, unless the setting decides.
    #[must_use]
    pub fn on_error(&self) -> Option<OnError> {
        self.policy.and_then(|policy| policy.on_error)
    }
}

/// Merges the limits of several judgements of one request: limits with equal keys become one limit
/// with the sum of the costs, at most [`Units::MAX`]. The order of the first occurrences stays.
#[must_use]
pub fn merge<'p>(limits: impl IntoIterator<Item = JudgedLimit<'p>>) -> Vec<JudgedLimit<'p>> {
    let mut merged: Vec<JudgedLimit<'p>> = Vec::new();
    for limit in limits {
        match merged.iter_mut().find(|known| known.key == limit.key) {
            Some(known) => {
                known.cost = known.cost.saturating_add(limit.cost).min(Units::MAX.get());
            }
            None => merged.push(limit),
        }
    }
    merged
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn units<S: Serializer>(units: &Units, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u32(units.get())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn millis<S: Serializer>(window: &Window, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(window.as_millis())
}

/// Writes the begin and the end, in milliseconds since the epoch.
fn bounds<S: Serializer>(bounds: &Bounds, serializer: S) -> Result<S::Ok, S::Error> {
    let mut fields = serializer.serialize_struct("Bounds", 2)?;
    fields.serialize_field("from_ms", &bounds.begin_millis())?;
    fields.serialize_field("until_ms", &bounds.end_millis())?;
    fields.end()
}

#[expect(clippy::ref_option, reason = "serde calls it with a reference")]
fn optional_millis<S: Serializer>(
    window: &Option<Window>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    window.map(Window::as_millis).serialize(serializer)
}
