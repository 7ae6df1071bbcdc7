//! Whose units a request takes: each client has its own, whatever its headers say.

use serde_json::json;

use super::example::{Proxy, Site};
use crate::harness::json_of;

/// Units that do not return while a test runs. The policy of writes tells the method from the path.
const POLICIES: &str = "
version: 1
policies:
  - {name: writes, match: {method: POST, path: /write}, by: [client.ip], missing: deny, limits: [{name: rate, limit: 1, per: 365d}]}
  - {name: site, by: [client.ip], missing: deny, limits: [{name: rate, limit: 2, per: 365d}]}
";

#[test]
#[ignore = "make test-proxies"]
fn each_client_has_its_own_units_whatever_it_sends() {
    for proxy in Proxy::ALL {
        let site = Site::with(proxy, Some(POLICIES), "127.0.0.1", &|text| text);
        let from = |client, headers: &[(&str, &str)]| {
            site.request_from(client, "GET", "/", headers, "").status
        };
        assert_eq!([from(2, &[]), from(2, &[]), from(2, &[])], [200, 200, 429], "{proxy:?}");
        // The service sees the address that was limited.
        let forged = [("X-Forwarded-For", "203.0.113.9")];
        let echo = json_of(&site.request_from(3, "GET", "/", &forged, ""));
        let seen = ["x-forwarded-for", "127.0.0.3"];
        assert!(echo["headers"].as_array().unwrap().contains(&json!(seen)), "{proxy:?} {echo}");
        for forged in [
            ("X-Forwarded-For", "203.0.113.9"),
            ("X-Forwarded-For", "127.0.0.1"),
            ("X_Forwarded_For", "203.0.113.9"),
            ("X-Real-IP", "203.0.113.9"),
            ("Forwarded", "for=203.0.113.9"),
            // Headers of the connection are removed by proxies.
            ("Connection", "X-Forwarded-For, X-Forwarded-Host"),
        ] {
            assert_eq!(from(2, &[forged]), 429, "{proxy:?} {forged:?}");
            assert_eq!(from(2, &[forged, forged]), 429, "{proxy:?} {forged:?} twice");
        }
        // Words that decide are those of the proxy, under every name.
        let write =
            |headers: &[(&str, &str)]| site.request_from(4, "POST", "/write", headers, "x").status;
        assert_eq!([write(&[]), write(&[])], [200, 429], "{proxy:?}");
        for name in [
            "X-Forwarded-Uri",
            "X-Forwarded-Method",
            "X-Forwarded-Host",
            "X-Original-URI",
            "X-Original-URL",
            "X-Original-Method",
            "X_Forwarded_Uri",
            "X.Forwarded.Uri",
            "X_Original_Uri",
            "X-RateLimit-Key",
            "X-RateLimit-Policy",
            "X-RateLimit-Status",
            "X-Forwarded-Proto",
            "Connection",
        ] {
            for value in
                ["/", "GET", "200", "X-Forwarded-Method, X-Original-Method, X-Forwarded-Uri"]
            {
                assert_eq!(write(&[(name, value)]), 429, "{proxy:?} {name}: {value}");
            }
        }
        for target in ["/write?deny=200", "/write?policy=none", "//write?x", "/%77rite"] {
            let answer = site.request_from(4, "POST", target, &[], "x");
            assert_eq!(answer.status, 429, "{proxy:?} {target}");
        }
    }
}

#[test]
#[ignore = "make test-proxies"]
fn limits_hold_for_the_client_behind_a_chain_of_proxies() {
    /// A load balancer with the address 127.0.0.9, which appends the address of its client.
    const BALANCER: u8 = 9;
    for proxy in Proxy::ALL {
        let with_balancer = |text: String| proxy.behind_balancer(&text);
        let trusted = "127.0.0.1, 127.0.0.9";
        let site = Site::with(proxy, Some(POLICIES), trusted, &with_balancer);
        let through = |list: &str, others: &[(&str, &str)]| {
            let headers = [&[("X-Forwarded-For", list)], others].concat();
            site.request_from(BALANCER, "GET", "/", &headers, "").status
        };
        let client = ["203.0.113.7", "6.6.6.6, 203.0.113.7", "127.0.0.9, 203.0.113.7"];
        assert_eq!(
            client.map(|list| through(list, &[])),
            [200, 200, 429],
            "{proxy:?}\n{}",
            site.log()
        );
        assert_eq!(through("203.0.113.8", &[]), 200, "{proxy:?}");
        // The balancer passes headers of its clients on, also those which name a request.
        for forged in [("X-Forwarded-Uri", "/write"), ("X-Forwarded-Method", "POST")] {
            assert_eq!(through("203.0.113.7", &[forged]), 429, "{proxy:?} {forged:?}");
        }
        // A client that comes past the balancer has its own address.
        let direct = [("X-Forwarded-For", "203.0.113.50")];
        let statuses = [(); 3].map(|()| site.request_from(4, "GET", "/", &direct, "").status);
        assert_eq!(statuses, [200, 200, 429], "{proxy:?}");
    }
}
