//! Tokens of callers: JSON Web Tokens (RFC 7519), verified by a set of keys in a file (RFC 7517). The
//! tokens of end users are verified by the same code, in [`key_set`].
//!
//! The key has the algorithm, and a token is verified only with keys of the algorithm in its head. An
//! attacker therefore cannot use a public key as a secret, or leave out the signature. Other members
//! of the head about keys are ignored.

mod jwk;
pub(crate) mod key_set;
mod signature;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use self::key_set::{KeySet, TokenRules};
use super::{
    caller::{Caller, CallerLimit, Credential},
    options::{JwtOptions, ScopeOptions},
    refusal::Refusal,
    scope::{Scope, Scopes},
};

/// Maximum size of a subject.
const MAX_SUBJECT_BYTES: usize = 256;

/// The claims that the token of a caller must have.
const REQUIRED_CLAIMS: [&str; 4] = ["exp", "aud", "iss", "sub"];

/// The keys that verify the tokens of callers, and the rules for scopes.
#[derive(Debug)]
pub(super) struct CallerTokens {
    keys: KeySet,
    scopes: ScopeOptions,
    limit: CallerLimit,
}

/// The claims of a token, beside those that the library checks.
#[derive(Clone, Deserialize)]
struct Claims {
    sub: String,
    /// A text. The library also accepts a list with the issuer in it, which is invalid (RFC 7519, 4.1.1).
    #[serde(rename = "iss")]
    _issuer: String,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl CallerTokens {
    /// Reads the file of keys. Every caller with a token gets the `limit`.
    pub(super) fn parse(
        content: &[u8],
        options: &JwtOptions,
        limit: CallerLimit,
    ) -> Result<Self, String> {
        let rules = TokenRules {
            jwks_file: &options.jwks_file,
            audience: &options.audience,
            issuer: &options.issuer,
            required_claims: &REQUIRED_CLAIMS,
        };
        let keys = KeySet::parse(content, &rules)?;
        Ok(Self { keys, scopes: options.scopes.clone(), limit })
    }

    /// Returns the caller of this token.
    pub(super) fn verify(&self, token: &str) -> Result<Arc<Caller>, Refusal> {
        let claims: Claims = self.keys.verify(token)?;
        claims.caller(&self.scopes, self.limit).map(Arc::new)
    }
}

impl Claims {
    fn caller(self, options: &ScopeOptions, limit: CallerLimit) -> Result<Caller, Refusal> {
        if !(1..=MAX_SUBJECT_BYTES).contains(&self.sub.len()) {
            return Err(Refusal::Claims);
        }
        let scopes = self.scopes(options)?;
        Ok(Caller { credential: Credential::Token, name: self.sub, scopes, limit })
    }

    /// Returns the scopes of this service. A token can be for several services, so unknown names are
    /// ignored.
    fn scopes(&self, options: &ScopeOptions) -> Result<Scopes, Refusal> {
        let mut names = vec![];
        for claim in &options.claims {
            match find(&self.others, claim) {
                None | Some(Value::Null) => {}
                // Separated by spaces (RFC 8693, 4.2).
                Some(Value::String(text)) => names.extend(text.split(' ')),
                Some(Value::Array(list)) => {
                    for name in list {
                        names.push(name.as_str().ok_or(Refusal::Claims)?);
                    }
                }
                Some(_) => return Err(Refusal::Claims),
            }
        }
        let own = names.into_iter().filter_map(|name| name.strip_prefix(options.prefix.as_str()));
        Ok(own.filter_map(Scope::from_name).collect())
    }
}

/// Finds the claim with this name, or at this path of names with dots between them. A name can have
/// dots itself, as URLs have.
fn find<'c>(claims: &'c Map<String, Value>, path: &str) -> Option<&'c Value> {
    claims.get(path).or_else(|| {
        path.match_indices('.').find_map(|(dot, _)| {
            let (name, rest) = (path.get(..dot)?, path.get(dot + 1..)?);
            find(claims.get(name)?.as_object()?, rest)
        })
    })
}
