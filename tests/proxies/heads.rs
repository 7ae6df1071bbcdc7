//! Heads at the bounds of each proxy: a client that has used up its units gets no grant by them, and no
//! proxy ends.

use super::example::{Proxy, Site};
use crate::harness::http_request;

/// Units that do not return while a test runs.
const POLICIES: &str = "
version: 1
policies:
  - {name: site, by: [client.ip], missing: deny, limits: [{name: rate, limit: 1, per: 365d}]}
";

/// The client that has used up its units.
const CLIENT: u8 = 2;

/// Starts an example that fails open where the proxy can, with a client that has used up its units.
fn start(proxy: Proxy) -> Site {
    let fail_open = |text: String| proxy.failing_open(&text).unwrap_or(text);
    let site = Site::with(proxy, Some(POLICIES), "127.0.0.1", &fail_open);
    assert_eq!([site.get(CLIENT, "/").status, site.get(CLIENT, "/").status], [200, 429]);
    site
}

/// Returns headers with values of one letter; all have the same name, or each its own.
fn lines(count: usize, same: bool) -> Vec<(String, String)> {
    let name = |number| if same { "X-A".to_owned() } else { format!("X-A{number}") };
    (0..count).map(|number| (name(number), "x".to_owned())).collect()
}

fn status(site: &Site, client: u8, lines: &[(String, String)]) -> u16 {
    let headers: Vec<_> = lines.iter().map(|(name, value)| (&**name, &**value)).collect();
    site.request_from(client, "GET", "/", &headers, "").status
}

#[test]
#[ignore = "make test-proxies"]
fn any_number_of_headers_is_denied_and_ends_no_proxy() {
    for proxy in Proxy::ALL {
        let site = start(proxy);
        for count in (85..=105).chain([200, 480, 490, 500, 510, 600]) {
            for same in [false, true] {
                let status = status(&site, CLIENT, &lines(count, same));
                assert!(
                    matches!(status, 400 | 429 | 431 | 500),
                    "{proxy:?} {count} headers: {status}\n{}",
                    site.log()
                );
                let is_refused = proxy == Proxy::Haproxy && count > 90;
                assert!(!is_refused || matches!(status, 400 | 431), "{proxy:?} {count}: {status}");
            }
        }
        // The proxy still serves, also a request with many headers.
        assert_eq!(status(&site, 3, &lines(85, false)), 200, "{proxy:?}\n{}", site.log());
        assert_eq!(status(&site, 4, &lines(85, true)), 200, "{proxy:?}\n{}", site.log());
    }
}

#[test]
#[ignore = "make test-proxies"]
fn a_head_of_any_size_is_denied_and_ends_no_proxy() {
    for proxy in Proxy::ALL {
        let site = start(proxy);
        // HAProxy has 16 KiB for a head, of which it reserves 1 KiB for changes.
        let step = if proxy == Proxy::Haproxy { 25 } else { 500 };
        for size in (1_000..14_000).step_by(1_000).chain((14_000..16_600).step_by(step)) {
            let (half, whole) = ("x".repeat(size / 2), "x".repeat(size));
            for request in [
                // nginx has 8 KiB for a line.
                http_request("GET", "/", &[("X-A", &half), ("X-B", &half)], ""),
                http_request("GET", "/", &[("X-A", &whole)], ""),
                // The target is in the question as the value of a header.
                http_request("GET", &format!("/?{whole}"), &[], ""),
            ] {
                // A proxy that has not read all of a head resets the connection behind its answer.
                let Ok(answer) = site.try_from(CLIENT, &request) else {
                    assert_eq!(site.get(CLIENT, "/").status, 429, "{proxy:?} {size}");
                    continue;
                };
                let status = answer.status;
                let is_refused = matches!(status, 400 | 414 | 429 | 431 | 500);
                assert!(is_refused, "{proxy:?} {size} bytes: {status}\n{}", site.log());
            }
        }
        assert_eq!(site.get(3, "/").status, 200, "{proxy:?}\n{}", site.log());
    }
}
