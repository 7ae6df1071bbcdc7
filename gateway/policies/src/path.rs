//! The one form of a path, before it is matched or enters a key.
//!
//! Servers treat `/login`, `/%6Cogin`, `//x/../login` and `/login/` as one path; so must limits.

use std::fmt::Write;

/// The most bytes of a path as it arrives.
pub const MAX_PATH_BYTES: usize = 8 << 10;

/// Differences between paths that a server ignores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathForm {
    /// Letters of either case are the same.
    pub ignore_case: bool,
    /// `;x` in a segment has no effect.
    pub strip_parameters: bool,
}

/// The faults of a path; the request is answered with status 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// The path has more than [`MAX_PATH_BYTES`] bytes.
    TooLong,
    /// A `%` is not followed by two hexadecimal digits.
    Escape,
    /// The path contains a control character, before which some servers end a path.
    Control,
}

impl std::fmt::Display for PathError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the path must have at most 8192 bytes",
            Self::Escape => "each % in a path must be followed by two hexadecimal digits",
            Self::Control => "a path must not contain control characters",
        })
    }
}

impl std::error::Error for PathError {}

impl PathForm {
    /// Returns the one form of the path in a request target, which may have a query.
    ///
    /// # Errors
    ///
    /// A [`PathError`] where the path is malformed.
    pub fn normalize(self, target: &[u8]) -> Result<String, PathError> {
        if path_of(target).len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong);
        }
        self.write(target, false)
    }

    /// Returns the one form of a path for an entry that cannot answer an error for a malformed
    /// path: malformed parts are escaped, and the length is not bounded.
    #[must_use]
    pub fn normalize_leniently(self, target: &[u8]) -> String {
        // Lenient writing has no errors.
        self.write(target, true).unwrap_or_default()
    }

    fn write(self, target: &[u8], lenient: bool) -> Result<String, PathError> {
        let path = path_of(target);
        if path == b"*" {
            return Ok("*".to_owned());
        }
        let mut segments: Vec<String> = Vec::new();
        for raw in path.split(|byte| *byte == b'/') {
            let mut segment = write_segment(raw, lenient)?;
            if self.strip_parameters {
                segment.truncate(segment.find(';').unwrap_or(segment.len()));
            }
            match &*segment {
                "" | "." => {}
                ".." => {
                    segments.pop();
                }
                _ => segments.push(segment),
            }
        }
        let length = segments.iter().map(|segment| segment.len() + 1).sum();
        let mut written = String::with_capacity(length);
        for segment in &segments {
            written.push('/');
            written.push_str(segment);
        }
        if written.is_empty() {
            written.push('/');
        }
        if self.ignore_case {
            lower_outside_escapes(&mut written);
        }
        Ok(written)
    }
}

/// Returns the path of a request target in origin, absolute or asterisk form.
fn path_of(target: &[u8]) -> &[u8] {
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(target.len());
    let path = target.get(..end).unwrap_or_default();
    if path.starts_with(b"/") {
        return path;
    }
    match path.windows(3).position(|bytes| bytes == b"://") {
        Some(scheme) if is_scheme(path.get(..scheme).unwrap_or_default()) => {
            let after = path.get(scheme + 3..).unwrap_or_default();
            let slash = after.iter().position(|byte| *byte == b'/').unwrap_or(after.len());
            after.get(slash..).unwrap_or_default()
        }
        _ => path,
    }
}

fn is_scheme(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_alphabetic)
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
}

fn write_segment(raw: &[u8], lenient: bool) -> Result<String, PathError> {
    let mut written = String::with_capacity(raw.len());
    let mut rest = raw;
    while let [byte, after @ ..] = rest {
        rest = after;
        let (byte, escaped) = match (byte, after) {
            (b'%', [high, low, after @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                rest = after;
                (digit(*high) << 4 | digit(*low), true)
            }
            (b'%', _) if lenient => (b'%', true),
            (b'%', _) => return Err(PathError::Escape),
            (byte, _) => (*byte, false),
        };
        if byte.is_ascii_control() && !lenient {
            return Err(PathError::Control);
        }
        if is_unreserved(byte) || (!escaped && is_reserved(byte)) {
            written.push(char::from(byte));
        } else {
            // Writing to text cannot fail.
            let _ = write!(written, "%{byte:02X}");
        }
    }
    Ok(written)
}

/// Returns the value of a hexadecimal digit.
const fn digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' => byte - b'A' + 10,
        _ => 0,
    }
}

/// Returns whether an escape of the byte means the same as the byte.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Returns whether the byte may stand in a segment, with another meaning than its escape.
const fn is_reserved(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@'
    )
}

/// Changes letters to lower case, except the digits of escapes.
fn lower_outside_escapes(path: &mut String) {
    let mut digits = 0;
    *path = path
        .chars()
        .map(|letter| {
            if letter == '%' {
                digits = 2;
            } else if digits > 0 {
                digits -= 1;
            } else {
                return letter.to_ascii_lowercase();
            }
            letter
        })
        .collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_is_not_bypassed_by_another_spelling() {
        for spelling in [
            "/login",
            "/%6Cogin",
            "/%6cogin",
            "//x/../login",
            "/login/",
            "/./login",
            "/login?a=b",
            "/login#top",
            "/x/%2e%2E/login",
            "/../../login",
            "///login//",
            "http://a.example/login",
            "https://a.example:443/login?x",
        ] {
            assert_eq!(PathForm::default().normalize(spelling.as_bytes()).as_deref(), Ok("/login"));
        }
    }

    #[test]
    fn a_path_keeps_what_makes_a_difference() {
        for (path, form) in [
            ("/v1%2flogin", "/v1%2Flogin"),
            ("/v1/\\login", "/v1/%5Clogin"),
            ("/v1/%5clogin", "/v1/%5Clogin"),
            ("/login;a=1", "/login;a=1"),
            ("/LOGIN", "/LOGIN"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a b", "/a%20b"),
            ("/%3B;", "/%3B;"),
            ("*", "*"),
            ("", "/"),
            ("http://a.example", "/"),
            ("/a://b/c", "/a:/b/c"),
        ] {
            assert_eq!(PathForm::default().normalize(path.as_bytes()).as_deref(), Ok(form));
        }
    }

    #[test]
    fn a_server_may_ignore_case_and_parameters() {
        let form = PathForm { ignore_case: true, strip_parameters: true };
        for (path, expected) in [
            ("/LOGIN;jsessionid=1", "/login"),
            ("/A%2fB", "/a%2Fb"),
            ("/a/..;x/b", "/b"),
            ("/a/;/b", "/a/b"),
        ] {
            assert_eq!(form.normalize(path.as_bytes()).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn a_malformed_path_is_refused_or_escaped() {
        let form = PathForm::default();
        assert_eq!(form.normalize(b"/%zz"), Err(PathError::Escape));
        assert_eq!(form.normalize(b"/a%2"), Err(PathError::Escape));
        for control in ["%00", "%0a", "%0D", "%1f", "%7F", "\0", "\n", "\u{7f}"] {
            let path = format!("/a{control}");
            assert_eq!(form.normalize(path.as_bytes()), Err(PathError::Control), "{path:?}");
        }
        assert_eq!(form.normalize(&[b'a'; 8_193]), Err(PathError::TooLong));
        // The bound is not one of the query.
        let long_query = [b"/a?".as_slice(), &[b'a'; 8_193]].concat();
        assert_eq!(form.normalize(&long_query).as_deref(), Ok("/a"));
        assert_eq!(form.normalize_leniently(b"/%zz/%00/\xff"), "/%25zz/%00/%FF");
    }

    proptest::proptest! {
        #[test]
        fn the_form_of_a_form_is_itself(path in "[a-zA-Z%2fe./\\\\;é ]{0,20}", ignore: bool, strip: bool) {
            let form = PathForm { ignore_case: ignore, strip_parameters: strip };
            let once = form.normalize_leniently(path.as_bytes());
            proptest::prop_assert_eq!(form.normalize(once.as_bytes()), Ok(once));
        }
    }
}
