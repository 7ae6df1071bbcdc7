//! The attributes of one request: written once by the entry, read by name.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use serde_json::{Map, Value as Json};
use smallvec::SmallVec;

use crate::address::canonical;
use crate::attribute::AttributeName;
use crate::entry::Entry;
use crate::host::{self, is_host};
use crate::path::{PathError, PathForm};
use crate::secret_value::SecretValue;

/// The verified claims of the end user's token.
pub type Claims = Map<String, Json>;

/// The source of verified claims, called only when a policy that is tried reads a claim.
pub trait ClaimSource {
    /// Returns the claims, or `None` without a valid token.
    fn claims(&self) -> Option<&Claims>;

    /// Returns true if the claims are known without a verification.
    fn is_known(&self) -> bool {
        true
    }
}

impl ClaimSource for Claims {
    fn claims(&self) -> Option<&Claims> {
        Some(self)
    }
}

/// The address of the client, as far as the entry can determine the address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAddress {
    /// The request has no address.
    #[default]
    Missing,
    /// The address.
    Known(IpAddr),
    /// The proxy is not trusted or sends no address: a fault of the configuration.
    Unknown,
    /// The list of addresses is malformed at the deciding position.
    Malformed,
}

/// The faults of a request that a policy can meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// An attribute that the policy reads occurs more than once.
    Repeated(Box<str>),
    /// The policy reads `client.ip`, which is unknown.
    ClientAddressUnknown,
    /// The policy reads `client.ip`, which is malformed.
    ClientAddressMalformed,
    /// The request names a policy that the file does not have.
    UnknownPolicy(Box<str>),
    /// The request names a policy that its entry cannot select.
    PolicyNotForEntry(Box<str>),
    /// A glob or a network needs a secret value of which only the digest is known.
    Secret(Box<str>),
    /// The time is outside the calendar.
    Time,
}

impl RequestError {
    pub(crate) fn secret(name: &AttributeName) -> Self {
        Self::Secret(name.to_string().into())
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repeated(name) => write!(f, "`{name}` must occur at most once"),
            Self::ClientAddressUnknown => f.write_str(
                "the address of the client is unknown: TRUSTED_PROXIES must list the proxy, and \
                 the proxy must send X-Forwarded-For",
            ),
            Self::ClientAddressMalformed => {
                f.write_str("X-Forwarded-For must be a list of addresses")
            }
            Self::UnknownPolicy(name) => write!(f, "there is no policy `{name}`"),
            Self::PolicyNotForEntry(name) => {
                write!(f, "the policy `{name}` is not for this entry: see its `entry`")
            }
            Self::Secret(name) => {
                write!(f, "the value of `{name}` is secret, and only its digest is known")
            }
            Self::Time => f.write_str("the time must be before the year 9999"),
        }
    }
}

impl std::error::Error for RequestError {}

/// The faults of an attribute that a caller writes by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeError {
    /// The name is no name of an attribute; the expected form follows.
    Name(&'static str),
    /// Claims come from a token only.
    Claim,
    /// The path is malformed.
    Path(PathError),
    /// The host is malformed.
    Host,
    /// `client.ip` is not an address.
    Address,
    /// The value is neither text nor a number nor a boolean.
    Shape,
}

impl fmt::Display for AttributeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(expected) => write!(f, "an attribute must be {expected}"),
            Self::Claim => f.write_str("`jwt.*` must come from a token"),
            Self::Path(error) => error.fmt(f),
            Self::Host => f.write_str(
                "`host` must be a name or an address, IPv6 in brackets, with an optional port",
            ),
            Self::Address => f.write_str("`client.ip` must be an address"),
            Self::Shape => f.write_str("an attribute must be text, a number or a boolean"),
        }
    }
}

impl std::error::Error for AttributeError {}

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

/// A name and a value.
type Pair<'r> = (Cow<'r, str>, Cow<'r, [u8]>);

/// The attributes of one request.
#[derive(Clone)]
pub struct Attributes<'r> {
    pub(crate) entry: Entry,
    pub(crate) policy: Option<Cow<'r, str>>,
    pub(crate) cost: Option<u64>,
    pub(crate) lease: bool,
    form: PathForm,
    method: Option<Vec<u8>>,
    host: Option<Vec<u8>>,
    path: Option<String>,
    client: ClientAddress,
    query: Option<Cow<'r, [u8]>>,
    headers: SmallVec<[Pair<'r>; 8]>,
    /// Words, and parameters of the query that a caller writes by name.
    words: SmallVec<[Pair<'r>; 4]>,
    claims: Option<&'r dyn ClaimSource>,
    /// True if the request has several tokens, so that no claim has one value.
    tokens_repeated: bool,
    /// Claims that are written by name; only explanations and records have them.
    written_claims: Vec<(String, WrittenClaim)>,
    /// Secret attributes of a record.
    pub(crate) secrets: Vec<(AttributeName, SecretValue<'r>)>,
}

/// A claim that is written by name.
#[derive(Clone)]
enum WrittenClaim {
    Text(Vec<u8>),
    List(Vec<Vec<u8>>),
}

impl fmt::Debug for Attributes<'_> {
    /// Writes no values: they may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attributes").field("entry", &self.entry).finish_non_exhaustive()
    }
}

impl<'r> Attributes<'r> {
    /// Returns the attributes of a request without any, for policies with this form of paths.
    #[must_use]
    pub fn new(entry: Entry, form: PathForm) -> Self {
        Self {
            entry,
            policy: None,
            cost: None,
            lease: false,
            form,
            method: None,
            host: None,
            path: None,
            client: ClientAddress::Missing,
            query: None,
            headers: SmallVec::new(),
            words: SmallVec::new(),
            claims: None,
            tokens_repeated: false,
            written_claims: Vec::new(),
            secrets: Vec::new(),
        }
    }

    /// Returns the way on which the request arrived.
    #[must_use]
    pub const fn entry(&self) -> Entry {
        self.entry
    }

    /// Returns the policy that the request names.
    #[must_use]
    pub fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    /// Returns the units that the request asks for.
    #[must_use]
    pub const fn cost(&self) -> Option<u64> {
        self.cost
    }

    /// Sets the policy that the request names.
    pub fn set_policy(&mut self, name: impl Into<Cow<'r, str>>) {
        self.policy = Some(name.into());
    }

    /// Sets the units that the request asks for; with 0 the request takes nothing.
    pub fn set_cost(&mut self, cost: u64) {
        self.cost = Some(cost);
    }

    /// Marks a request that holds a lease, for which concurrency limits apply.
    pub fn set_lease(&mut self) {
        self.lease = true;
    }

    /// Sets the method.
    pub fn set_method(&mut self, method: &[u8]) {
        self.method = Some(method.to_ascii_uppercase());
    }

    /// Sets the host from a Host header or an authority. The entry checks the rule of hosts before, if
    /// the host can be refused.
    pub fn set_host(&mut self, host: &[u8]) {
        self.host = Some(host::normalize(host));
    }

    /// Sets path and query from a request target.
    ///
    /// # Errors
    ///
    /// A [`PathError`] where the path is malformed.
    pub fn set_target(&mut self, target: &'r [u8]) -> Result<(), PathError> {
        self.path = Some(self.form.normalize(target)?);
        let target = target.split(|byte| *byte == b'#').next().unwrap_or_default();
        let question = target.iter().position(|byte| *byte == b'?');
        self.query = question.and_then(|at| target.get(at + 1..)).map(Cow::Borrowed);
        Ok(())
    }

    /// Sets the address of the client.
    pub fn set_client(&mut self, client: ClientAddress) {
        self.client = match client {
            ClientAddress::Known(address) => ClientAddress::Known(canonical(address)),
            other => other,
        };
    }

    /// Adds a header line; a name may occur more than once.
    pub fn add_header(&mut self, name: impl Into<Cow<'r, str>>, value: impl Into<Cow<'r, [u8]>>) {
        self.headers.push((name.into(), value.into()));
    }

    /// Sets the source of verified claims.
    pub fn set_claims(&mut self, claims: &'r dyn ClaimSource) {
        self.claims = Some(claims);
    }

    /// Marks a request with several tokens of the end user: the server behind the proxy may read
    /// another one than the gateway would verify, so that each claim is repeated.
    pub fn set_tokens_repeated(&mut self) {
        self.tokens_repeated = true;
    }

    /// Sets an attribute that a caller writes by its name in the file.
    ///
    /// # Errors
    ///
    /// An [`AttributeError`] where the name or the value is malformed.
    pub fn set(&mut self, name: &str, value: &'r str) -> Result<(), AttributeError> {
        self.set_bytes(name, value.as_bytes())
    }

    /// Sets an attribute that a caller writes by its name in the file, to a value that need not be
    /// UTF-8.
    ///
    /// # Errors
    ///
    /// An [`AttributeError`] where the name or the value is malformed.
    pub fn set_bytes(&mut self, name: &str, value: &'r [u8]) -> Result<(), AttributeError> {
        self.write(name, Cow::Borrowed(value))
    }

    /// Sets an attribute that a check carries as text, number or boolean.
    ///
    /// # Errors
    ///
    /// An [`AttributeError`] where the name or the value is malformed.
    pub fn set_json(&mut self, name: &str, value: &'r Json) -> Result<(), AttributeError> {
        self.write(name, text_of(value).ok_or(AttributeError::Shape)?)
    }

    /// Sets a claim by its name; for explanations, which take nothing.
    ///
    /// # Errors
    ///
    /// An [`AttributeError`] where the name is not that of a claim.
    pub fn set_claim(&mut self, name: &str, value: &str) -> Result<(), AttributeError> {
        self.write_claim(name, WrittenClaim::Text(value.as_bytes().to_vec()))
    }

    /// Sets a claim that is a list by its name.
    pub(crate) fn set_claim_list(
        &mut self,
        name: &str,
        items: &[String],
    ) -> Result<(), AttributeError> {
        let items = items.iter().map(|item| item.as_bytes().to_vec()).collect();
        self.write_claim(name, WrittenClaim::List(items))
    }

    fn write_claim(&mut self, name: &str, claim: WrittenClaim) -> Result<(), AttributeError> {
        match AttributeName::parse(name).map_err(AttributeError::Name)? {
            name @ AttributeName::Claim(_) => {
                self.written_claims.push((name.to_string(), claim));
                Ok(())
            }
            _ => Err(AttributeError::Name("`jwt.CLAIM`")),
        }
    }

    /// Returns true if no token has to be verified before a claim is read.
    pub(crate) fn knows_claims(&self) -> bool {
        self.claims.is_none_or(ClaimSource::is_known)
    }

    /// Adds an entry of a descriptor, or the domain, of Envoy's rate limit service. Entries with
    /// equal keys are joined by `/`. No entry causes an error, because the end user may have
    /// written the entry.
    pub fn add_descriptor_entry(&mut self, key: &'r str, value: &'r [u8]) {
        match AttributeName::parse(key) {
            Ok(AttributeName::Claim(_)) => {}
            Ok(AttributeName::Path) => self.path = Some(self.form.normalize_leniently(value)),
            Ok(AttributeName::Method) => self.set_method(value),
            Ok(AttributeName::Host) => self.set_host(value),
            Ok(AttributeName::ClientIp(_)) => self.set_descriptor_address(value),
            Ok(AttributeName::Header(name)) => {
                let place = self.headers.iter_mut().find(|(known, _)| **known == *name);
                match place {
                    Some((_, known)) => join(known, value),
                    None => self.headers.push((Cow::Owned(name.into()), value.into())),
                }
            }
            _ if key == "remote_address" => self.set_descriptor_address(value),
            _ => match self.words.iter_mut().find(|(known, _)| known == key) {
                Some((_, known)) => join(known, value),
                None => self.words.push((key.into(), value.into())),
            },
        }
    }

    fn set_descriptor_address(&mut self, value: &[u8]) {
        let address = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        self.set_client(address.map_or(ClientAddress::Missing, ClientAddress::Known));
    }

    fn write(&mut self, name: &str, value: Cow<'r, [u8]>) -> Result<(), AttributeError> {
        match AttributeName::parse(name).map_err(AttributeError::Name)? {
            AttributeName::Method => self.set_method(&value),
            AttributeName::Host if is_host(&value) => self.set_host(&value),
            AttributeName::Host => return Err(AttributeError::Host),
            AttributeName::Path => {
                let path = self.form.normalize(&value).map_err(AttributeError::Path)?;
                self.path = Some(path);
            }
            AttributeName::ClientIp(_) => {
                let text = std::str::from_utf8(&value).map_err(|_| AttributeError::Address)?;
                let address = text.parse().map_err(|_| AttributeError::Address)?;
                self.set_client(ClientAddress::Known(address));
            }
            AttributeName::Claim(_) => return Err(AttributeError::Claim),
            AttributeName::Header(name) => self.headers.push((Cow::Owned(name.into()), value)),
            AttributeName::Query(name) => {
                self.words.push((Cow::Owned(format!("query.{name}")), value));
            }
            AttributeName::Word(name) => self.words.push((Cow::Owned(name.into()), value)),
        }
        Ok(())
    }

    /// Returns the names of the words, parameters and headers that a caller wrote.
    pub(crate) fn written_names(&self) -> Vec<AttributeName> {
        let headers = self.headers.iter();
        let headers =
            headers.map(|(name, _)| AttributeName::Header(name.to_ascii_lowercase().into()));
        let words = self.words.iter().map(|(name, _)| match name.strip_prefix("query.") {
            Some(parameter) => AttributeName::Query(parameter.into()),
            None => AttributeName::Word((**name).into()),
        });
        headers.chain(words).collect()
    }

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

/// Returns a number or boolean as text without an exponent, and text as it is.
fn text_of(value: &Json) -> Option<Cow<'_, [u8]>> {
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

fn join(known: &mut Cow<'_, [u8]>, value: &[u8]) {
    let known = known.to_mut();
    known.push(b'/');
    known.extend(value);
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

#[cfg(test)]
mod tests;
