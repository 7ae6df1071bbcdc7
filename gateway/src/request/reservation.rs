//! The fields of requests for reservations and settlements.

use std::ops::RangeInclusive;

use limiter::Algorithm;
use store::{Check, SettledLimit};

use super::{
    field_error::BrokenRule,
    fields::{Defaults, Fields, Invalid},
    input::Input,
    policy::POLICY_FIELDS,
    quota::{COST, DEFAULT_UNITS, default_algorithm},
    quota_fields::{LIMITS, QUOTA_FIELDS},
    value::{self, text},
};

/// Maximum size of the name of a reservation in bytes. The minimum is 1.
pub(crate) const MAX_RESERVATION_BYTES: usize = 64;

/// The range of the units that were used.
pub(crate) const ACTUAL: RangeInclusive<u32> = COST;

/// The units of a limit, of which a request cannot have one number for all of its limits.
const UNIT_FIELDS: [&str; 4] = ["cost", "force", "actual", "amount"];

/// The rules about units under the names that other requests have for them.
const ESTIMATE: &str = "the estimated units are cost";
const ACTUAL_UNITS: &str = "the units that were used are actual";

/// The rule about the fields of checks by policy.
const OWN_LIMITS: &str = "a reservation has limits of its own";

const FORCE: &str = "Value error, force is for checks only: a reservation takes its estimates only \
                     where they fit, and its settlement takes what is missing";

/// Reads the name of a reservation: visible ASCII characters without braces, which delimit the name
/// in its key.
pub(crate) fn reservation(value: &Input<'_>) -> Result<String, BrokenRule> {
    let name = text(value, MAX_RESERVATION_BYTES)?;
    let is_valid = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'{' | b'}');
    if name.bytes().all(is_valid) {
        return Ok(name);
    }
    let rule = "Value error, a reservation has visible ASCII characters without braces";
    Err(BrokenRule::new("value_error", rule))
}

/// Reads the limits of a reservation, each with its estimated cost.
pub(crate) fn estimated_limits(
    fields: &mut Fields<'_>,
    defaults: Defaults,
) -> Result<Vec<Check>, Invalid> {
    let read = |fields: &mut Fields<'_>| {
        let quota = fields.quota(defaults);
        let cost = fields.optional("cost", value::units);
        fields.refuse(&["actual", "amount"], ESTIMATE)?;
        let force = fields.optional("force", value::boolean)?;
        if force == Some(true) {
            return Err(fields.add_error("force", BrokenRule::new("value_error", FORCE)));
        }
        let (quota, cost) = (quota?, cost?.unwrap_or(DEFAULT_UNITS).get());
        let capacity = quota.capacity().get();
        if cost > capacity {
            return Err(fields.add_error("cost", value::above_capacity(capacity)));
        }
        Ok((quota, cost))
    };
    let limits = limits(fields, read, |(quota, _)| quota.algorithm())?.into_iter();
    Ok(limits
        .map(|(identifier, (quota, cost))| Check { identifier, quota, cost, force: false })
        .collect())
}

/// Reads the limits of a settlement, each with the units that were used, if they are given.
pub(crate) fn settled_limits(
    fields: &mut Fields<'_>,
) -> Result<Vec<(SettledLimit, Option<u32>)>, Invalid> {
    let read = |fields: &mut Fields<'_>| {
        let algorithm = fields.optional("algorithm", value::algorithm);
        let actual = fields.optional("actual", value::cost);
        if !fields.has("actual") {
            fields.refuse(&["cost", "amount"], ACTUAL_UNITS)?;
        }
        Ok((algorithm?.unwrap_or(default_algorithm()), actual?))
    };
    let limits = limits(fields, read, |(algorithm, _)| *algorithm)?.into_iter();
    let settled =
        |(identifier, (algorithm, actual))| (SettledLimit { identifier, algorithm }, actual);
    Ok(limits.map(settled).collect())
}

/// Reads a list of limits, each with its own identifier or that of the whole request. No two limits
/// may have the same identifier and algorithm: they would have the same key.
fn limits<T>(
    fields: &mut Fields<'_>,
    read: impl Fn(&mut Fields<'_>) -> Result<T, Invalid>,
    algorithm_of: impl Fn(&T) -> Algorithm,
) -> Result<Vec<(String, T)>, Invalid> {
    let of_all = fields.optional("identifier", value::identifier);
    let rule = "each of the limits has its own";
    let elsewhere = [
        fields.refuse(&QUOTA_FIELDS, rule),
        fields.refuse(&UNIT_FIELDS, rule),
        fields.refuse(&POLICY_FIELDS, OWN_LIMITS),
    ];
    let values = fields.list("limits", &LIMITS)?;
    let mut limits: Vec<(String, T)> = Vec::with_capacity(values.len());
    let mut is_valid = of_all.is_ok() && elsewhere.iter().all(Result::is_ok);
    for (position, json) in values.into_iter().enumerate() {
        let limit = fields.item("limits", position, json, |fields| {
            fields.refuse(&POLICY_FIELDS, OWN_LIMITS)?;
            let identifier = identifier_of(fields, &of_all);
            let limit = read(fields);
            let (identifier, limit) = (identifier?, limit?);
            let is_same = |(other, earlier): &(String, T)| {
                *other == identifier && algorithm_of(earlier) == algorithm_of(&limit)
            };
            if limits.iter().any(is_same) {
                return Err(fields.add_error("algorithm", repeated()));
            }
            Ok((identifier, limit))
        });
        match limit {
            Ok(limit) => limits.push(limit),
            Err(Invalid) => is_valid = false,
        }
    }
    is_valid.then_some(limits).ok_or(Invalid)
}

/// Reads the identifier of a limit; the default is that of the whole request.
fn identifier_of(
    fields: &mut Fields<'_>,
    of_all: &Result<Option<String>, Invalid>,
) -> Result<String, Invalid> {
    let own = fields.optional("identifier", value::identifier)?;
    match (own, of_all) {
        (Some(own), _) => Ok(own),
        (None, Ok(Some(of_all))) => Ok(of_all.clone()),
        (None, Ok(None)) => Err(fields.add_missing("identifier")),
        // The list of errors has that of the identifier of the whole request.
        (None, Err(Invalid)) => Err(Invalid),
    }
}

fn repeated() -> BrokenRule {
    let rule = "Value error, limits of one identifier must have different algorithms";
    BrokenRule::new("value_error", rule)
}
