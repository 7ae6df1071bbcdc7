//! The form of a file: what is written, before it is checked. The JSON Schema is generated from
//! these types; their doc comments are its descriptions.

use schemars::JsonSchema;

use crate::duration;
use crate::end;
use crate::parse::{Node, Value};
use crate::problem::{Problems, shorten};
use crate::read::{At, Entries, Read, Scalar, describe, read_fields, read_words, scalar};

/// Limits in a file: which requests are limited by which limits.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename = "Policies", deny_unknown_fields)]
pub(crate) struct FileDocument {
    /// The version of this form: 1.
    #[schemars(range(min = 1, max = 1))]
    pub(crate) version: At<u64>,
    /// The time zone of calendar windows and dates, such as `Europe/Berlin`; UTC unless given.
    pub(crate) timezone: Option<At<String>>,
    /// Attributes whose values become HMACs before they enter keys, logs or pages.
    #[schemars(length(max = 1000))]
    pub(crate) secret: Option<Vec<At<String>>>,
    /// The form of paths.
    pub(crate) path: Option<PathDocument>,
    /// The decision about requests that match no policy; `allow` unless given.
    pub(crate) unmatched: Option<UnmatchedDocument>,
    /// Named lists of limits.
    pub(crate) plans: Option<Entries<Limits>>,
    /// The policies. The order matters: the first that matches applies.
    #[schemars(length(max = 10_000))]
    pub(crate) policies: At<Vec<At<PolicyDocument>>>,
    /// A mark that the file is complete.
    pub(crate) end: Option<At<bool>>,
}
read_fields!(FileDocument { version, timezone, secret, path, unmatched, plans, policies, end });

/// A list of limits.
pub(crate) type Limits = At<Vec<At<LimitDocument>>>;

/// The form of paths, for servers that treat several paths as one.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename = "Path", deny_unknown_fields)]
pub(crate) struct PathDocument {
    /// True when the server ignores the case of paths.
    pub(crate) ignore_case: Option<bool>,
    /// True when the server ignores `;x` in the segments of a path.
    pub(crate) strip_parameters: Option<bool>,
}
read_fields!(PathDocument { ignore_case, strip_parameters });

/// The decision about requests that match no policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename = "Unmatched", rename_all = "snake_case")]
pub(crate) enum UnmatchedDocument {
    /// They are allowed.
    Allow,
    /// They are denied.
    Deny,
}
read_words!(UnmatchedDocument { "allow" => Allow, "deny" => Deny });

/// A policy: the requests, their identity, and the limits.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename = "Policy", deny_unknown_fields)]
pub(crate) struct PolicyDocument {
    /// The name in keys, answers, logs and metrics.
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9_.-]{0,62}$"))]
    pub(crate) name: At<String>,
    /// The requests to which the policy applies; all unless given.
    pub(crate) r#match: Option<At<MatchDocument>>,
    /// The attributes whose values form the identity; `[]` is one quota for all requests.
    #[schemars(length(max = 16))]
    pub(crate) by: At<Vec<At<String>>>,
    /// The treatment of requests without an attribute of `by`.
    pub(crate) missing: Option<At<MissingDocument>>,
    /// The limits; either these or `plan`.
    #[schemars(length(min = 1, max = 16))]
    pub(crate) limits: Option<Limits>,
    /// The plan; either this or `limits`.
    pub(crate) plan: Option<At<PlanDocument>>,
    /// Exceptions; the first that applies counts.
    #[schemars(length(max = 100_000))]
    pub(crate) overrides: Option<Vec<At<OverrideDocument>>>,
    /// The entries that can select the policy; all unless given.
    #[schemars(length(min = 1, max = 3))]
    pub(crate) entry: Option<At<Vec<At<EntryDocument>>>>,
    /// True for a policy that is only a trial beside the policy that applies.
    pub(crate) shadow: Option<bool>,
    /// False when the limits are only counted; `true` unless given.
    pub(crate) enforce: Option<bool>,
    /// False when headers do not show the limits to end users; `true` unless given.
    pub(crate) headers: Option<bool>,
    /// The decision while Redis does not answer; FAIL_MODE unless given.
    pub(crate) on_error: Option<OnErrorDocument>,
}
read_fields!(PolicyDocument {
    name,
    r#match,
    by,
    missing,
    limits,
    plan,
    overrides,
    entry,
    shadow,
    enforce,
    headers,
    on_error,
});

/// The treatment of requests without an attribute of `by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename = "Missing", rename_all = "snake_case")]
pub(crate) enum MissingDocument {
    /// The policy does not apply.
    Skip,
    /// The request is denied.
    Deny,
    /// All requests without the attribute have one quota.
    Share,
}
read_words!(MissingDocument { "skip" => Skip, "deny" => Deny, "share" => Share });

/// A way on which requests arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename = "Entry", rename_all = "snake_case")]
pub(crate) enum EntryDocument {
    /// A check by a caller.
    Check,
    /// Forward authentication over HTTP or gRPC.
    Authz,
    /// The rate limit service of Envoy.
    Rls,
}
read_words!(EntryDocument { "check" => Check, "authz" => Authz, "rls" => Rls });

/// The decision while Redis does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename = "OnError", rename_all = "snake_case")]
pub(crate) enum OnErrorDocument {
    /// Requests are denied.
    Closed,
    /// Requests are allowed.
    Open,
    /// The gateway decides by itself.
    Local,
}
read_words!(OnErrorDocument { "closed" => Closed, "open" => Open, "local" => Local });

/// The requests to which a policy applies.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename = "Match", untagged)]
pub(crate) enum MatchDocument {
    /// Only requests that name the policy.
    Named(NamedDocument),
    /// Requests for which all clauses hold: an attribute and its values each.
    Clauses(Entries<ClauseDocument>),
}

/// The word for policies that apply only to requests that name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename = "Named", rename_all = "snake_case")]
pub(crate) enum NamedDocument {
    /// The policy applies only to requests that name it.
    Named,
}
read_words!(NamedDocument { "named" => Named });

impl Read for MatchDocument {
    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        match &node.value {
            Value::Scalar { .. } => NamedDocument::read(node, problems).map(Self::Named),
            _ => Entries::read(node, problems).map(Self::Clauses),
        }
    }
}

/// The values for which a clause holds. `*` stands for any text within a segment, `**` across
/// segments; nothing else is special.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename = "Clause", untagged)]
pub(crate) enum ClauseDocument {
    /// A glob, or a list of which one must match.
    Any(Globs),
    /// A condition.
    Condition(ConditionDocument),
}

/// One glob or several.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum Globs {
    /// One glob.
    One(At<String>),
    /// Several globs.
    Several(#[schemars(length(min = 1, max = 1000))] Vec<At<String>>),
}

impl Globs {
    /// Returns the globs as a list.
    pub(crate) fn as_slice(&self) -> &[At<String>] {
        match self {
            Self::One(glob) => std::slice::from_ref(glob),
            Self::Several(globs) => globs,
        }
    }
}

impl Read for Globs {
    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        match &node.value {
            Value::List(items) if items.is_empty() => {
                problems.expect(node.place, "the list is empty", "at least one value");
                None
            }
            Value::List(_) => Vec::read(node, problems).map(Self::Several),
            _ => At::read(node, problems).map(Self::One),
        }
    }
}

/// A condition: one of the two keys.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename = "Condition", deny_unknown_fields, extend("minProperties" = 1, "maxProperties" = 1))]
pub(crate) struct ConditionDocument {
    /// The values that may not match; the attribute must exist.
    pub(crate) not: Option<Globs>,
    /// True when the attribute must exist, false when the attribute must be missing.
    pub(crate) exists: Option<bool>,
}
read_fields!(ConditionDocument { not, exists });

impl Read for ClauseDocument {
    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        if !matches!(node.value, Value::Map(_)) {
            return Globs::read(node, problems).map(Self::Any);
        }
        let condition = ConditionDocument::read(node, problems)?;
        if condition.not.is_some() == condition.exists.is_some() {
            problems.expect(node.place, "a condition", "one of `not` and `exists`");
            return None;
        }
        Some(Self::Condition(condition))
    }
}

/// The plan of a policy.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename = "PlanChoice", untagged)]
pub(crate) enum PlanDocument {
    /// One plan.
    Name(At<String>),
    /// The plan that an attribute names.
    From(PlanFromDocument),
}

/// The plan that an attribute names.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename = "PlanFrom", deny_unknown_fields)]
pub(crate) struct PlanFromDocument {
    /// The attribute.
    pub(crate) from: At<String>,
    /// The plan when the attribute is missing or names no plan.
    pub(crate) default: At<String>,
    /// True when an attribute that the end user writes may name the plan.
    pub(crate) trusted: Option<bool>,
}
read_fields!(PlanFromDocument { from, default, trusted });

impl Read for PlanDocument {
    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        match &node.value {
            Value::Map(_) => PlanFromDocument::read(node, problems).map(Self::From),
            _ => At::read(node, problems).map(Self::Name),
        }
    }
}

/// A limit.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename = "Limit", deny_unknown_fields)]
pub(crate) struct LimitDocument {
    /// The name in keys, answers, headers and metrics.
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9_.-]{0,62}$"))]
    pub(crate) name: At<String>,
    /// The way of counting; `token_bucket` unless given.
    pub(crate) algorithm: Option<AlgorithmDocument>,
    /// The units per window, or at the same time.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(crate) limit: At<u64>,
    /// The window: a duration such as `10s`, or for fixed windows `day`, `week`, `month`, `year`.
    pub(crate) per: Option<At<DurationDocument>>,
    /// The most units at once; the limit unless given. Token buckets only.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(crate) burst: Option<At<u64>>,
    /// The resolution of time. Sliding windows only.
    pub(crate) resolution: Option<At<DurationDocument>>,
    /// The start of a calendar window: `"06:00"`, `monday`, `15`, `"04-01"`.
    pub(crate) starts: Option<At<StartsDocument>>,
    /// The time zone of a calendar window; that of the file unless given.
    pub(crate) timezone: Option<At<String>>,
    /// The longest time that a lease is held without a renewal. Concurrency limits only.
    pub(crate) ttl: Option<At<DurationDocument>>,
    /// The attributes whose values form the identity; those of the policy unless given.
    #[schemars(length(max = 16))]
    pub(crate) by: Option<At<Vec<At<String>>>>,
    /// The units of a request; those that the request asks for unless given.
    pub(crate) cost: Option<At<CostDocument>>,
    /// The rule of charging: `always` takes the whole cost when one unit is free.
    pub(crate) charge: Option<At<ChargeDocument>>,
    /// True when the limit is only counted.
    pub(crate) shadow: Option<bool>,
}
read_fields!(LimitDocument {
    name,
    algorithm,
    limit,
    per,
    burst,
    resolution,
    starts,
    timezone,
    ttl,
    by,
    cost,
    charge,
    shadow,
});

/// The ways of counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename = "Algorithm", rename_all = "snake_case")]
pub(crate) enum AlgorithmDocument {
    /// Units come back steadily.
    TokenBucket,
    /// Each grant counts for exactly one window.
    SlidingWindow,
    /// All units come back at a known instant.
    FixedWindow,
    /// Units are held until they are released.
    Concurrency,
}
read_words!(AlgorithmDocument {
    "token_bucket" => TokenBucket,
    "sliding_window" => SlidingWindow,
    "fixed_window" => FixedWindow,
    "concurrency" => Concurrency,
});

/// The rule of charging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename = "Charge", rename_all = "snake_case")]
pub(crate) enum ChargeDocument {
    /// The whole cost is taken when at least one unit was free.
    Always,
}
read_words!(ChargeDocument { "always" => Always });

/// A duration, or a word for a window of the calendar.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(inline)]
pub(crate) struct DurationDocument(pub(crate) String);

impl Read for DurationDocument {
    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        // In quotes a number would be no duration either.
        if let (Some(Scalar::Number | Scalar::Bool(_)), Value::Scalar { text, .. }) =
            (scalar(node), &node.value)
        {
            let problem = format!("`{}` is no duration", shorten(text));
            problems.expect(node.place, problem, duration::EXPECTED);
            return None;
        }
        String::read(node, problems).map(Self)
    }
}

/// The start of a calendar window.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename = "Starts", untagged)]
pub(crate) enum StartsDocument {
    /// A time, a weekday or a date.
    Text(String),
    /// A day of the month.
    Day(#[schemars(range(min = 1, max = 31))] u64),
    /// A time or a date without quotes, which is an error.
    #[schemars(skip)]
    Unquoted(String),
}

impl Read for StartsDocument {
    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        match (scalar(node), &node.value) {
            (Some(Scalar::Number), _) => u64::read(node, problems).map(Self::Day),
            // YAML 1.1 reads 06:00 as a number and 04-01 as text.
            (_, Value::Scalar { text, plain: true }) if text.contains([':', '-']) => {
                Some(Self::Unquoted(text.clone().into_owned()))
            }
            _ => String::read(node, problems).map(Self::Text),
        }
    }
}

/// The units of a request.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename = "Cost", untagged)]
pub(crate) enum CostDocument {
    /// A number of units.
    Units(#[schemars(range(min = 1, max = 1_000_000_000))] At<u64>),
    /// The units that an attribute names.
    From(CostFromDocument),
}

/// The units that an attribute names.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename = "CostFrom", deny_unknown_fields)]
pub(crate) struct CostFromDocument {
    /// The attribute.
    pub(crate) from: At<String>,
    /// The units when the attribute is missing or no whole number.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(crate) default: At<u64>,
    /// The least units; smaller values count as this. 1 unless given.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(crate) min: Option<At<u64>>,
    /// The most units; larger values count as this. The capacity of the limit unless given.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(crate) max: Option<At<u64>>,
    /// True when an attribute that the end user writes may name the units.
    pub(crate) trusted: Option<bool>,
}
read_fields!(CostFromDocument { from, default, min, max, trusted });

impl Read for CostDocument {
    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        match &node.value {
            Value::Map(_) => CostFromDocument::read(node, problems).map(Self::From),
            Value::Scalar { .. } => At::read(node, problems).map(Self::Units),
            Value::List(_) => {
                problems.expect(node.place, describe(node), "a number, or a map with `from`");
                None
            }
        }
    }
}

/// An exception: the identities, and their plan, limits, `unlimited` or `block`.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename = "Override", deny_unknown_fields)]
pub(crate) struct OverrideDocument {
    /// The identities: one glob per value of the policy's `by`.
    pub(crate) by: Option<At<Globs>>,
    /// The requests, as the `match` of a policy.
    pub(crate) r#match: Option<At<Entries<ClauseDocument>>>,
    /// The reason, for answers to callers, logs and pages; end users do not see it.
    #[schemars(length(min = 1, max = 1000))]
    pub(crate) reason: At<String>,
    /// The end, in quotes: a date means the end of that day, or RFC 3339.
    pub(crate) until: Option<At<UntilDocument>>,
    /// Another plan.
    pub(crate) plan: Option<At<String>>,
    /// Other limits.
    #[schemars(length(min = 1, max = 16))]
    pub(crate) limits: Option<Limits>,
    /// No limits.
    pub(crate) unlimited: Option<At<bool>>,
    /// No requests.
    pub(crate) block: Option<At<bool>>,
    /// True when a `block` is only counted.
    pub(crate) shadow: Option<At<bool>>,
}
read_fields!(OverrideDocument {
    by,
    r#match,
    reason,
    until,
    plan,
    limits,
    unlimited,
    block,
    shadow,
});

/// A date or an instant, in quotes, because some readers of YAML make another type of it.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(inline)]
pub(crate) struct UntilDocument(pub(crate) String);

impl Read for UntilDocument {
    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        match &node.value {
            Value::Scalar { text, plain: true } if scalar(node) != Some(Scalar::Null) => {
                if end::parse(text).is_some() {
                    let problem = format!("`{text}` stands without quotes");
                    problems.expect(node.place, problem, format!("\"{text}\""));
                } else {
                    let problem = format!("`{}` is no end", shorten(text));
                    problems.expect(node.place, problem, end::EXPECTED);
                }
                None
            }
            _ => String::read(node, problems).map(Self),
        }
    }
}
