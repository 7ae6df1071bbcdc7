//! The description of the end user's request, in the head of a request of a proxy.
//!
//! Each contract reads its own headers by their exact names and ignores those of the others. A header
//! that decides and comes twice could be read in two ways, by the proxy and by the gateway.

use axum::http::{HeaderMap, Method, header::HOST, request::Parts};
use policies::host::is_host;

use super::{
    contract::{Call, Contract, Options},
    faults::{Fault, Misconfiguration},
    original::OriginalRequest,
    proxies::Peer,
};

const ORIGINAL_METHOD: &str = "x-original-method";
const ORIGINAL_URI: &str = "x-original-uri";
const ORIGINAL_URL: &str = "x-original-url";
const ORIGINAL_HOST: &str = "x-original-host";
const FORWARDED_METHOD: &str = "x-forwarded-method";
const FORWARDED_URI: &str = "x-forwarded-uri";
const FORWARDED_HOST: &str = "x-forwarded-host";

/// Returns the request that the head of a proxy's request describes.
///
/// # Errors
///
/// When the description is malformed, or the proxy has sent none.
pub(super) fn read<'r>(
    head: &'r Parts,
    call: &Call<'r>,
    options: &Options<'r>,
    peer: Peer,
) -> Result<OriginalRequest<'r>, Fault> {
    let headers = &head.headers;
    let (method, host, target) = match call.contract {
        Contract::AuthRequest => {
            let method = required(headers, ORIGINAL_METHOD)?;
            let host = single(headers, ORIGINAL_HOST)?;
            match single(headers, ORIGINAL_URI)? {
                Some(uri) => (method, host, uri),
                None => {
                    let url = required(headers, ORIGINAL_URL)?;
                    let (authority, target) = split_url(url)?;
                    (method, host.or(Some(authority)), target)
                }
            }
        }
        Contract::ForwardAuth => {
            let method = required(headers, FORWARDED_METHOD)?;
            let host = single(headers, FORWARDED_HOST)?;
            (method, host, required(headers, FORWARDED_URI)?)
        }
        Contract::ExtAuthz => {
            let host = headers.get(HOST).map(|host| host.as_bytes());
            (head.method.as_str().as_bytes(), host, call.rest.as_bytes())
        }
    };
    if Method::from_bytes(method).is_err() {
        return Err(malformed("the method"));
    }
    if host.is_some_and(|host| !is_host(host)) {
        return Err(malformed("the host"));
    }
    if call.contract != Contract::ExtAuthz && !is_target(target) {
        return Err(malformed("the request target"));
    }
    let lines = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    Ok(OriginalRequest {
        method,
        host,
        target,
        headers: lines.collect(),
        peer: peer.address,
        peer_may_be_end_user: false,
        policy: options.policy,
        deadline: None,
    })
}

/// Returns the value of a header that may come once.
fn single<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h [u8]>, Fault> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value.map(|value| value.as_bytes())),
        (_, Some(_)) => Err(Fault::Malformed(format!("{name} must occur at most once"))),
    }
}

/// Returns the value of a header without which the proxy has described no request. There is no default:
/// a request whose method is missing is not GET.
fn required<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<&'h [u8], Fault> {
    let value = single(headers, name)?;
    value.ok_or(Fault::Misconfigured(Misconfiguration::Description(name)))
}

fn malformed(part: &str) -> Fault {
    Fault::Malformed(format!("{part} that the proxy has sent is malformed"))
}

/// Returns whether these bytes are a request target: a path, `*` or a URL. Spaces and control characters
/// would end it.
fn is_target(target: &[u8]) -> bool {
    let begins = target.starts_with(b"/") || target == b"*" || split_url(target).is_ok();
    begins && target.iter().all(|byte| *byte > b' ' && *byte != 0x7f)
}

/// Returns the authority and the request target of a URL.
///
/// A proxy writes the Host header of the end user into the URL, and a Host header with `?`, `#` or `@`
/// would move the begin of the path. So the authority ends at the first `/` only, and has no such
/// character.
fn split_url(url: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let fault = || malformed("the URL");
    let colon = url.windows(3).position(|bytes| bytes == b"://").ok_or_else(fault)?;
    let (scheme, rest) = url.split_at(colon);
    let rest = rest.get(3..).unwrap_or_default();
    let slash = rest.iter().position(|byte| *byte == b'/').ok_or_else(fault)?;
    let (authority, target) = rest.split_at(slash);
    let in_authority = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte);
    let is_url = !scheme.is_empty()
        && scheme.iter().all(u8::is_ascii_alphanumeric)
        && !authority.is_empty()
        && authority.iter().all(in_authority);
    if is_url { Ok((authority, target)) } else { Err(fault()) }
}

#[cfg(test)]
mod tests {
    use axum::http::{Request, request::Parts};

    use super::{Fault, read};
    use crate::authz::{contract::Call, proxies::Peer};

    fn head(target: &str, headers: &[(&str, &str)]) -> Parts {
        let request = Request::builder().method("GET").uri(target);
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    /// Returns method, host and target of the request that a proxy describes.
    fn described(target: &str, headers: &[(&str, &str)]) -> Result<String, Fault> {
        let head = head(target, headers);
        let call = Call::parse(head.uri.path_and_query().unwrap().as_str()).unwrap();
        let options = call.options.clone().unwrap();
        let request = read(&head, &call, &options, Peer::default())?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let host = request.host.map_or_else(|| "-".to_owned(), text);
        Ok(format!("{} {host} {}", text(request.method), text(request.target)))
    }

    const URI: [(&str, &str); 3] = [
        ("X-Original-Method", "POST"),
        ("X-Original-Host", "a.example"),
        ("X-Original-URI", "/login?x"),
    ];

    const FORWARDED: [(&str, &str); 3] = [
        ("X-Forwarded-Method", "POST"),
        ("X-Forwarded-Host", "a.example"),
        ("X-Forwarded-Uri", "/login?x"),
    ];

    #[test]
    fn each_contract_reads_its_own_headers() {
        let expected = Ok("POST a.example /login?x".to_owned());
        assert_eq!(described("/authz/auth-request", &URI), expected);
        assert_eq!(described("/authz/forward-auth", &FORWARDED), expected);
        let others = [URI, FORWARDED].concat();
        let all = [&others[..], &[("Host", "a.example")]].concat();
        assert_eq!(described("/authz/auth-request", &all), expected);
        assert_eq!(described("/authz/forward-auth", &all), expected);
        let own = Ok("GET a.example /x?;policy=b".to_owned());
        assert_eq!(described("/authz/ext-authz;policy=a/x?;policy=b", &all), own);
        assert!(described("/authz/auth-request", &FORWARDED).is_err());
        assert!(described("/authz/forward-auth", &URI).is_err());
    }

    #[test]
    fn a_header_that_decides_is_required_once_and_well_formed() {
        for (path, headers) in [("/authz/auth-request", URI), ("/authz/forward-auth", FORWARDED)] {
            for (place, (name, _)) in headers.into_iter().enumerate() {
                let mut others = headers.to_vec();
                others.remove(place);
                let is_optional = name.ends_with("Host");
                assert_eq!(described(path, &others).is_ok(), is_optional, "{name}");
                for value in ["a.example", "GET", "/"] {
                    let twice = [&headers[..], &[(name, value)]].concat();
                    assert!(described(path, &twice).is_err(), "{name} twice");
                }
                let wrong: &[&str] = match name {
                    name if name.ends_with("Method") => &["", "G T", "GET,POST", "GET/"],
                    name if name.ends_with("Host") => &[
                        "a b", "a,b", "a?b", "a/b", "a@b", "a#b", "a:x", "a:1x", "a:1:2", "[a]",
                        "[a]:1", "[::1", "::1",
                    ],
                    _ => &["", "login", "/a b", "/a\tb", "http://a?/b", "http://", "**", "://a/b"],
                };
                for value in wrong {
                    let wrong = [&others[..], &[(name, value)]].concat();
                    let result = described(path, &wrong);
                    assert!(
                        matches!(result, Err(Fault::Malformed(_))),
                        "{name} {value:?}: {result:?}"
                    );
                }
            }
            // Other names of the same headers are those of end users.
            for alias in ["X_Original_Uri", "X.Original.Uri", "X_Forwarded_Uri", "X.Forwarded.Uri"]
            {
                let with_alias = [&headers[..], &[(alias, "/other")]].concat();
                assert_eq!(described(path, &with_alias), described(path, &headers), "{alias}");
            }
        }
    }

    #[test]
    fn a_url_stands_for_host_and_target_where_no_target_is_sent() {
        let url = |url: &str| {
            described(
                "/authz/auth-request",
                &[("X-Original-Method", "GET"), ("X-Original-URL", url)],
            )
        };
        for (text, expected) in [
            ("http://a.example/login?x", "GET a.example /login?x"),
            ("https://[2001:db8::1]:8443/", "GET [2001:db8::1]:8443 /"),
            ("https://a_b.example:1/a//b", "GET a_b.example:1 /a//b"),
        ] {
            assert_eq!(url(text).as_deref(), Ok(expected));
        }
        for wrong in [
            "http://a.example?/login",
            "http://a.example#/login",
            "http://a.example@b/login",
            "http://a.example",
            "http:///login",
            "http://a example/login",
            "http://a.example\\/login",
            "/login",
            "://a/login",
            "",
        ] {
            assert!(matches!(url(wrong), Err(Fault::Malformed(_))), "{wrong}");
        }
        // The target of the request line wins.
        let both = [&URI[..], &[("X-Original-URL", "http://b.example/other")]].concat();
        assert_eq!(described("/authz/auth-request", &both), described("/authz/auth-request", &URI));
    }
}
