//! Who calls, what they may do, and how often they may ask.
//!
//! Everybody may do everything, unless there is a file of keys or of a key set. Then a request
//! must show a key (`X-API-Key: KEY`, or `Authorization: Bearer KEY`) or a token
//! (`Authorization: Bearer TOKEN`), and who shows it needs the [`Scope`] that the route asks for.
//! Which route asks for which is said in the sitemap.

mod api_keys;
mod docs;
mod jwt;
mod refusal;
mod scope;

use std::{fmt, sync::Arc};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

use self::{api_keys::ApiKeys, jwt::KeySet};
pub use self::{
    api_keys::new_api_key,
    scope::{Scope, Scopes},
};
pub(crate) use self::{
    docs::{Requirement, document},
    refusal::Refusal,
};
use limiter::Algorithm;
use store::{Millis, Quota};

use crate::{
    config::{CallerOptions, SettingsError},
    watched_files::WatchedFiles,
};

/// Where a key is shown.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Most bytes of a key or a token. Longer ones are refused before anything is computed.
const MAX_CREDENTIAL_BYTES: usize = 8 * 1024;

/// Who may call.
#[derive(Debug)]
pub struct Callers {
    keys: Option<WatchedFiles<ApiKeys>>,
    tokens: Option<WatchedFiles<KeySet>>,
    metrics_open: bool,
}

/// Somebody who has shown a key or a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    credential: Credential,
    name: String,
    scopes: Scopes,
    limit: CallerLimit,
}

/// What a caller is known by. Names of one kind say nothing about those of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Credential {
    Key,
    Token,
}

/// How often a caller may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallerLimit {
    /// Requests per window; `None` is any number.
    requests: Option<u32>,
    window: Millis,
}

impl Callers {
    /// Reads the files, and again whenever they change. `None` when there are none: everybody may
    /// call. Needs the runtime.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or its content cannot be used.
    pub fn open(options: &CallerOptions) -> Result<Option<Self>, SettingsError> {
        let limit = CallerLimit { requests: options.limit, window: options.window };
        let keys = options.api_keys_file.as_ref().map(|path| {
            WatchedFiles::load([path.clone()], move |[content]| ApiKeys::parse(content, &limit))
                .map_err(|error| SettingsError::about("API_KEYS_FILE", error))
        });
        let tokens = options.jwt.clone().map(|jwt| {
            let path = jwt.jwks_file.clone();
            WatchedFiles::load([path], move |[content]| KeySet::parse(content, &jwt, limit))
                .map_err(|error| SettingsError::about("JWT_JWKS_FILE", error))
        });
        let (keys, tokens) = (keys.transpose()?, tokens.transpose()?);
        if keys.is_none() && tokens.is_none() {
            return Ok(None);
        }
        Ok(Some(Self { keys, tokens, metrics_open: options.metrics_open }))
    }

    /// Whether everybody may read the metrics.
    pub(crate) fn metrics_open(&self) -> bool {
        self.metrics_open
    }

    /// Who shows a key or a token in these headers.
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Result<Arc<Caller>, Refusal> {
        let key = single(headers, &API_KEY)?.map(HeaderValue::as_bytes);
        let authorization = single(headers, &AUTHORIZATION)?.map(HeaderValue::as_bytes);
        // An empty one is what a script sends whose variable is not set.
        let given = key.or_else(|| bearer(authorization?)).filter(|given| !given.is_empty());
        let credential = given.ok_or(Refusal::Missing)?;
        if credential.len() > MAX_CREDENTIAL_BYTES {
            return Err(Refusal::TooLong);
        }
        if let Some(caller) = self.by_key(credential) {
            return Ok(caller);
        }
        if key.is_some() {
            return Err(Refusal::UnknownKey);
        }
        let tokens = self.tokens.as_ref().ok_or(Refusal::UnknownKey)?;
        let token = str::from_utf8(credential).map_err(|_| Refusal::Malformed)?;
        tokens.current().verify(token)
    }

    fn by_key(&self, key: &[u8]) -> Option<Arc<Caller>> {
        self.keys.as_ref()?.current().find(key).map(Arc::clone)
    }
}

impl Caller {
    /// Whether the caller may do this.
    pub(crate) fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(scope)
    }

    /// What the caller may ask, as a quota of requests; `None` is any number.
    pub(crate) fn quota(&self) -> Option<Quota> {
        let CallerLimit { requests, window } = self.limit;
        let algorithm = Algorithm::TokenBucket;
        requests.map(|limit| Quota { algorithm, limit, window, burst: None })
    }
}

impl fmt::Display for Caller {
    /// The name in logs and keys of Redis: what the caller is known by, then who it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credential = match self.credential {
            Credential::Key => "key",
            Credential::Token => "token",
        };
        write!(f, "{credential}:{}", self.name)
    }
}

/// The value of a header that may be there once. If it came twice, a proxy could have looked at
/// the other value.
fn single<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(Refusal::Ambiguous),
    }
}

/// What follows `Bearer`, which may be written in any case (RFC 9110, 11.1).
fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let space = authorization.iter().position(|byte| *byte == b' ')?;
    let (scheme, credential) = authorization.split_at(space);
    scheme.eq_ignore_ascii_case(b"bearer").then(|| credential.trim_ascii())
}

/// What is wrong with a file, on one line. The text of a value is not repeated: it could be a key
/// that somebody put in the wrong place.
fn file_fault(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("invalid ") {
        format!("a value of the wrong type at line {} column {}", error.line(), error.column())
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use axum::http::{HeaderMap, HeaderName, HeaderValue};
    use store::Millis;
    use tempfile::TempDir;

    use super::{Callers, MAX_CREDENTIAL_BYTES, Refusal, new_api_key};
    use crate::config::CallerOptions;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[tokio::test]
    async fn a_key_is_shown_in_one_of_two_headers() {
        let (key, entry) = new_api_key("shop", &["check"]).unwrap();
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("keys.json");
        fs::write(&path, format!(r#"{{"keys": [{entry}]}}"#)).unwrap();
        let options = CallerOptions {
            api_keys_file: Some(path),
            jwt: None,
            limit: None,
            window: Millis(1_000),
            metrics_open: true,
        };
        let callers = Callers::open(&options).unwrap().unwrap();

        let (bearer, lower) = (format!("Bearer {key}"), format!("bearer  {key}"));
        let long = "x".repeat(MAX_CREDENTIAL_BYTES + 1);
        let long_bearer = format!("Bearer {long}");
        let shop = Ok("key:shop".to_owned());
        for (fields, expected) in [
            (&[("x-api-key", key.as_str())][..], shop.clone()),
            (&[("authorization", &bearer)], shop.clone()),
            (&[("authorization", &lower)], shop.clone()),
            (&[("x-api-key", &key), ("authorization", "Basic dTpw")], shop),
            (&[], Err(Refusal::Missing)),
            (&[("x-api-key", "")], Err(Refusal::Missing)),
            (&[("authorization", "")], Err(Refusal::Missing)),
            (&[("authorization", "Bearer")], Err(Refusal::Missing)),
            (&[("authorization", "Bearer ")], Err(Refusal::Missing)),
            (&[("authorization", "Basic dTpw")], Err(Refusal::Missing)),
            (&[("authorization", &key)], Err(Refusal::Missing)),
            (&[("x-api-key", &key[1..])], Err(Refusal::UnknownKey)),
            (&[("x-api-key", &bearer)], Err(Refusal::UnknownKey)),
            (&[("x-api-key", "x"), ("authorization", &bearer)], Err(Refusal::UnknownKey)),
            (&[("authorization", "Bearer a.b.c")], Err(Refusal::UnknownKey)),
            (&[("x-api-key", &key), ("x-api-key", &key)], Err(Refusal::Ambiguous)),
            (&[("authorization", &bearer), ("authorization", "x")], Err(Refusal::Ambiguous)),
            (&[("x-api-key", &long)], Err(Refusal::TooLong)),
            (&[("authorization", &long_bearer)], Err(Refusal::TooLong)),
        ] {
            let caller = callers.identify(&headers(fields));
            assert_eq!(caller.map(|caller| caller.to_string()), expected, "{fields:?}");
        }
    }
}
