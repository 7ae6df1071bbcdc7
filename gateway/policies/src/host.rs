//! The host of a request: the rule, and the one form.
//!
//! Proxies select a service by the part of the host before the port. Some of them take any text behind
//! the last colon for a port, and any text in brackets for an address. A host outside the rule could be
//! one host for the proxy and another one for the policies.

use std::net::Ipv6Addr;

/// Returns true for a name or an address with an optional port, or nothing (RFC 9110, 7.2). A port has
/// digits only, and brackets contain an IPv6 address. Several hosts with commas between them are not
/// one, although RFC 3986 permits a comma in a name.
#[must_use]
pub fn is_host(host: &[u8]) -> bool {
    let (name, port) = split(host);
    let is_name = match name {
        [b'[', address @ .., b']'] => is_ipv6(address),
        name => name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte)),
    };
    is_name && port.iter().all(u8::is_ascii_digit)
}

/// Returns the host in lower case, without port and trailing dots, and an IPv6 address in brackets. The
/// form of a form is itself: records have it, and are read again. A host outside the rule has a form
/// too, because a descriptor of Envoy must not cause an error.
pub(crate) fn normalize(host: &[u8]) -> Vec<u8> {
    let host = without_dots(host);
    let mut form = match is_ipv6(host) {
        true => [b"[", host, b"]"].concat(),
        false => without_dots(split(host).0).to_vec(),
    };
    form.make_ascii_lowercase();
    form
}

/// Splits a host at the first colon behind its brackets; the port is empty without a colon.
fn split(host: &[u8]) -> (&[u8], &[u8]) {
    let bracket = host.starts_with(b"[").then(|| host.iter().position(|byte| *byte == b']'));
    let begin = bracket.flatten().unwrap_or(0);
    let colon = host.iter().skip(begin).position(|byte| *byte == b':');
    let end = colon.map_or(host.len(), |colon| begin + colon);
    let (name, port) = host.split_at(end);
    (name, port.strip_prefix(b":").unwrap_or(port))
}

fn is_ipv6(text: &[u8]) -> bool {
    str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

fn without_dots(mut host: &[u8]) -> &[u8] {
    while let [rest @ .., b'.'] = host {
        host = rest;
    }
    host
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{is_host, normalize};

    fn form(host: &str) -> String {
        String::from_utf8(normalize(host.as_bytes())).unwrap()
    }

    #[test]
    fn a_host_is_one_however_it_is_written() {
        for (host, expected) in [
            ("A.Example", "a.example"),
            ("a.example:443", "a.example"),
            ("a.example:", "a.example"),
            ("a.example:99999", "a.example"),
            ("a.example.:443", "a.example"),
            ("a.example..", "a.example"),
            ("[2001:DB8::1]:80", "[2001:db8::1]"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("[::ffff:192.0.2.1]:", "[::ffff:192.0.2.1]"),
            ("a_b.example", "a_b.example"),
            ("", ""),
            (":80", ""),
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
            assert_eq!(form(host), expected, "{host}");
        }
    }

    #[test]
    fn what_a_proxy_could_take_for_a_port_or_an_address_is_malformed_and_has_the_form_of_the_name()
    {
        for (host, expected) in [
            ("a.example:x", "a.example"),
            ("a.example:1a", "a.example"),
            ("a.example:443.", "a.example"),
            ("a.example:80:80", "a.example"),
            ("a.example:x:80", "a.example"),
            ("a.example:+1", "a.example"),
            ("a.example:-1", "a.example"),
            ("2001:db8::1", "[2001:db8::1]"),
            ("::1.", "[::1]"),
            ("[::1]:x", "[::1]"),
            ("[a.example]", "[a.example]"),
            ("[a.example]:80", "[a.example]"),
            ("[a.example", "[a.example"),
            ("a.example]", "a.example]"),
            ("a[.example", "a[.example"),
            ("[::1]a", "[::1]a"),
            ("[::1%25lo]", "[::1%25lo]"),
            ("[::1", "["),
            ("a.example,b", "a.example,b"),
            ("a b", "a b"),
            ("u@a.example", "u@a.example"),
            ("a.example/", "a.example/"),
            ("a.example?", "a.example?"),
            ("a.example#", "a.example#"),
            ("\u{e9}.example", "\u{e9}.example"),
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
            assert_eq!(form(host), expected, "{host}");
        }
    }

    proptest! {
        #[test]
        fn the_form_of_a_form_is_itself(
            host in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..20),
                r"(a|A|:|\.|\[|\]|1|x){0,12}".prop_map(String::into_bytes),
            ],
        ) {
            let form = normalize(&host);
            prop_assert_eq!(normalize(&form), form.clone());
            if is_host(&host) {
                prop_assert!(is_host(&form), "{}", form.escape_ascii());
            }
        }
    }
}
