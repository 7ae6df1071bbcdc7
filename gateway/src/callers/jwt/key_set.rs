//! The keys of an issuer in a file (RFC 7517), which verify its tokens.

use std::path::Path;

use jsonwebtoken::{
    Algorithm, Validation, decode, decode_header,
    errors::{Error, ErrorKind},
};
use serde::de::DeserializeOwned;

use super::{
    jwk::{self, VerificationKey},
    signature,
};
use crate::callers::refusal::Refusal;

/// Maximum difference between the clocks of the issuer and the gateway, in seconds.
pub(crate) const LEEWAY_SECONDS: u64 = 30;

/// The rules for the claims that every token has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenRules<'o> {
    /// The file with the keys, for messages.
    pub(crate) jwks_file: &'o Path,
    /// The audience that a token must name.
    pub(crate) audience: &'o str,
    /// The issuer that a token must name.
    pub(crate) issuer: &'o str,
    /// The claims that a token must have.
    pub(crate) required_claims: &'o [&'o str],
}

/// The keys that verify tokens, each with the rules for claims.
#[derive(Debug)]
pub(crate) struct KeySet {
    keys: Vec<(Validation, VerificationKey)>,
}

impl KeySet {
    /// Reads the file of keys.
    pub(crate) fn parse(content: &[u8], rules: &TokenRules<'_>) -> Result<Self, String> {
        signature::install();
        let keys = jwk::read(content, rules.jwks_file)?.into_iter();
        let keys = keys.map(|key| (validation(key.algorithm, rules), key)).collect();
        Ok(Self { keys })
    }

    /// Returns the claims of this token.
    pub(crate) fn verify<C: DeserializeOwned + Clone>(&self, token: &str) -> Result<C, Refusal> {
        let header = decode_header(token).map_err(|_| Refusal::Malformed)?;
        // The token requires extensions, and the gateway supports none (RFC 7515, 4.1.11).
        if header.crit.is_some() {
            return Err(Refusal::Malformed);
        }
        let mut refusal = Refusal::UnknownSigner;
        for (validation, key) in self.keys.iter().filter(|(_, key)| key.fits(&header)) {
            match decode::<C>(token, &key.key, validation) {
                Ok(token) => return Ok(token.claims),
                Err(error) => refusal = explain(&error),
            }
            if refusal != Refusal::Signature {
                break;
            }
        }
        Err(refusal)
    }
}

fn validation(algorithm: Algorithm, rules: &TokenRules<'_>) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = LEEWAY_SECONDS;
    validation.validate_nbf = true;
    validation.set_audience(&[rules.audience]);
    validation.set_issuer(&[rules.issuer]);
    validation.set_required_spec_claims(rules.required_claims);
    validation
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
