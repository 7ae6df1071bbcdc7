//! Configurations of limitador: a list of limits, each with conditions and variables.
//!
//! Each limit whose conditions hold applies to a request. The conversion makes one policy of the
//! limits with the same conditions, because only the first policy that matches applies.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use policies::attribute::AttributeName;

use crate::condition;
use crate::draft::{Condition, Draft, Drafts, LimitDraft, Note, Rule, identity};
use crate::names::Names;
use crate::yaml::{Member, Yaml};

/// Members that are converted, and those that have no effect on decisions.
const MEMBERS: [&str; 7] =
    ["namespace", "max_value", "seconds", "conditions", "variables", "name", "id"];

/// The most seconds of a window: 366 days.
const MAX_SECONDS: u64 = 31_622_400;

/// The most units of a limit.
const MAX_UNITS: u64 = 1_000_000_000;

/// The most limits of a policy.
const MAX_LIMITS: usize = 16;

/// The clauses of a policy by their attributes.
type Clauses = BTreeMap<String, Condition>;

/// Limits with the same clauses.
struct Group {
    namespace: String,
    clauses: Clauses,
    limits: Vec<Limit>,
}

struct Limit {
    name: String,
    max: u64,
    seconds: u64,
    by: Vec<String>,
}

const DIFFERENCES: [&str; 4] = [
    "First match: only the limits of the first policy that matches apply; limitador applies every limit \
     whose conditions hold. The policies are ordered by the number of their conditions.",
    "All or nothing: a request takes all limits of its policy or none.",
    "Denied requests do not count, as in limitador.",
    "A window starts at a multiple of its length since 1970; a window of limitador starts with its first \
     request.",
];

/// Returns the policies of a configuration.
pub(crate) fn drafts(list: &[Yaml], names: &mut Names) -> Result<Drafts, String> {
    let (mut notes, mut groups) = (Vec::new(), Vec::new());
    for (number, limit) in (1..).zip(list) {
        let place = match limit.text("name") {
            Some(name) => format!("limit {number} ({name})"),
            None => format!("limit {number}"),
        };
        let namespace =
            limit.text("namespace").ok_or_else(|| format!("{place}: no `namespace`"))?;
        let others = limit.members().iter().filter(|other| !MEMBERS.contains(&other.name.as_str()));
        for Member { name, line, .. } in others {
            notes.push(Note::new(Some(*line), format!("{place}: `{name}` has no equivalent.")));
        }
        match read(limit) {
            Ok((clauses, limit)) => add_limit(&mut groups, namespace, clauses, limit),
            Err(reason) => {
                notes.push(Note::new(limit.line(), format!("{place}: left out: {reason}.")));
            }
        }
    }
    // A limit of 0 denies before others of its clauses.
    groups.sort_by_key(|group| {
        (Reverse(group.clauses.len()), group.limits.iter().all(|limit| limit.max > 0))
    });
    let policies: Vec<_> = groups.iter().map(|group| group.draft(names)).collect();
    overlaps(&groups, &policies, &mut notes);
    let source = "limitador";
    Ok(Drafts { source, domain: None, differences: &DIFFERENCES, policies, notes })
}

/// Adds a limit to those with the same clauses.
fn add_limit(groups: &mut Vec<Group>, namespace: &str, clauses: Clauses, limit: Limit) {
    let same = groups.iter_mut().find(|group| {
        group.namespace == namespace
            && group.clauses == clauses
            && group.limits.len() < MAX_LIMITS
            // A limit of 0 denies all requests, and is a policy of its own.
            && (limit.max == 0) == group.limits.iter().any(|limit| limit.max == 0)
    });
    match same {
        Some(group) => group.limits.push(limit),
        None => {
            groups.push(Group { namespace: namespace.to_owned(), clauses, limits: vec![limit] });
        }
    }
}

/// Adds a note for each policy whose requests another policy takes before it.
fn overlaps(groups: &[Group], policies: &[Draft], notes: &mut Vec<Note>) {
    for (at, (later, policy)) in groups.iter().zip(policies).enumerate() {
        let before = groups.iter().zip(policies).take(at);
        let takers: Vec<_> = before
            .filter(|(earlier, _)| {
                let same = earlier.namespace == later.namespace;
                same && !contradict(&earlier.clauses, &later.clauses)
            })
            .map(|(_, taker)| taker.name.clone())
            .collect();
        if !takers.is_empty() {
            let text = format!(
                "The limits of the policy `{}` do not count requests of {}, as limitador would.",
                policy.name,
                takers.join(", ")
            );
            notes.push(Note::new(None, text));
        }
    }
}

/// Returns whether each glob matches one text.
fn are_exact(globs: &[String]) -> bool {
    globs.iter().all(|glob| !glob.replace("\\*", "").contains('*'))
}

/// Returns whether no request can have both lists of clauses.
fn contradict(a: &Clauses, b: &Clauses) -> bool {
    a.iter().any(|(name, condition)| match (condition, b.get(name)) {
        (Condition::Any(a), Some(Condition::Any(b))) => {
            are_exact(a) && are_exact(b) && !a.iter().any(|glob| b.contains(glob))
        }
        (Condition::Any(a), Some(Condition::Not(b)))
        | (Condition::Not(b), Some(Condition::Any(a))) => a.iter().all(|glob| b.contains(glob)),
        _ => false,
    })
}

/// Returns the clauses of a limit and the limit, or the reason for which it has no equivalent.
fn read(limit: &Yaml) -> Result<(Clauses, Limit), String> {
    let number = |name: &str| {
        let number = limit.text(name).and_then(|text| text.parse::<u64>().ok());
        number.ok_or_else(|| format!("`{name}` is no number"))
    };
    let (max, seconds) = (number("max_value")?, number("seconds")?);
    if !(1..=MAX_SECONDS).contains(&seconds) {
        return Err(format!("{seconds} seconds are not 1 to {MAX_SECONDS}"));
    }
    if max > MAX_UNITS {
        return Err(format!("`max_value` is above {MAX_UNITS}"));
    }
    let mut clauses = Clauses::new();
    for expression in list(limit, "conditions")? {
        let text = expression.as_text().unwrap_or_default();
        let found = condition::clauses(text)
            .ok_or_else(|| format!("the condition `{text}` has no equivalent"))?;
        for (attribute, condition) in found {
            add(&mut clauses, &attribute, condition)
                .map_err(|fault| format!("the condition `{text}` {fault}"))?;
        }
    }
    let variables = list(limit, "variables")?;
    let by = variables.iter().map(|variable| {
        let text = variable.as_text().unwrap_or_default();
        let attribute = condition::attribute(text);
        attribute
            .map(|attribute| identity(&attribute))
            .ok_or_else(|| format!("the variable `{text}` has no equivalent"))
    });
    let mut by = by.collect::<Result<Vec<_>, _>>()?;
    by.sort();
    by.dedup();
    let name = limit.text("name").unwrap_or("rate").to_owned();
    Ok((clauses, Limit { name, max, seconds, by }))
}

/// Returns the items of a member that must be a list, if the limit has the member.
fn list<'y>(limit: &'y Yaml, name: &str) -> Result<&'y [Yaml], String> {
    match limit.get(name) {
        None => Ok(&[]),
        Some(Yaml::List(items)) => Ok(items),
        Some(_) => Err(format!("`{name}` is no list")),
    }
}

/// The fault of a condition that no request fulfils together with the others.
const CONTRADICTS: &str = "cannot hold with the others";

/// The fault of a condition on an attribute that has another condition, where no clause has both.
const NOT_TOGETHER: &str = "has no equivalent together with the others";

/// Adds a clause, or returns why no clause of a policy has both this condition and those before.
fn add(
    clauses: &mut Clauses,
    attribute: &AttributeName,
    condition: Condition,
) -> Result<(), &'static str> {
    let name = match attribute {
        AttributeName::ClientIp(_) => "client.ip".to_owned(),
        other => other.to_string(),
    };
    let merged = match (clauses.remove(&name), condition) {
        (None | Some(Condition::Exists(true)), condition)
        | (Some(condition), Condition::Exists(true)) => condition,
        (Some(Condition::Not(mut known)), Condition::Not(more)) => {
            known.extend(more);
            known.sort();
            known.dedup();
            Condition::Not(known)
        }
        (Some(Condition::Any(any)), Condition::Not(not))
        | (Some(Condition::Not(not)), Condition::Any(any)) => {
            Condition::Any(some(any, &not, |glob| !not.contains(glob))?)
        }
        (Some(Condition::Any(known)), Condition::Any(more)) => match known == more {
            true => Condition::Any(known),
            false => Condition::Any(some(known, &more, |glob| more.contains(glob))?),
        },
        (Some(Condition::Exists(_)), _) | (Some(_), Condition::Exists(_)) => {
            return Err(NOT_TOGETHER);
        }
    };
    clauses.insert(name, merged);
    Ok(())
}

/// Returns the globs to keep, if they and the others match one text each.
fn some(
    mut globs: Vec<String>,
    others: &[String],
    keep: impl Fn(&String) -> bool,
) -> Result<Vec<String>, &'static str> {
    if !are_exact(&globs) || !are_exact(others) {
        return Err(NOT_TOGETHER);
    }
    globs.retain(keep);
    if globs.is_empty() { Err(CONTRADICTS) } else { Ok(globs) }
}

impl Group {
    fn draft(&self, names: &mut Names) -> Draft {
        let namespace = Condition::Any(vec![self.namespace.replace('*', "\\*")]);
        let mut clauses = vec![("domain".to_owned(), namespace)];
        clauses.extend(self.clauses.clone());
        let mut parts = vec![self.namespace.clone()];
        for (attribute, condition) in &self.clauses {
            parts.push(match condition {
                Condition::Any(globs) => format!("{attribute}-{}", globs.join("-")),
                Condition::Not(globs) => format!("{attribute}-not-{}", globs.join("-")),
                Condition::Exists(_) => attribute.clone(),
            });
        }
        let name = names.give(&parts.join("."));
        let first = self.limits.first().map_or(&[][..], |limit| &limit.by);
        let is_common = self.limits.iter().all(|limit| limit.by == first);
        let mut limit_names = Names::default();
        let limits = self.limits.iter().map(|limit| LimitDraft {
            name: limit_names.give(&limit.name),
            limit: limit.max,
            per: format!("{}s", limit.seconds),
            always: false,
            by: (!is_common).then(|| limit.by.clone()),
        });
        let blocks = self.limits.iter().any(|limit| limit.max == 0);
        Draft {
            name,
            line: None,
            clauses,
            by: if is_common { first.to_vec() } else { Vec::new() },
            limits: limits.collect(),
            rule: if blocks { Rule::Block } else { Rule::Limits },
            enforce: true,
        }
    }
}
