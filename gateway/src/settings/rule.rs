//! The values that settings take. Every error is one line with the range.

use std::{
    ffi::OsStr, fmt::Display, iter, net::Ipv6Addr, ops::RangeInclusive, path::PathBuf, str::FromStr,
};

use axum::http::{HeaderValue, Uri};
use clap::{
    Arg, Command, Error,
    builder::{PossibleValue, TypedValueParser},
    error::ErrorKind,
};
use limiter::{Units, Window};
use policies::address::{Network, NetworkError};
use store::{Millis, Thousandths};

use crate::{
    authz::options::Networks,
    head::Origins,
    request::{number::thousandths, quota::UNITS},
};

/// A range of values.
pub(super) trait Range: Clone + Send + Sync + 'static {
    type Value: Clone + Send + Sync + 'static;

    /// Returns the values in words that can follow "is not".
    fn range(&self) -> String;

    /// Reads a value.
    ///
    /// # Errors
    ///
    /// When the text stands for no value of the range: the reason, without the name of the setting.
    fn parse(&self, text: &str) -> Result<Self::Value, String>;

    /// Returns the error of a text that is no secret.
    fn error(&self, text: &str) -> String {
        format!("{text:?} is not {}", self.range())
    }
}

/// A range as clap takes it: the rule that the value of an argument must keep.
#[derive(Debug, Clone)]
pub(super) struct Rule<R>(pub(super) R);

impl<R: Range> TypedValueParser for Rule<R> {
    type Value = R::Value;

    fn parse_ref(
        &self,
        _: &Command,
        argument: Option<&Arg>,
        text: &OsStr,
    ) -> Result<R::Value, Error> {
        let value = match text.to_str() {
            Some(text) => self.0.parse(text),
            None => Err("the value is not UTF-8".to_owned()),
        };
        value.map_err(|error| {
            let name = argument.map_or("", name);
            Error::raw(ErrorKind::ValueValidation, format!("{name}: {error}"))
        })
    }

    /// Returns the range as if it were a single value, so that it can be read back from clap.
    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(iter::once(PossibleValue::new(self.0.range()))))
    }
}

/// Returns the name of the setting that clap takes as an argument.
pub(super) fn name(argument: &Arg) -> &str {
    argument.get_long().unwrap_or_default()
}

/// Returns the range of an argument that has a [`Rule`].
pub(super) fn range(argument: &Arg) -> String {
    let values = argument.get_possible_values();
    values.first().map_or_else(String::new, |range| range.get_name().to_owned())
}

/// A text of visible ASCII characters, which can be empty.
#[derive(Clone)]
pub(super) struct Word;

impl Range for Word {
    type Value = String;

    fn range(&self) -> String {
        "a text of visible ASCII characters without spaces".to_owned()
    }

    fn parse(&self, text: &str) -> Result<String, String> {
        if is_word(text) { Ok(text.to_owned()) } else { Err(self.error(text)) }
    }
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Names of claims of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClaimNames(pub(super) Vec<String>);

/// The range of [`ClaimNames`].
#[derive(Clone)]
pub(super) struct ClaimList;

impl Range for ClaimList {
    type Value = ClaimNames;

    fn range(&self) -> String {
        "names of claims without spaces, separated by commas".to_owned()
    }

    fn parse(&self, text: &str) -> Result<ClaimNames, String> {
        let names: Vec<_> = text.split(',').map(|name| name.trim().to_owned()).collect();
        let are_names = names.iter().all(|name| !name.is_empty() && is_word(name));
        if are_names { Ok(ClaimNames(names)) } else { Err(self.error(text)) }
    }
}

/// The name of a cookie, which can be empty.
#[derive(Clone)]
pub(super) struct CookieName;

impl Range for CookieName {
    type Value = String;

    fn range(&self) -> String {
        "a name of a cookie: letters, digits and any of !#$%&'*+-.^_`|~".to_owned()
    }

    fn parse(&self, text: &str) -> Result<String, String> {
        let permitted =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if text.bytes().all(permitted) { Ok(text.to_owned()) } else { Err(self.error(text)) }
    }
}

/// Addresses and networks; none in an empty text.
#[derive(Clone)]
pub(super) struct NetworkList;

impl Range for NetworkList {
    type Value = Networks;

    fn range(&self) -> String {
        "addresses and networks such as 10.0.0.0/8, separated by commas".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Networks, String> {
        if text.trim().is_empty() {
            return Ok(Networks::default());
        }
        let network = |part: &str| {
            Network::parse(part.trim()).map_err(|error| match error {
                NetworkError::Malformed => self.error(text),
                NetworkError::HostBits(network) => {
                    format!("{:?} is not a network; did you mean {network}?", part.trim())
                }
            })
        };
        text.split(',').map(network).collect::<Result<_, _>>().map(Networks::new)
    }
}

/// Any text.
#[derive(Clone)]
pub(super) struct Text;

impl Range for Text {
    type Value = String;

    fn range(&self) -> String {
        "a text".to_owned()
    }

    fn parse(&self, text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }
}

/// The least bytes of a secret: with fewer, a secret can be guessed.
const MIN_SECRET_BYTES: usize = 16;

/// A secret, which can be empty. Messages do not repeat the text.
#[derive(Clone)]
pub(super) struct Secret;

impl Range for Secret {
    type Value = String;

    fn range(&self) -> String {
        format!("a text of at least {MIN_SECRET_BYTES} bytes")
    }

    fn parse(&self, text: &str) -> Result<String, String> {
        if text.is_empty() || text.len() >= MIN_SECRET_BYTES {
            return Ok(text.to_owned());
        }
        Err(format!("the value is not {}", self.range()))
    }
}

/// A host. Messages do not repeat the text: it can be a URL with a password.
#[derive(Clone)]
pub(super) struct Host;

impl Range for Host {
    type Value = String;

    fn range(&self) -> String {
        "a host name or an IP address".to_owned()
    }

    fn parse(&self, text: &str) -> Result<String, String> {
        let host = text.trim();
        if is_host(host) {
            return Ok(host.to_owned());
        }
        Err(format!("the value is not {} without a scheme, a login or a port", self.range()))
    }
}

/// Returns true for a name, an IPv4 address, or an IPv6 address without brackets.
pub(super) fn is_host(text: &str) -> bool {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    // A link-local address names its interface.
    let (address, zone) = text.split_once('%').unwrap_or((text, "-"));
    let is_ipv6 = address.parse::<Ipv6Addr>().is_ok();
    is_ipv6 && !zone.is_empty() && zone.bytes().all(is_name_byte)
        || !text.is_empty() && text.bytes().all(is_name_byte)
}

/// An integer within a range.
#[derive(Clone)]
pub(super) struct Whole<T>(pub(super) RangeInclusive<T>);

impl<T: Display + FromStr + PartialOrd + Clone + Send + Sync + 'static> Range for Whole<T> {
    type Value = T;

    fn range(&self) -> String {
        format!("an integer between {} and {}", self.0.start(), self.0.end())
    }

    fn parse(&self, text: &str) -> Result<T, String> {
        let number = text.trim().parse().ok().filter(|number| self.0.contains(number));
        number.ok_or_else(|| self.error(text))
    }
}

/// A number of units that is at least 1.
#[derive(Clone)]
pub(super) struct UnitCount;

impl Range for UnitCount {
    type Value = Units;

    fn range(&self) -> String {
        Whole(UNITS).range()
    }

    fn parse(&self, text: &str) -> Result<Units, String> {
        let units = text.trim().parse().ok().and_then(Units::new);
        units.ok_or_else(|| self.error(text))
    }
}

/// A window in seconds, with at most three decimals.
#[derive(Clone)]
pub(super) struct WindowSeconds;

impl Range for WindowSeconds {
    type Value = Window;

    fn range(&self) -> String {
        let (min, max) = (Window::MIN, Window::MAX);
        let [min, max] = [min, max].map(Millis::from);
        format!("a number of seconds between {min} and {max} with at most three decimals")
    }

    fn parse(&self, text: &str) -> Result<Window, String> {
        let millis = thousandths(text).ok().and_then(|millis| u64::try_from(millis).ok());
        let window = millis.and_then(Window::from_millis);
        window.ok_or_else(|| self.error(text))
    }
}

/// Words, each with its value. Case is ignored.
#[derive(Clone)]
pub(super) struct OneOf<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Clone + Send + Sync> Range for OneOf<T> {
    type Value = T;

    fn range(&self) -> String {
        format!("one of {}", self.0.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", "))
    }

    fn parse(&self, text: &str) -> Result<T, String> {
        let found = self.0.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim()));
        found.map(|(_, value)| value.clone()).ok_or_else(|| self.error(text))
    }
}

/// The path of a file.
#[derive(Clone)]
pub(super) struct Path;

impl Range for Path {
    type Value = PathBuf;

    fn range(&self) -> String {
        "the path of a file".to_owned()
    }

    fn parse(&self, text: &str) -> Result<PathBuf, String> {
        Ok(text.into())
    }
}

/// A share, with at most three decimals.
#[derive(Clone)]
pub(super) struct Share;

impl Range for Share {
    type Value = Thousandths;

    fn range(&self) -> String {
        "a number between 0.001 and 1 with at most three decimals".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Thousandths, String> {
        let share = thousandths(text).ok().and_then(|share| u32::try_from(share).ok());
        let share = share.filter(|share| (1..=1000).contains(share)).map(Thousandths);
        share.ok_or_else(|| self.error(text))
    }
}

/// A URL of a receiver. Messages do not repeat the text: it can hold a password.
#[derive(Clone)]
pub(super) struct HttpUrl;

impl Range for HttpUrl {
    type Value = String;

    fn range(&self) -> String {
        "an http:// or https:// URL with a host, and at most a port and a path".to_owned()
    }

    fn parse(&self, text: &str) -> Result<String, String> {
        let url = text.parse::<Uri>().ok().filter(|url| {
            (text.starts_with("http://") || text.starts_with("https://"))
                && url.host().is_some_and(|host| !host.is_empty())
                && url.query().is_none()
        });
        url.map(|_| text.to_owned()).ok_or_else(|| format!("the value is not {}", self.range()))
    }
}

/// `*`, or a list of origins.
#[derive(Clone)]
pub(super) struct OriginList;

impl Range for OriginList {
    type Value = Origins;

    fn range(&self) -> String {
        "* or origins such as https://example.com, separated by commas".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Origins, String> {
        if text.trim() == "*" {
            return Ok(Origins::Any);
        }
        let origins = text.split(',').map(|origin| origin_header(origin.trim()));
        origins.collect::<Option<_>>().map(Origins::Only).ok_or_else(|| self.error(text))
    }
}

/// Returns the `Origin` header that browsers send for pages of an origin: scheme and host, no path.
fn origin_header(origin: &str) -> Option<HeaderValue> {
    let (scheme, host) = origin.split_once("://")?;
    let is_origin = matches!(scheme, "http" | "https")
        && !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@*".contains(&byte));
    if is_origin { HeaderValue::from_str(origin).ok() } else { None }
}
