//! Configurations of envoyproxy/ratelimit: a tree of descriptors.
//!
//! The service descends by the entries of a descriptor in their order. At each level an exact value
//! wins, then the first value with `*` that matches, then the key alone; a limit applies only where the
//! descriptor ends. The conversion gives each limit a clause for each entry, and for each other key
//! of the configuration the clause that it is missing. Where a value with `*` matches texts for which
//! another node comes first, a policy without limits takes the requests for which that node has none.

use std::collections::BTreeSet;

use policies::attribute::AttributeName;

use crate::draft::{
    Condition, Draft, Drafts, LimitDraft, Note, Rule, can_be_of_a_descriptor, glob, identity,
};
use crate::names::Names;
use crate::pattern::Pattern;
use crate::yaml::{Member, Yaml};

/// The most units of a limit.
const MAX_UNITS: u64 = 1_000_000_000;

/// Members that are converted.
const ROOT: [&str; 2] = ["domain", "descriptors"];
const NODE: [&str; 6] =
    ["key", "value", "rate_limit", "descriptors", "shadow_mode", "share_threshold"];
const RATE: [&str; 4] = ["unit", "requests_per_unit", "unlimited", "name"];

const DIFFERENCES: [&str; 5] = [
    "First match: the first policy that matches a descriptor applies; the service takes the most \
     specific node, so that the policies are ordered by specificity.",
    "All or nothing: a request that one limit denies takes no unit of any limit; the service counts \
     each descriptor of a request by itself.",
    "Denied requests do not count; the service counts them. A limit with `charge: always` takes the \
     whole hits_addend when one unit is free.",
    "A descriptor with a key that the configuration does not have matches a policy without this key; \
     the service has no limit for it.",
    "Weeks, months and years are 7, 30 and 365 days from 1970 on, as in the service; the load warns \
     about them, because `week`, `month` and `year` follow the calendar.",
];

/// One level of the tree.
#[derive(Clone, Debug)]
struct Level {
    key: String,
    attribute: AttributeName,
    value: Value,
    /// The other values of this key at this level that come first for a text that matches both.
    rivals: Vec<Value>,
    /// True if all values that match the pattern share the limit.
    shares: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Exact(String),
    /// A pattern, with its place among the nodes of its level.
    Pattern(Pattern, usize),
    Every,
}

/// A limit of the tree with the levels above it.
struct Leaf<'y> {
    levels: Vec<Level>,
    node: &'y Yaml,
    rate: &'y Yaml,
    line: Option<usize>,
}

/// The order of policies: deeper and more exact ones are greater.
type Specificity = (usize, Vec<usize>);

struct Reader<'y> {
    leaves: Vec<Leaf<'y>>,
    keys: BTreeSet<String>,
    notes: Vec<Note>,
}

/// Returns the policies of a configuration.
pub(crate) fn drafts(root: &Yaml, names: &mut Names) -> Result<Drafts, String> {
    let domain = root.text("domain").ok_or("the key `domain` is missing")?;
    let mut reader = Reader { leaves: Vec::new(), keys: BTreeSet::new(), notes: Vec::new() };
    reader.note_others("the configuration", root, &ROOT);
    reader.descend(root, &[]);
    let Reader { leaves, keys, mut notes } = reader;
    let (mut drafts, mut holes) = (Vec::new(), Vec::new());
    for leaf in &leaves {
        let Some(draft) = leaf.draft(domain, &keys, &mut notes) else { continue };
        let is_known = |(_, known): &(Specificity, Draft)| known.clauses == draft.clauses;
        if drafts.iter().any(is_known) {
            notes.push(leaf.note(
                "left out: another limit has the same entries in another order, and attributes have \
                 no order.",
            ));
            continue;
        }
        drafts.push((specificity(&leaf.levels, usize::MAX), draft));
        holes.extend(leaf.holes(domain, &keys));
    }
    for (specificity, hole) in holes {
        if drafts.iter().all(|(_, known)| known.clauses != hole.clauses) {
            drafts.push((specificity, hole));
        }
    }
    drafts.sort_by(|(a, _), (b, _)| b.cmp(a));
    let policies = drafts.into_iter().map(|(_, draft)| {
        let name = names.give(&draft.name);
        Draft { name, ..draft }
    });
    Ok(Drafts {
        source: "envoyproxy/ratelimit",
        domain: Some(domain.to_owned()),
        differences: &DIFFERENCES,
        policies: policies.collect(),
        notes,
    })
}

impl<'y> Reader<'y> {
    fn descend(&mut self, node: &'y Yaml, above: &[Level]) {
        let nodes = node.get("descriptors").map_or(&[][..], Yaml::items);
        if nodes.is_empty()
            && node.get("descriptors").is_some_and(|list| *list != Yaml::List(vec![]))
        {
            let text = format!("{}: left out: `descriptors` is no list.", path_of(above));
            self.notes.push(Note::new(node.line(), text));
        }
        for (place, node) in nodes.iter().enumerate() {
            let Some(level) = self.level(place, nodes, above) else { continue };
            self.keys.insert(clause_name(&level.attribute));
            let levels = [above, &[level]].concat();
            self.note_others(&path_of(&levels), node, &NODE);
            if let Some(rate) = node.get("rate_limit") {
                let line = node.members().iter().find(|member| member.name == "rate_limit");
                let line = line.map(|member| member.line);
                self.note_others(&path_of(&levels), rate, &RATE);
                self.leaves.push(Leaf { levels: levels.clone(), node, rate, line });
            }
            self.descend(node, &levels);
        }
    }

    /// Adds a note for each member of a map that is not converted.
    fn note_others(&mut self, path: &str, map: &Yaml, converted: &[&str]) {
        for Member { name, line, .. } in map.members() {
            if converted.contains(&name.as_str()) {
                continue;
            }
            let effect = match name.as_str() {
                "replaces" => {
                    ": both limits apply to a request with both descriptors, where the service \
                     applies this one alone"
                }
                "quota_mode" => {
                    ": the limit denies by itself, where the service denies only if all limits with \
                     `quota_mode` do"
                }
                "detailed_metric" | "value_to_metric" | "metadata" => {
                    ", and no effect on decisions"
                }
                _ => "",
            };
            let text = format!("{path}: `{name}` has no equivalent{effect}.");
            self.notes.push(Note::new(Some(*line), text));
        }
    }

    fn level(&mut self, place: usize, nodes: &[Yaml], above: &[Level]) -> Option<Level> {
        let node = nodes.get(place)?;
        let mut refuse = |reason: String| -> Option<Level> {
            self.notes.push(Note::new(node.line(), format!("{}: {reason}", path_of(above))));
            None
        };
        let Some(key) = node.text("key") else {
            return refuse("a descriptor without a key is left out.".to_owned());
        };
        let name = if key == "remote_address" { "client.ip" } else { key };
        let attribute = match AttributeName::parse(name) {
            Ok(attribute) if can_be_of_a_descriptor(&attribute) => attribute,
            _ => {
                return refuse(format!(
                    "the key `{key}` has no equivalent; its limits are left out."
                ));
            }
        };
        let value = Value::of(node, place);
        let others = nodes
            .iter()
            .enumerate()
            .filter(|(at, other)| *at != place && other.text("key") == Some(key));
        let others = others.map(|(place, other)| Value::of(other, place));
        let rivals = others.filter(|other| other.comes_before(&value)).collect();
        let shares = node.is_true("share_threshold");
        Some(Level { key: key.to_owned(), attribute, value, rivals, shares })
    }
}

impl Value {
    /// Returns the value of a node that has this place at its level.
    fn of(node: &Yaml, place: usize) -> Self {
        match node.text("value") {
            None | Some("") => Self::Every,
            Some(text) => match Pattern::new(text) {
                Some(pattern) => Self::Pattern(pattern, place),
                None => Self::Exact(text.to_owned()),
            },
        }
    }

    /// Returns whether a text can match both values, and the service takes this one.
    fn comes_before(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(_) | Self::Pattern(..), Self::Every) => true,
            (Self::Exact(text), Self::Pattern(pattern, _)) => pattern.matches(text),
            (Self::Pattern(a, place), Self::Pattern(b, other)) => place < other && a.can_overlap(b),
            _ => false,
        }
    }

    /// Returns the glob of the value, or `None` for every value.
    fn glob(&self, attribute: &AttributeName) -> Option<String> {
        match self {
            Self::Exact(text) => Some(glob(attribute, text)),
            // A value can have separators.
            Self::Pattern(pattern, _) => {
                Some(pattern.glob(if attribute.separator().is_some() { "**" } else { "*" }))
            }
            Self::Every => None,
        }
    }

    /// Returns the order among the values of one level; greater ones come first.
    fn exactness(&self) -> usize {
        match self {
            Self::Exact(_) => usize::MAX,
            Self::Pattern(_, place) => usize::MAX - 1 - place,
            Self::Every => 1,
        }
    }
}

/// Returns the attribute as a clause names it.
fn clause_name(attribute: &AttributeName) -> String {
    match attribute {
        AttributeName::ClientIp(_) => "client.ip".to_owned(),
        other => other.to_string(),
    }
}

/// Returns the order of a policy with these levels, of which only the first `exact` count.
fn specificity(levels: &[Level], exact: usize) -> Specificity {
    let exactness = |(at, level): (usize, &Level)| {
        if at < exact { level.value.exactness() } else { 0 }
    };
    (levels.len(), levels.iter().enumerate().map(exactness).collect())
}

/// Returns the position in the tree for notes.
fn path_of(levels: &[Level]) -> String {
    let parts: Vec<_> = levels
        .iter()
        .map(|level| match &level.value {
            Value::Exact(text) => format!("{}={text}", level.key),
            Value::Pattern(pattern, _) => format!("{}={}", level.key, pattern.as_str()),
            Value::Every => level.key.clone(),
        })
        .collect();
    if parts.is_empty() { "descriptors".to_owned() } else { parts.join(" / ") }
}

impl Leaf<'_> {
    fn note(&self, text: &str) -> Note {
        Note::new(self.line, format!("{}: {text}", path_of(&self.levels)))
    }

    fn draft(&self, domain: &str, keys: &BTreeSet<String>, notes: &mut Vec<Note>) -> Option<Draft> {
        let (rule, limits) = self.limit(notes)?;
        let Some(draft) = policy(&self.levels, domain, keys, rule) else {
            notes.push(self.note("left out: a value of `remote_address` is no address."));
            return None;
        };
        let enforce = !self.node.is_true("shadow_mode");
        Some(Draft { line: self.line, limits, enforce, ..draft })
    }

    /// Returns a policy without limits for each value that comes before a pattern of this leaf, for the
    /// requests that the pattern matches too. The limits of the other node come before this policy.
    fn holes(&self, domain: &str, keys: &BTreeSet<String>) -> Vec<(Specificity, Draft)> {
        let mut holes = Vec::new();
        for (at, level) in self.levels.iter().enumerate() {
            let rivals = match level.value {
                Value::Pattern(..) => level.rivals.as_slice(),
                // The clause of this leaf excludes them.
                _ => &[],
            };
            for rival in rivals {
                let mut levels = self.levels.clone();
                if let Some(level) = levels.get_mut(at) {
                    level.value = rival.clone();
                }
                let draft = policy(&levels, domain, keys, Rule::Unlimited);
                holes.extend(draft.map(|draft| (specificity(&levels, at + 1), draft)));
            }
        }
        holes
    }

    /// Returns the rule of the limit and the limit, or `None` where the limit has no equivalent.
    fn limit(&self, notes: &mut Vec<Note>) -> Option<(Rule, Vec<LimitDraft>)> {
        if self.rate.is_true("unlimited") {
            return Some((Rule::Unlimited, Vec::new()));
        }
        let unit = self.rate.text("unit").unwrap_or_default().to_ascii_lowercase();
        let per = match unit.as_str() {
            "second" => "1s",
            "minute" => "1m",
            "hour" => "1h",
            "day" => "day",
            "week" => "7d",
            "month" => "30d",
            "year" => "365d",
            _ => {
                notes.push(self.note(&format!("left out: the unit `{unit}` is unknown.")));
                return None;
            }
        };
        let units = self.rate.text("requests_per_unit").and_then(|text| text.parse::<u64>().ok());
        let Some(units) = units else {
            notes.push(self.note("left out: `requests_per_unit` is no number."));
            return None;
        };
        if units == 0 {
            return Some((Rule::Block, Vec::new()));
        }
        if units > MAX_UNITS {
            notes.push(self.note(&format!("the limit {units} becomes {MAX_UNITS}, the largest.")));
        }
        let limit = LimitDraft {
            name: Names::default().give(self.rate.text("name").unwrap_or("rate")),
            limit: units.min(MAX_UNITS),
            per: per.to_owned(),
            always: true,
            by: None,
        };
        Some((Rule::Limits, vec![limit]))
    }
}

/// Returns a policy for the requests with these levels, or `None` where a value that has to be an
/// address is none.
fn policy(levels: &[Level], domain: &str, keys: &BTreeSet<String>, rule: Rule) -> Option<Draft> {
    let domain_glob = domain.replace('*', "\\*");
    let mut clauses = vec![("domain".to_owned(), Condition::Any(vec![domain_glob]))];
    let mut by = Vec::new();
    for (at, level) in levels.iter().enumerate() {
        let same: Vec<_> =
            levels.iter().filter(|other| other.attribute == level.attribute).collect();
        let mut before = levels.iter().take(at);
        if before.any(|other| other.attribute == level.attribute) {
            continue;
        }
        clauses.push((clause_name(&level.attribute), condition(&same)?));
        let shares = same.iter().any(|same| same.value != Value::Every && same.shares);
        let is_fixed = same.iter().all(|same| matches!(same.value, Value::Exact(_)));
        if !shares && !is_fixed {
            by.push(identity(&level.attribute));
        }
    }
    let others = keys.iter().filter(|key| !clauses.iter().any(|(name, _)| name == *key));
    let others: Vec<_> = others.map(|key| (key.clone(), Condition::Exists(false))).collect();
    clauses.extend(others);
    let name: Vec<_> = levels
        .iter()
        .map(|level| match &level.value {
            Value::Exact(text) => format!("{}-{text}", level.key),
            Value::Pattern(pattern, _) => format!("{}-{}", level.key, pattern.as_str()),
            Value::Every => level.key.clone(),
        })
        .collect();
    Some(Draft {
        name: name.join("."),
        line: None,
        clauses,
        by,
        limits: Vec::new(),
        rule,
        enforce: true,
    })
}

/// Returns the condition for all levels with one attribute. A key that occurs twice has its values
/// joined by `/`.
fn condition(levels: &[&Level]) -> Option<Condition> {
    let [level] = levels else {
        let globs = levels
            .iter()
            .map(|level| level.value.glob(&level.attribute).unwrap_or_else(|| "*".to_owned()));
        return Some(Condition::Any(vec![globs.collect::<Vec<_>>().join("/")]));
    };
    let rivals = level.rivals.iter().filter_map(|rival| rival.glob(&level.attribute));
    let globs: Vec<_> = match level.value.glob(&level.attribute) {
        Some(glob) => vec![glob],
        None => rivals.collect(),
    };
    let is_address = matches!(level.attribute, AttributeName::ClientIp(_));
    let is_network = |text: &String| policies::address::Network::parse(text).is_ok();
    if is_address && !globs.iter().all(is_network) {
        return None;
    }
    Some(match (&level.value, globs.is_empty()) {
        (Value::Every, true) => Condition::Exists(true),
        (Value::Every, false) => Condition::Not(globs),
        _ => Condition::Any(globs),
    })
}
