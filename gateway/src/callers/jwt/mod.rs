//! Tokens of callers: JSON Web Tokens (RFC 7519), verified by a set of keys in a file (RFC 7517).
//!
//! The key has the algorithm, and a token is verified only with keys of the algorithm in its head. An
//! attacker therefore cannot use a public key as a secret, or leave out the signature. Other members
//! of the head about keys are ignored.

mod jwk;
mod signature;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jsonwebtoken::{
    Algorithm, Validation, decode, decode_header,
    errors::{Error, ErrorKind},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use self::jwk::VerificationKey;
use super::{
    caller::{Caller, CallerLimit, Credential},
    options::{JwtOptions, ScopeOptions},
    refusal::Refusal,
    scope::{Scope, Scopes},
};

/// Maximum size of a subject.
const MAX_SUBJECT_BYTES: usize = 256;

/// Maximum difference between the clocks of the issuer and the gateway, in seconds.
const LEEWAY_SECONDS: u64 = 30;

/// The keys that verify tokens, and the rules for claims.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<(Validation, VerificationKey)>,
    scopes: ScopeOptions,
    limit: CallerLimit,
}

/// The claims of a token, beside those that the library checks.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    /// A text. The library also accepts a list with the issuer in it, which is invalid (RFC 7519, 4.1.1).
    #[serde(rename = "iss")]
    _issuer: String,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl KeySet {
    /// Reads the file of keys. Every caller with a token gets the `limit`.
    pub(super) fn parse(
        content: &[u8],
        options: &JwtOptions,
        limit: CallerLimit,
    ) -> Result<Self, String> {
        signature::install();
        let keys = jwk::read(content, &options.jwks_file)?.into_iter();
        let keys = keys.map(|key| (validation(key.algorithm, options), key)).collect();
        Ok(Self { keys, scopes: options.scopes.clone(), limit })
    }

    /// Returns the caller of this token.
    pub(super) fn verify(&self, token: &str) -> Result<Arc<Caller>, Refusal> {
        let header = decode_header(token).map_err(|_| Refusal::Malformed)?;
        // The token requires extensions, and the gateway supports none (RFC 7515, 4.1.11).
        if header.crit.is_some() {
            return Err(Refusal::Malformed);
        }
        let mut refusal = Refusal::UnknownSigner;
        for (validation, key) in self.keys.iter().filter(|(_, key)| key.fits(&header)) {
            match decode::<Claims>(token, &key.key, validation) {
                Ok(token) => {
                    return token.claims.caller(&self.scopes, self.limit).map(Arc::new);
                }
                Err(error) => refusal = explain(&error),
            }
            if refusal != Refusal::Signature {
                break;
            }
        }
        Err(refusal)
    }
}

fn validation(algorithm: Algorithm, options: &JwtOptions) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = LEEWAY_SECONDS;
    validation.validate_nbf = true;
    validation.set_audience(&[&options.audience]);
    validation.set_issuer(&[&options.issuer]);
    validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
    validation
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

/// Returns the reason for which the library refuses a token that one of the keys can have signed.
fn explain(error: &Error) -> Refusal {
    match error.kind() {
        ErrorKind::InvalidSignature => Refusal::Signature,
        ErrorKind::ExpiredSignature => Refusal::Expired,
        ErrorKind::ImmatureSignature => Refusal::NotYetValid,
        ErrorKind::InvalidAudience => Refusal::Audience,
        ErrorKind::InvalidIssuer => Refusal::Issuer,
        ErrorKind::MissingRequiredClaim(_)
        | ErrorKind::InvalidClaimFormat(_)
        | ErrorKind::Json(_) => Refusal::Claims,
        _ => Refusal::Malformed,
    }
}
