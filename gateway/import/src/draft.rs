//! A policy before it is written as YAML.

use std::fmt::Write;

use policies::attribute::AttributeName;

/// The policies of a configuration before they are written, and the notes about it.
pub(crate) struct Drafts {
    /// The service whose configuration it is.
    pub(crate) source: &'static str,
    /// The domain of all policies, if there is one.
    pub(crate) domain: Option<String>,
    /// The differences that every conversion has.
    pub(crate) differences: &'static [&'static str],
    pub(crate) policies: Vec<Draft>,
    pub(crate) notes: Vec<Note>,
}

/// A remark on a part of a configuration.
#[derive(Debug)]
pub(crate) struct Note {
    /// The line of the part, if the part has one.
    line: Option<usize>,
    text: String,
}

impl Note {
    pub(crate) fn new(line: Option<usize>, text: String) -> Self {
        Self { line, text }
    }

    /// Returns the note with the name of the file, if there are several.
    pub(crate) fn of_file(self, name: Option<&str>) -> String {
        let line = self.line.map(|line| format!("line {line}"));
        let place = [name.map(str::to_owned), line].into_iter().flatten().collect::<Vec<_>>();
        match place.as_slice() {
            [] => self.text,
            place => format!("{}: {}", place.join(", "), self.text),
        }
    }
}

/// A policy.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) name: String,
    /// The line of its limit, if the policy has one limit.
    pub(crate) line: Option<usize>,
    /// Attributes, each with its condition.
    pub(crate) clauses: Vec<(String, Condition)>,
    pub(crate) by: Vec<String>,
    pub(crate) limits: Vec<LimitDraft>,
    pub(crate) rule: Rule,
    /// False if the limits are only counted.
    pub(crate) enforce: bool,
}

/// The condition of a clause, with globs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Condition {
    Any(Vec<String>),
    Not(Vec<String>),
    Exists(bool),
}

/// The rule of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Limits,
    Unlimited,
    Block,
}

/// A limit.
#[derive(Clone, Debug)]
pub(crate) struct LimitDraft {
    pub(crate) name: String,
    pub(crate) limit: u64,
    pub(crate) per: String,
    pub(crate) always: bool,
    /// The identity, unless the limit has that of the policy.
    pub(crate) by: Option<Vec<String>>,
}

/// Returns the policies as a file.
pub(crate) fn write(source: &str, policies: &[Draft]) -> String {
    let mut file = format!(
        "# Converted from a configuration of {source} by `ratelimit-gateway import`.\nversion: 1\n\
         policies:\n"
    );
    for policy in policies {
        // Writing to text cannot fail.
        let _ = policy.write(source, &mut file);
    }
    file
}

impl Draft {
    fn write(&self, source: &str, file: &mut String) -> std::fmt::Result {
        writeln!(file, "  - name: {}", self.name)?;
        let clauses: Vec<_> = self
            .clauses
            .iter()
            .map(|(attribute, condition)| format!("{}: {}", scalar(attribute), condition.yaml()))
            .collect();
        if !clauses.is_empty() {
            writeln!(file, "    match: {{{}}}", clauses.join(", "))?;
        }
        writeln!(file, "    by: {}", list(&self.by))?;
        let own = self.limits.iter().filter_map(|limit| limit.by.as_ref());
        if own.flatten().chain(&self.by).next().is_some() {
            writeln!(file, "    missing: skip")?;
        }
        match self.rule {
            Rule::Limits => {
                let limits: Vec<_> = self.limits.iter().map(LimitDraft::yaml).collect();
                writeln!(file, "    limits: [{}]", limits.join(", "))?;
            }
            // An override decides, so that the limit has no effect.
            Rule::Unlimited | Rule::Block => {
                let (effect, reason) = match self.rule {
                    Rule::Block => ("block", format!("a limit of 0 in {source}")),
                    _ => ("unlimited", format!("unlimited in {source}")),
                };
                let (attribute, condition) = match self.clauses.first() {
                    Some((attribute, condition)) => (scalar(attribute), condition.yaml()),
                    None => ("identifier".to_owned(), Condition::Exists(true).yaml()),
                };
                writeln!(file, "    limits: [{{name: rate, limit: 1, per: 1s}}]")?;
                writeln!(
                    file,
                    "    overrides: [{{match: {{{attribute}: {condition}}}, {effect}: true, reason: \
                     {}}}]",
                    scalar(&reason)
                )?;
            }
        }
        if !self.enforce {
            writeln!(file, "    enforce: false")?;
        }
        Ok(())
    }
}

impl Condition {
    fn yaml(&self) -> String {
        match self {
            Self::Any(globs) => globs_yaml(globs),
            Self::Not(globs) => format!("{{not: {}}}", list(globs)),
            Self::Exists(exists) => format!("{{exists: {exists}}}"),
        }
    }
}

impl LimitDraft {
    fn yaml(&self) -> String {
        let mut text = format!("{{name: {}", self.name);
        if let Some(by) = &self.by {
            text += &format!(", by: {}", list(by));
        }
        text += &format!(", limit: {}, per: {}, algorithm: fixed_window", self.limit, self.per);
        if self.always {
            text += ", charge: always";
        }
        text + "}"
    }
}

fn globs_yaml(globs: &[String]) -> String {
    match globs {
        [glob] => scalar(glob),
        globs => list(globs),
    }
}

fn list(items: &[String]) -> String {
    let items: Vec<_> = items.iter().map(|item| scalar(item)).collect();
    format!("[{}]", items.join(", "))
}

/// Returns a text as a scalar, in quotes unless every reader takes it as text without them.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let begins = text.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '/');
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_./-".contains(letter);
    let is_word = WORDS.contains(&text.to_ascii_lowercase().as_str());
    if begins && text.chars().all(plain) && !is_word {
        text.to_owned()
    } else {
        // A text of JSON is a text of YAML.
        serde_json::Value::from(text).to_string()
    }
}

/// Returns the glob that matches exactly this value of an attribute.
pub(crate) fn glob(attribute: &AttributeName, value: &str) -> String {
    let value = match attribute {
        AttributeName::Path => {
            policies::path::PathForm::default().normalize_leniently(value.as_bytes())
        }
        _ => value.to_owned(),
    };
    value.replace('*', "\\*")
}

/// Returns the name of an attribute in identities. A service without groups of addresses counts
/// each address.
pub(crate) fn identity(attribute: &AttributeName) -> String {
    match attribute {
        AttributeName::ClientIp(_) => "client.ip/32/128".to_owned(),
        other => other.to_string(),
    }
}

/// Returns whether an entry of a descriptor can have this attribute: no entry is a claim, and `domain` is
/// the domain of the whole request.
pub(crate) fn can_be_of_a_descriptor(attribute: &AttributeName) -> bool {
    match attribute {
        AttributeName::Claim(_) => false,
        AttributeName::Word(word) => &**word != "domain",
        _ => true,
    }
}
