//! Tokens of end users: the source of `jwt.*`.
//!
//! An end user can send any number of tokens, and a signature takes up to 100 microseconds. So a token
//! is verified only when a policy that is tried reads a claim, and the outcome is kept.

use std::{
    cell::OnceCell,
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use jsonwebtoken::get_current_timestamp;
use policies::attributes::{ClaimSource, Claims};
use ring::digest::{SHA256, digest};

use super::options::TokenOptions;
use crate::callers::jwt::key_set::{KeySet, LEEWAY_SECONDS, TokenRules};

/// Maximum size of a token. A longer one is not verified.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Maximum number of outcomes in one of the two generations that are kept.
const MAX_GENERATION: usize = 5_000;

/// Seconds for which a token without valid claims is kept: it can become valid.
const REFUSAL_SECONDS: u64 = 10;

/// The claims that the token of an end user must have.
const REQUIRED_CLAIMS: [&str; 3] = ["exp", "aud", "iss"];

/// The digest of a token.
type TokenDigest = [u8; 32];

/// The keys that verify the tokens of end users, and the outcomes of the last verifications. A change
/// of the keys makes a new value, without outcomes.
#[derive(Debug)]
pub(crate) struct EndUserTokens {
    keys: KeySet,
    outcomes: Mutex<Outcomes>,
}

/// The outcomes of verifications in two generations: when the recent one is full, it becomes the former
/// one, so that outcomes that are not used go.
#[derive(Debug, Default)]
struct Outcomes {
    recent: HashMap<TokenDigest, Outcome>,
    former: HashMap<TokenDigest, Outcome>,
}

/// The outcome of a verification.
#[derive(Debug, Clone)]
struct Outcome {
    /// `None` for a token that is not valid.
    claims: Option<Arc<Claims>>,
    /// The first second at which the outcome holds no more, since 1970.
    end: u64,
}

impl EndUserTokens {
    /// Reads the file of keys.
    pub(super) fn parse(content: &[u8], options: &TokenOptions) -> Result<Self, String> {
        let rules = TokenRules {
            jwks_file: &options.jwks_file,
            audience: &options.audience,
            issuer: &options.issuer,
            required_claims: &REQUIRED_CLAIMS,
        };
        Ok(Self { keys: KeySet::parse(content, &rules)?, outcomes: Mutex::default() })
    }

    /// Returns the claims of a token, or `None` for a token that is not valid.
    fn claims(&self, token: &str) -> Option<Arc<Claims>> {
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let mut key: TokenDigest = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let now = get_current_timestamp();
        if let Some(known) = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).find(&key)
            && now < known.end
        {
            return known.claims;
        }
        let outcome = self.verify(token, now);
        let claims = outcome.claims.clone();
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert(key, outcome);
        claims
    }

    fn verify(&self, token: &str, now: u64) -> Outcome {
        let verified = self.keys.verify::<Claims>(token);
        // The library also accepts a list with the issuer in it, which is invalid (RFC 7519, 4.1.1).
        let claims =
            verified.ok().filter(|claims| claims.get("iss").is_some_and(|iss| iss.is_string()));
        let Some(claims) = claims else {
            return Outcome { claims: None, end: now + REFUSAL_SECONDS };
        };
        let expiry = claims.get("exp").and_then(serde_json::Value::as_f64).unwrap_or_default();
        // A conversion of a number outside the range saturates.
        let end = (expiry as u64).saturating_add(LEEWAY_SECONDS);
        Outcome { claims: Some(Arc::new(claims)), end }
    }
}

impl Outcomes {
    fn find(&mut self, key: &TokenDigest) -> Option<Outcome> {
        if let Some(known) = self.recent.get(key) {
            return Some(known.clone());
        }
        let known = self.former.remove(key)?;
        self.insert(*key, known.clone());
        Some(known)
    }

    fn insert(&mut self, key: TokenDigest, outcome: Outcome) {
        if self.recent.len() >= MAX_GENERATION {
            self.former = mem::take(&mut self.recent);
        }
        self.recent.insert(key, outcome);
    }
}

/// The claims of one request, verified when a policy reads the first of them.
#[derive(Debug)]
pub(crate) struct RequestClaims<'r> {
    tokens: Option<&'r EndUserTokens>,
    token: Option<&'r str>,
    claims: OnceCell<Option<Arc<Claims>>>,
}

impl<'r> RequestClaims<'r> {
    /// Returns the claims in the token of a request. Without a token, or without keys that verify the
    /// token, the request has no claims.
    pub(crate) fn new(tokens: Option<&'r EndUserTokens>, token: Option<&'r str>) -> Self {
        Self { tokens, token, claims: OnceCell::new() }
    }
}

impl ClaimSource for RequestClaims<'_> {
    fn claims(&self) -> Option<&Claims> {
        let verify =
            || self.tokens.zip(self.token).and_then(|(tokens, token)| tokens.claims(token));
        self.claims.get_or_init(verify).as_deref()
    }

    fn is_known(&self) -> bool {
        self.claims.get().is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jsonwebtoken::get_current_timestamp;
    use policies::attributes::ClaimSource;
    use ratelimit_test_tokens::{Algorithm, SigningKey};
    use serde_json::{Value, json};

    use super::{
        EndUserTokens, MAX_GENERATION, MAX_TOKEN_BYTES, Outcome, Outcomes, RequestClaims,
        TokenOptions,
    };

    fn tokens(key: &SigningKey) -> EndUserTokens {
        let options = TokenOptions {
            jwks_file: "set.json".into(),
            audience: "app".to_owned(),
            issuer: "it".to_owned(),
        };
        let set = json!({ "keys": [key.jwk()] }).to_string();
        EndUserTokens::parse(set.as_bytes(), &options).unwrap()
    }

    fn claims() -> Value {
        let exp = get_current_timestamp() + 3_600;
        json!({ "sub": "alice", "aud": "app", "iss": "it", "exp": exp })
    }

    fn subject(tokens: &EndUserTokens, token: &str) -> Option<Value> {
        let claims = RequestClaims::new(Some(tokens), Some(token));
        claims.claims().and_then(|claims| claims.get("sub").cloned())
    }

    #[test]
    fn only_a_verified_token_of_the_issuer_for_the_audience_has_claims() {
        let key = SigningKey::new(Algorithm::ES256);
        let tokens = tokens(&key);
        let head = json!({ "alg": "ES256" });
        let valid = key.token(&head, &claims());
        for _ in 0..2 {
            assert_eq!(subject(&tokens, &valid), Some(json!("alice")));
        }
        for (name, value) in [
            ("aud", json!("other")),
            ("iss", json!("other")),
            ("iss", json!(["it"])),
            ("exp", json!(1)),
            ("exp", Value::Null),
        ] {
            let mut wrong = claims();
            wrong[name] = value;
            assert_eq!(subject(&tokens, &key.token(&head, &wrong)), None, "{name}");
        }
        let forged = SigningKey::new(Algorithm::HS256).token(&json!({ "alg": "HS256" }), &claims());
        let mut long = claims();
        long["sub"] = json!("a".repeat(MAX_TOKEN_BYTES));
        for token in ["", "a.b.c", &valid[1..], &forged, &key.token(&head, &long)] {
            assert_eq!(subject(&tokens, token), None);
        }
        assert!(RequestClaims::new(None, Some(&valid)).claims().is_none());
        assert!(RequestClaims::new(Some(&tokens), None).claims().is_none());
    }

    #[test]
    fn an_outcome_is_kept_until_the_token_ends() {
        let key = SigningKey::new(Algorithm::ES256);
        let tokens = tokens(&key);
        let token = key.token(&json!({ "alg": "ES256" }), &claims());
        let kept = tokens.claims(&token).unwrap();
        assert!(Arc::ptr_eq(&kept, &tokens.claims(&token).unwrap()));
        for outcome in tokens.outcomes.lock().unwrap().recent.values_mut() {
            outcome.end = get_current_timestamp();
        }
        assert!(!Arc::ptr_eq(&kept, &tokens.claims(&token).unwrap()));
    }

    #[test]
    fn the_number_of_outcomes_is_bounded_and_those_in_use_stay() {
        let mut outcomes = Outcomes::default();
        let key = |number: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_le_bytes());
            key
        };
        for number in 0..4 * MAX_GENERATION {
            outcomes.insert(key(number), Outcome { claims: None, end: 1 });
            assert!(outcomes.find(&key(0)).is_some());
            assert!(outcomes.recent.len() + outcomes.former.len() <= 2 * MAX_GENERATION);
        }
        assert!(outcomes.find(&key(1)).is_none());
    }
}
