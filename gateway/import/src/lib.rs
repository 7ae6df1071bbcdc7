//! Configurations of envoyproxy/ratelimit and limitador as policies.
//!
//! A configuration becomes a file that the `policies` crate loads, and notes: the differences
//! between the two services, and each part that has no equivalent. The policies are ordered by
//! specificity, because the first that matches applies.

#![forbid(unsafe_code)]

mod condition;
mod draft;
mod envoy;
mod limitador;
mod names;
mod pattern;
mod yaml;

use std::{collections::HashSet, fmt, slice};

use limiter::Instant;
use policies::problem::FileError;
use policies::{LoadOptions, Policies};

use crate::draft::{Drafts, Note};
use crate::names::Names;
use crate::yaml::Yaml;

/// A converted configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// The policies file.
    pub file: String,
    /// The differences, and the parts without an equivalent; one sentence each.
    pub notes: Vec<String>,
}

/// The reason for which a configuration cannot be converted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportError(String);

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ImportError {}

/// Returns the policies of a configuration in one file.
///
/// # Errors
///
/// An [`ImportError`] where the text is the configuration of neither service, or has nothing that
/// can be converted.
pub fn convert(configuration: &str) -> Result<Conversion, ImportError> {
    convert_files(&[(String::new(), configuration.to_owned())])
}

/// Returns the policies of a configuration of envoyproxy/ratelimit with a file for each domain, or of
/// one file as [`convert`] does. Each file has its name before its text; errors and notes have the name
/// where there are several files.
///
/// # Errors
///
/// As [`convert`]; also where several files are not of different domains of envoyproxy/ratelimit.
pub fn convert_files(files: &[(String, String)]) -> Result<Conversion, ImportError> {
    let (mut names, mut domains) = (Names::default(), HashSet::new());
    let (mut policies, mut notes, mut source) = (Vec::new(), Vec::new(), None);
    for (name, text) in files {
        let name = (files.len() > 1).then_some(name.as_str());
        let refuse = |error: String| {
            ImportError(name.map_or(error.clone(), |name| format!("{name}: {error}")))
        };
        let mut drafts = drafts(text, &mut names).map_err(refuse)?;
        leave_usable(&mut drafts);
        if source.is_none() {
            notes.extend(drafts.differences.iter().map(|&difference| difference.to_owned()));
        }
        source = Some(drafts.source);
        if name.is_some()
            && !drafts.domain.as_ref().is_some_and(|domain| domains.insert(domain.clone()))
        {
            return Err(refuse(
                "several files must each have a domain of envoyproxy/ratelimit that no other file has"
                    .to_owned(),
            ));
        }
        policies.extend(drafts.policies);
        notes.extend(drafts.notes.into_iter().map(|note| note.of_file(name)));
    }
    let Some(source) = source.filter(|_| !policies.is_empty()) else {
        let reasons = notes.join("\n");
        return Err(ImportError(format!("there is no limit that can be converted\n{reasons}")));
    };
    let file = draft::write(source, &policies);
    match load(&file) {
        Ok(_) => Ok(Conversion { file, notes }),
        Err(error) => Err(ImportError(format!("the policies cannot be used:\n{error}\n\n{file}"))),
    }
}

/// Leaves the policies that can be loaded, each alone, and adds a note for each of the others: values of
/// another service need not have the form of those of an attribute.
fn leave_usable(drafts: &mut Drafts) {
    let Drafts { source, policies, notes, .. } = drafts;
    policies.retain(|policy| {
        let Err(error) = load(&draft::write(source, slice::from_ref(policy))) else { return true };
        let reasons: Vec<_> = error.problems().iter().map(|problem| &*problem.problem).collect();
        let text = format!(
            "The policy `{}` is left out: no equivalent: {}.",
            policy.name,
            reasons.join("; ")
        );
        notes.push(Note::new(policy.line, text));
        false
    });
}

fn load(file: &str) -> Result<Policies, FileError> {
    let options = LoadOptions {
        key_prefix: String::new(),
        // Secret headers need a key; the result does not depend on it.
        hash_key: policies::digest::HashKey::new(b"import"),
        require_end: false,
        now: Instant::EPOCH,
    };
    Policies::load(file.as_bytes(), &options)
}

/// Returns the policies of a file, with names that were not given before.
fn drafts(text: &str, names: &mut Names) -> Result<Drafts, String> {
    let root = yaml::parse(text)?;
    match &root {
        Yaml::Map(_) if root.get("descriptors").is_some() => envoy::drafts(&root, names),
        Yaml::Map(members) if root.get("limits").is_some() => {
            if let Some(other) = members.iter().find(|member| member.name != "limits") {
                return Err(format!("line {}: `{}` has no equivalent", other.line, other.name));
            }
            limitador::drafts(root.get("limits").map_or(&[], Yaml::items), names)
        }
        Yaml::List(limits) => limitador::drafts(limits, names),
        _ => {
            Err("the file has neither `domain` and `descriptors`, as envoyproxy/ratelimit, nor a \
                  list of limits, as limitador"
                .to_owned())
        }
    }
}
