//! The values of attributes, by their names.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::claims::{ClaimSource, WrittenClaim};
use super::value::{Value, text_of};
use super::{Attributes, ClientAddress, RequestError};
use crate::attribute::AttributeName;

impl Attributes<'_> {
    /// Returns the value of an attribute.
    pub(crate) fn value(&self, name: &AttributeName) -> Result<Value<'_>, RequestError> {
        if !self.secrets.is_empty()
            && let Some((_, secret)) = self.secrets.iter().find(|(known, _)| known == name)
        {
            return Ok(Value::Secret(secret.clone()));
        }
        Ok(match name {
            AttributeName::Method => self.method.as_deref().map_or(Value::Missing, borrowed),
            AttributeName::Host => self.host.as_deref().map_or(Value::Missing, borrowed),
            AttributeName::Path => {
                self.path.as_ref().map_or(Value::Missing, |path| borrowed(path.as_bytes()))
            }
            AttributeName::ClientIp(_) => match self.client {
                ClientAddress::Missing => Value::Missing,
                ClientAddress::Known(address) => Value::Address(address),
                ClientAddress::Unknown => return Err(RequestError::ClientAddressUnknown),
                ClientAddress::Malformed => return Err(RequestError::ClientAddressMalformed),
            },
            AttributeName::Header(header) => {
                let lines =
                    self.headers.iter().filter(|(line, _)| line.eq_ignore_ascii_case(header));
                only(name, lines.map(|(_, value)| &**value))?.map_or(Value::Missing, borrowed)
            }
            AttributeName::Query(parameter) => self.parameter(name, parameter)?,
            AttributeName::Claim(_) if self.tokens_repeated => {
                return Err(RequestError::Repeated(name.to_string().into()));
            }
            AttributeName::Claim(names) => self.claim(name, names),
            AttributeName::Word(word) => {
                let words = self.words.iter().filter(|(known, _)| **known == **word);
                only(name, words.map(|(_, value)| &**value))?.map_or(Value::Missing, borrowed)
            }
        })
    }

    fn parameter(&self, name: &AttributeName, parameter: &str) -> Result<Value<'_>, RequestError> {
        let written = self.words.iter().filter(|(known, _)| {
            known.strip_prefix("query.").is_some_and(|known| known == parameter)
        });
        let written = written.map(|(_, value)| Cow::Borrowed(&**value));
        let pairs = self.query.as_deref().unwrap_or_default().split(|byte| *byte == b'&');
        let sent = pairs.filter(|pair| !pair.is_empty()).filter_map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let (key, value) = pair.split_at(equals);
            (*decode(key) == *parameter.as_bytes())
                .then(|| decode(value.strip_prefix(b"=").unwrap_or(value)))
        });
        Ok(only(name, written.chain(sent))?.map_or(Value::Missing, Value::Text))
    }

    fn claim(&self, name: &AttributeName, names: &[Box<str>]) -> Value<'_> {
        if !self.written_claims.is_empty() {
            let name = name.to_string();
            match self.written_claims.iter().find(|(known, _)| *known == name) {
                Some((_, WrittenClaim::Text(text))) => return borrowed(text),
                Some((_, WrittenClaim::List(items))) if !items.is_empty() => {
                    return Value::List(items.iter().map(|item| Cow::Borrowed(&**item)).collect());
                }
                Some((_, WrittenClaim::List(_))) | None => {}
            }
        }
        let Some(claims) = self.claims.and_then(ClaimSource::claims) else { return Value::Missing };
        let Some((first, inner)) = names.split_first() else { return Value::Missing };
        let outer = claims.get(&**first);
        let found = inner.iter().try_fold(outer, |found, name| Some(found?.get(&**name))).flatten();
        match found {
            Some(Json::Array(items)) => {
                let items: Vec<_> = items.iter().filter_map(text_of).collect();
                if items.is_empty() { Value::Missing } else { Value::List(items) }
            }
            Some(value) => text_of(value).map_or(Value::Missing, Value::Text),
            None => Value::Missing,
        }
    }
}

/// Returns the only item, `None` without an item, or the fault that there are several.
fn only<T>(
    name: &AttributeName,
    mut items: impl Iterator<Item = T>,
) -> Result<Option<T>, RequestError> {
    let first = items.next();
    if items.next().is_some() {
        return Err(RequestError::Repeated(name.to_string().into()));
    }
    Ok(first)
}

const fn borrowed(value: &[u8]) -> Value<'_> {
    Value::Text(Cow::Borrowed(value))
}

/// Returns a name or value of a query: `+` is a space, escapes are bytes, other bytes are
/// unchanged.
fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return Cow::Borrowed(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        rest = after;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        decoded.push(match (byte, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    (high << 4 | low) as u8
                }
                _ => b'%',
            },
            (byte, _) => *byte,
        });
    }
    Cow::Owned(decoded)
}
