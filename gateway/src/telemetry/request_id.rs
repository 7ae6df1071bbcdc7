//! The id of a request, in its answer and in the log.

use axum::http::HeaderValue;

/// Maximum size of a request id of a client, in bytes. Longer ids are replaced.
const MAX_BYTES: usize = 128;

/// The number of hexadecimal digits of a new id.
const DIGITS: usize = 32;

/// The id of a request.
#[derive(Debug, Clone)]
pub(crate) enum RequestId {
    /// The id that the client has sent: short visible ASCII.
    Given(HeaderValue),
    /// A new id.
    New([u8; DIGITS]),
}

impl RequestId {
    /// Returns the id of the client if it is short visible ASCII, else a new id.
    pub(crate) fn of(given: Option<&HeaderValue>) -> Self {
        let given = given.filter(|id| {
            (1..=MAX_BYTES).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
        });
        given.map_or_else(Self::new, |id| Self::Given(id.clone()))
    }

    /// Returns a new id.
    pub(crate) fn new() -> Self {
        let random = fastrand::u128(..);
        Self::New(std::array::from_fn(|place| {
            let digit = (random >> (4 * place)) as usize % 16;
            b"0123456789abcdef"[digit]
        }))
    }

    /// Returns the id as text.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Given(id) => id.to_str(),
            Self::New(digits) => Ok(str::from_utf8(digits).unwrap_or_default()),
        }
        .unwrap_or_default()
    }

    /// Returns the id as the value of a header.
    pub(crate) fn to_value(&self) -> HeaderValue {
        match self {
            Self::Given(id) => id.clone(),
            // Digits are visible ASCII, so this cannot fail.
            Self::New(digits) => {
                HeaderValue::from_bytes(digits).unwrap_or(HeaderValue::from_static("-"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::{MAX_BYTES, RequestId};

    fn of(id: &[u8]) -> String {
        let id = RequestId::of(Some(&HeaderValue::from_bytes(id).unwrap()));
        assert_eq!(id.to_value(), id.as_str());
        id.as_str().to_owned()
    }

    #[test]
    fn a_short_visible_id_is_kept() {
        let longest = "x".repeat(MAX_BYTES);
        for id in ["1", "3f2a-77:b/c~!", longest.as_str()] {
            assert_eq!(of(id.as_bytes()), id);
        }
    }

    #[test]
    fn any_other_id_is_replaced() {
        let too_long = "x".repeat(MAX_BYTES + 1);
        for id in [&b""[..], b"two words", b"caf\xe9", b"tab\t", too_long.as_bytes()] {
            let new = of(id);
            assert!(new.len() == 32 && new.bytes().all(|byte| byte.is_ascii_hexdigit()));
            assert_ne!(new, of(id));
        }
    }
}
