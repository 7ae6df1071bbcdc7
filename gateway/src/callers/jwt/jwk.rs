//! The keys that verify tokens, from a JWK Set (RFC 7517).

use std::{ops::RangeInclusive, path::Path};

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind, Header,
    jwk::{
        AlgorithmParameters, CommonParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations,
        OtherKeyParameters, PublicKeyUse,
    },
};
use serde::Deserialize;
use serde_json::Value;

use super::signature;
use crate::callers::file_error::file_error;

/// Maximum number of keys of a set that are used. A token without the id of a key is verified with all.
const MAX_KEYS: usize = 100;

/// Minimum size of a secret: that of the hash (RFC 7518, 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// The size of the modulus of an RSA key, in bits.
const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

/// Public exponents of an RSA key; a larger one makes verification slow, and the library refuses it.
const RSA_EXPONENTS: RangeInclusive<u64> = 3..=(1 << 33) - 1;

/// A key with its algorithm.
#[derive(Debug)]
pub(super) struct VerificationKey {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// The set in the file. Other members are ignored (RFC 7517, 5).
#[derive(Deserialize)]
struct KeySetFile {
    /// Values, so that a key of an unknown form does not invalidate the others.
    keys: Vec<Value>,
}

/// Reads the set in the file at `path`, which has this content.
///
/// Keys that cannot be used are left out (RFC 7517, 5), each with a line in the log: the keys of an
/// issuer can be for other services.
///
/// # Errors
///
/// When the file is no set, or no key of the set can be used.
pub(super) fn read(content: &[u8], path: &Path) -> Result<Vec<VerificationKey>, String> {
    let set: KeySetFile = serde_json::from_slice(content).map_err(|error| file_error(&error))?;
    let mut keys = vec![];
    let mut first_error = None;
    for (index, jwk) in set.keys.into_iter().enumerate() {
        let place = match jwk.get("kid").and_then(Value::as_str) {
            Some(id) => format!("key {} ({id:?})", index + 1),
            None => format!("key {}", index + 1),
        };
        let file = path.display();
        match VerificationKey::from_value(jwk) {
            Ok(Some(key)) if keys.len() < MAX_KEYS => keys.push(key),
            Ok(Some(_)) => {
                tracing::warn!(%file, key = place, "not used: {MAX_KEYS} keys come before it");
            }
            Ok(None) => tracing::info!(
                %file,
                key = place,
                "not used: the key is not for signatures by HS256, RS256 or ES256"
            ),
            Err(error) => {
                tracing::warn!(%file, key = place, error, "not used: the key is not valid");
                first_error.get_or_insert(format!("; {place}: {error}"));
            }
        }
    }
    if keys.is_empty() {
        let error = first_error.unwrap_or_default();
        return Err(format!("the set has no key for signatures by HS256, RS256 or ES256{error}"));
    }
    Ok(keys)
}

impl VerificationKey {
    /// Returns true when this key can have signed a token: both have the same algorithm, and the same id
    /// unless one of them has none.
    pub(super) fn fits(&self, header: &Header) -> bool {
        let named = match (&self.id, &header.kid) {
            (Some(id), Some(named)) => id == named,
            _ => true,
        };
        named && self.algorithm == header.alg
    }

    /// Reads a key. Returns `None` for one with another purpose or algorithm.
    ///
    /// # Errors
    ///
    /// When the key is not valid: the rule, without the value of the key.
    fn from_value(jwk: Value) -> Result<Option<Self>, String> {
        // The message of the library repeats the value, which can be a secret.
        let jwk = Jwk::deserialize(jwk).map_err(|_| "its members have other types".to_owned())?;
        if !is_for_signatures(&jwk.common) {
            return Ok(None);
        }
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::OctetKey(_) => Algorithm::HS256,
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                Algorithm::ES256
            }
            AlgorithmParameters::Other(key) => return other_key(key).map(|()| None),
            _ => return Ok(None),
        };
        if jwk.common.key_algorithm.is_some_and(|own| own != algorithm.into()) {
            return Ok(None);
        }
        let key = DecodingKey::from_jwk(&jwk)
            .map_err(|_| "its value is not base64url without padding".to_owned())?;
        let key = match algorithm {
            Algorithm::HS256 => secret(key)?,
            Algorithm::RS256 => rsa_key(&key)?,
            _ => elliptic_key(key)?,
        };
        Ok(Some(Self { id: jwk.common.key_id, algorithm, key }))
    }
}

/// Returns true when a key can verify signatures by one of the three algorithms.
fn is_for_signatures(key: &CommonParameters) -> bool {
    const ALGORITHMS: [KeyAlgorithm; 3] =
        [KeyAlgorithm::HS256, KeyAlgorithm::RS256, KeyAlgorithm::ES256];
    let signs = key.public_key_use.as_ref().is_none_or(|own| *own == PublicKeyUse::Signature);
    let operations = key.key_operations.as_ref();
    let verifies = operations.is_none_or(|all| all.contains(&KeyOperations::Verify));
    signs && verifies && key.key_algorithm.is_none_or(|own| ALGORITHMS.contains(&own))
}

/// Fails for a key of a known type that the library could not read.
fn other_key(key: &OtherKeyParameters) -> Result<(), String> {
    match key.fields.get("kty").and_then(Value::as_str) {
        None => Err("kty is missing".to_owned()),
        Some("oct") => Err("a key of type oct must have k".to_owned()),
        Some("RSA") => Err("a key of type RSA must have n and e".to_owned()),
        Some("EC") => Err("a key of type EC must have a known crv, x and y".to_owned()),
        Some(_) => Ok(()),
    }
}

fn secret(key: DecodingKey) -> Result<DecodingKey, String> {
    match key.try_get_as_bytes() {
        Ok(secret) if secret.len() >= MIN_SECRET_BYTES => Ok(key),
        _ => Err(format!("k must have at least {MIN_SECRET_BYTES} bytes")),
    }
}

fn rsa_key(key: &DecodingKey) -> Result<DecodingKey, String> {
    let DecodingKeyKind::RsaModulusExponent { n, e } = key.kind() else {
        return Err("n and e are no RSA key".to_owned());
    };
    let [n, e] = [n, e].map(|number| without_leading_zeros(number));
    let bits = 8 * n.len() - n.first().map_or(0, |first| first.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        let (min, max) = RSA_BITS.into_inner();
        return Err(format!("n must have {min} to {max} bits; it has {bits}"));
    }
    if let Some(error) = rsa_error(n, e) {
        return Err(error.to_owned());
    }
    Ok(DecodingKey::from_rsa_raw_components(n, e))
}

/// Returns the rule that the numbers of an RSA key break, without leading zeros. The library reads
/// such a key and then refuses each signature.
fn rsa_error(n: &[u8], e: &[u8]) -> Option<&'static str> {
    let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    let exponent = match e {
        [] => Some(0),
        [rest @ .., _] if rest.len() >= size_of::<u64>() => None,
        _ => Some(e.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))),
    };
    if !is_odd(n) {
        Some("n must be odd")
    } else if !is_odd(e) || exponent.is_none_or(|value| !RSA_EXPONENTS.contains(&value)) {
        Some("e must be an odd number from 3 to 8589934591")
    } else {
        None
    }
}

/// Returns a number without leading zero bytes. Some issuers keep the zero byte of the DER form, where
/// it marks a large number as positive, and verification refuses that byte.
fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    number.get(start..).unwrap_or_default()
}

fn elliptic_key(key: DecodingKey) -> Result<DecodingKey, String> {
    match key.try_get_as_bytes() {
        Ok(point) if signature::is_point(point) => Ok(key),
        _ => Err("x and y are no point of P-256".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::{MAX_KEYS, VerificationKey, read};

    /// 32 bytes.
    const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    const NO_KEY: &str = "the set has no key for signatures by HS256, RS256 or ES256";

    fn set(keys: &Value) -> Result<Vec<VerificationKey>, String> {
        read(json!({ "keys": keys }).to_string().as_bytes(), Path::new("set.json"))
    }

    fn error(content: &str) -> String {
        read(content.as_bytes(), Path::new("set.json")).unwrap_err()
    }

    fn good() -> Value {
        json!({ "kty": "oct", "k": SECRET, "kid": "good" })
    }

    /// Returns the good key with another member.
    fn with(name: &str, value: Value) -> Value {
        let mut key = good();
        key[name] = value;
        key
    }

    /// Asserts that a key is not used, alone and beside others.
    fn assert_left_out(key: &Value, error: &str) {
        assert_eq!(set(&json!([key])).unwrap_err(), format!("{NO_KEY}{error}"), "{key}");
        assert_eq!(set(&json!([key, good(), key])).unwrap().len(), 1, "{key}");
    }

    #[test]
    fn keys_for_other_purposes_are_left_out() {
        for other in [
            with("use", json!("enc")),
            with("key_ops", json!(["sign"])),
            with("alg", json!("HS512")),
            with("alg", json!("none")),
            with("alg", json!("RS256")),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": "" }),
            json!({ "kty": "EC", "crv": "P-384", "x": "", "y": "" }),
            json!({ "kty": "RSA", "alg": "PS256" }),
            json!({ "kty": "RSA", "alg": "RSA-OAEP" }),
            json!({ "kty": "new" }),
        ] {
            assert_left_out(&other, "");
        }
        let fit = with("key_ops", json!(["sign", "verify"]));
        assert_eq!(set(&json!([fit])).unwrap().len(), 1);
        assert_eq!(set(&json!([])).unwrap_err(), NO_KEY);
    }

    #[test]
    fn keys_that_are_not_valid_are_left_out() {
        let rsa = |n: &str, e: &str| json!({ "kty": "RSA", "n": n, "e": e });
        let point = |x: &str| json!({ "kty": "EC", "crv": "P-256", "x": x, "y": SECRET });
        let encoding = "its value is not base64url without padding";
        for (key, expected) in [
            (json!({}), "kty is missing"),
            (json!({ "kty": 1 }), "kty is missing"),
            (json!("secret"), "its members have other types"),
            (with("kid", json!(1)), "its members have other types"),
            (json!({ "kty": "oct" }), "a key of type oct must have k"),
            (json!({ "kty": "oct", "k": 1 }), "a key of type oct must have k"),
            (json!({ "kty": "oct", "k": "+/+/" }), encoding),
            (json!({ "kty": "oct", "k": &SECRET[..40] }), "k must have at least 32 bytes"),
            (json!({ "kty": "RSA", "n": "AQAB" }), "a key of type RSA must have n and e"),
            (rsa("=", "AQAB"), encoding),
            (rsa(&"_".repeat(172), "AQAB"), "n must have 2048 to 8192 bits; it has 1032"),
            (rsa("", "AQAB"), "n must have 2048 to 8192 bits; it has 0"),
            (rsa("AAAA", "AQAB"), "n must have 2048 to 8192 bits; it has 0"),
            (rsa(&"_".repeat(1368), "AQAB"), "n must have 2048 to 8192 bits; it has 8208"),
            (rsa(&format!("{}-", "_".repeat(343)), "AQAB"), "n must be odd"),
            (
                json!({ "kty": "EC", "crv": "P-256", "y": SECRET }),
                "a key of type EC must have a known crv, x and y",
            ),
            (
                json!({ "kty": "EC", "crv": "secp256k1", "x": SECRET, "y": SECRET }),
                "a key of type EC must have a known crv, x and y",
            ),
            (point("?"), encoding),
            (point(SECRET), "x and y are no point of P-256"),
            (point("AA"), "x and y are no point of P-256"),
        ] {
            assert_left_out(&key, &format!("; key 1: {expected}"));
        }
        // 0, 1, 2, 4, 2^33 + 1, 2^64 + 1, and n itself.
        let n = "_".repeat(344);
        for e in ["AA", "AQ", "Ag", "BA", "AgAAAAE", "AQAAAAAAAAAB", n.as_str()] {
            assert_left_out(&rsa(&n, e), "; key 1: e must be an odd number from 3 to 8589934591");
        }
        let named = json!({ "kty": "oct", "kid": "mine" });
        assert_left_out(&named, r#"; key 1 ("mine"): a key of type oct must have k"#);
    }

    #[test]
    fn keys_above_the_bound_are_left_out() {
        let many = vec![good(); MAX_KEYS + 1];
        assert_eq!(set(&json!(many)).unwrap().len(), MAX_KEYS);
        let mut after_others = vec![json!({ "kty": "new" }); MAX_KEYS];
        after_others.push(good());
        assert_eq!(set(&json!(after_others)).unwrap().len(), 1);
    }

    #[test]
    fn an_invalid_file_is_refused_without_its_text() {
        for (content, expected) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("{}", "missing field `keys` at line 1 column 2"),
            (r#"{"keys": "secret"}"#, "a value of the wrong type at line 1 column 17"),
            (r#"{"keys": {"kty": "oct"}}"#, "a value of the wrong type at line 1 column 9"),
        ] {
            assert_eq!(error(content), expected);
        }
    }
}
