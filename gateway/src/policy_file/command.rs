//! The command that explains a request without a service and without Redis.

use policies::{attributes::Attributes, digest::HashKey, model::Entry};

use super::{
    account::ExplainAnswer,
    load::{Loader, now},
    options::PolicyOptions,
};
use crate::{command_line::ExplainWords, startup_error::StartupError};

/// The secret of digests when the operator gives none: a file that reads secrets can be explained
/// everywhere. Its keys differ from those of the service, and its overrides by digests do not apply.
const PLACEHOLDER: &[u8] = b"the secret of an explanation";

/// The line about a file that reads secrets, where no secret of digests is known.
const OTHER_DIGESTS: &str = "note: without IDENTITY_HASH_KEY, secret values have other digests than in \
                             the service, and overrides by digests do not apply";

/// The explanation of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The account as JSON.
    pub text: String,
    /// False if the request is denied whatever the states of the limits are.
    pub allowed: bool,
    /// A line about a difference from the service.
    pub note: Option<&'static str>,
}

/// Explains a request. `hash_key` is the key of the digests of the service, if it is known, and
/// `key_prefix` the text before its keys.
///
/// # Errors
///
/// When the file cannot be used, or the request is malformed.
pub fn explain(
    words: &ExplainWords,
    hash_key: Option<HashKey>,
    key_prefix: &str,
) -> Result<Explained, StartupError> {
    let loader = |hash_key| {
        let file = words.file.clone();
        let options =
            PolicyOptions { file, cache_file: None, hash_key, tokens: None, logs_decisions: false };
        Loader::new(&options)
    };
    let about_file = |error| StartupError::about(&shown(words), error);
    let content = loader(None).read().map_err(about_file)?;
    let has_key = hash_key.is_some();
    let with_key = loader(hash_key.or_else(|| HashKey::new(PLACEHOLDER)));
    let policies = with_key.load(&content).map_err(about_file)?;
    // Without a secret of digests, only a file that reads no secrets can be loaded.
    let has_other_digests = !has_key && loader(None).load(&content).is_err();

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
    let answer = ExplainAnswer::new(explanation, None, None, key_prefix);
    let text = serde_json::to_string_pretty(&answer);
    let text = text.map_err(|error| StartupError::about("explain", error))?;
    let note = has_other_digests.then_some(OTHER_DIGESTS);
    Ok(Explained { text: format!("{text}\n"), allowed: answer.allowed, note })
}

fn shown(words: &ExplainWords) -> String {
    words.file.display().to_string()
}
