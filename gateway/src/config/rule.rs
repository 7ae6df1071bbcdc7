//! What values settings take. Every fault is one line that says the range.

use std::{fmt::Display, net::Ipv6Addr, ops::RangeInclusive, path::PathBuf, str::FromStr};

use axum::http::{HeaderValue, Uri};
use store::{Millis, Thousandths};

use crate::{number::thousandths, quota::WINDOW};

/// What a setting takes, and what it becomes.
pub(super) trait Rule {
    type Value;

    /// What values are taken, to follow "is not".
    fn range(&self) -> String;

    /// The value of a text, or what is wrong with the text.
    fn parse(&self, text: &str) -> Result<Self::Value, String>;

    /// The fault of a text that is no secret.
    fn fault(&self, text: &str) -> String {
        format!("{text:?} is not {}", self.range())
    }
}

/// Visible ASCII characters, or nothing.
pub(super) struct Word;

impl Rule for Word {
    type Value = String;

    fn range(&self) -> String {
        "a text of visible ASCII characters without spaces".to_owned()
    }

    fn parse(&self, text: &str) -> Result<String, String> {
        if is_word(text) { Ok(text.to_owned()) } else { Err(self.fault(text)) }
    }
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Names of claims of a token.
pub(super) struct ClaimList;

impl Rule for ClaimList {
    type Value = Vec<String>;

    fn range(&self) -> String {
        "names of claims without spaces, separated by commas".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Vec<String>, String> {
        let names: Vec<_> = text.split(',').map(|name| name.trim().to_owned()).collect();
        let are_names = names.iter().all(|name| !name.is_empty() && is_word(name));
        if are_names { Ok(names) } else { Err(self.fault(text)) }
    }
}

/// Any text; the field says what it stands for.
pub(super) struct Text(pub(super) &'static str);

impl Rule for Text {
    type Value = String;

    fn range(&self) -> String {
        self.0.to_owned()
    }

    fn parse(&self, text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }
}

/// A host, or nothing where it is optional. Messages do not repeat the text: it can be a URL with a
/// password.
pub(super) struct Host {
    pub(super) optional: bool,
}

impl Rule for Host {
    type Value = String;

    fn range(&self) -> String {
        "a host name or an IP address".to_owned()
    }

    fn parse(&self, text: &str) -> Result<String, String> {
        let host = text.trim();
        if is_host(host) || self.optional && host.is_empty() {
            return Ok(host.to_owned());
        }
        Err(format!("the value is not {} without a scheme, a login or a port", self.range()))
    }
}

/// Whether a text is a name, an IPv4 address, or an IPv6 address without brackets.
pub(super) fn is_host(text: &str) -> bool {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    // A link-local address names its interface.
    let (address, zone) = text.split_once('%').unwrap_or((text, "-"));
    let is_ipv6 = address.parse::<Ipv6Addr>().is_ok();
    is_ipv6 && !zone.is_empty() && zone.bytes().all(is_name_byte)
        || !text.is_empty() && text.bytes().all(is_name_byte)
}

/// An integer within a range.
pub(super) struct Whole<T>(pub(super) RangeInclusive<T>);

impl<T: Display + FromStr + PartialOrd> Rule for Whole<T> {
    type Value = T;

    fn range(&self) -> String {
        format!("an integer between {} and {}", self.0.start(), self.0.end())
    }

    fn parse(&self, text: &str) -> Result<T, String> {
        let number = text.trim().parse().ok().filter(|number| self.0.contains(number));
        number.ok_or_else(|| self.fault(text))
    }
}

/// A window in seconds, with at most three decimals.
pub(super) struct Window;

impl Rule for Window {
    type Value = Millis;

    fn range(&self) -> String {
        let (min, max) = WINDOW.into_inner();
        format!("a number of seconds between {min} and {max} with at most three decimals")
    }

    fn parse(&self, text: &str) -> Result<Millis, String> {
        let millis = thousandths(text).ok().and_then(|millis| u64::try_from(millis).ok());
        let window = millis.map(Millis).filter(|window| WINDOW.contains(window));
        window.ok_or_else(|| self.fault(text))
    }
}

/// One of a few words, in any case, and what each stands for.
pub(super) struct OneOf<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Clone> Rule for OneOf<T> {
    type Value = T;

    fn range(&self) -> String {
        format!("one of {}", self.0.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", "))
    }

    fn parse(&self, text: &str) -> Result<T, String> {
        let found = self.0.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim()));
        found.map(|(_, value)| value.clone()).ok_or_else(|| self.fault(text))
    }
}

/// The path of a file, or nothing.
pub(super) struct Path;

impl Rule for Path {
    type Value = Option<PathBuf>;

    fn range(&self) -> String {
        "the path of a file".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Option<PathBuf>, String> {
        Ok((!text.is_empty()).then(|| text.into()))
    }
}

/// A share of the whole, with at most three decimals.
pub(super) struct Share;

impl Rule for Share {
    type Value = Thousandths;

    fn range(&self) -> String {
        "a number between 0.001 and 1 with at most three decimals".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Thousandths, String> {
        let share = thousandths(text).ok().and_then(|share| u32::try_from(share).ok());
        let share = share.filter(|share| (1..=1000).contains(share)).map(Thousandths);
        share.ok_or_else(|| self.fault(text))
    }
}

/// Where to send something over HTTP, or nothing. It can hold a password and is never shown.
pub(super) struct HttpUrl;

impl Rule for HttpUrl {
    type Value = Option<String>;

    fn range(&self) -> String {
        "an http:// or https:// URL with a host, and at most a port and a path".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Option<String>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let url = text.parse::<Uri>().ok().filter(|url| {
            (text.starts_with("http://") || text.starts_with("https://"))
                && url.host().is_some_and(|host| !host.is_empty())
                && url.query().is_none()
        });
        url.map(|_| Some(text.to_owned()))
            .ok_or_else(|| format!("the value is not {}", self.range()))
    }
}

/// Who may call from a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Every page.
    Any,
    /// Pages of these origins.
    Only(Vec<HeaderValue>),
}

/// As a rule for a setting: `*` or a list.
pub(super) struct OriginList;

impl Rule for OriginList {
    type Value = Origins;

    fn range(&self) -> String {
        "* or origins such as https://example.com, separated by commas".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Origins, String> {
        if text.trim() == "*" {
            return Ok(Origins::Any);
        }
        let origins = text.split(',').map(|origin| origin_header(origin.trim()));
        origins.collect::<Option<_>>().map(Origins::Only).ok_or_else(|| self.fault(text))
    }
}

/// The `Origin` header that browsers send for pages of an origin: scheme and host, no path.
fn origin_header(origin: &str) -> Option<HeaderValue> {
    let (scheme, host) = origin.split_once("://")?;
    let is_origin = matches!(scheme, "http" | "https")
        && !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@*".contains(&byte));
    if is_origin { HeaderValue::from_str(origin).ok() } else { None }
}
