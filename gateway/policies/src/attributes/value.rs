//! The values of attributes.

use std::borrow::Cow;
use std::net::IpAddr;

use serde_json::Value as Json;

use crate::secret_value::SecretValue;

/// The value of an attribute in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value<'v> {
    Missing,
    Text(Cow<'v, [u8]>),
    /// The elements of a claim that is a list; at least one.
    List(Vec<Cow<'v, [u8]>>),
    Address(IpAddr),
    Secret(SecretValue<'v>),
}

/// Returns a number or boolean as text without an exponent, and text as it is.
pub(super) fn text_of(value: &Json) -> Option<Cow<'_, [u8]>> {
    Some(match value {
        Json::String(text) => Cow::Borrowed(text.as_bytes()),
        Json::Bool(true) => Cow::Borrowed(b"true"),
        Json::Bool(false) => Cow::Borrowed(b"false"),
        Json::Number(number) => {
            let text = match number.as_f64() {
                Some(float) if number.is_f64() => float.to_string(),
                _ => number.to_string(),
            };
            Cow::Owned(text.into_bytes())
        }
        _ => return None,
    })
}
