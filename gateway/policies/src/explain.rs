//! Explanations: each policy that was tried, each clause, and why it holds or does not.
//!
//! An explanation uses no index. It tries the policies one after the other with the same code that
//! judges requests.

use limiter::Instant;
use schemars::JsonSchema;
use serde::Serialize;

use crate::attribute::AttributeName;
use crate::attributes::{Attributes, RequestError, Value};
use crate::clause::{Clause, Condition, SECRET};
use crate::identity::{Identity, PartValue};
use crate::judgement::{JudgedLimit, Judgement, Outcome};
use crate::model::{Matcher, Missing, Policy};
use crate::overrides::OverrideInfo;
use crate::policies::Policies;

/// The account of one request.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation<'p> {
    /// The version of the policies.
    pub version: &'p str,
    /// The policies that were tried, in order.
    pub tried: Vec<PolicyExplanation<'p>>,
    /// Words, parameters and headers of the request that no policy reads.
    pub unread: Vec<String>,
    /// The decision, as far as it needs no state: `limited`, `unlimited`, `blocked`, `missing`,
    /// `unmatched` or `error`.
    pub outcome: &'static str,
    /// False if the request is denied whatever the states of the limits are.
    pub allowed: bool,
    /// The fault of the request.
    pub error: Option<String>,
    /// The name of the policy that applies.
    pub policy: Option<&'p str>,
    /// The name of the plan.
    pub plan: Option<&'p str>,
    /// The override that applies.
    pub r#override: Option<OverrideInfo<'p>>,
    /// The end of a block in milliseconds since the epoch.
    pub until_ms: Option<i64>,
    /// The limits that are enforced.
    pub limits: Vec<JudgedLimit<'p>>,
    /// The limits that are only counted.
    pub shadow_limits: Vec<JudgedLimit<'p>>,
}

/// The account of one policy.
#[derive(Clone, Debug, JsonSchema, Serialize)]
#[schemars(inline)]
pub struct PolicyExplanation<'p> {
    /// The name.
    pub policy: &'p str,
    /// True if the policy applies.
    pub applies: bool,
    /// The reason why it applies or does not.
    pub reason: String,
    /// True if the policy is only a trial.
    pub shadow: bool,
    /// The clauses.
    pub clauses: Vec<ClauseExplanation<'p>>,
    /// The values of the identity, if the policy matches.
    pub identity: Vec<ValueExplanation>,
}

/// The account of one clause.
#[derive(Clone, Debug, JsonSchema, Serialize)]
#[schemars(inline)]
pub struct ClauseExplanation<'p> {
    /// The attribute.
    pub attribute: String,
    /// The condition as written, or `(secret)`.
    pub clause: &'p str,
    /// The value, or `(secret)`; `None` when the attribute is missing.
    pub value: Option<String>,
    /// True if the clause holds.
    pub holds: bool,
    /// The reason why it holds or does not.
    pub reason: String,
}

/// The value of one attribute of an identity.
#[derive(Clone, Debug, JsonSchema, Serialize)]
#[schemars(inline)]
pub struct ValueExplanation {
    /// The attribute.
    pub attribute: String,
    /// The value, the digest of a secret value, or `None`.
    pub value: Option<String>,
}

impl Explanation<'_> {
    /// Names the attribute without which the request is denied, which can be one of a limit alone. The
    /// policy that applies is the last one that was tried.
    fn name_missing(&mut self, judged: &Result<Judgement<'_>, RequestError>) {
        if let Ok(Judgement { outcome: Outcome::Missing { attribute }, .. }) = judged
            && let Some(policy) = self.tried.last_mut()
        {
            policy.reason = denial_without(attribute);
        }
    }
}

impl Policies {
    /// Returns the account of a request.
    #[must_use]
    pub fn explain<'p>(&'p self, attributes: &Attributes<'_>, now: Instant) -> Explanation<'p> {
        let judged = self.judge(attributes, now);
        let mut explanation = self.summarize(&judged);
        explanation.unread = self.unread(attributes).map(|name| name.to_string()).collect();
        let applied = judged.as_ref().ok().and_then(|judgement| judgement.policy);
        if let Some(name) = &attributes.policy {
            if let Ok(policy) = self.policy_for(name, attributes) {
                explanation.tried.push(self.explain_policy(policy, attributes, true));
            }
            explanation.name_missing(&judged);
            return explanation;
        }
        for policy in &self.policies {
            let tried = self.explain_policy(policy, attributes, false);
            // A fault of the request ends the search of a policy that is no trial.
            let fault = judged.is_err() && !policy.shadow && policy.matches(attributes).is_err();
            explanation.tried.push(tried);
            if fault || applied.is_some_and(|applied| std::ptr::eq(applied, policy)) {
                break;
            }
        }
        explanation.name_missing(&judged);
        explanation
    }

    fn summarize<'p>(&'p self, judged: &Result<Judgement<'p>, RequestError>) -> Explanation<'p> {
        let mut explanation = Explanation {
            version: self.version(),
            tried: Vec::new(),
            unread: Vec::new(),
            outcome: "error",
            allowed: false,
            error: None,
            policy: None,
            plan: None,
            r#override: None,
            until_ms: None,
            limits: Vec::new(),
            shadow_limits: Vec::new(),
        };
        let judgement = match judged {
            Ok(judgement) => judgement,
            Err(error) => {
                explanation.error = Some(error.to_string());
                return explanation;
            }
        };
        explanation.outcome = match judgement.outcome {
            Outcome::Limited => "limited",
            Outcome::Unlimited => "unlimited",
            Outcome::Blocked { until_ms } => {
                explanation.until_ms = until_ms;
                "blocked"
            }
            Outcome::Missing { .. } => "missing",
            Outcome::Unmatched { .. } => "unmatched",
        };
        explanation.allowed = judgement.can_be_allowed();
        explanation.policy = judgement.policy.map(|policy| &*policy.name);
        explanation.plan = judgement.plan;
        explanation.r#override = judgement.r#override.map(|entry| entry.info());
        explanation.limits.clone_from(&judgement.limits);
        let shadows = judgement.shadows.iter().flat_map(|shadow| &shadow.limits);
        explanation.shadow_limits = shadows.cloned().collect();
        explanation
    }

    fn explain_policy<'p>(
        &'p self,
        policy: &'p Policy,
        attributes: &Attributes<'_>,
        named: bool,
    ) -> PolicyExplanation<'p> {
        let clauses: Vec<_> = match &policy.matcher {
            Matcher::Clauses(clauses) if !named => {
                clauses.iter().map(|clause| explain_clause(clause, attributes)).collect()
            }
            _ => Vec::new(),
        };
        let mut explanation = PolicyExplanation {
            policy: &policy.name,
            applies: false,
            reason: String::new(),
            shadow: policy.shadow,
            clauses,
            identity: Vec::new(),
        };
        let matches = if named { Ok(true) } else { policy.matches(attributes) };
        explanation.reason = match matches {
            _ if !policy.entries.contains(attributes.entry) => {
                "the policy is not for this entry".to_owned()
            }
            Err(error) => error.to_string(),
            Ok(false) if matches!(policy.matcher, Matcher::Named) => {
                "the request does not name the policy".to_owned()
            }
            Ok(false) => "a clause does not hold".to_owned(),
            Ok(true) => {
                match self.explain_identity(policy, attributes, &mut explanation.identity) {
                    Err(error) => error.to_string(),
                    Ok(Some(missing)) if policy.missing == Missing::Skip => {
                        format!("`{missing}` is missing, and the policy skips such requests")
                    }
                    Ok(missing) => {
                        explanation.applies = true;
                        match missing {
                            Some(missing) if policy.missing == Missing::Deny => {
                                denial_without(missing)
                            }
                            _ if named => "the request names the policy".to_owned(),
                            _ => "all clauses hold".to_owned(),
                        }
                    }
                }
            }
        };
        explanation
    }

    /// Adds the values of an identity, and returns the first attribute that is missing.
    fn explain_identity<'p>(
        &self,
        policy: &'p Policy,
        attributes: &Attributes<'_>,
        values: &mut Vec<ValueExplanation>,
    ) -> Result<Option<&'p AttributeName>, RequestError> {
        let identity = Identity::of(&policy.by, attributes, self.hash_key.as_ref())?;
        for (part, value) in policy.by.iter().zip(&identity.values) {
            values.push(ValueExplanation {
                attribute: part.attribute.to_string(),
                value: value.text().map(|text| shown(&text)),
            });
        }
        let missing = identity.values.iter().position(|value| *value == PartValue::Missing);
        Ok(missing.and_then(|at| policy.by.get(at)).map(|part| &part.attribute))
    }
}

fn denial_without(missing: &AttributeName) -> String {
    format!("`{missing}` is missing, and the policy denies such requests")
}

fn explain_clause<'p>(clause: &'p Clause, attributes: &Attributes<'_>) -> ClauseExplanation<'p> {
    let value = attributes.value(&clause.attribute);
    let held = value.and_then(|value| Ok((clause.holds_for(&value)?, value)));
    let (value, holds, reason) = match held {
        Err(error) => (None, false, error.to_string()),
        Ok((holds, value)) => {
            (value_text(&value, clause.secret), holds, reason(clause, &value, holds).to_owned())
        }
    };
    ClauseExplanation {
        attribute: clause.attribute.to_string(),
        clause: clause.shown(),
        value,
        holds,
        reason,
    }
}

fn reason(clause: &Clause, value: &Value<'_>, holds: bool) -> &'static str {
    match (&clause.condition, value) {
        (Condition::Exists(_), Value::Missing) => "the attribute is missing",
        (Condition::Exists(_), _) => "the attribute exists",
        (_, Value::Missing) => "the attribute is missing: only `exists: false` holds then",
        (Condition::Any(_) | Condition::In(_), _) if holds => "one of the values matches",
        (Condition::Any(_) | Condition::In(_), _) => "none of the values matches",
        (Condition::NotAny(_) | Condition::NotIn(_), _) if holds => "none of the values matches",
        (Condition::NotAny(_) | Condition::NotIn(_), _) => "one of the values matches",
    }
}

fn value_text(value: &Value<'_>, secret: bool) -> Option<String> {
    match value {
        Value::Missing => None,
        Value::Secret(_) => Some(SECRET.to_owned()),
        _ if secret => Some(SECRET.to_owned()),
        Value::Text(text) => Some(shown(text)),
        Value::List(items) => {
            let items: Vec<_> = items.iter().map(|item| shown(item)).collect();
            Some(items.join(", "))
        }
        Value::Address(address) => Some(address.to_string()),
    }
}

/// Returns a value as text: bytes that are not UTF-8 are percent-encoded.
fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
