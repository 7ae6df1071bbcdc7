//! The command that explains a request without a service and without Redis.

use policies::{attributes::Attributes, digest::HashKey, model::Entry};

use super::{
    account::ExplainAnswer,
    load::{Loader, now},
    options::PolicyOptions,
};
use crate::{command_line::ExplainWords, startup_error::StartupError};

/// The secret of digests when the operator gives none: a file that reads secrets can be explained
/// everywhere, and only its keys differ from those of the service.
const PLACEHOLDER: &[u8] = b"the secret of an explanation";

/// The explanation of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The account as JSON.
    pub text: String,
    /// False if the request is denied whatever the states of the limits are.
    pub allowed: bool,
}

/// Explains a request. `hash_key` is the key of the digests of the service, if it is known.
///
/// # Errors
///
/// When the file cannot be used, or the request is malformed.
pub fn explain(words: &ExplainWords, hash_key: Option<HashKey>) -> Result<Explained, StartupError> {
    let hash_key = hash_key.or_else(|| HashKey::new(PLACEHOLDER));
    let file = words.file.clone();
    let options =
        PolicyOptions { file, cache_file: None, hash_key, tokens: None, logs_decisions: false };
    let loader = Loader::new(&options);
    let policies = loader.read().and_then(|content| loader.load(&content));
    let policies = policies.map_err(|error| StartupError::about(&shown(words), error))?;

    let mut attributes = Attributes::new(Entry::Check, policies.path_form());
    if let Some(policy) = &words.policy {
        attributes.set_policy(policy.as_str());
    }
    for (name, value) in &words.attributes {
        let set = match name.starts_with("jwt.") {
            true => attributes.set_claim(name, value),
            false => attributes.set(name, value),
        };
        set.map_err(|error| StartupError::about(name, error))?;
    }
    let explanation = policies.explain(&attributes, words.at.unwrap_or_else(now));
    if let Some(error) = &explanation.error {
        return Err(StartupError::about("explain", error));
    }
    let answer = ExplainAnswer::new(explanation, None, None);
    let text = serde_json::to_string_pretty(&answer);
    let text = text.map_err(|error| StartupError::about("explain", error))?;
    Ok(Explained { text: format!("{text}\n"), allowed: answer.allowed })
}

fn shown(words: &ExplainWords) -> String {
    words.file.display().to_string()
}
