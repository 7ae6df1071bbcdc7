//! API keys: the file of keys, and the caller of a key.
//!
//! The file has the SHA-256 of each key, so that a reader of the file cannot call. A slow hash with a
//! salt, which passwords need, would add nothing: a key is 256 random bits. Nothing can guess the key
//! from its hash, no table of keys is possible, and no two callers have the same key.

use std::sync::Arc;

use ring::{
    digest::{SHA256, SHA256_OUTPUT_LEN, digest},
    error::Unspecified,
    rand::{SecureRandom, SystemRandom},
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use subtle::ConstantTimeEq;

use limiter::Units;

use super::{
    caller::{Caller, CallerLimit, Credential},
    file_error::file_error,
    scope::{Scope, Scopes},
};
use crate::{request::input::Input, request::quota::UNITS, request::value};

/// Maximum number of keys in a file. Each request compares its key with all of them.
const MAX_KEYS: usize = 1_000;

/// Maximum size of the name of a caller.
const MAX_NAME_BYTES: usize = 128;

/// The prefix of every new key, by which people and scanners recognise a leaked key.
const KEY_PREFIX: &str = "ratelimit_";

/// Random bytes of a new key.
const KEY_BYTES: usize = 32;

type Digest = [u8; SHA256_OUTPUT_LEN];

/// All callers with a key.
#[derive(Debug)]
pub(super) struct ApiKeys {
    keys: Vec<(Digest, Arc<Caller>)>,
}

/// The content of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysFile {
    keys: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    sha256: String,
    scopes: Vec<String>,
    limit: Option<Value>,
    window_seconds: Option<Box<RawValue>>,
}

impl ApiKeys {
    /// Reads the file. Callers without their own limit get the `default` one.
    pub(super) fn parse(content: &[u8], default: &CallerLimit) -> Result<Self, String> {
        let file: KeysFile = serde_json::from_slice(content).map_err(|error| file_error(&error))?;
        if file.keys.len() > MAX_KEYS {
            return Err(format!("{} keys are more than {MAX_KEYS}", file.keys.len()));
        }
        let mut keys: Vec<(Digest, Arc<Caller>)> = Vec::with_capacity(file.keys.len());
        for (index, entry) in file.keys.into_iter().enumerate() {
            let place = format!("key {} ({:?})", index + 1, entry.name);
            let read = entry.read(default);
            let (digest, caller) = read.map_err(|error| format!("{place}: {error}"))?;
            for (other_digest, other) in &keys {
                if other.name == caller.name {
                    return Err(format!("{place}: another key has this name"));
                }
                if *other_digest == digest {
                    return Err(format!("{place}: the key of {:?} has the same hash", other.name));
                }
            }
            keys.push((digest, Arc::new(caller)));
        }
        Ok(Self { keys })
    }

    /// Returns the caller of this key.
    ///
    /// The duration depends on no hash, because every hash is compared to its end. The key is hashed
    /// first, so that even a duration could only reveal a hash, and no key follows from a hash.
    pub(super) fn find(&self, key: &[u8]) -> Option<&Arc<Caller>> {
        let hash = digest(&SHA256, key);
        self.keys.iter().fold(None, |found, (digest, caller)| {
            let same = digest.ct_eq(hash.as_ref()).into();
            if same { Some(caller) } else { found }
        })
    }
}

impl Entry {
    fn read(self, default: &CallerLimit) -> Result<(Digest, Caller), String> {
        check_name(&self.name)?;
        // The message does not repeat the text: it could be the key itself, in the wrong place.
        let digest = digest_from_hex(&self.sha256)
            .ok_or("sha256 is not 64 hexadecimal digits, the SHA-256 of the key")?;
        let scopes = scopes(self.scopes.iter().map(String::as_str))?;
        let limit = limit(self.limit.as_ref(), self.window_seconds.as_deref(), default)?;
        let caller = Caller { credential: Credential::Key, name: self.name, scopes, limit };
        Ok((digest, caller))
    }
}

/// Returns a new key, and its entry for the file.
///
/// # Errors
///
/// When the name is not valid, when a scope is unknown, or when the system has no randomness: one line.
pub fn new_api_key(
    name: &str,
    scope_names: &[impl AsRef<str>],
) -> Result<(String, String), String> {
    check_name(name)?;
    let scope_names: Vec<_> = scope_names.iter().map(AsRef::as_ref).collect();
    scopes(scope_names.iter().copied())?;
    let mut bytes = [0; KEY_BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|Unspecified| "the system has no randomness".to_owned())?;
    let key = format!("{KEY_PREFIX}{}", hex(&bytes));
    let hash = hex(digest(&SHA256, key.as_bytes()).as_ref());
    let entry = json!({ "name": name, "sha256": hash, "scopes": scope_names });
    Ok((key, entry.to_string()))
}

/// Checks a name. Logs and keys of Redis have the name unchanged.
fn check_name(name: &str) -> Result<(), String> {
    let is_name = (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic());
    if is_name {
        Ok(())
    } else {
        Err(format!("a name is 1 to {MAX_NAME_BYTES} visible ASCII characters without spaces"))
    }
}

fn scopes<'n>(names: impl Iterator<Item = &'n str>) -> Result<Scopes, String> {
    let scope = |name| {
        let unknown = || format!("{name:?} is not a scope; those are {}", Scope::names());
        Scope::from_name(name).ok_or_else(unknown)
    };
    let scopes = names.map(scope).collect::<Result<Scopes, _>>()?;
    if scopes == Scopes::default() {
        return Err(format!("scopes is empty; name some of {}", Scope::names()));
    }
    Ok(scopes)
}

fn limit(
    limit: Option<&Value>,
    window: Option<&RawValue>,
    default: &CallerLimit,
) -> Result<CallerLimit, String> {
    let window = match window.map(|window| value::window(&Input::from_json(window))).transpose() {
        Ok(window) => window,
        Err(rule) => return Err(format!("window_seconds: {}", rule.msg)),
    };
    let Some(limit) = limit else {
        return match window {
            Some(_) => Err("window_seconds is for a limit, and there is none".to_owned()),
            None => Ok(*default),
        };
    };
    let requests = match limit.as_u64() {
        Some(0) => None,
        units => Some(units.and_then(Units::new).ok_or_else(|| {
            format!("limit is not an integer between 0 (any number) and {}", UNITS.end())
        })?),
    };
    Ok(CallerLimit { requests, window: window.unwrap_or(default.window) })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest_from_hex(text: &str) -> Option<Digest> {
    let nibbles = text.bytes().map(|byte| char::from(byte).to_digit(16));
    let nibbles = nibbles.collect::<Option<Vec<_>>>()?;
    let bytes = nibbles.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(high << 4 | low).ok(),
        _ => None,
    });
    bytes.collect::<Option<Vec<_>>>()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use limiter::{Units, Window};
    use serde_json::{Value, json};

    use super::{ApiKeys, MAX_KEYS, new_api_key};
    use crate::callers::{caller::CallerLimit, scope::Scope};

    const DEFAULT: CallerLimit =
        CallerLimit { requests: Units::new(100), window: Window::from_millis(2_000).unwrap() };

    /// The SHA-256 of `abc` (FIPS 180-4).
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn error_of(content: &str) -> String {
        ApiKeys::parse(content.as_bytes(), &DEFAULT).unwrap_err()
    }

    fn parse(keys: &Value) -> Result<ApiKeys, String> {
        ApiKeys::parse(json!({ "keys": keys }).to_string().as_bytes(), &DEFAULT)
    }

    /// Returns a valid entry with one changed member.
    fn entry(name: &str, value: Value) -> Value {
        let mut entry = json!({ "name": "shop", "sha256": ABC, "scopes": ["check"] });
        entry[name] = value;
        entry
    }

    #[test]
    fn a_key_is_found_by_its_hash() {
        let keys = parse(&json!([
            { "name": "other", "sha256": "0".repeat(64), "scopes": ["reset"] },
            { "name": "shop", "sha256": ABC.to_uppercase(), "scopes": ["check", "read"] },
            { "name": "last", "sha256": "1".repeat(64), "scopes": ["reset"] },
        ]));
        let keys = keys.unwrap();
        let caller = keys.find(b"abc").unwrap();
        assert_eq!(caller.to_string(), "key:shop");
        assert_eq!(Scope::ALL.map(|scope| caller.has(scope)), [true, true, false, false]);
        for wrong in [&b""[..], b"ab", b"abcd", b"ABC", ABC.as_bytes()] {
            assert!(keys.find(wrong).is_none());
        }
        assert!(parse(&json!([])).unwrap().find(b"abc").is_none());
    }

    #[test]
    fn a_new_key_is_found_by_its_entry() {
        let (key, entry) = new_api_key("shop", &["check", "reset"]).unwrap();
        let (other_key, other_entry) = new_api_key("other", &["read"]).unwrap();
        let keys =
            ApiKeys::parse(format!(r#"{{"keys": [{entry}, {other_entry}]}}"#).as_bytes(), &DEFAULT);
        let keys = keys.unwrap();
        let caller = keys.find(key.as_bytes()).unwrap();
        assert_eq!(caller.to_string(), "key:shop");
        assert_eq!(Scope::ALL.map(|scope| caller.has(scope)), [true, false, true, false]);
        assert_eq!(keys.find(other_key.as_bytes()).unwrap().to_string(), "key:other");
        let digits = key.strip_prefix("ratelimit_").unwrap();
        assert!(digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(!entry.contains(digits));

        assert!(new_api_key("two words", &["check"]).is_err());
        assert!(new_api_key("shop", &[""; 0]).is_err());
        assert!(new_api_key("shop", &["admin"]).is_err());
    }

    #[test]
    fn a_caller_has_its_own_limit_or_the_default_one() {
        for (more, requests, window) in [
            (json!({}), Some(100), 2_000),
            (json!({ "limit": 5 }), Some(5), 2_000),
            (json!({ "limit": 5, "window_seconds": 0.5 }), Some(5), 500),
            (json!({ "limit": 0 }), None, 2_000),
            (json!({ "limit": null }), Some(100), 2_000),
        ] {
            let mut entry = json!({ "name": "shop", "sha256": ABC, "scopes": ["check"] });
            entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let keys = parse(&json!([entry])).unwrap();
            let requests = requests.and_then(Units::new);
            let window = Window::from_millis(window).unwrap();
            let limit = CallerLimit { requests, window };
            assert_eq!(keys.find(b"abc").unwrap().limit, limit, "{more}");
        }
    }

    #[test]
    fn an_error_names_the_entry_and_the_rule() {
        let names = "1 to 128 visible ASCII characters without spaces";
        let digits = "sha256 is not 64 hexadecimal digits, the SHA-256 of the key";
        for (keys, expected) in [
            (entry("name", json!("")), format!(r#"key 1 (""): a name is {names}"#)),
            (entry("name", json!("a b")), format!(r#"key 1 ("a b"): a name is {names}"#)),
            (entry("name", json!("a\n")), format!(r#"key 1 ("a\n"): a name is {names}"#)),
            (entry("sha256", json!("secret")), format!(r#"key 1 ("shop"): {digits}"#)),
            (entry("sha256", json!(&ABC[1..])), format!(r#"key 1 ("shop"): {digits}"#)),
            (entry("sha256", json!("é".repeat(32))), format!(r#"key 1 ("shop"): {digits}"#)),
            (
                entry("scopes", json!([])),
                r#"key 1 ("shop"): scopes is empty; name some of check, read, reset, force"#
                    .to_owned(),
            ),
            (
                entry("scopes", json!(["check", "admin"])),
                r#"key 1 ("shop"): "admin" is not a scope; those are check, read, reset, force"#
                    .to_owned(),
            ),
            (
                entry("limit", json!(-1)),
                r#"key 1 ("shop"): limit is not an integer between 0 (any number) and 1000000000"#
                    .to_owned(),
            ),
            (
                entry("window_seconds", json!(1)),
                r#"key 1 ("shop"): window_seconds is for a limit, and there is none"#.to_owned(),
            ),
            (
                entry("window_seconds", json!(0)),
                r#"key 1 ("shop"): window_seconds: Input should be greater than or equal to 0.001"#
                    .to_owned(),
            ),
        ] {
            assert_eq!(parse(&json!([keys])).unwrap_err(), expected);
        }
    }

    #[test]
    fn names_and_hashes_are_unique() {
        let second = |name: &str, sha256: &str| {
            let good = entry("name", json!("shop"));
            parse(&json!([good, { "name": name, "sha256": sha256, "scopes": ["read"] }]))
        };
        assert_eq!(
            second("shop", &"0".repeat(64)).unwrap_err(),
            r#"key 2 ("shop"): another key has this name"#
        );
        assert_eq!(
            second("other", &ABC.to_uppercase()).unwrap_err(),
            r#"key 2 ("other"): the key of "shop" has the same hash"#
        );
        let many = vec![entry("name", json!("shop")); MAX_KEYS + 1];
        assert_eq!(parse(&json!(many)).unwrap_err(), "1001 keys are more than 1000");
    }

    #[test]
    fn an_invalid_file_is_refused_without_its_text() {
        for (content, expected) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("secret", "expected value at line 1 column 1"),
            (r#""secret""#, "a value of the wrong type at line 1 column 8"),
            (r#"{"keys": ["secret"]}"#, "a value of the wrong type at line 1 column 18"),
            (r#"{"keys": "secret"}"#, "a value of the wrong type at line 1 column 17"),
            ("{}", "missing field `keys` at line 1 column 2"),
            (
                r#"{"keys": [], "more": 1}"#,
                "unknown field `more`, expected `keys` at line 1 column 19",
            ),
            (
                r#"{"keys": [{"name": "a", "scope": ["check"]}]}"#,
                "unknown field `scope`, expected one of `name`, `sha256`, `scopes`, `limit`, \
                 `window_seconds` at line 1 column 31",
            ),
            (
                r#"{"keys": [{"name": "a", "name": "b"}]}"#,
                "duplicate field `name` at line 1 column 30",
            ),
            (r#"{"keys": [{"name": "a"}]}"#, "missing field `sha256` at line 1 column 23"),
        ] {
            assert_eq!(error_of(content), expected);
        }
    }
}
