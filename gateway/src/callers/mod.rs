//! Callers: their identity, their scopes and their limits.
//!
//! Any client may do everything, unless there is a file of keys or of a key set. Then a request must
//! have a key (`X-API-Key: KEY`, or `Authorization: Bearer KEY`) or a token (`Authorization: Bearer
//! TOKEN`), and its caller needs the [`Scope`] of the route. The sitemap has the scope of each route.

mod api_keys;
pub(crate) mod caller;
pub(crate) mod docs;
mod file_error;
pub(crate) mod jwt;
pub mod options;
pub(crate) mod refusal;
pub mod scope;

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

pub use self::api_keys::new_api_key;
use self::{
    api_keys::ApiKeys,
    caller::{Caller, CallerLimit},
    jwt::CallerTokens,
    options::CallerOptions,
    refusal::Refusal,
};
use crate::{startup_error::StartupError, watched_files::WatchedFiles};

/// The header of a key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Maximum size of a key or a token. Longer ones are refused before anything is computed.
const MAX_CREDENTIAL_BYTES: usize = 8 * 1024;

/// The names of all reasons to refuse a request without a valid key or token.
pub const REFUSALS: [&str; Refusal::ALL.len()] = Refusal::NAMES;

/// The keys and the key set that identify callers.
#[derive(Debug)]
pub struct Callers {
    keys: Option<WatchedFiles<ApiKeys>>,
    tokens: Option<WatchedFiles<CallerTokens>>,
    metrics_open: bool,
}

impl Callers {
    /// Reads the files, and again whenever they change. Returns `None` when there are no files: any
    /// client may call. Needs the runtime.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or its content cannot be used.
    pub fn open(options: &CallerOptions) -> Result<Option<Self>, StartupError> {
        let limit = CallerLimit { requests: options.limit, window: options.window };
        let keys = options.api_keys_file.as_ref().map(|path| {
            WatchedFiles::load([path.clone()], move |[content]| ApiKeys::parse(content, &limit))
                .map_err(|error| StartupError::about("API_KEYS_FILE", error))
        });
        let tokens = options.jwt.clone().map(|jwt| {
            let path = jwt.jwks_file.clone();
            WatchedFiles::load([path], move |[content]| CallerTokens::parse(content, &jwt, limit))
                .map_err(|error| StartupError::about("JWT_JWKS_FILE", error))
        });
        let (keys, tokens) = (keys.transpose()?, tokens.transpose()?);
        if keys.is_none() && tokens.is_none() {
            return Ok(None);
        }
        Ok(Some(Self { keys, tokens, metrics_open: options.metrics_open }))
    }

    /// Returns true when any client may read the metrics.
    pub(crate) const fn metrics_open(&self) -> bool {
        self.metrics_open
    }

    /// Returns true when there is a file of keys.
    pub(crate) const fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// Returns true when there is a key set for tokens.
    pub(crate) const fn has_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// Returns the caller whose key or token is in these headers.
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Result<Arc<Caller>, Refusal> {
        let key = single(headers, &API_KEY)?.map(HeaderValue::as_bytes);
        let authorization = single(headers, &AUTHORIZATION)?.map(HeaderValue::as_bytes);
        // A script whose variable is not set sends an empty value.
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

    /// Returns the caller with this key.
    pub(crate) fn identify_key(&self, key: &[u8]) -> Result<Arc<Caller>, Refusal> {
        match key.len() {
            // A proxy whose variable is not set sends an empty value.
            0 => Err(Refusal::Missing),
            1..=MAX_CREDENTIAL_BYTES => self.by_key(key).ok_or(Refusal::UnknownKey),
            _ => Err(Refusal::TooLong),
        }
    }

    fn by_key(&self, key: &[u8]) -> Option<Arc<Caller>> {
        self.keys.as_ref()?.current().find(key).map(Arc::clone)
    }
}

/// Returns the value of a header that may occur once. If the header came twice, a proxy could have
/// read the other value.
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

/// Returns the text after `Bearer`. The case of that word does not matter (RFC 9110, 11.1).
fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let space = authorization.iter().position(|byte| *byte == b' ')?;
    let (scheme, credential) = authorization.split_at(space);
    scheme.eq_ignore_ascii_case(b"bearer").then(|| credential.trim_ascii())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use axum::http::{HeaderMap, HeaderName, HeaderValue};
    use limiter::Window;
    use tempfile::TempDir;

    use super::{CallerOptions, Callers, MAX_CREDENTIAL_BYTES, Refusal, new_api_key};

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
            window: Window::from_millis(1_000).unwrap(),
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
