//! Random files and requests.

use std::collections::BTreeMap;
use std::fmt::Write;

use policies::model::Entry;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) plans: Vec<Vec<Limit>>,
    pub(super) policies: Vec<Policy>,
    pub(super) deny_unmatched: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) named: bool,
    pub(super) clauses: Vec<(&'static str, Clause)>,
    pub(super) by: Vec<&'static str>,
    pub(super) missing: &'static str,
    pub(super) limits: Source,
    pub(super) overrides: Vec<Override>,
    pub(super) entries: Option<Vec<Entry>>,
    pub(super) shadow: bool,
    pub(super) enforce: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Clause {
    Any(Vec<&'static str>),
    Not(Vec<&'static str>),
    Exists(bool),
}

#[derive(Clone, Debug)]
pub(super) enum Source {
    Own(Vec<Limit>),
    Plan(usize),
    From(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Limit {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) limit: u64,
    pub(super) by: Option<Vec<&'static str>>,
    pub(super) cost: Option<Cost>,
    pub(super) always: bool,
    pub(super) shadow: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Cost {
    Units(u64),
    From { default: u64, min: u64, max: u64 },
}

#[derive(Clone, Debug)]
pub(super) struct Override {
    /// One of the patterns for each attribute of `by`, or else the clauses.
    pub(super) patterns: Vec<usize>,
    pub(super) by_match: bool,
    pub(super) clauses: Vec<(&'static str, Clause)>,
    pub(super) past: Option<bool>,
    pub(super) effect: Effect,
}

#[derive(Clone, Debug)]
pub(super) enum Effect {
    Plan(usize),
    Limits(Vec<Limit>),
    Unlimited,
    Block { shadow: bool },
}

#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) entry: Entry,
    pub(super) policy: Option<usize>,
    pub(super) cost: Option<u64>,
    pub(super) path: Option<&'static str>,
    pub(super) method: Option<&'static str>,
    pub(super) headers: Vec<&'static str>,
    pub(super) word: Option<&'static str>,
    pub(super) domain: Option<&'static str>,
    pub(super) claim: Vec<&'static str>,
    pub(super) plan: Option<&'static str>,
    pub(super) address: Option<Option<&'static str>>,
}

/// The globs or networks, and the values, of each attribute.
pub(super) const PATTERNS: [(&str, &[&str]); 6] = [
    ("path", &["/a", "/a/**", "/a/*", "/**", "/b/**/c", "/a/b"]),
    ("method", &["GET", "get", "P*"]),
    ("header.h", &["x", "x*", "*", "y"]),
    ("w", &["x", "x*", "*", "7", "**y"]),
    ("jwt.j", &["x", "x*", "y"]),
    ("client.ip", &["10.0.0.0/8", "10.1.2.3", "2001:db8::/32", "2001:db8:0:1::/64"]),
];
pub(super) const PATHS: [&str; 8] =
    ["/a", "/a/", "/a/b", "/%61/b/c", "/b/c", "/b/x/y/c", "/", "/c"];
pub(super) const VALUES: [&str; 8] = ["x", "xy", "y", "", "-", "7", "~", "a|b {}%"];
pub(super) const ADDRESSES: [&str; 5] =
    ["10.1.2.3", "::ffff:10.1.2.4", "192.0.2.1", "2001:db8::1", "2001:db8:0:1::5"];

pub(super) fn attribute() -> impl Strategy<Value = &'static str> {
    select(PATTERNS.map(|(name, _)| name).to_vec())
}

pub(super) fn patterns(name: &str) -> &'static [&'static str] {
    PATTERNS.iter().find(|(known, _)| *known == name).unwrap().1
}

pub(super) fn clause() -> impl Strategy<Value = (&'static str, Clause)> {
    attribute().prop_flat_map(|name| {
        let globs = || vec(select(patterns(name).to_vec()), 1..3);
        let clause = prop_oneof![
            4 => globs().prop_map(Clause::Any),
            1 => globs().prop_map(Clause::Not),
            1 => any::<bool>().prop_map(Clause::Exists),
        ];
        (Just(name), clause)
    })
}

pub(super) fn limits() -> impl Strategy<Value = Vec<Limit>> {
    let cost = prop_oneof![
        (1u64..3).prop_map(Cost::Units),
        (1u64..3, 0u64..2, 0u64..2).prop_map(|(min, above, more)| Cost::From {
            default: min + above,
            min,
            max: min + above + more,
        }),
    ];
    let limit = (
        select(vec!["token_bucket", "sliding_window", "fixed_window"]),
        5u64..100,
        any::<bool>(),
        option::of(cost),
        any::<bool>(),
        prop::bool::weighted(0.2),
    );
    vec(limit, 1..3).prop_map(|list| {
        let named = |(at, (kind, limit, own, cost, always, shadow))| Limit {
            // One name has one identity in all lists.
            name: format!("{}{at}", if own { "own" } else { "l" }),
            kind,
            limit,
            by: own.then(|| vec!["w"]),
            cost,
            always,
            shadow,
        };
        list.into_iter().enumerate().map(named).collect()
    })
}

pub(super) fn overrides() -> impl Strategy<Value = Vec<Override>> {
    let effect = prop_oneof![
        (0usize..3).prop_map(Effect::Plan),
        limits().prop_map(Effect::Limits),
        Just(Effect::Unlimited),
        any::<bool>().prop_map(|shadow| Effect::Block { shadow }),
    ];
    let entry = (
        vec(0usize..4, 2),
        prop::bool::weighted(0.3),
        vec(clause(), 1..3),
        option::weighted(0.3, any::<bool>()),
        effect,
    );
    let entry = entry.prop_map(|(patterns, by_match, clauses, past, effect)| Override {
        patterns,
        by_match,
        clauses: distinct(clauses),
        past,
        effect,
    });
    vec(entry, 0..4)
}

pub(super) fn distinct(clauses: Vec<(&'static str, Clause)>) -> Vec<(&'static str, Clause)> {
    let map: BTreeMap<_, _> = clauses.into_iter().collect::<BTreeMap<_, _>>();
    map.into_iter().collect()
}

pub(super) fn policy() -> impl Strategy<Value = Policy> {
    let source = prop_oneof![
        2 => limits().prop_map(Source::Own),
        1 => (0usize..3).prop_map(Source::Plan),
        1 => (0usize..3).prop_map(Source::From),
    ];
    let entries = select(vec![
        None,
        None,
        Some(vec![Entry::Check]),
        Some(vec![Entry::Authz]),
        Some(vec![Entry::Check, Entry::Rls]),
    ]);
    let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.2), prop::bool::weighted(0.8));
    (
        vec(clause(), 1..3),
        prop::sample::subsequence(vec!["header.h", "w", "jwt.j", "client.ip"], 0..3),
        select(vec!["skip", "deny", "share"]),
        source,
        overrides(),
        entries,
        flags,
    )
        .prop_map(|(clauses, by, missing, limits, overrides, entries, flags)| {
            let (named, shadow, enforce) = flags;
            let rls = entries.as_ref().is_some_and(|list| list.contains(&Entry::Rls));
            let mut clauses = distinct(clauses);
            if rls {
                clauses.push(("domain", Clause::Any(vec!["d*"])));
            }
            let named = named && !rls;
            Policy { named, clauses, by, missing, limits, overrides, entries, shadow, enforce }
        })
}

pub(super) fn file() -> impl Strategy<Value = File> {
    (vec(limits(), 3), vec(policy(), 1..6), any::<bool>())
        .prop_map(|(plans, policies, deny_unmatched)| File { plans, policies, deny_unmatched })
}

pub(super) fn requests() -> impl Strategy<Value = Vec<Request>> {
    let value = || option::weighted(0.8, select(VALUES.to_vec()));
    let request = (
        (select(vec![Entry::Check, Entry::Authz, Entry::Rls]), option::weighted(0.1, 0usize..7)),
        option::of(0u64..200),
        (option::weighted(0.9, select(PATHS.to_vec())), option::of(select(vec!["GET", "post"]))),
        vec(select(VALUES.to_vec()), 0..3),
        (value(), option::of(select(vec!["d1", "e"]))),
        vec(select(VALUES.to_vec()), 0..3),
        option::of(select(vec!["p0", "p1", "nothing"])),
        option::weighted(0.9, option::weighted(0.8, select(ADDRESSES.to_vec()))),
    );
    let request = request.prop_map(
        |((entry, policy), cost, (path, method), headers, (word, domain), claim, plan, address)| {
            Request {
                entry,
                policy,
                cost,
                path,
                method,
                headers,
                word,
                domain,
                claim,
                plan,
                address,
            }
        },
    );
    vec(request, 1..12)
}

/// Writes a file as a user would.
pub(super) fn written(file: &File) -> String {
    let mut text = String::from("version: 1\n");
    let unmatched = if file.deny_unmatched { "deny" } else { "allow" };
    let _ = writeln!(text, "unmatched: {unmatched}\nplans:");
    for (at, limits) in file.plans.iter().enumerate() {
        let _ = writeln!(text, "  p{at}: {}", written_limits(limits));
    }
    text.push_str("policies:\n");
    for (at, policy) in file.policies.iter().enumerate() {
        let by = policy.by.join(", ");
        let _ = writeln!(text, "  - name: n{at}\n    by: [{by}]\n    missing: {}", policy.missing);
        match (&policy.named, &policy.limits) {
            (true, _) => text.push_str("    match: named\n"),
            (false, _) => {
                let _ = writeln!(text, "    match: {}", written_clauses(&policy.clauses));
            }
        }
        let _ = match &policy.limits {
            Source::Own(limits) => writeln!(text, "    limits: {}", written_limits(limits)),
            Source::Plan(plan) => writeln!(text, "    plan: p{plan}"),
            Source::From(plan) => {
                writeln!(text, "    plan: {{from: jwt.plan, default: p{plan}}}")
            }
        };
        if let Some(entries) = &policy.entries {
            let words: Vec<_> = entries.iter().map(|entry| entry_word(*entry)).collect();
            let _ = writeln!(text, "    entry: [{}]", words.join(", "));
        }
        let _ = writeln!(text, "    shadow: {}\n    enforce: {}", policy.shadow, policy.enforce);
        if !policy.overrides.is_empty() {
            text.push_str("    overrides:\n");
        }
        for (number, entry) in policy.overrides.iter().enumerate() {
            let _ = writeln!(text, "      - {}", written_override(entry, number, policy));
        }
    }
    text
}

pub(super) fn entry_word(entry: Entry) -> &'static str {
    match entry {
        Entry::Check => "check",
        Entry::Authz => "authz",
        Entry::Rls => "rls",
    }
}

pub(super) fn written_clauses(clauses: &[(&str, Clause)]) -> String {
    let quoted = |globs: &[&str]| {
        let globs: Vec<_> = globs.iter().map(|glob| format!("'{glob}'")).collect();
        format!("[{}]", globs.join(", "))
    };
    let clauses: Vec<_> = clauses
        .iter()
        .map(|(name, clause)| match clause {
            Clause::Any(globs) => format!("{name}: {}", quoted(globs)),
            Clause::Not(globs) => format!("{name}: {{not: {}}}", quoted(globs)),
            Clause::Exists(exists) => format!("{name}: {{exists: {exists}}}"),
        })
        .collect();
    format!("{{{}}}", clauses.join(", "))
}

pub(super) fn written_limits(limits: &[Limit]) -> String {
    let limits: Vec<_> = limits
        .iter()
        .map(|limit| {
            let Limit { name, kind, limit: units, by, cost, always, shadow } = limit;
            let mut text = format!(
                "{{name: {name}, algorithm: {kind}, limit: {units}, per: 1m, shadow: {shadow}"
            );
            if let Some(by) = by {
                let _ = write!(text, ", by: [{}]", by.join(", "));
            }
            match cost {
                Some(Cost::Units(units)) => {
                    let _ = write!(text, ", cost: {units}");
                }
                Some(Cost::From { default, min, max }) => {
                    let _ = write!(
                        text,
                        ", cost: {{from: w, default: {default}, min: {min}, max: {max}}}"
                    );
                }
                None => {}
            }
            if *always {
                text.push_str(", charge: always");
            }
            text + "}"
        })
        .collect();
    format!("[{}]", limits.join(", "))
}

/// The pattern at a position, of those that an attribute has.
pub(super) fn pattern(name: &str, at: usize) -> &'static str {
    let patterns = patterns(name);
    patterns[at % patterns.len()]
}

pub(super) fn written_override(entry: &Override, number: usize, policy: &Policy) -> String {
    let subject = if entry.by_match || policy.by.is_empty() {
        format!("match: {}", written_clauses(&entry.clauses))
    } else {
        let patterns: Vec<_> = policy
            .by
            .iter()
            .zip(&entry.patterns)
            .map(|(name, at)| {
                // An identity is a /64, so that a single address of IPv6 is none.
                format!("'{}'", pattern(name, *at))
            })
            .collect();
        format!("by: [{}]", patterns.join(", "))
    };
    let until = match entry.past {
        Some(true) => ", until: '2026-06-30'",
        Some(false) => ", until: '2026-07-01'",
        None => "",
    };
    let effect = match &entry.effect {
        Effect::Plan(plan) => format!("plan: p{plan}"),
        Effect::Limits(limits) => format!("limits: {}", written_limits(limits)),
        Effect::Unlimited => "unlimited: true".to_owned(),
        Effect::Block { shadow } => format!("block: true, shadow: {shadow}"),
    };
    format!("{{reason: r{number}, {subject}{until}, {effect}}}")
}
