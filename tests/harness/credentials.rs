//! Credentials of callers, made for the test.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use ratelimit_test_tokens::{Algorithm, SigningKey};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

/// A key, and its entry in a file of keys.
#[derive(Clone, Debug)]
pub(crate) struct ApiKey {
    pub(crate) key: String,
    entry: Value,
}

impl ApiKey {
    /// Creates a key for a caller with this name.
    pub(crate) fn new(name: &str, scopes: &[&str]) -> Self {
        let key = format!("the key of {name}").replace(' ', "-");
        let hash = digest(&SHA256, key.as_bytes());
        let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { key, entry: json!({ "name": name, "sha256": hash, "scopes": scopes }) }
    }

    /// Limits the caller to `limit` requests in a window.
    pub(crate) fn limit(mut self, limit: u32, window_seconds: u32) -> Self {
        self.entry["limit"] = json!(limit);
        self.entry["window_seconds"] = json!(window_seconds);
        self
    }

    /// Returns the header with the key.
    pub(crate) fn header(&self) -> (&str, &str) {
        ("X-API-Key", &self.key)
    }

    /// Returns the hash of the key, in the format of the file.
    pub(crate) fn hash(&self) -> &str {
        self.entry["sha256"].as_str().expect("a text")
    }

    /// Writes a file of these keys.
    pub(crate) fn write(path: &Path, keys: &[&Self]) {
        let entries: Vec<_> = keys.iter().map(|key| &key.entry).collect();
        write(path, &json!({ "keys": entries }).to_string());
    }
}

/// An issuer, which signs tokens.
pub(crate) struct Issuer {
    key: SigningKey,
}

impl Issuer {
    /// Creates an issuer with a key for HS256, RS256 or ES256. All issuers for RS256 have the same.
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        Self { key: SigningKey::new(algorithm) }
    }

    /// Returns a token of `subject`, for [`Issuer::AUDIENCE`] and valid for an hour, with these
    /// scopes.
    pub(crate) fn token(&self, subject: &str, scope: &str) -> String {
        self.token_that_says(subject, &json!({ "scope": scope }))
    }

    /// Returns a token with `claims`, which replace default claims of the same names.
    pub(crate) fn token_that_says(&self, subject: &str, claims: &Value) -> String {
        let mut all = json!({
            "sub": subject,
            "aud": Self::AUDIENCE,
            "iss": Self::NAME,
            "exp": unix_time(Duration::from_secs(3_600)),
        });
        let more = claims.as_object().expect("claims are an object").clone();
        all.as_object_mut().expect("claims are an object").extend(more);
        self.key.token(&json!({ "alg": format!("{:?}", self.key.algorithm()) }), &all)
    }

    /// Writes the set of the keys that verify tokens of these issuers.
    pub(crate) fn write(path: &Path, issuers: &[&Self]) {
        let keys: Vec<_> = issuers.iter().map(|issuer| issuer.key.jwk()).collect();
        write(path, &json!({ "keys": keys }).to_string());
    }

    /// The audience of all tokens.
    pub(crate) const AUDIENCE: &'static str = "gateway";

    /// The name of all issuers.
    pub(crate) const NAME: &'static str = "https://issuer.example";
}

/// Returns the time after `from_now`, in seconds since the Unix epoch.
fn unix_time(from_now: Duration) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970");
    (now + from_now).as_secs()
}

/// Replaces the file in one step, as an operator should.
fn write(path: &Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).expect("a file is written");
    fs::rename(new, path).expect("a file is renamed");
}
