//! The HTTP API: every endpoint, its bodies and its headers.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Gateway, NOON, Response, Server, health};

/// Starts a server and a gateway: the server's clock stands at [`NOON`], and the gateway waits for
/// answers as long as a busy machine may need. The gateway has no deny cache, because the deny
/// cache does not read the server's clock.
fn start() -> (Server, Gateway) {
    let server = Server::at(NOON);
    let settings = Gateway::builder().redis(&server);
    let gateway = settings.env("DENY_CACHE_SIZE", "0").start();
    (server, gateway)
}

/// Runs a test on a gateway with Redis, and on a gateway without Redis.
fn assert_of_both(test: impl Fn(&Gateway)) {
    let (_server, gateway) = start();
    test(&gateway);
    test(&Gateway::builder().env("REDIS_URL", "memory://").start());
}

fn check(gateway: &Gateway, body: &str) -> Response {
    gateway.post("/rate-limit/check", body)
}

fn headers<'a, const N: usize>(response: &'a Response, names: [&str; N]) -> [Option<&'a str>; N] {
    names.map(|name| response.header(name))
}

const DECISION_HEADERS: [&str; 7] = [
    "RateLimit-Policy",
    "RateLimit",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "Cache-Control",
    "Retry-After",
];

#[test]
fn a_check_takes_one_unit_of_the_default_quota() {
    assert_of_both(|gateway| {
        let response = check(gateway, r#"{"identifier": "user"}"#);
        assert_eq!(response.status, 200);
        assert_eq!(response.header("Content-Type"), Some("application/json"));
        assert_eq!(
            response.body,
            r#"{"allowed":true,"remaining":99,"reset_in_seconds":0.6,"retry_after":null}"#
        );
        let expected = [
            Some(r#""default";q=100;w=60"#),
            Some(r#""default";r=99;t=1"#),
            Some("100"),
            Some("99"),
            Some("1"),
            Some("no-store"),
            None,
        ];
        assert_eq!(headers(&response, DECISION_HEADERS), expected);
    });
}

#[test]
fn a_denied_bucket_has_the_time_of_the_next_unit() {
    let (server, gateway) = start();
    let body = r#"{"identifier": "user", "limit": 10, "window_seconds": 60, "cost": 10}"#;
    assert_eq!(check(&gateway, body).status, 200);
    server.clock().advance(Duration::from_millis(1));

    let response = check(&gateway, body);
    assert_eq!(response.status, 200);
    assert_eq!(
        response.body,
        r#"{"allowed":false,"remaining":0,"reset_in_seconds":59.999,"retry_after":59.999}"#
    );
    let expected = [
        Some(r#""default";q=10;w=60"#),
        // The next unit comes after six seconds, and the ten units of the request come after sixty.
        Some(r#""default";r=0;t=6"#),
        Some("10"),
        Some("0"),
        Some("60"),
        Some("no-store"),
        Some("60"),
    ];
    assert_eq!(headers(&response, DECISION_HEADERS), expected);
}

#[test]
fn a_burst_is_the_capacity_of_a_bucket() {
    assert_of_both(|gateway| {
        let response =
            check(gateway, r#"{"identifier": "user", "limit": 10, "burst": 25, "cost": 20}"#);
        assert_eq!(
            response.body,
            r#"{"allowed":true,"remaining":5,"reset_in_seconds":120,"retry_after":null}"#
        );
        let expected = [Some(r#""default";q=10;w=60"#), Some(r#""default";r=5;t=6"#), Some("25")];
        assert_eq!(
            headers(&response, ["RateLimit-Policy", "RateLimit", "X-RateLimit-Limit"]),
            expected
        );
    });
}

#[test]
fn numbers_may_be_texts_and_floats_and_unknown_fields_are_ignored() {
    assert_of_both(|gateway| {
        let response = check(
            gateway,
            r#"{"identifier": "user", "algorithm": "token_bucket", "limit": "10", "cost": 2.0,
                "window_seconds": "0.5", "burst": null, "weight": [1]}"#,
        );
        assert_eq!(response.status, 200, "{}", response.body);
        assert_eq!(response.header("RateLimit-Policy"), Some(r#""default";q=10;w=1"#));
        assert_eq!(response.header("X-RateLimit-Remaining"), Some("8"));
    });
}

#[test]
fn a_sliding_window_denies_until_its_oldest_grant_has_left() {
    let (server, gateway) = start();
    let body = r#"{"identifier": "user", "algorithm": "sliding_window", "limit": 2,
        "window_seconds": 10}"#;
    for (remaining, wait) in [("1", 4), ("0", 1)] {
        let response = check(&gateway, body);
        assert_eq!(response.header("X-RateLimit-Remaining"), Some(remaining));
        server.clock().advance(Duration::from_secs(wait));
    }
    let denied = check(&gateway, body);
    assert_eq!(denied.status, 200);
    assert!(denied.body.starts_with(r#"{"allowed":false,"remaining":0,"#), "{}", denied.body);
    assert_eq!(denied.header("Retry-After"), Some("5"));
    assert_eq!(denied.header("RateLimit"), Some(r#""default";r=0;t=5"#));

    server.clock().advance(Duration::from_secs(5));
    assert!(check(&gateway, body).body.starts_with(r#"{"allowed":true,"remaining":0,"#));
}

#[test]
fn denials_can_have_status_429() {
    let server = Server::at(NOON);
    let gateway = Gateway::builder().redis(&server).env("DENY_STATUS", "429").start();
    let body = r#"{"identifier": "user", "limit": 1}"#;
    assert_eq!(check(&gateway, body).status, 200);
    let denied = check(&gateway, body);
    assert_eq!(denied.status, 429);
    assert_eq!(
        denied.body,
        r#"{"allowed":false,"remaining":0,"reset_in_seconds":60,"retry_after":60}"#
    );
    assert_eq!(denied.header("Retry-After"), Some("60"));
}

#[test]
fn a_status_takes_and_writes_nothing() {
    let (server, gateway) = start();
    let path = "/rate-limit/status/user?algorithm=token_bucket&limit=100&window_seconds=60";
    let unused = r#"{"identifier":"user","requests_used":0,"limit":100,"window_seconds":60,"algorithm":"token_bucket","reset_in_seconds":0}"#;
    for _ in 0..2 {
        let response = gateway.get(path);
        assert_eq!((response.status, response.body.as_str()), (200, unused));
        let expected = [
            Some(r#""default";q=100;w=60"#),
            Some(r#""default";r=100"#),
            Some("100"),
            Some("100"),
            Some("0"),
            Some("no-store"),
            None,
        ];
        assert_eq!(headers(&response, DECISION_HEADERS), expected);
    }
    assert_eq!(server.client().call::<i64>("DBSIZE"), 0);

    check(&gateway, r#"{"identifier": "user", "cost": 55}"#);
    let used = r#"{"identifier":"user","requests_used":55,"limit":100,"window_seconds":60,"algorithm":"token_bucket","reset_in_seconds":33}"#;
    let response = gateway.get(path);
    assert_eq!(response.body, used);
    assert_eq!(response.header("X-RateLimit-Remaining"), Some("45"));
    assert_eq!(gateway.get("/rate-limit/status/user").body, used);
}

#[test]
fn a_status_answers_with_the_quota_that_was_asked_for() {
    assert_of_both(|gateway| {
        let query = "algorithm=sliding_window&limit=7.0&window_seconds=0.25";
        let response = gateway.get(&format!("/rate-limit/status/user?{query}"));
        assert_eq!(
            response.body,
            r#"{"identifier":"user","requests_used":0,"limit":7,"window_seconds":0.25,"algorithm":"sliding_window","reset_in_seconds":0}"#
        );
    });
}

#[test]
fn a_reset_forgets_all_algorithms_or_one() {
    let (server, gateway) = start();
    let mut client = server.client();
    let use_all = || {
        for algorithm in ["token_bucket", "sliding_window", "fixed_window"] {
            let body = format!(r#"{{"identifier": "user", "algorithm": "{algorithm}"}}"#);
            assert_eq!(check(&gateway, &body).status, 200);
        }
    };
    let done = r#"{"message":"Rate limit reset for user"}"#;

    use_all();
    let response = gateway.delete("/rate-limit/reset/user");
    assert_eq!((response.status, response.body.as_str()), (200, done));
    assert_eq!(client.call::<i64>("DBSIZE"), 0);
    assert_eq!(gateway.delete("/rate-limit/reset/user").status, 200);

    use_all();
    let response = gateway.delete("/rate-limit/reset/user?algorithm=sliding_window");
    assert_eq!((response.status, response.body.as_str()), (200, done));
    let mut left: Vec<String> = client.call("KEYS *");
    left.sort_unstable();
    assert_eq!(left, ["fixed_window:{user}", "token_bucket:{user}"]);

    let response = gateway.delete("/rate-limit/reset/user?algorithm=sliding_window");
    assert_eq!(response.status, 404);
    assert_eq!(response.body, r#"{"detail":"No rate limit data found for user"}"#);
}

#[test]
fn an_identifier_may_hold_any_characters() {
    let (server, gateway) = start();
    for (json, encoded, tag) in [
        ("a/b%c", "a%2Fb%25c", "{a/b%c}"),
        ("..", "%2E%2E", "{..}"),
        (" ?#&", "%20%3F%23%26", "{ ?#&}"),
        // A hash tag must not be empty.
        ("}{", "%7D%7B", "{%7D{}%"),
        ("naïve 🦀", "na%C3%AFve%20%F0%9F%A6%80", "{naïve 🦀}"),
        (r"\u0000\r\n\\", "%00%0D%0A%5C", "{\0\r\n\\}"),
    ] {
        let body = format!(r#"{{"identifier": "{json}"}}"#);
        assert_eq!(check(&gateway, &body).status, 200, "{json}");
        let key = format!("token_bucket:{tag}");
        let exists: i64 = server.client().send(&[b"EXISTS", key.as_bytes()]);
        assert_eq!(exists, 1, "{key:?}");

        let status = gateway.get(&format!("/rate-limit/status/{encoded}"));
        assert!(status.body.contains(r#""requests_used":1,"#), "{}", status.body);
        let reset = format!("/rate-limit/reset/{encoded}?algorithm=token_bucket");
        assert_eq!(gateway.delete(&reset).status, 200, "{json}");
    }
}

#[test]
fn redis_and_the_gateway_see_the_same_state() {
    let server = Server::at(NOON);
    let gateway = Gateway::builder().redis(&server).env("KEY_PREFIX", "app:").start();
    let mut client = server.client();
    for (algorithm, command) in
        [("token_bucket", "TB"), ("sliding_window", "SW"), ("fixed_window", "FW")]
    {
        let body = format!(r#"{{"identifier": "user", "algorithm": "{algorithm}", "cost": 40}}"#);
        check(&gateway, &body);
        let take = format!("RATELIMIT.{command} app:{algorithm}:{{user}} 100 60 COST 50");
        assert_eq!(client.decide(&take)[..3], [50, 100, 10]);
        let status = gateway.get(&format!("/rate-limit/status/user?algorithm={algorithm}"));
        assert!(status.body.contains(r#""requests_used":90,"#), "{}", status.body);
    }
}

#[test]
fn the_settings_have_the_defaults_of_requests() {
    let server = Server::at(NOON);
    let settings = Gateway::builder().redis(&server).env("DEFAULT_LIMIT", "7");
    let gateway = settings.env("DEFAULT_WINDOW_SECONDS", "0.5").start();
    let response = check(&gateway, r#"{"identifier": "user"}"#);
    assert_eq!(response.header("RateLimit-Policy"), Some(r#""default";q=7;w=1"#));
    let status = gateway.get("/rate-limit/status/user");
    assert!(status.body.contains(r#""limit":7,"window_seconds":0.5,"#), "{}", status.body);
}

#[test]
fn two_hundred_callers_at_once_get_exactly_the_limit() {
    let (_server, gateway) = start();
    for algorithm in ["token_bucket", "sliding_window", "fixed_window"] {
        let body = format!(r#"{{"identifier": "user", "algorithm": "{algorithm}", "limit": 70}}"#);
        let allowed = thread::scope(|scope| {
            let callers: Vec<_> =
                (0..200).map(|_| scope.spawn(|| check(&gateway, &body))).collect();
            let answers = callers.into_iter().map(|caller| caller.join().unwrap());
            answers.filter(|answer| answer.body.contains(r#""allowed":true"#)).count()
        });
        assert_eq!(allowed, 70, "{algorithm}");
    }
}

#[test]
fn every_answer_carries_its_time_and_an_id() {
    assert_of_both(|gateway| {
        for path in ["/health", "/", "/nowhere", "/rate-limit/check", "/rate-limit/status/%ff"] {
            let response = gateway.get(path);
            let time = response.header("X-Process-Time").unwrap();
            assert!(time.parse::<f64>().unwrap() >= 0.0, "{time}");
            assert_eq!(response.header("X-Request-Id").unwrap().len(), 32);
        }
    });
}

#[test]
fn a_sane_request_id_is_kept() {
    assert_of_both(|gateway| {
        let longest = "x".repeat(128);
        let too_long = "x".repeat(129);
        for (given, kept) in [
            ("7f3e:1-a/b", true),
            (longest.as_str(), true),
            (too_long.as_str(), false),
            ("two words", false),
            ("caf\u{e9}", false),
        ] {
            let response = gateway.request("GET", "/health/live", &[("X-Request-Id", given)], "");
            assert_eq!(response.header("X-Request-Id") == Some(given), kept, "{given}");
        }
    });
}

#[test]
fn pages_of_any_origin_may_call_unless_origins_are_listed() {
    let server = Server::start();
    let preflight = [
        ("Origin", "https://a.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type"),
    ];
    for (origins, expected) in [
        ("", Some("*")),
        ("https://b.example,https://a.example", Some("https://a.example")),
        ("https://b.example", None),
    ] {
        let settings = Gateway::builder().redis(&server);
        let gateway = settings.env("CORS_ALLOW_ORIGINS", origins).start();
        let allowed = gateway.request("OPTIONS", "/rate-limit/check", &preflight, "");
        assert_eq!(allowed.status, 200);
        assert_eq!(allowed.header("Access-Control-Allow-Origin"), expected);
        let answer = gateway.request("GET", "/health", &preflight[..1], "");
        assert_eq!(answer.header("Access-Control-Allow-Origin"), expected);
        let exposed = answer.header("Access-Control-Expose-Headers").unwrap();
        for name in &DECISION_HEADERS[..5] {
            assert!(exposed.contains(&name.to_lowercase()), "{name}: {exposed}");
        }
    }
}

#[test]
fn a_slash_at_the_end_and_a_byte_order_mark_are_taken() {
    let (_server, gateway) = start();
    let body =
        r#"{"identifier": "user", "limit": 5, "checks": [{"identifier": "user", "limit": 5}]}"#;
    for path in ["/rate-limit/check/", "/rate-limit/check/batch/"] {
        assert_eq!(gateway.post(path, body).status, 200, "{path}");
        let marked = gateway.post(path.trim_end_matches('/'), &format!("\u{feff}{body}"));
        assert_eq!(marked.status, 200, "{path}: {}", marked.body);
    }
    let status = gateway.get("/rate-limit/status/user/?limit=5").body;
    assert!(status.starts_with(r#"{"identifier":"user","requests_used":4,"#), "{status}");
    assert_eq!(gateway.delete("/rate-limit/reset/user/").status, 200);
    assert_eq!(gateway.get("/health/").status, 200);
    assert_eq!(gateway.get("/rate-limit/check/").status, 405);
    assert_eq!(gateway.get("/nowhere/").status, 404);
    assert_eq!(gateway.get("/rate-limit/status/").status, 405);
    // An encoded slash is a part of the identifier.
    let status = gateway.get("/rate-limit/status/user%2F/?limit=5").body;
    assert!(status.starts_with(r#"{"identifier":"user/","#), "{status}");
    let fault = gateway.get("/rate-limit/status/%ff/?limit=5");
    assert!(fault.status == 422 && fault.body.contains(r#""input":"%ff""#), "{}", fault.body);

    // A path with a slash at its end has the same route in metrics.
    let metrics = gateway.get("/metrics").body;
    assert!(metrics.contains(r#"route="/rate-limit/check""#), "{metrics}");
    assert!(!metrics.contains(r#"/""#), "{metrics}");
    // A page finds the OpenAPI document in its own directory.
    for page in ["docs", "redoc", "openapi.json"] {
        let answer = gateway.get(&format!("/{page}/"));
        let location = format!("../{page}");
        assert_eq!((answer.status, answer.header("Location")), (307, Some(location.as_str())));
    }
}

#[test]
fn pages_are_compressed_and_sent_again_only_when_they_have_changed() {
    let (_server, gateway) = start();
    for page in ["/", "/docs", "/redoc", "/openapi.json"] {
        let plain = gateway.get(page);
        assert_eq!(plain.header("Content-Encoding"), None);
        let tag = plain.header("ETag").unwrap();
        for known in [tag, "*", &format!("\"x\", {}", tag.trim_start_matches("W/"))] {
            let again = gateway.request("GET", page, &[("If-None-Match", known)], "");
            assert_eq!((again.status, again.body.as_str()), (304, ""), "{page} {known}");
            assert_eq!(again.header("ETag"), Some(tag));
        }
        let changed = gateway.request("GET", page, &[("If-None-Match", "\"x\"")], "");
        assert_eq!((changed.status, changed.body.len()), (200, plain.body.len()));
        if page != "/openapi.json" {
            assert!(plain.body.contains("name=\"viewport\""), "{page}");
            assert!(plain.body.contains("dark"), "{page}");
        }
        for (accepted, encoding) in [
            ("gzip", Some("gzip")),
            ("br, GZIP;q=0.5", Some("gzip")),
            ("deflate, gzip;q=0", None),
            ("gzip;q=0.000, br", None),
            ("identity", None),
        ] {
            let head = gateway.request("HEAD", page, &[("Accept-Encoding", accepted)], "");
            assert_eq!(head.header("Content-Encoding"), encoding, "{page} {accepted}");
            let vary = ("vary".to_owned(), "accept-encoding".to_owned());
            assert!(head.headers.contains(&vary), "{head:?}");
            let length: usize = head.header("Content-Length").unwrap().parse().unwrap();
            assert_eq!(length < plain.body.len(), encoding.is_some(), "{page} {accepted}");
        }
    }
}

#[test]
fn the_description_lists_algorithms_and_leads_to_where_it_is() {
    let (_server, gateway) = start();
    let description: Value = serde_json::from_str(&gateway.get("/openapi.json").body).unwrap();
    assert_eq!(description["servers"], json!([{ "url": "." }]));
    let algorithm = &description["components"]["schemas"]["Algorithm"];
    assert_eq!(algorithm["enum"], json!(["token_bucket", "sliding_window", "fixed_window"]));
    assert_eq!((&algorithm["type"], algorithm.get("oneOf")), (&json!("string"), None));
    let paths: Vec<_> = description["paths"].as_object().unwrap().keys().collect();
    assert!(paths.iter().all(|path| !path.ends_with('/')), "{paths:?}");
}

#[test]
fn health_reports_whether_the_service_can_decide() {
    let (_server, gateway) = start();
    let healthy = health("healthy", true, "redis");
    for path in ["/health", "/health/ready"] {
        let response = gateway.get(path);
        assert_eq!((response.status, &response.body), (200, &healthy));
    }
    let response = gateway.get("/health/live");
    assert_eq!((response.status, response.body.as_str()), (200, r#"{"status":"alive"}"#));
}

#[test]
fn metrics_count_decisions_and_requests_without_identifiers() {
    let (_server, gateway) = start();
    for _ in 0..3 {
        check(&gateway, r#"{"identifier": "someone", "limit": 2}"#);
    }
    gateway.get("/rate-limit/status/someone");
    gateway.get("/someone");
    gateway.request("SOMEONE", "/health", &[], "");

    let response = gateway.get("/metrics");
    assert_eq!(response.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        r#"ratelimit_decisions_total{algorithm="token_bucket",outcome="allowed",source="redis"} 2"#,
        r#"ratelimit_decisions_total{algorithm="token_bucket",outcome="denied",source="redis"} 1"#,
        r#"http_requests_total{route="/rate-limit/check",method="POST",status="200"} 3"#,
        r#"http_requests_total{route="unmatched",method="GET",status="404"} 1"#,
        r#"http_requests_total{route="/health",method="other",status="405"} 1"#,
        r#"http_request_duration_seconds_count{route="/rate-limit/check",method="POST"} 3"#,
    ] {
        assert!(response.body.lines().any(|other| other == line), "{line}\n{}", response.body);
    }
    assert!(!response.body.to_lowercase().contains("someone"), "{}", response.body);
}

#[test]
fn the_pages_need_no_other_host() {
    let (_server, gateway) = start();
    let landing = gateway.get("/");
    assert_eq!(landing.status, 200);
    for page in ["docs", "redoc", "openapi.json", "health", "metrics"] {
        assert!(landing.body.contains(&format!(r#"href="{page}""#)), "{page}");
    }
    for path in ["/docs", "/redoc"] {
        let page = gateway.get(path);
        assert_eq!(page.header("Content-Type"), Some("text/html; charset=utf-8"));
        assert!(page.body.contains("openapi.json"), "{path}");
        let policy = page.header("Content-Security-Policy").unwrap();
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("http"), "{policy}");
        for host in ["validator.swagger.io", "cdn.redoc.ly", "fonts.googleapis.com", "unpkg.com"] {
            assert!(!page.body.contains(host), "{path} mentions {host}");
        }
    }
}

#[test]
fn the_description_has_every_route_and_error() {
    assert_of_both(|gateway| {
        let response = gateway.get("/openapi.json");
        assert_eq!(response.header("Content-Type"), Some("application/json"));
        for part in [
            r#""openapi":"3.1.0""#,
            r#""/rate-limit/check":{"post":"#,
            r#""/rate-limit/check/batch":{"post":"#,
            r#""/rate-limit/refund":{"post":"#,
            r#""/rate-limit/status/{identifier}":{"get":"#,
            r#""/rate-limit/reset/{identifier}":{"delete":"#,
            r#""/health":{"get":"#,
            r#""/health/live":{"get":"#,
            r#""/health/ready":{"get":"#,
            r#""/metrics":{"get":"#,
            r#""413":{"#,
            r#""422":{"#,
            r#""429":{"#,
            r#""503":{"#,
            r#""ratelimit-policy":{"#,
            r#""x-ratelimit-source":{"#,
            r##""$ref":"#/components/schemas/FieldErrorsBody""##,
        ] {
            assert!(response.body.contains(part), "{part}\n{}", response.body);
        }
    });
}
