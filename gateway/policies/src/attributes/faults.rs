//! The faults of requests and of their attributes.

use std::fmt;

use crate::attribute::AttributeName;
use crate::path::PathError;

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
