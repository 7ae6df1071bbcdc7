//! Keys to verify tokens by, as their file (RFC 7517) says.

use std::{ops::RangeInclusive, path::Path};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind, Header,
    jwk::{AlgorithmParameters, CommonParameters, OctetKeyParameters, OctetKeyType},
};
use serde::Deserialize;

use crate::callers::file_fault;

/// Most keys of a set. A token that does not say which one signed it is tried with all of them.
const MAX_KEYS: usize = 100;

/// Fewest bytes of a secret: as many as the hash has (RFC 7518, 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// Sizes of the modulus of an RSA key, in bits.
const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

/// A key, and the one algorithm that it is for.
#[derive(Debug)]
pub(super) struct VerificationKey {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// The file as it is written. Other members have no meaning here (RFC 7517, 5).
#[derive(Deserialize)]
struct KeySetFile {
    keys: Vec<Jwk>,
}

/// A key as it is written: what all keys have, and what those of some type have.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    k: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Reads the file at `path`, which was read already. Keys for other purposes or algorithms are left
/// out; the others must be good, and there must be one.
pub(super) fn read(content: &[u8], path: &Path) -> Result<Vec<VerificationKey>, String> {
    let file: KeySetFile = serde_json::from_slice(content).map_err(|error| file_fault(&error))?;
    if file.keys.len() > MAX_KEYS {
        return Err(format!("{} keys are more than {MAX_KEYS}", file.keys.len()));
    }
    let mut keys = Vec::with_capacity(file.keys.len());
    for (index, jwk) in file.keys.into_iter().enumerate() {
        let place = match &jwk.kid {
            Some(id) => format!("key {} ({id:?})", index + 1),
            None => format!("key {}", index + 1),
        };
        match jwk.algorithm() {
            Some(algorithm) => {
                let key = jwk.key(algorithm).map_err(|fault| format!("{place}: {fault}"))?;
                keys.push(VerificationKey { id: jwk.kid, algorithm, key });
            }
            None => tracing::info!(
                file = %path.display(),
                key = place,
                "left out: the key is not for signatures by HS256, RS256 or ES256"
            ),
        }
    }
    if keys.is_empty() {
        return Err("the set has no key for signatures by HS256, RS256 or ES256".to_owned());
    }
    Ok(keys)
}

impl VerificationKey {
    /// Whether this key may have signed a token: the algorithm is the key's own, and its id is the
    /// one that the token names, unless one of them has none.
    pub(super) fn fits(&self, header: &Header) -> bool {
        let named = match (&self.id, &header.kid) {
            (Some(id), Some(named)) => id == named,
            _ => true,
        };
        named && self.algorithm == header.alg
    }
}

impl Jwk {
    /// The algorithm that a key of this type is for; `None` if it is for none of the three.
    fn algorithm(&self) -> Option<Algorithm> {
        let (algorithm, name) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("oct", _) => (Algorithm::HS256, "HS256"),
            ("RSA", _) => (Algorithm::RS256, "RS256"),
            ("EC", Some("P-256")) => (Algorithm::ES256, "ES256"),
            _ => return None,
        };
        let for_signatures = self.purpose.as_ref().is_none_or(|purpose| purpose == "sig");
        let verifies =
            self.key_ops.as_ref().is_none_or(|all| all.iter().any(|one| one == "verify"));
        let of_algorithm = self.alg.as_ref().is_none_or(|alg| alg == name);
        (for_signatures && verifies && of_algorithm).then_some(algorithm)
    }

    fn key(&self, algorithm: Algorithm) -> Result<DecodingKey, String> {
        match algorithm {
            Algorithm::HS256 => self.secret(),
            Algorithm::RS256 => self.rsa_key(),
            _ => self.elliptic_key(),
        }
    }

    fn secret(&self) -> Result<DecodingKey, String> {
        let value = part(self.k.as_deref(), "k")?.to_owned();
        let parameters = OctetKeyParameters { key_type: OctetKeyType::Octet, value };
        let key = DecodingKey::from_jwk(&jsonwebtoken::jwk::Jwk {
            common: CommonParameters::default(),
            algorithm: AlgorithmParameters::OctetKey(parameters),
        });
        let key = key.map_err(|_| "k is not base64url without padding".to_owned())?;
        match key.try_get_as_bytes() {
            Ok(secret) if secret.len() >= MIN_SECRET_BYTES => Ok(key),
            _ => Err(format!("k has fewer than {MIN_SECRET_BYTES} bytes")),
        }
    }

    fn rsa_key(&self) -> Result<DecodingKey, String> {
        let (n, e) = (part(self.n.as_deref(), "n")?, part(self.e.as_deref(), "e")?);
        let key = DecodingKey::from_rsa_components(n, e)
            .map_err(|_| "n or e is not base64url without padding".to_owned())?;
        let DecodingKeyKind::RsaModulusExponent { n, e } = key.kind() else {
            return Err("n and e are no RSA key".to_owned());
        };
        let bits = 8 * n.len() - n.first().map_or(0, |first| first.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) {
            let (min, max) = RSA_BITS.into_inner();
            return Err(format!("n has {bits} bits; {min} to {max} are taken"));
        }
        RsaPublicKeyComponents { n, e }
            .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
            .map_err(|_| "n and e are no RSA key".to_owned())?;
        Ok(key)
    }

    fn elliptic_key(&self) -> Result<DecodingKey, String> {
        let (x, y) = (part(self.x.as_deref(), "x")?, part(self.y.as_deref(), "y")?);
        let key = DecodingKey::from_ec_components(x, y)
            .map_err(|_| "x or y is not base64url without padding".to_owned())?;
        let point = key.try_get_as_bytes().unwrap_or_default();
        ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .map_err(|_| "x and y are no point of P-256".to_owned())?;
        Ok(key)
    }
}

fn part<'v>(value: Option<&'v str>, name: &str) -> Result<&'v str, String> {
    value.ok_or_else(|| format!("{name} is missing"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::{MAX_KEYS, read};

    /// 32 bytes.
    const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn fault_of(content: &str) -> String {
        read(content.as_bytes(), Path::new("set.json")).unwrap_err()
    }

    fn fault(keys: &Value) -> String {
        fault_of(&json!({ "keys": keys }).to_string())
    }

    #[test]
    fn keys_that_are_not_for_us_are_left_out() {
        let good = json!({ "kty": "oct", "k": SECRET, "kid": "good" });
        let with = |name: &str, value: Value| {
            let mut key = good.clone();
            key[name] = value;
            key
        };
        for other in [
            with("use", json!("enc")),
            with("key_ops", json!(["sign"])),
            with("alg", json!("HS512")),
            with("alg", json!("none")),
            with("alg", json!("RS256")),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": "" }),
            json!({ "kty": "EC", "crv": "P-384", "x": "", "y": "" }),
            json!({ "kty": "EC", "crv": "secp256k1", "x": "", "y": "" }),
            json!({ "kty": "RSA", "alg": "PS256" }),
            json!({ "kty": "RSA", "alg": "RSA-OAEP" }),
            json!({ "kty": "new" }),
        ] {
            assert_eq!(
                fault(&json!([other])),
                "the set has no key for signatures by HS256, RS256 or ES256"
            );
            let set = json!({ "keys": [other, good], "more": 1 }).to_string();
            let keys = read(set.as_bytes(), Path::new("set.json")).unwrap();
            assert_eq!(keys.len(), 1, "{other}");
        }
        let fit = with("key_ops", json!(["sign", "verify"]));
        assert!(read(json!({ "keys": [fit] }).to_string().as_bytes(), Path::new("")).is_ok());
    }

    #[test]
    fn keys_that_are_for_us_must_be_good() {
        let rsa = |n: &str, e: &str| json!([{ "kty": "RSA", "n": n, "e": e }]);
        let point = |x: &str| json!([{ "kty": "EC", "crv": "P-256", "x": x, "y": SECRET }]);
        for (keys, expected) in [
            (json!([{ "kty": "oct", "kid": "mine" }]), r#"key 1 ("mine"): k is missing"#),
            (json!([{ "kty": "oct", "k": "+/+/" }]), "key 1: k is not base64url without padding"),
            (
                json!([{ "kty": "oct", "k": SECRET }, { "kty": "oct", "k": &SECRET[..40] }]),
                "key 2: k has fewer than 32 bytes",
            ),
            (json!([{ "kty": "RSA", "n": "AQAB" }]), "key 1: e is missing"),
            (rsa("=", "AQAB"), "key 1: n or e is not base64url without padding"),
            (rsa(&"_".repeat(172), "AQAB"), "key 1: n has 1032 bits; 2048 to 8192 are taken"),
            (rsa("", "AQAB"), "key 1: n has 0 bits; 2048 to 8192 are taken"),
            (rsa(&"_".repeat(1368), "AQAB"), "key 1: n has 8208 bits; 2048 to 8192 are taken"),
            (rsa(&"_".repeat(344), "AA"), "key 1: n and e are no RSA key"),
            (json!([{ "kty": "EC", "crv": "P-256", "y": SECRET }]), "key 1: x is missing"),
            (point("?"), "key 1: x or y is not base64url without padding"),
            (point(SECRET), "key 1: x and y are no point of P-256"),
            (point("AA"), "key 1: x and y are no point of P-256"),
        ] {
            assert_eq!(fault(&keys), expected);
        }
    }

    #[test]
    fn what_is_no_set_is_refused_without_being_repeated() {
        let many = json!(vec![json!({ "kty": "oct", "k": SECRET }); MAX_KEYS + 1]);
        assert_eq!(fault(&many), "101 keys are more than 100");
        for (content, expected) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("{}", "missing field `keys` at line 1 column 2"),
            (
                r#"{"keys": [{"kty": "oct", "k": 123}]}"#,
                "a value of the wrong type at line 1 column 33",
            ),
            (r#"{"keys": ["secret"]}"#, "a value of the wrong type at line 1 column 18"),
            (r#"{"keys": [{"k": ""}]}"#, "missing field `kty` at line 1 column 19"),
        ] {
            assert_eq!(fault_of(content), expected);
        }
    }
}
