//! JSON Web Tokens for tests: keys that sign, and the sets of keys that verify.

#![forbid(unsafe_code)]
#![allow(clippy::expect_used, reason = "a test fails when its own key cannot sign")]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use serde_json::{Value, json};

/// The size of a coordinate of P-256.
const COORDINATE_BYTES: usize = 32;

/// Two keys of 2048 bits in the format of PKCS #1. Tests sign with fixed keys, because the library
/// generates no RSA key.
const RSA_KEYS: [&[u8]; 2] =
    [include_bytes!("../keys/rsa-1.der"), include_bytes!("../keys/rsa-2.der")];

/// The algorithms of signatures that the gateway verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    HS256,
    /// RSA with the padding of PKCS #1 and SHA-256.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
}

/// A key that signs tokens.
#[derive(Debug)]
pub enum SigningKey {
    /// A secret, which also verifies.
    Secret(Vec<u8>),
    /// An RSA key.
    Rsa(Box<RsaKeyPair>),
    /// A key on P-256.
    Elliptic(Box<EcdsaKeyPair>),
}

impl SigningKey {
    /// Returns a key for `algorithm`: a new one, but the first fixed one for RSA.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::HS256 => {
                let mut secret = vec![0; 32];
                SystemRandom::new().fill(&mut secret).expect("randomness");
                Self::Secret(secret)
            }
            Algorithm::RS256 => Self::rsa(0),
            Algorithm::ES256 => Self::elliptic(),
        }
    }

    /// Returns one of the two fixed RSA keys, by its index.
    pub fn rsa(index: usize) -> Self {
        Self::Rsa(Box::new(RsaKeyPair::from_der(RSA_KEYS[index]).expect("a valid RSA key")))
    }

    fn elliptic() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key of P-256");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random);
        Self::Elliptic(Box::new(pair.expect("a key of P-256")))
    }

    /// Returns the algorithm of the signatures.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Secret(_) => Algorithm::HS256,
            Self::Rsa(_) => Algorithm::RS256,
            Self::Elliptic(_) => Algorithm::ES256,
        }
    }

    /// Returns the part of the key that verifies, as a JSON Web Key.
    pub fn jwk(&self) -> Value {
        let alg = format!("{:?}", self.algorithm());
        match self {
            Self::Secret(secret) => json!({ "kty": "oct", "alg": alg, "k": base64url(secret) }),
            Self::Rsa(pair) => {
                let rsa::PublicKeyComponents::<Vec<u8>> { n, e } = pair.public().into();
                json!({ "kty": "RSA", "alg": alg, "n": base64url(n), "e": base64url(e) })
            }
            Self::Elliptic(pair) => {
                // The byte before the coordinates marks a point that is not compressed.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(COORDINATE_BYTES);
                let (x, y) = (base64url(x), base64url(y));
                json!({ "kty": "EC", "crv": "P-256", "alg": alg, "x": x, "y": y })
            }
        }
    }

    /// Returns a token with the header and the claims, signed with this key whatever the header
    /// names.
    pub fn token(&self, header: &Value, claims: &Value) -> String {
        let content =
            format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
        let signature = base64url(self.sign(content.as_bytes()));
        format!("{content}.{signature}")
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Secret(secret) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                hmac::sign(&key, message).as_ref().to_vec()
            }
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .expect("a signature");
                signature
            }
            Self::Elliptic(pair) => {
                pair.sign(&random, message).expect("a signature").as_ref().to_vec()
            }
        }
    }
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
