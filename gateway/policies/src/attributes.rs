//! The attributes of one request: written once by the entry, read by name.

mod by_name;
mod claims;
mod descriptor;
mod faults;
mod read;
#[cfg(test)]
mod tests;
mod value;
mod written_name;

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use smallvec::SmallVec;

use crate::address::canonical;
use crate::attribute::AttributeName;
use crate::entry::Entry;
use crate::host;
use crate::path::{PathError, PathForm};
use crate::secret_value::SecretValue;

pub use self::claims::{ClaimSource, Claims};
pub use self::faults::{AttributeError, RequestError};
pub(crate) use self::value::Value;
pub(crate) use self::written_name::WrittenName;

use self::claims::WrittenClaim;

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
    headers: Vec<Pair<'r>>,
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
            headers: Vec::new(),
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

    /// Makes room for this number of header lines.
    pub fn reserve_headers(&mut self, lines: usize) {
        self.headers.reserve_exact(lines);
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

    /// Returns true if no token has to be verified before a claim is read.
    pub(crate) fn knows_claims(&self) -> bool {
        self.claims.is_none_or(ClaimSource::is_known)
    }
}
