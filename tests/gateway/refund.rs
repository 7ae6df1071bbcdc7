//! Refunds and calls that take nothing: the calls that make a quota whole, and the calls that leave
//! it unchanged.

use crate::harness::{Gateway, NOON, Response, Server};

/// Starts a server and a gateway: the server's clock stands at [`NOON`], and the deny cache keeps
/// denials for longer than any test takes.
fn start() -> (Server, Gateway) {
    let server = Server::at(NOON);
    let settings = Gateway::builder().redis(&server);
    let gateway = settings.env("DENY_CACHE_MAX_MS", "3600000").start();
    (server, gateway)
}

fn check(gateway: &Gateway, body: &str) -> String {
    let response = gateway.post("/rate-limit/check", body);
    assert_eq!(response.status, 200, "{}", response.body);
    response.body
}

fn refund(gateway: &Gateway, body: &str) -> Response {
    gateway.post("/rate-limit/refund", body)
}

#[test]
fn a_refund_returns_used_units_and_their_number() {
    let (server, gateway) = start();
    for algorithm in ["token_bucket", "sliding_window", "fixed_window"] {
        let body =
            |rest: &str| format!(r#"{{"identifier": "user", "algorithm": "{algorithm}", {rest}}}"#);
        for (amount, refunded, left) in [("3", 3, 6), ("\"10\"", 4, 10), ("1", 0, 10)] {
            if refunded == 3 {
                check(&gateway, &body(r#""limit": 10, "cost": 7"#));
            }
            let response = refund(&gateway, &body(&format!(r#""amount": {amount}"#)));
            let expected = format!(r#"{{"refunded":{refunded}}}"#);
            assert_eq!(response.header("X-RateLimit-Source"), None);
            assert_eq!((response.status, response.body), (200, expected), "{algorithm}");
            let look = check(&gateway, &body(r#""limit": 10, "cost": 0"#));
            assert!(look.contains(&format!(r#""remaining":{left},"#)), "{look}");
        }
    }
    assert_eq!(server.client().call::<i64>("DBSIZE"), 0);
}

#[test]
fn a_refund_is_one_unit_of_a_bucket_by_default() {
    let (_server, gateway) = start();
    check(&gateway, r#"{"identifier": "user", "cost": 5}"#);
    let response = refund(&gateway, r#"{"identifier": "user"}"#);
    assert_eq!(response.body, r#"{"refunded":1}"#);
    let look = check(&gateway, r#"{"identifier": "user", "cost": 0}"#);
    assert!(look.contains(r#""remaining":96,"#), "{look}");
}

#[test]
fn a_refund_is_seen_by_the_next_check() {
    let (_server, gateway) = start();
    let body = r#"{"identifier": "user", "limit": 1}"#;
    for allowed in [true, false, false] {
        assert_eq!(check(&gateway, body).contains(r#""allowed":true"#), allowed);
    }
    assert_eq!(refund(&gateway, r#"{"identifier": "user"}"#).body, r#"{"refunded":1}"#);
    assert!(check(&gateway, body).contains(r#""allowed":true"#));
}

#[test]
fn a_refund_lists_all_its_faults() {
    let (_server, gateway) = start();
    let response = refund(&gateway, r#"{"algorithm": "fixed", "amount": 0}"#);
    let faults = [
        r#"{"type":"missing","loc":["body","identifier"],"msg":"Field required","input":{"algorithm":"fixed","amount":0}}"#,
        r#"{"type":"enum","loc":["body","algorithm"],"msg":"Input should be 'token_bucket' or 'sliding_window' or 'fixed_window'","input":"fixed","ctx":{"expected":"'token_bucket' or 'sliding_window' or 'fixed_window'"}}"#,
        r#"{"type":"greater_than_equal","loc":["body","amount"],"msg":"Input should be greater than or equal to 1","input":0,"ctx":{"ge":1}}"#,
    ];
    let detail = format!(r#"{{"detail":[{}]}}"#, faults.join(","));
    assert_eq!((response.status, response.body), (422, detail));

    for amount in ["1000000001", "1.5"] {
        let body = format!(r#"{{"identifier": "user", "amount": {amount}}}"#);
        assert_eq!(refund(&gateway, &body).status, 422, "{amount}");
    }
    // A cost would be read as an amount of 1.
    let response = refund(&gateway, r#"{"identifier": "user", "cost": 5}"#);
    let fault = r#"{"type":"value_error","loc":["body","cost"],"msg":"Value error, cost does not belong here: the units of a refund are amount","input":5}"#;
    assert_eq!((response.status, response.body), (422, format!(r#"{{"detail":[{fault}]}}"#)));
    for body in [
        r#"{"identifier": "user", "cost": 5, "amount": 1}"#,
        r#"{"identifier": "user", "cost": null}"#,
    ] {
        assert_eq!(refund(&gateway, body).status, 200, "{body}");
    }
}

#[test]
fn a_cost_of_zero_takes_and_writes_nothing() {
    let (server, gateway) = start();
    for algorithm in ["token_bucket", "sliding_window"] {
        let body = |cost: u32| {
            format!(
                r#"{{"identifier": "user", "algorithm": "{algorithm}", "limit": 5, "cost": {cost}}}"#
            )
        };
        let whole = r#"{"allowed":true,"remaining":5,"reset_in_seconds":0,"retry_after":null}"#;
        for _ in 0..2 {
            assert_eq!(check(&gateway, &body(0)), whole);
        }
        assert_eq!(server.client().call::<i64>("DBSIZE"), 0);

        check(&gateway, &body(5));
        let wait = if algorithm == "token_bucket" { 12 } else { 60 };
        let used_up = format!(
            r#"{{"allowed":false,"remaining":0,"reset_in_seconds":60,"retry_after":{wait}}}"#
        );
        for _ in 0..2 {
            let response = gateway.post("/rate-limit/check", &body(0));
            assert_eq!(response.body, used_up);
            assert_eq!(response.header("Retry-After"), Some(wait.to_string().as_str()));
            // The deny cache does not store the denial of a peek, so that this denial never answers
            // a check.
            assert_eq!(response.header("X-RateLimit-Source"), None);
        }
        gateway.delete("/rate-limit/reset/user");
    }
    let metrics = gateway.get("/metrics").body;
    for outcome in ["allowed", "denied"] {
        let count = if outcome == "allowed" { 1 } else { 0 };
        let line = format!(
            r#"ratelimit_decisions_total{{algorithm="token_bucket",outcome="{outcome}",source="redis"}} {count}"#
        );
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
}
