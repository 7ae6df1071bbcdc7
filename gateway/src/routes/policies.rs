//! Shows the policies in force, and the error of a version that is not.

use std::{sync::Arc, time::SystemTime};

use aide::transform::TransformOperation;
use axum::{
    Json,
    extract::State,
    http::{HeaderName, HeaderValue},
};
use calendar::{CalendarUnit, Unit};
use jiff::Timestamp;
use policies::{
    Policies,
    clause::Clause,
    model::{
        Charge, Cost, Entry, FixedWindow, LimitSpec, Limits, Matcher, Missing, OnError, Policy,
        Rate,
    },
    problem::Problem,
};
use schemars::JsonSchema;
use serde::Serialize;
use store::Millis;

use crate::{
    error::{Error, ErrorBody},
    headers, openapi,
    policy_file::{
        load::LoadError,
        state::{Fault, FileState},
    },
    seconds::Seconds,
    state::AppState,
};

/// The policies in force.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PoliciesAnswer {
    /// The version: 12 hexadecimal digits of the SHA-256 of the file.
    version: String,
    /// The time at which this version was loaded.
    loaded_at: String,
    /// The error of the present content of the file. That content is not in force, unless Redis refuses
    /// a limit of the version in force; null without an error.
    error: Option<FileErrorAnswer>,
    /// Remarks about the version in force.
    warnings: Vec<ProblemAnswer>,
    /// The named lists of limits.
    plans: Vec<PlanAnswer>,
    /// The policies in the order of the file.
    policies: Vec<PolicyAnswer>,
}

/// The error of a content of the file.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct FileErrorAnswer {
    /// The time at which the content was read.
    at: String,
    /// The error, for people.
    detail: String,
    /// The faults of the content; none when the file cannot be read or a setting is missing.
    problems: Vec<ProblemAnswer>,
}

/// A fault of a file, or a remark.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
struct ProblemAnswer {
    /// The line, from 1.
    line: u32,
    /// The column in characters, from 1.
    column: u32,
    /// The fault.
    problem: String,
    /// The form that is accepted.
    expected: Option<String>,
    /// The known word that is nearest to the word in the file.
    nearest: Option<String>,
}

/// A named list of limits.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct PlanAnswer {
    /// The name.
    name: String,
    /// The limits.
    limits: Vec<LimitAnswer>,
}

/// A policy.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct PolicyAnswer {
    /// The name.
    name: String,
    /// True if the policy applies only to requests that name it.
    named: bool,
    /// The conditions of the policy; none matches every request.
    r#match: Vec<ClauseAnswer>,
    /// The attributes whose values form the identity; none is one quota for all requests.
    by: Vec<String>,
    /// The treatment of requests without such an attribute: `skip`, `deny` or `share`.
    #[schemars(with = "String")]
    missing: Missing,
    /// The limits of the policy itself; null when a plan has them.
    limits: Option<Vec<LimitAnswer>>,
    /// The plan, or the plan of requests whose attribute names none.
    plan: Option<String>,
    /// The attribute that names the plan.
    plan_from: Option<String>,
    /// The number of overrides.
    overrides: usize,
    /// The entries that can select the policy.
    entry: Vec<&'static str>,
    /// True if the policy is only a trial beside the policy that applies.
    shadow: bool,
    /// False if the limits are only counted.
    enforce: bool,
    /// True if end users see the limits.
    headers: bool,
    /// The decision while Redis does not answer: `closed`, `open` or `local`; null when FAIL_MODE
    /// decides.
    #[schemars(with = "Option<String>")]
    on_error: Option<OnError>,
}

/// A condition on an attribute.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct ClauseAnswer {
    /// The attribute.
    attribute: String,
    /// The condition as written, or `(secret)`.
    clause: String,
}

/// A limit.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PolicyLimit")]
struct LimitAnswer {
    /// The name.
    name: String,
    /// The kind: `token_bucket`, `sliding_window`, `fixed_window` or `concurrency`.
    algorithm: &'static str,
    /// Units per window, or at the same time.
    limit: u32,
    /// The most units at once.
    capacity: u32,
    /// The window in seconds; of `concurrency` the longest time without a renewal, and null for a
    /// period.
    window_seconds: Option<Seconds>,
    /// The unit of a window of the calendar.
    period: Option<&'static str>,
    /// The units of a request: a number, or the attribute that has the number; null when the request
    /// has it.
    cost: Option<String>,
    /// True if the whole cost is taken when at least one unit was left.
    charge_always: bool,
    /// The attributes of an identity of its own.
    by: Option<Vec<String>>,
    /// True if the limit is only counted.
    shadow: bool,
}

/// `GET /policies`
pub(crate) async fn policies(
    State(state): State<Arc<AppState>>,
) -> Result<([(HeaderName, HeaderValue); 1], Json<PoliciesAnswer>), Error> {
    let file = state.policies.as_ref().ok_or(Error::NoPolicies)?;
    Ok((headers::NO_STORE, Json(PoliciesAnswer::from(&file.state()))))
}

impl From<&FileState> for PoliciesAnswer {
    fn from(state: &FileState) -> Self {
        let FileState { policies, loaded_at, fault } = state;
        let plan = |plan: &policies::model::Plan| PlanAnswer {
            name: plan.name.to_string(),
            limits: limits(&plan.limits),
        };
        Self {
            version: policies.version().to_owned(),
            loaded_at: time(*loaded_at),
            error: fault.as_ref().map(FileErrorAnswer::from),
            warnings: policies.warnings().iter().map(ProblemAnswer::from).collect(),
            plans: policies.plans().iter().map(plan).collect(),
            policies: policies.policies().iter().map(|policy| answer(policies, policy)).collect(),
        }
    }
}

impl From<&Fault> for FileErrorAnswer {
    fn from(Fault { at, error, .. }: &Fault) -> Self {
        let problems = match &**error {
            LoadError::Unreadable(_) | LoadError::WithoutTokens(_) => &[][..],
            LoadError::Refused(problems) | LoadError::RefusedByRedis(problems) => problems,
        };
        let problems = problems.iter().map(ProblemAnswer::from).collect();
        Self { at: time(*at), detail: error.to_string(), problems }
    }
}

impl From<&Problem> for ProblemAnswer {
    fn from(problem: &Problem) -> Self {
        let Problem { place, problem, expected, nearest } = problem.clone();
        Self { line: place.line, column: place.column, problem, expected, nearest }
    }
}

fn answer(policies: &Policies, policy: &Policy) -> PolicyAnswer {
    let plan = |position: usize| policies.plans().get(position).map(|plan| plan.name.to_string());
    let (own, plan, plan_from) = match &policy.limits {
        Limits::Own(own) => (Some(limits(own)), None, None),
        Limits::Plan(position) => (None, plan(*position), None),
        Limits::PlanFrom { from, default } => (None, plan(*default), Some(from.to_string())),
    };
    let (named, clauses) = match &policy.matcher {
        Matcher::Named => (true, &[][..]),
        Matcher::Clauses(clauses) => (false, &**clauses),
    };
    let entries = [(Entry::Check, "check"), (Entry::Authz, "authz"), (Entry::Rls, "rls")];
    let entries = entries.into_iter().filter(|(entry, _)| policy.entries.contains(*entry));
    PolicyAnswer {
        name: policy.name.to_string(),
        named,
        r#match: clauses.iter().map(ClauseAnswer::from).collect(),
        by: policy.by.iter().map(|part| part.attribute.to_string()).collect(),
        missing: policy.missing,
        limits: own,
        plan,
        plan_from,
        overrides: policy.overrides.as_slice().len(),
        entry: entries.map(|(_, name)| name).collect(),
        shadow: policy.shadow,
        enforce: policy.enforce,
        headers: policy.headers,
        on_error: policy.on_error,
    }
}

impl From<&Clause> for ClauseAnswer {
    fn from(clause: &Clause) -> Self {
        Self { attribute: clause.attribute.to_string(), clause: clause.shown().to_owned() }
    }
}

fn limits(limits: &[LimitSpec]) -> Vec<LimitAnswer> {
    limits.iter().map(LimitAnswer::from).collect()
}

impl From<&LimitSpec> for LimitAnswer {
    fn from(spec: &LimitSpec) -> Self {
        let (window, period) = match &spec.rate {
            Rate::TokenBucket { per, .. }
            | Rate::SlidingWindow { per, .. }
            | Rate::FixedWindow { per: FixedWindow::Length(per), .. }
            | Rate::Concurrency { ttl: per, .. } => (Some(*per), None),
            Rate::FixedWindow { per: FixedWindow::Calendar(calendar), .. } => {
                (None, Some(unit_of(calendar.unit()).name()))
            }
        };
        let by = spec.by.as_ref();
        Self {
            name: spec.name.to_string(),
            algorithm: spec.rate.kind().name(),
            limit: spec.rate.limit().get(),
            capacity: spec.rate.capacity().get(),
            window_seconds: window.map(|window| Seconds(Millis::from(window))),
            period,
            cost: match &spec.cost {
                Cost::Request => None,
                Cost::Units(units) => Some(units.get().to_string()),
                Cost::From(from) => Some(from.from.to_string()),
            },
            charge_always: spec.charge == Charge::Always,
            by: by.map(|by| by.iter().map(|part| part.attribute.to_string()).collect()),
            shadow: spec.shadow,
        }
    }
}

fn unit_of(unit: CalendarUnit) -> Unit {
    match unit {
        CalendarUnit::Day(_) => Unit::Day,
        CalendarUnit::Week(_) => Unit::Week,
        CalendarUnit::Month { .. } => Unit::Month,
        CalendarUnit::Year { .. } => Unit::Year,
    }
}

/// Returns a time as text (RFC 3339) with milliseconds.
fn time(time: SystemTime) -> String {
    // A time that no calendar has is wrong, and any time is as good.
    let time = Timestamp::try_from(time).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

pub(crate) fn docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation
        .id("policies")
        .tag("policies")
        .summary("Show the policies")
        .description(
            "The policies in force in this instance, and the error of the file if its present \
             content is not in force. Overrides are counted only.",
        )
        .response_with::<200, Json<PoliciesAnswer>, _>(|response| {
            openapi::with_headers(response, &headers::NO_STORE_DOCS)
                .description("The policies in force.")
        });
    with_no_policies(operation)
}

/// Adds the error of a route that needs a file of policies.
pub(super) fn with_no_policies(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    operation.response_with::<404, Json<ErrorBody>, _>(|response| {
        response
            .description("The service runs without POLICIES_FILE.")
            .example(Error::NoPolicies.body())
    })
}

/// Adds the error of a route whose attributes can be malformed.
pub(super) fn with_malformed_attributes(
    operation: TransformOperation<'_>,
) -> TransformOperation<'_> {
    let error = Error::AttributeMalformed("`client.ip` must be an address".to_owned());
    operation.response_with::<400, Json<ErrorBody>, _>(|response| {
        response.description("A value of an attribute is malformed.").example(error.body())
    })
}
