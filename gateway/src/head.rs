//! Rules for the head of every request.

use axum::http::{
    HeaderMap, HeaderValue, Method, Request, Version,
    header::{HOST, ORIGIN},
};

use policies::host::is_host;

use crate::error::Error;

/// The origins whose pages may call from a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// All origins.
    Any,
    /// These origins only.
    Only(Vec<HeaderValue>),
}

/// Checks the head of a request before its body is read.
///
/// # Errors
///
/// When the head is not valid HTTP, or when a page of an origin that may not call uses an unsafe
/// method.
pub(crate) fn check<B>(request: &Request<B>, origins: &Origins) -> Result<(), Error> {
    check_host(request.version(), request.headers())?;
    if changes_something(request.method()) && !comes_from(request.headers(), origins) {
        return Err(Error::OriginExcluded);
    }
    Ok(())
}

/// Requires one Host header (RFC 9112, 3.2): of several, a proxy may have used another one. HTTP/1.0
/// needs none, for the health checks of some load balancers.
pub(crate) fn check_host(version: Version, headers: &HeaderMap) -> Result<(), Error> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_host(host.as_bytes()) => Ok(()),
        (None, _) if version < Version::HTTP_11 => Ok(()),
        _ => Err(Error::HostInvalid),
    }
}

/// Maximum size of the head of a request: an identifier in a path, a token and headers of proxies take
/// a few thousand bytes. A larger head has status 431, like a head with more headers.
pub(crate) const MAX_BYTES: usize = 32 * 1024;

/// Maximum number of headers.
pub(crate) const MAX_HEADERS: usize = 100;

/// Returns whether a head is within the bounds of all routes but those of forward authentication, which
/// get the heads of end users with those of proxies.
pub(crate) fn is_within_bounds<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    // The least bytes of a line: `NAME:VALUE` and its end.
    let lines = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 3);
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    headers.len() <= MAX_HEADERS && target + lines.sum::<usize>() <= MAX_BYTES
}

/// Returns true for methods with which routes may change state.
fn changes_something(method: &Method) -> bool {
    // OPTIONS is safe: a browser sends it to learn what a page may do.
    !method.is_safe()
}

/// Returns true for a request from no page, from one of these origins, or from a page of this
/// service.
///
/// The check is necessary, because a browser that hides an answer from a page has sent the request.
fn comes_from(headers: &HeaderMap, origins: &Origins) -> bool {
    let Origins::Only(allowed) = origins else { return true };
    let is_allowed = |origin| allowed.contains(origin) || is_own(origin, headers.get(HOST));
    headers.get_all(ORIGIN).iter().all(is_allowed)
}

/// Returns true when the host of an origin is the one that the request is for. The scheme can be
/// another one: that of a proxy in front of this service.
fn is_own(origin: &HeaderValue, host: Option<&HeaderValue>) -> bool {
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let host = host.and_then(|host| host.to_str().ok());
    origin.zip(host).is_some_and(|((_, own), host)| own.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, Request, Version};

    use super::{Origins, check};
    use crate::error::Error;

    fn error_status(method: &str, version: Version, headers: &[(&str, &str)]) -> Option<u16> {
        let request = Request::builder().method(method).version(version);
        let add = |request: axum::http::request::Builder, (name, value): &(&str, &str)| {
            request.header(*name, *value)
        };
        let request = headers.iter().fold(request, add).body(()).unwrap();
        let origins = Origins::Only(vec![HeaderValue::from_static("https://shop.example")]);
        check(&request, &origins).err().as_ref().map(Error::status).map(|status| status.as_u16())
    }

    #[test]
    fn a_request_has_one_host() {
        const HOST: (&str, &str) = ("Host", "limits.example");
        for (version, headers, expected) in [
            (Version::HTTP_11, &[HOST][..], None),
            (Version::HTTP_11, &[("Host", "")], None),
            (Version::HTTP_11, &[("Host", "[::1]:8000")], None),
            (Version::HTTP_11, &[("Host", "rate_limits.example:8000")], None),
            (Version::HTTP_11, &[("Host", "a b")], Some(400)),
            (Version::HTTP_11, &[("Host", "limits.example:x")], Some(400)),
            (Version::HTTP_11, &[("Host", "[limits.example]")], Some(400)),
            (Version::HTTP_11, &[("Host", "::1")], Some(400)),
            (Version::HTTP_11, &[("Host", "a,b")], Some(400)),
            (Version::HTTP_11, &[("Host", "user@a")], Some(400)),
            (Version::HTTP_11, &[("Host", "a/b")], Some(400)),
            (Version::HTTP_10, &[("Host", "a b")], Some(400)),
            (Version::HTTP_11, &[], Some(400)),
            (Version::HTTP_11, &[HOST, HOST], Some(400)),
            (Version::HTTP_10, &[], None),
            (Version::HTTP_10, &[HOST], None),
            (Version::HTTP_10, &[HOST, HOST], Some(400)),
        ] {
            assert_eq!(error_status("GET", version, headers), expected, "{version:?} {headers:?}");
        }
    }

    #[test]
    fn pages_of_other_origins_change_nothing() {
        for (origins, expected) in [
            (&[][..], None),
            (&["https://shop.example"], None),
            (&["http://shop.example"], Some(403)),
            (&["https://other.example"], Some(403)),
            (&["https://shop.example", "https://other.example"], Some(403)),
            (&["null"], Some(403)),
            (&[""], Some(403)),
            // The pages of the service itself.
            (&["http://limits.example:8000"], None),
            (&["https://LIMITS.example:8000"], None),
            (&["http://limits.example"], Some(403)),
        ] {
            let origins = origins.iter().map(|origin| ("Origin", *origin));
            let headers: Vec<_> = origins.chain([("Host", "limits.example:8000")]).collect();
            for method in ["POST", "PUT", "DELETE", "PATCH"] {
                assert_eq!(
                    error_status(method, Version::HTTP_11, &headers),
                    expected,
                    "{headers:?}"
                );
            }
            for method in ["GET", "HEAD", "OPTIONS"] {
                assert_eq!(error_status(method, Version::HTTP_11, &headers), None, "{headers:?}");
            }
        }
    }
}
