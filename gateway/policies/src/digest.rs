//! Digests: of secret values, of texts that a gateway gives out, and of files.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// The bytes of a digest that are written, as twice as many hexadecimal digits.
const DIGEST_BYTES: usize = 16;
/// The text before the digits of a secret value's digest.
const SECRET_PREFIX: &str = "sha256:";

/// The key of the digests that stand for secret values, and of seals; all gateways need the same key.
#[derive(Clone)]
pub struct HashKey {
    digests: Hmac<Sha256>,
    seals: Hmac<Sha256>,
}

/// The text before the secret in the key of seals: end users choose values whose digests others see,
/// so that no digest may be a seal.
const SEALS: &[u8] = b"seals of texts that a gateway takes back\n";

impl std::fmt::Debug for HashKey {
    /// Writes nothing of the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey")
    }
}

impl HashKey {
    /// Returns the key with these bytes, or `None` without any byte.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        let seals = Sha256::new().chain_update(SEALS).chain_update(bytes).finalize();
        let key = |bytes: &[u8]| Hmac::new_from_slice(bytes).ok();
        Some(Self { digests: key(bytes)?, seals: key(&seals)? })
    }

    /// Returns the seal of a text that a gateway gives out, and takes back unchanged: 32 hexadecimal
    /// digits.
    #[must_use]
    pub fn seal(&self, text: &[u8]) -> String {
        let tag = self.seals.clone().chain_update(text).finalize().into_bytes();
        let mut seal = String::with_capacity(2 * DIGEST_BYTES);
        write_digest(&tag, &mut seal);
        seal
    }

    /// Returns the text that stands for a secret value: `sha256:` and 32 hexadecimal digits.
    #[must_use]
    pub fn digest(&self, value: &[u8]) -> String {
        let tag = self.digests.clone().chain_update(value).finalize().into_bytes();
        let mut text = String::with_capacity(SECRET_PREFIX.len() + 2 * DIGEST_BYTES);
        text.push_str(SECRET_PREFIX);
        write_digest(&tag, &mut text);
        text
    }
}

/// Returns true for a text that [`HashKey::digest`] can return.
pub(crate) fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix(SECRET_PREFIX);
    digits.is_some_and(|digits| {
        digits.len() == 2 * DIGEST_BYTES
            && digits.bytes().all(|byte| b"0123456789abcdef".contains(&byte))
    })
}

/// Writes the first 128 bits of a digest as hexadecimal digits.
pub(crate) fn write_digest(digest: &[u8], text: &mut String) {
    write_hex(digest.get(..DIGEST_BYTES).unwrap_or(digest), text);
}

/// Writes bytes as hexadecimal digits.
pub(crate) fn write_hex(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        // Writing to text cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
}

/// Returns the version of a file: the first 12 hexadecimal digits of its SHA-256.
pub(crate) fn version_of(file: &[u8]) -> String {
    let mut text = String::new();
    write_digest(&Sha256::digest(file), &mut text);
    text.truncate(12);
    text
}

#[cfg(test)]
mod tests {
    use super::{HashKey, SEALS, version_of};

    #[test]
    fn a_secret_value_is_the_first_half_of_its_hmac() {
        // RFC 4231, test case 2.
        let key = HashKey::new(b"Jefe").unwrap();
        assert_eq!(
            key.digest(b"what do ya want for nothing?"),
            "sha256:5bdcc146bf60754e6a042426089575c7"
        );
        assert_eq!(format!("{key:?}"), "HashKey");
    }

    #[test]
    fn a_seal_is_no_digest_of_any_value_and_depends_on_the_key_and_the_text() {
        let (key, other) = (HashKey::new(b"Jefe").unwrap(), HashKey::new(b"Jeff").unwrap());
        let seal = key.seal(b"text");
        assert_eq!((seal.len(), &seal), (32, &key.seal(b"text")));
        assert!(![key.seal(b"tex"), other.seal(b"text")].contains(&seal));
        for value in [b"text".as_slice(), &[SEALS, b"text"].concat()] {
            assert!(!key.digest(value).contains(&seal));
        }
    }

    #[test]
    fn a_version_is_twelve_digits_of_the_file() {
        assert_eq!(version_of(b"abc"), "ba7816bf8f01");
    }
}
