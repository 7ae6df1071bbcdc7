//! Tokens of callers: JSON Web Tokens (RFC 7519), verified by a set of keys in a file (RFC 7517).
//!
//! The key decides the algorithm, and a token is only tried with keys of the algorithm that it
//! names. So nobody can sign with a public key as if it were a secret, or not at all. Whatever
//! else the head of a token says about keys is not looked at.

mod jwk;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jsonwebtoken::{
    Algorithm, Validation, decode, decode_header,
    errors::{Error, ErrorKind},
};
use serde::Deserialize;

use self::jwk::VerificationKey;
use super::{Caller, CallerLimit, Credential, Refusal, Scope, Scopes};
use crate::config::JwtOptions;

/// Most bytes of a subject.
const MAX_SUBJECT_BYTES: usize = 256;

/// How far the clocks of issuer and gateway may be apart, in seconds.
const LEEWAY_SECONDS: u64 = 30;

/// Keys to verify tokens by, and what tokens must say.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<(Validation, VerificationKey)>,
    limit: CallerLimit,
}

/// What tokens say, beside what the library checks.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    scope: Option<ScopeClaim>,
    scp: Option<ScopeClaim>,
    scopes: Option<ScopeClaim>,
}

/// Names of scopes, separated by spaces (RFC 8693, 4.2) or as a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum ScopeClaim {
    Text(String),
    List(Vec<String>),
}

impl KeySet {
    /// Reads the file of keys. Every caller with a token gets the `limit`.
    pub(super) fn parse(
        content: &[u8],
        options: &JwtOptions,
        limit: CallerLimit,
    ) -> Result<Self, String> {
        let keys = jwk::read(content, &options.jwks_file)?.into_iter();
        let keys = keys.map(|key| (validation(key.algorithm, options), key)).collect();
        Ok(Self { keys, limit })
    }

    /// The caller whose token this is.
    pub(super) fn verify(&self, token: &str) -> Result<Arc<Caller>, Refusal> {
        let header = decode_header(token).map_err(|_| Refusal::Malformed)?;
        // Extensions that must be understood, of which none is (RFC 7515, 4.1.11).
        if header.crit.is_some() {
            return Err(Refusal::Malformed);
        }
        let mut refusal = Refusal::UnknownSigner;
        for (validation, key) in self.keys.iter().filter(|(_, key)| key.fits(&header)) {
            match decode::<Claims>(token, &key.key, validation) {
                Ok(token) => return token.claims.caller(self.limit).map(Arc::new),
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
    fn caller(self, limit: CallerLimit) -> Result<Caller, Refusal> {
        if !(1..=MAX_SUBJECT_BYTES).contains(&self.sub.len()) {
            return Err(Refusal::Claims);
        }
        let claims = [self.scope, self.scp, self.scopes];
        let names = claims.iter().flatten().flat_map(ScopeClaim::names);
        // A token is for several services: scopes of others are not ours to judge.
        let scopes: Scopes = names.filter_map(Scope::from_name).collect();
        Ok(Caller { credential: Credential::Token, name: self.sub, scopes, limit })
    }
}

impl ScopeClaim {
    fn names(&self) -> Vec<&str> {
        match self {
            Self::Text(names) => names.split(' ').collect(),
            Self::List(names) => names.iter().map(String::as_str).collect(),
        }
    }
}

/// Why the library refuses a token that one of our keys may have signed.
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
