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
mod yaml;

use std::fmt;

use limiter::Instant;
use policies::problem::FileError;
use policies::{LoadOptions, Policies};

use crate::draft::{Draft, Drafts};
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

/// Returns the policies of a configuration.
///
/// # Errors
///
/// An [`ImportError`] where the text is the configuration of neither service, or has nothing that
/// can be converted.
pub fn convert(configuration: &str) -> Result<Conversion, ImportError> {
    let root = yaml::parse(configuration).map_err(ImportError)?;
    let drafts = match &root {
        Yaml::Map(_) if root.get("descriptors").is_some() => envoy::drafts(&root),
        Yaml::Map(_) if root.get("limits").is_some() => {
            limitador::drafts(root.get("limits").map_or(&[], Yaml::items))
        }
        Yaml::List(limits) => limitador::drafts(limits),
        _ => {
            Err("the file has neither `domain` and `descriptors`, as envoyproxy/ratelimit, nor a \
                  list of limits, as limitador"
                .to_owned())
        }
    };
    let Drafts { source, policies, mut notes } = drafts.map_err(ImportError)?;
    let policies = usable(source, policies, &mut notes);
    if policies.is_empty() {
        let reasons = notes.join("\n");
        return Err(ImportError(format!("the file has no limit that can be converted\n{reasons}")));
    }
    let file = draft::write(source, policies);
    match load(&file) {
        Ok(_) => Ok(Conversion { file, notes }),
        Err(error) => Err(ImportError(format!("the policies cannot be used:\n{error}\n\n{file}"))),
    }
}

/// Returns the policies that can be loaded, each alone, and adds a note for each of the others: values
/// of another service need not have the form of those of an attribute.
fn usable(source: &str, policies: Vec<Draft>, notes: &mut Vec<String>) -> Vec<Draft> {
    let mut is_usable = |policy: &Draft| {
        let Err(error) = load(&draft::write(source, vec![policy.clone()])) else { return true };
        let reasons: Vec<_> = error.problems().iter().map(|problem| &*problem.problem).collect();
        notes.push(format!(
            "The policy `{}` is left out: no equivalent: {}.",
            policy.name,
            reasons.join("; ")
        ));
        false
    };
    policies.into_iter().filter(|policy| is_usable(policy)).collect()
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
