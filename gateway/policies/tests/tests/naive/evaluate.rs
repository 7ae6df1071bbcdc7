//! The evaluator: the rules of the contract, one after the other.

use std::net::IpAddr;

use policies::model::Entry;

use super::generate::{
    Clause, Cost, Effect, File, Limit, Override, Policy, Request, Source, pattern,
};

/// The value of an attribute: none, one, or the elements of a list.
pub(super) type Values = Result<Vec<String>, &'static str>;

impl Request {
    pub(super) fn values(&self, name: &str) -> Values {
        let one = |value: Option<&str>| Ok(value.map(str::to_owned).into_iter().collect());
        match name {
            "path" => one(self.path.map(|path| match path {
                "/a/" => "/a",
                "/%61/b/c" => "/a/b/c",
                path => path,
            })),
            "method" => Ok(self.method.map(str::to_uppercase).into_iter().collect()),
            "header.h" if self.headers.len() > 1 => Err("repeated"),
            "header.h" => one(self.headers.first().copied()),
            "w" => one(self.word),
            "domain" => one(self.domain),
            "jwt.j" => Ok(self.claim.iter().map(|value| (*value).to_owned()).collect()),
            "jwt.plan" => one(self.plan),
            "client.ip" => match self.address {
                None => one(None),
                Some(None) => Err("unknown"),
                Some(Some(address)) => one(Some(address.trim_start_matches("::ffff:"))),
            },
            other => panic!("{other}"),
        }
    }

    /// The value of an attribute in an identity.
    pub(super) fn identity_value(&self, name: &str) -> Result<Option<String>, &'static str> {
        let values = self.values(name)?;
        let [value] = values.as_slice() else { return Ok(None) };
        Ok(Some(match (name, value.parse::<IpAddr>()) {
            ("client.ip", Ok(IpAddr::V6(address))) => {
                let [a, b, c, d, ..] = address.segments();
                format!("{}/64", std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            _ => value.clone(),
        }))
    }
}

/// Matches a glob by trying every split, with the rule for `/**` written as alternatives.
pub(super) fn glob(name: &str, glob: &str, value: &str) -> bool {
    if name == "method" {
        return star(&glob.to_uppercase(), value, false);
    }
    if name != "path" {
        return star(glob, value, false);
    }
    let optional = glob.replace("/**/", "/").trim_end_matches("/**").to_owned();
    star(glob, value, true) || star(&optional, value, true)
}

pub(super) fn star(glob: &str, value: &str, path: bool) -> bool {
    if let Some(rest) = glob.strip_prefix("**") {
        return (0..=value.len()).any(|at| star(rest, &value[at..], path));
    }
    if let Some(rest) = glob.strip_prefix('*') {
        return (0..=value.len())
            .filter(|at| !path || !value[..*at].contains('/'))
            .any(|at| star(rest, &value[at..], path));
    }
    match (glob.chars().next(), value.chars().next()) {
        (None, None) => true,
        (Some(a), Some(b)) if a == b => star(&glob[1..], &value[1..], path),
        _ => false,
    }
}

/// Returns whether an address or a network is in a network, by their text.
pub(super) fn in_network(network: &str, value: &str) -> bool {
    let value = value.split('/').next().unwrap();
    match network {
        "10.0.0.0/8" => value.starts_with("10."),
        "2001:db8::/32" => value.starts_with("2001:db8"),
        "2001:db8:0:1::/64" => value.starts_with("2001:db8:0:1:"),
        single => single == value,
    }
}

pub(super) fn matches(name: &str, pattern: &str, value: &str) -> bool {
    if name == "client.ip" { in_network(pattern, value) } else { glob(name, pattern, value) }
}

pub(super) fn holds(request: &Request, name: &str, clause: &Clause) -> Result<bool, &'static str> {
    let values = request.values(name)?;
    let any = |globs: &[&str]| {
        values.iter().any(|value| globs.iter().any(|glob| matches(name, glob, value)))
    };
    Ok(match clause {
        Clause::Exists(exists) => *exists != values.is_empty(),
        _ if values.is_empty() => false,
        Clause::Any(globs) => any(globs),
        Clause::Not(globs) => !any(globs),
    })
}

/// The parts of a judgement that are compared.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Verdict {
    pub(super) outcome: String,
    pub(super) policy: Option<String>,
    pub(super) plan: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) limits: Vec<String>,
    pub(super) shadows: Vec<(String, bool, Vec<String>)>,
}

pub(super) fn evaluate(file: &File, request: &Request) -> Result<Verdict, &'static str> {
    let mut verdict = Verdict::default();
    let unmatched = format!("unmatched {}", file.deny_unmatched);
    if let Some(at) = request.policy {
        let Some(policy) = file.policies.get(at) else { return Err("unknown policy") };
        if !reaches(policy, request.entry) {
            return Err("not for entry");
        }
        if policy.shadow {
            verdict.outcome = unmatched;
            if let Ok(Some(decision)) = decide(file, at, request) {
                count(&decision, at, &mut verdict);
            }
            return Ok(verdict);
        }
        match decide(file, at, request)? {
            Some(decision) => apply(decision, at, policy, &mut verdict),
            None => verdict.outcome = unmatched,
        }
        return Ok(verdict);
    }
    for (at, policy) in file.policies.iter().enumerate() {
        if !reaches(policy, request.entry) || policy.named {
            continue;
        }
        let clauses = policy.clauses.iter();
        let results: Vec<_> = clauses.map(|(name, clause)| holds(request, name, clause)).collect();
        if results.contains(&Ok(false)) {
            continue;
        }
        let fault = results.into_iter().find_map(Result::err);
        if policy.shadow {
            if fault.is_none()
                && let Ok(Some(decision)) = decide(file, at, request)
            {
                count(&decision, at, &mut verdict);
            }
            continue;
        }
        if fault.is_some() {
            return Err("fault");
        }
        if let Some(decision) = decide(file, at, request)? {
            apply(decision, at, policy, &mut verdict);
            return Ok(verdict);
        }
    }
    verdict.outcome = unmatched;
    Ok(verdict)
}

pub(super) fn reaches(policy: &Policy, entry: Entry) -> bool {
    let domain = policy.clauses.iter().any(|(name, _)| *name == "domain") && !policy.named;
    match &policy.entries {
        Some(entries) => entries.contains(&entry),
        None => entry != Entry::Rls || domain,
    }
}

#[derive(Default)]
pub(super) struct Decision {
    pub(super) outcome: String,
    pub(super) plan: Option<usize>,
    pub(super) over: Option<usize>,
    pub(super) limits: Vec<String>,
    pub(super) shadow_limits: Vec<String>,
    pub(super) shadow_block: bool,
}

/// Adds a decision that prevents nothing.
pub(super) fn count(decision: &Decision, at: usize, verdict: &mut Verdict) {
    if decision.shadow_block {
        verdict.shadows.push((format!("n{at}"), true, Vec::new()));
    }
    let denied = decision.outcome.starts_with("blocked") || decision.outcome.starts_with("missing");
    let limits = [decision.limits.clone(), decision.shadow_limits.clone()].concat();
    if denied || !limits.is_empty() {
        verdict.shadows.push((format!("n{at}"), denied, limits));
    }
}

pub(super) fn apply(decision: Decision, at: usize, policy: &Policy, verdict: &mut Verdict) {
    verdict.policy = Some(format!("n{at}"));
    verdict.plan = decision.plan.map(|plan| format!("p{plan}"));
    verdict.reason = decision.over.map(|number| format!("r{number}"));
    if !policy.enforce {
        count(&decision, at, verdict);
        verdict.outcome = "limited".to_owned();
        return;
    }
    if decision.shadow_block {
        verdict.shadows.push((format!("n{at}"), true, Vec::new()));
    }
    if !decision.shadow_limits.is_empty() {
        verdict.shadows.push((format!("n{at}"), false, decision.shadow_limits));
    }
    verdict.outcome = decision.outcome;
    verdict.limits = decision.limits;
}

/// All attributes that a policy reads.
pub(super) fn reads(file: &File, policy: &Policy) -> Vec<&'static str> {
    let mut lists: Vec<&Vec<Limit>> = Vec::new();
    match &policy.limits {
        Source::Own(limits) => lists.push(limits),
        Source::Plan(plan) => lists.push(&file.plans[*plan]),
        Source::From(_) => lists.extend(&file.plans),
    }
    let mut reads: Vec<_> = policy.by.clone();
    if !policy.named {
        reads.extend(policy.clauses.iter().map(|(name, _)| *name));
    }
    for entry in &policy.overrides {
        if entry.by_match || policy.by.is_empty() {
            reads.extend(entry.clauses.iter().map(|(name, _)| *name));
        }
        match &entry.effect {
            Effect::Plan(plan) => lists.push(&file.plans[*plan]),
            Effect::Limits(limits) => lists.push(limits),
            _ => {}
        }
    }
    for limit in lists.into_iter().flatten() {
        reads.extend(limit.by.iter().flatten());
    }
    reads
}

pub(super) fn decide(
    file: &File,
    at: usize,
    request: &Request,
) -> Result<Option<Decision>, &'static str> {
    let policy = &file.policies[at];
    if reads(file, policy).into_iter().any(|name| request.values(name).is_err()) {
        return Err("fault");
    }
    let mut decision = Decision { outcome: "limited".to_owned(), ..Decision::default() };
    let mut identity = Vec::new();
    for name in &policy.by {
        identity.push(request.identity_value(name)?);
    }
    if let Some(missing) = identity.iter().position(Option::is_none) {
        match policy.missing {
            "skip" => return Ok(None),
            "deny" => {
                decision.outcome = format!("missing {}", policy.by[missing]);
                return Ok(Some(decision));
            }
            _ => {}
        }
    }
    for (number, entry) in policy.overrides.iter().enumerate() {
        let applies = if entry.by_match || policy.by.is_empty() {
            let mut all = true;
            for (name, clause) in &entry.clauses {
                all &= holds(request, name, clause)?;
            }
            all
        } else {
            policy.by.iter().zip(&entry.patterns).zip(&identity).all(|((name, at), value)| {
                value.as_ref().is_some_and(|value| matches(name, pattern(name, *at), value))
            })
        };
        if !applies || entry.past == Some(true) {
            continue;
        }
        if let Effect::Block { shadow: true } = entry.effect {
            decision.shadow_block = true;
            continue;
        }
        decision.over = Some(number);
        break;
    }
    let limits = match decision.over.map(|number| &policy.overrides[number]) {
        Some(Override { effect: Effect::Unlimited, .. }) => {
            decision.outcome = "unlimited".to_owned();
            return Ok(Some(decision));
        }
        Some(Override { effect: Effect::Block { .. }, past, .. }) => {
            decision.outcome = format!("blocked {}", past.is_some());
            return Ok(Some(decision));
        }
        Some(Override { effect: Effect::Limits(limits), .. }) => limits,
        Some(Override { effect: Effect::Plan(plan), .. }) => {
            decision.plan = Some(*plan);
            &file.plans[*plan]
        }
        None => match &policy.limits {
            Source::Own(limits) => limits,
            Source::Plan(plan) => {
                decision.plan = Some(*plan);
                &file.plans[*plan]
            }
            Source::From(default) => {
                let plan = match request.plan {
                    Some("p0") => 0,
                    Some("p1") => 1,
                    _ => *default,
                };
                decision.plan = Some(plan);
                &file.plans[plan]
            }
        },
    };
    for limit in limits {
        let own = match &limit.by {
            None => None,
            Some(names) => {
                let mut values = Vec::new();
                for name in names {
                    values.push(request.identity_value(name)?);
                }
                Some(values)
            }
        };
        if own.as_ref().is_some_and(|values| values.contains(&None)) {
            match policy.missing {
                "skip" => continue,
                "deny" => {
                    decision.outcome = "missing w".to_owned();
                    decision.limits.clear();
                    decision.shadow_limits.clear();
                    break;
                }
                _ => {}
            }
        }
        let text = judged(at, limit, own.as_ref().unwrap_or(&identity), request);
        if limit.shadow { decision.shadow_limits.push(text) } else { decision.limits.push(text) }
    }
    Ok(Some(decision))
}

pub(super) fn judged(
    at: usize,
    limit: &Limit,
    identity: &[Option<String>],
    request: &Request,
) -> String {
    let values: Vec<_> = identity
        .iter()
        .map(|value| match value.as_deref() {
            None => "-".to_owned(),
            Some("-") => "%2D".to_owned(),
            Some(text) => text
                .replace('%', "%25")
                .replace('|', "%7C")
                .replace(' ', "%20")
                .replace('{', "%7B")
                .replace('}', "%7D"),
        })
        .collect();
    let mut id = values.join("|");
    if let Some(rest) = id.strip_prefix('~') {
        id = format!("%7E{rest}");
    }
    let word = match limit.kind {
        "token_bucket" => "tb",
        "sliding_window" => "sw",
        _ => "fw",
    };
    let asked = request.cost.unwrap_or(1);
    let cost = match &limit.cost {
        _ if request.cost == Some(0) => 0,
        None => asked,
        Some(Cost::Units(units)) => *units,
        Some(Cost::From { default, min, max }) => match request.word {
            Some("7") => 7.clamp(*min, *max),
            _ => *default,
        },
    };
    let (name, units, always) = (&limit.name, limit.limit, limit.always);
    format!("policy:{name}:{word}:{{n{at}|{id}}} {units} {cost} {always}")
}
