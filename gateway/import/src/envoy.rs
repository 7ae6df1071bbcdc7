//! Configurations of envoyproxy/ratelimit: a tree of descriptors.
//!
//! The service descends by the entries of a descriptor in their order. At each level an exact value
//! wins, then a value with `*` at its end, then the key alone; a limit applies only where the
//! descriptor ends. The conversion gives each limit a clause for each entry, and for each other key
//! of the configuration the clause that it is missing.

use std::collections::BTreeSet;

use policies::attribute::AttributeName;

use crate::draft::{
    Condition, Draft, Drafts, LimitDraft, Rule, can_be_of_a_descriptor, glob, identity,
};
use crate::names::Names;
use crate::yaml::Yaml;

/// The most units of a limit.
const MAX_UNITS: u64 = 1_000_000_000;

/// Members that are converted.
const NODE: [&str; 6] =
    ["key", "value", "rate_limit", "descriptors", "shadow_mode", "share_threshold"];
const RATE: [&str; 4] = ["unit", "requests_per_unit", "unlimited", "name"];

/// One level of the tree.
#[derive(Clone, Debug)]
struct Level {
    key: String,
    attribute: AttributeName,
    value: Value,
    /// The globs of the other values of this key at this level.
    siblings: Vec<String>,
    /// True if all values with one beginning share the limit.
    shares: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Exact(String),
    /// The text before `*`.
    Begin(String),
    Every,
}

/// A limit of the tree with the levels above it.
struct Leaf<'y> {
    levels: Vec<Level>,
    node: &'y Yaml,
    rate: &'y Yaml,
}

struct Reader<'y> {
    leaves: Vec<Leaf<'y>>,
    keys: BTreeSet<String>,
    notes: Vec<String>,
}

/// Returns the policies of a configuration.
pub(crate) fn drafts(root: &Yaml) -> Result<Drafts, String> {
    let domain = root.text("domain").ok_or("the key `domain` is missing")?;
    let mut reader = Reader { leaves: Vec::new(), keys: BTreeSet::new(), notes: differences() };
    reader.descend(root, &[]);
    let Reader { mut leaves, keys, mut notes } = reader;
    leaves.sort_by_key(|leaf| std::cmp::Reverse(specificity(leaf)));
    let mut names = Names::default();
    let mut policies = Vec::new();
    let mut seen = Vec::new();
    for leaf in &leaves {
        let path = path_of(&leaf.levels);
        let Some(policy) = leaf.draft(domain, &keys, &mut names, &mut notes) else { continue };
        if seen.contains(&policy.clauses) {
            notes.push(format!(
                "{path}: no equivalent: another limit has the same entries in another order, and \
                 attributes have no order."
            ));
            continue;
        }
        seen.push(policy.clauses.clone());
        policies.push(policy);
    }
    Ok(Drafts { source: "envoyproxy/ratelimit", policies, notes })
}

fn differences() -> Vec<String> {
    [
        "First match: the first policy that matches a descriptor applies; the service takes the most \
         specific node, so that the policies are ordered by specificity.",
        "All or nothing: a request that one limit denies takes no unit of any limit; the service \
         counts each descriptor of a request by itself.",
        "Denied requests do not count; the service counts them. A limit with `charge: always` takes \
         the whole hits_addend when one unit is free.",
        "A descriptor with a key that the configuration does not have matches a policy without this \
         key; the service has no limit for it.",
        "Weeks, months and years are 7, 30 and 365 days from 1970 on, as in the service; the load \
         warns about them, because `week`, `month` and `year` follow the calendar.",
    ]
    .map(str::to_owned)
    .into()
}

impl<'y> Reader<'y> {
    fn descend(&mut self, node: &'y Yaml, above: &[Level]) {
        let nodes = node.get("descriptors").map_or(&[][..], Yaml::items);
        for node in nodes {
            let Some(level) = self.level(node, nodes, above) else { continue };
            self.keys.insert(clause_name(&level.attribute));
            let levels = [above, &[level]].concat();
            if let Some(rate) = node.get("rate_limit") {
                self.leaves.push(Leaf { levels: levels.clone(), node, rate });
            }
            for member in node.keys().filter(|member| !NODE.contains(member)) {
                self.notes.push(format!("{}: `{member}` has no equivalent.", path_of(&levels)));
            }
            self.descend(node, &levels);
        }
    }

    fn level(&mut self, node: &Yaml, nodes: &[Yaml], above: &[Level]) -> Option<Level> {
        let Some(key) = node.text("key") else {
            self.notes.push(format!("{}: a descriptor without a key is left out.", path_of(above)));
            return None;
        };
        let attribute = if key == "remote_address" { "client.ip" } else { key };
        let attribute = match AttributeName::parse(attribute) {
            Ok(attribute) if can_be_of_a_descriptor(&attribute) => attribute,
            _ => {
                let path = path_of(above);
                self.notes.push(format!(
                    "{path}: the key `{key}` has no equivalent; its limits are left out."
                ));
                return None;
            }
        };
        let value = value_of(node);
        let same_key = nodes.iter().filter(|other| other.text("key") == Some(key));
        let siblings = same_key.filter_map(|other| value_glob(&attribute, &value_of(other)));
        let siblings = match value {
            Value::Every => siblings.collect(),
            _ => Vec::new(),
        };
        let shares = node.is_true("share_threshold");
        Some(Level { key: key.to_owned(), attribute, value, siblings, shares })
    }
}

fn value_of(node: &Yaml) -> Value {
    match node.text("value") {
        None | Some("") => Value::Every,
        Some(text) => match text.strip_suffix('*') {
            Some(begin) => Value::Begin(begin.to_owned()),
            None => Value::Exact(text.to_owned()),
        },
    }
}

/// Returns the glob of a value, or `None` for every value.
fn value_glob(attribute: &AttributeName, value: &Value) -> Option<String> {
    match value {
        Value::Exact(text) => Some(glob(attribute, text)),
        // A value can have separators.
        Value::Begin(begin) => {
            let stars = if attribute.separator().is_some() { "**" } else { "*" };
            Some(begin.replace('*', "\\*") + stars)
        }
        Value::Every => None,
    }
}

/// Returns the attribute as a clause names it.
fn clause_name(attribute: &AttributeName) -> String {
    match attribute {
        AttributeName::ClientIp(_) => "client.ip".to_owned(),
        other => other.to_string(),
    }
}

/// Returns the order of a limit: deeper and more exact limits are greater.
fn specificity(leaf: &Leaf<'_>) -> (usize, Vec<usize>) {
    let exactness = leaf.levels.iter().map(|level| match &level.value {
        Value::Exact(_) => usize::MAX,
        Value::Begin(begin) => 1 + begin.len(),
        Value::Every => 0,
    });
    (leaf.levels.len(), exactness.collect())
}

/// Returns the position in the tree for notes.
fn path_of(levels: &[Level]) -> String {
    let parts: Vec<_> = levels
        .iter()
        .map(|level| match &level.value {
            Value::Exact(text) => format!("{}={text}", level.key),
            Value::Begin(begin) => format!("{}={begin}*", level.key),
            Value::Every => level.key.clone(),
        })
        .collect();
    if parts.is_empty() { "descriptors".to_owned() } else { parts.join(" / ") }
}

impl Leaf<'_> {
    fn draft(
        &self,
        domain: &str,
        keys: &BTreeSet<String>,
        names: &mut Names,
        notes: &mut Vec<String>,
    ) -> Option<Draft> {
        let path = path_of(&self.levels);
        for member in self.rate.keys().filter(|member| !RATE.contains(member)) {
            notes.push(format!("{path}: `{member}` of `rate_limit` has no equivalent."));
        }
        let (rule, limits) = self.limit(&path, notes)?;
        let domain_glob = domain.replace('*', "\\*");
        let mut clauses = vec![("domain".to_owned(), Condition::Any(vec![domain_glob]))];
        let mut by = Vec::new();
        for (at, level) in self.levels.iter().enumerate() {
            let name = clause_name(&level.attribute);
            let before = self.levels.iter().take(at);
            if before.clone().any(|other| other.attribute == level.attribute) {
                continue;
            }
            clauses.push((name, self.condition(level, &path, notes)?));
            let same = self.levels.iter().filter(|other| other.attribute == level.attribute);
            if same.clone().any(|same| same.value != Value::Every && same.shares) {
                continue;
            }
            if same.clone().any(|same| !matches!(same.value, Value::Exact(_))) {
                by.push(identity(&level.attribute));
            }
        }
        let others = keys.iter().filter(|key| !clauses.iter().any(|(name, _)| name == *key));
        let others: Vec<_> = others.map(|key| (key.clone(), Condition::Exists(false))).collect();
        clauses.extend(others);
        let name: Vec<_> = self
            .levels
            .iter()
            .map(|level| match &level.value {
                Value::Exact(text) | Value::Begin(text) => format!("{}-{text}", level.key),
                Value::Every => level.key.clone(),
            })
            .collect();
        let enforce = !self.node.is_true("shadow_mode");
        Some(Draft { name: names.give(&name.join(".")), clauses, by, limits, rule, enforce })
    }

    /// Returns the condition for all levels with the attribute of `level`. A key that occurs twice
    /// has its values joined by `/`.
    fn condition(&self, level: &Level, path: &str, notes: &mut Vec<String>) -> Option<Condition> {
        let same: Vec<_> =
            self.levels.iter().filter(|other| other.attribute == level.attribute).collect();
        if let [level] = same.as_slice() {
            let is_address = matches!(level.attribute, AttributeName::ClientIp(_));
            let globs = value_glob(&level.attribute, &level.value).into_iter();
            let globs: Vec<_> = globs.chain(level.siblings.iter().cloned()).collect();
            let is_network = |text: &String| policies::address::Network::parse(text).is_ok();
            if is_address && !globs.iter().all(is_network) {
                notes.push(format!(
                    "{path}: no equivalent: a value of `remote_address` is no address; the limit is \
                     left out."
                ));
                return None;
            }
            return Some(match (&level.value, globs.is_empty()) {
                (Value::Every, true) => Condition::Exists(true),
                (Value::Every, false) => Condition::Not(globs),
                _ => Condition::Any(globs),
            });
        }
        let globs = same
            .iter()
            .map(|same| value_glob(&same.attribute, &same.value).unwrap_or_else(|| "*".to_owned()));
        Some(Condition::Any(vec![globs.collect::<Vec<_>>().join("/")]))
    }

    fn limit(&self, path: &str, notes: &mut Vec<String>) -> Option<(Rule, Vec<LimitDraft>)> {
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
                notes.push(format!("{path}: the unit `{unit}` is unknown; the limit is left out."));
                return None;
            }
        };
        let units = self.rate.text("requests_per_unit").and_then(|text| text.parse::<u64>().ok());
        let Some(units) = units else {
            notes.push(format!("{path}: `requests_per_unit` is no number; the limit is left out."));
            return None;
        };
        if units == 0 {
            return Some((Rule::Block, Vec::new()));
        }
        if units > MAX_UNITS {
            notes.push(format!("{path}: the limit {units} becomes {MAX_UNITS}, the largest."));
        }
        let limit = LimitDraft {
            name: "rate".to_owned(),
            limit: units.min(MAX_UNITS),
            per: per.to_owned(),
            always: true,
            by: None,
        };
        Some((Rule::Limits, vec![limit]))
    }
}
