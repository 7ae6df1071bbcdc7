//! Names of attributes, as a file writes them.

use std::fmt;

use crate::address::Grouping;

/// The most bytes of a name.
pub const MAX_NAME_BYTES: usize = 256;
/// The most names between the dots of `jwt.a.b`.
const MAX_CLAIM_DEPTH: usize = 8;

/// The name of an attribute of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AttributeName {
    /// The method, in upper case.
    Method,
    /// The host, in lower case, without port and trailing dot.
    Host,
    /// The path in its one form.
    Path,
    /// The address of the client, in groups.
    ClientIp(Grouping),
    /// A parameter of the query.
    Query(Box<str>),
    /// A header; the name is in lower case.
    Header(Box<str>),
    /// A claim of the end user's verified token: names from the outermost object inwards.
    Claim(Box<[Box<str>]>),
    /// `identifier`, `domain` and other words.
    Word(Box<str>),
}

/// The writer of an attribute's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// The end user writes the value freely.
    EndUser,
    /// The connection determines the value.
    Connection,
    /// The issuer of a verified token writes the value.
    Issuer,
    /// The caller writes the value: a service, or the configuration of a proxy.
    Caller,
}

/// The words with a meaning of their own.
pub(crate) const KNOWN_WORDS: [&str; 6] =
    ["identifier", "method", "host", "path", "client.ip", "domain"];

impl AttributeName {
    /// Returns the attribute that `text` names.
    ///
    /// # Errors
    ///
    /// The form that is expected, where the text names none.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() || text.len() > MAX_NAME_BYTES {
            return Err("a name of 1 to 256 bytes");
        }
        // Nearly all names are like this.
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain && text.chars().any(char::is_control) {
            return Err("a name without control characters");
        }
        match text {
            "method" => return Ok(Self::Method),
            "host" => return Ok(Self::Host),
            "path" => return Ok(Self::Path),
            "client.ip" => return Ok(Self::ClientIp(Grouping::default())),
            "query" | "header" | "jwt" | "client" => return Err(PREFIXES),
            _ => {}
        }
        match text.split_once('.') {
            Some(("query", "")) => Err("`query.NAME`"),
            Some(("query", name)) => Ok(Self::Query(name.into())),
            Some(("header", name)) => Self::header(name),
            Some(("jwt", names)) => claim_path(names).map(Self::Claim).ok_or(
                "`jwt.CLAIM`; names within claims are joined by dots, and a name with dots is in \
                 double quotes",
            ),
            Some(("client", _)) => match text.strip_prefix("client.ip/") {
                Some(grouping) => Grouping::parse(grouping)
                    .map(Self::ClientIp)
                    .ok_or("`client.ip/V4/V6`, such as `client.ip/24/56`"),
                None => Err("`client.ip`"),
            },
            _ if !is_plain && text.contains(char::is_whitespace) => Err("a word without spaces"),
            _ => Ok(Self::Word(text.into())),
        }
    }

    fn header(name: &str) -> Result<Self, &'static str> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(allowed) {
            return Err("`header.NAME`");
        }
        Ok(Self::Header(name.to_ascii_lowercase().into()))
    }

    /// Returns the writer of the value when the request comes from a proxy.
    #[must_use]
    pub const fn writer(&self) -> Writer {
        match self {
            Self::Method | Self::Host | Self::Path | Self::Query(_) | Self::Header(_) => {
                Writer::EndUser
            }
            Self::ClientIp(_) => Writer::Connection,
            Self::Claim(_) => Writer::Issuer,
            Self::Word(_) => Writer::Caller,
        }
    }

    /// Returns whether the value is secret in every file.
    #[must_use]
    pub fn is_always_secret(&self) -> bool {
        matches!(self, Self::Header(name) if matches!(&**name, "authorization" | "cookie"))
    }

    /// Returns the byte that separates the segments of the values, if they have segments.
    #[must_use]
    pub const fn separator(&self) -> Option<u8> {
        match self {
            Self::Path => Some(b'/'),
            Self::Host => Some(b'.'),
            _ => None,
        }
    }
}

/// The message for a prefix without a name.
const PREFIXES: &str = "`header.NAME`, `query.NAME`, `jwt.CLAIM` or `client.ip`";

/// Returns the names of `a.b."c.d"`.
fn claim_path(text: &str) -> Option<Box<[Box<str>]>> {
    let mut names: Vec<Box<str>> = Vec::new();
    let mut rest = text;
    loop {
        let (name, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        if name.is_empty() || names.len() == MAX_CLAIM_DEPTH {
            return None;
        }
        names.push(name.into());
        if after.is_empty() {
            return Some(names.into());
        }
        rest = after.strip_prefix('.')?;
    }
}

impl fmt::Display for AttributeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method => f.write_str("method"),
            Self::Host => f.write_str("host"),
            Self::Path => f.write_str("path"),
            Self::ClientIp(grouping) if *grouping == Grouping::default() => {
                f.write_str("client.ip")
            }
            Self::ClientIp(Grouping { ipv4_bits, ipv6_bits }) => {
                write!(f, "client.ip/{ipv4_bits}/{ipv6_bits}")
            }
            Self::Query(name) => write!(f, "query.{name}"),
            Self::Header(name) => write!(f, "header.{name}"),
            Self::Claim(names) => {
                f.write_str("jwt")?;
                names.iter().try_for_each(|name| {
                    if name.contains('.') { write!(f, ".\"{name}\"") } else { write!(f, ".{name}") }
                })
            }
            Self::Word(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_as_it_is_read() {
        for (text, form) in [
            ("method", "method"),
            ("header.X-Version", "header.x-version"),
            ("query.Tenant", "query.Tenant"),
            ("client.ip/32/64", "client.ip"),
            ("client.ip/24/56", "client.ip/24/56"),
            ("jwt.a.b", "jwt.a.b"),
            ("jwt.\"https://acme.com/plan\"", "jwt.\"https://acme.com/plan\""),
            ("domain", "domain"),
            ("generic_key", "generic_key"),
        ] {
            assert_eq!(
                AttributeName::parse(text).map(|name| name.to_string()),
                Ok(form.to_owned())
            );
        }
    }

    #[test]
    fn a_name_that_could_be_misread_is_refused() {
        for text in [
            "",
            "header",
            "header.",
            "header.a b",
            "jwt.",
            "jwt.a..b",
            "jwt.\"a",
            "client.port",
            "client.ip/24",
            "client.ip/24,56",
            "query.",
            "a b",
            "jwt.\"a\"b",
        ] {
            assert!(AttributeName::parse(text).is_err(), "{text}");
        }
    }
}
