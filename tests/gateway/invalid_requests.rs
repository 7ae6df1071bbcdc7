//! Invalid requests, whose answers name the error and the rule, and hostile requests, which do not
//! harm other requests.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::{Gateway, Server};

/// Starts a server, and a gateway that waits for answers as long as a busy machine may need.
fn start() -> (Server, Gateway) {
    let server = Server::start();
    let gateway = Gateway::builder().redis(&server).start();
    (server, gateway)
}

/// Runs a test on a gateway with Redis, and on a gateway without Redis.
fn assert_of_both(test: impl Fn(&Gateway)) {
    let (_server, gateway) = start();
    test(&gateway);
    test(&Gateway::builder().env("REDIS_URL", "memory://").start());
}

/// Returns the body of an answer with this list of errors.
fn detail(faults: &str) -> String {
    format!(r#"{{"detail":[{faults}]}}"#)
}

#[test]
fn a_check_lists_all_faults_at_once() {
    assert_of_both(|gateway| {
        let response = gateway.post(
            "/rate-limit/check",
            r#"{"algorithm":"fixed","burst":0,"cost":1.5,"limit":"many","window_seconds":0.0001}"#,
        );
        assert_eq!(response.status, 422);
        let faults = [
            r#"{"type":"missing","loc":["body","identifier"],"msg":"Field required","input":{"algorithm":"fixed","burst":0,"cost":1.5,"limit":"many","window_seconds":0.0001}}"#,
            r#"{"type":"enum","loc":["body","algorithm"],"msg":"Input should be 'token_bucket' or 'sliding_window' or 'fixed_window'","input":"fixed","ctx":{"expected":"'token_bucket' or 'sliding_window' or 'fixed_window'"}}"#,
            r#"{"type":"int_parsing","loc":["body","limit"],"msg":"Input should be a valid integer, unable to parse string as an integer","input":"many"}"#,
            r#"{"type":"decimal_max_places","loc":["body","window_seconds"],"msg":"Decimal input should have no more than 3 decimal places","input":0.0001,"ctx":{"decimal_places":3}}"#,
            r#"{"type":"greater_than_equal","loc":["body","burst"],"msg":"Input should be greater than or equal to 1","input":0,"ctx":{"ge":1}}"#,
            r#"{"type":"int_from_float","loc":["body","cost"],"msg":"Input should be a valid integer, got a number with a fractional part","input":1.5}"#,
        ];
        assert_eq!(response.body, detail(&faults.join(",")));
    });
}

#[test]
fn a_check_names_the_one_fault_there_is() {
    assert_of_both(|gateway| {
        let too_long = "x".repeat(257);
        for (body, fault) in [
            (
                r#"{"identifier":""}"#.to_owned(),
                r#"{"type":"string_too_short","loc":["body","identifier"],"msg":"String should have at least 1 character","input":"","ctx":{"min_length":1}}"#.to_owned(),
            ),
            (
                format!(r#"{{"identifier":"{too_long}"}}"#),
                format!(
                    r#"{{"type":"string_too_long","loc":["body","identifier"],"msg":"String should have at most 256 bytes","input":"{too_long}","ctx":{{"max_length":256}}}}"#
                ),
            ),
            (
                r#"{"identifier":"x","limit":1000000001}"#.to_owned(),
                r#"{"type":"less_than_equal","loc":["body","limit"],"msg":"Input should be less than or equal to 1000000000","input":1000000001,"ctx":{"le":1000000000}}"#.to_owned(),
            ),
            (
                r#"{"identifier":"x","window_seconds":31622400.001}"#.to_owned(),
                r#"{"type":"less_than_equal","loc":["body","window_seconds"],"msg":"Input should be less than or equal to 31622400","input":31622400.001,"ctx":{"le":31622400}}"#.to_owned(),
            ),
            (
                r#"{"identifier":"x","limit":10,"cost":11}"#.to_owned(),
                r#"{"type":"less_than_equal","loc":["body","cost"],"msg":"Input should be less than or equal to the capacity, 10","input":11,"ctx":{"le":10}}"#.to_owned(),
            ),
            (
                r#"{"identifier":"x","limit":10,"burst":5,"cost":6}"#.to_owned(),
                r#"{"type":"less_than_equal","loc":["body","cost"],"msg":"Input should be less than or equal to the capacity, 5","input":6,"ctx":{"le":5}}"#.to_owned(),
            ),
            (
                r#"{"identifier":"x","algorithm":"sliding_window","burst":5}"#.to_owned(),
                r#"{"type":"value_error","loc":["body","burst"],"msg":"Value error, burst is for token_bucket only","input":5}"#.to_owned(),
            ),
            (
                r#"{"identifier":"x","algorithm":"sliding_window","limit":1000001,"window_seconds":86400}"#.to_owned(),
                r#"{"type":"value_error","loc":["body","limit"],"msg":"Value error, limit must be an integer between 1 and 1000000 with this resolution","input":1000001}"#.to_owned(),
            ),
            (
                r#"["x"]"#.to_owned(),
                r#"{"type":"model_attributes_type","loc":["body"],"msg":"Input should be a valid dictionary or object to extract fields from","input":["x"]}"#.to_owned(),
            ),
            (
                String::new(),
                r#"{"type":"missing","loc":["body"],"msg":"Field required","input":null}"#.to_owned(),
            ),
            (
                r#"{"identifier": x}"#.to_owned(),
                r#"{"type":"json_invalid","loc":["body",15],"msg":"JSON decode error","input":{},"ctx":{"error":"expected value at line 1 column 16"}}"#.to_owned(),
            ),
        ] {
            let response = gateway.post("/rate-limit/check", &body);
            assert_eq!((response.status, response.body), (422, detail(&fault)), "{body}");
        }
    });
}

#[test]
fn null_is_an_optional_field_that_is_left_out() {
    let nulls = |identifier: &str, names: &[&str]| {
        let fields = names.iter().map(|name| format!(r#","{name}":null"#)).collect::<String>();
        format!(r#"{{"identifier":"{identifier}","ttl_seconds":60,"limit":100{fields}}}"#)
    };
    assert_of_both(|gateway| {
        let fields = [
            "algorithm",
            "window_seconds",
            "cost",
            "burst",
            "resolution_seconds",
            "period",
            "timezone",
            "starts",
            "force",
        ];
        let check = nulls("a", &fields);
        let answer = gateway.post("/rate-limit/check", &check);
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.body.starts_with(r#"{"allowed":true,"remaining":99,"#), "{}", answer.body);
        let answer = gateway.post("/rate-limit/check/batch", &format!(r#"{{"checks":[{check}]}}"#));
        assert!(answer.body.contains(r#""allowed":true,"remaining":98,"#), "{}", answer.body);
        let body = nulls("a", &["algorithm", "amount", "cost"]);
        let answer = gateway.post("/rate-limit/refund", &body);
        assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"refunded":1}"#));
        let answer = gateway.post("/rate-limit/leases", &nulls("a", &["lease", "cost", "force"]));
        assert!(answer.body.contains(r#""remaining":99,"#), "{}", answer.body);
        let limit = nulls("a", &[&fields[..], &["actual", "amount"]].concat());
        let of = |reservation: &str| {
            let rest = r#""ttl_seconds":60,"identifier":null"#;
            format!(r#"{{"reservation":{reservation},{rest},"cost":null,"limits":[{limit}]}}"#)
        };
        for (path, reservation) in
            [("reserve", "null"), ("reserve", r#""r""#), ("settle", r#""r""#)]
        {
            let answer = gateway.post(&format!("/rate-limit/{path}"), &of(reservation));
            assert_eq!(answer.status, 200, "{path} {reservation}: {}", answer.body);
        }
        // A field without a default has none.
        let answer = gateway.post("/rate-limit/check", r#"{"identifier":null}"#);
        assert!(answer.body.contains(r#""type":"string_type""#), "{}", answer.body);
    });
}

#[test]
fn a_status_and_a_reset_name_faults_of_query_and_path() {
    assert_of_both(|gateway| {
        let response = gateway.get("/rate-limit/status/x?limit=&window_seconds=-1");
        let faults = [
            r#"{"type":"int_parsing","loc":["query","limit"],"msg":"Input should be a valid integer, unable to parse string as an integer","input":""}"#,
            r#"{"type":"greater_than_equal","loc":["query","window_seconds"],"msg":"Input should be greater than or equal to 0.001","input":"-1","ctx":{"ge":0.001}}"#,
        ];
        assert_eq!((response.status, response.body), (422, detail(&faults.join(","))));

        let response = gateway.get(
            "/rate-limit/status/x?algorithm=sliding_window&limit=1000001&window_seconds=86400",
        );
        let fault = r#"{"type":"value_error","loc":["query","limit"],"msg":"Value error, limit must be an integer between 1 and 1000000 with this resolution","input":1000001}"#;
        assert_eq!((response.status, response.body), (422, detail(fault)));

        let too_long = "%C3%A9".repeat(129);
        let response = gateway.delete(&format!("/rate-limit/reset/{too_long}?algorithm=x"));
        assert_eq!(response.status, 422);
        for part in [
            r#"{"type":"string_too_long","loc":["path","identifier"],"#,
            r#"{"type":"enum","loc":["query","algorithm"],"#,
        ] {
            assert!(response.body.contains(part), "{}", response.body);
        }

        let response = gateway.get("/rate-limit/status/%ff");
        let fault = r#"{"type":"string_unicode","loc":["path","identifier"],"msg":"Input should be a valid string, unable to parse raw data as a unicode string","input":"%ff"}"#;
        assert_eq!((response.status, response.body), (422, detail(fault)));
    });
}

#[test]
fn a_body_over_16_kib_is_too_large() {
    assert_of_both(|gateway| {
        let body = |size: usize| {
            let frame = r#"{"identifier":"x","padding":""}"#.len();
            format!(r#"{{"identifier":"x","padding":"{}"}}"#, "-".repeat(size - frame))
        };
        assert_eq!(gateway.post("/rate-limit/check", &body(16 * 1024)).status, 200);
        for size in [16 * 1024 + 1, 256 * 1024] {
            let response = gateway.post("/rate-limit/check", &body(size));
            assert_eq!(response.status, 413);
            assert_eq!(response.body, r#"{"detail":"Payload Too Large"}"#);
        }
    });
}

#[test]
fn unknown_routes_and_methods_that_are_not_allowed_are_distinguished() {
    let (_server, gateway) = start();
    for path in ["/nowhere", "/rate-limit/status/a/b", "/health/all"] {
        let response = gateway.get(path);
        let expected = (404, r#"{"detail":"Not Found"}"#);
        assert_eq!((response.status, response.body.as_str()), expected, "{path}");
    }
    for (method, path, allow) in [
        ("GET", "/rate-limit/check", "POST"),
        ("POST", "/rate-limit/status/x", "GET,HEAD"),
        ("GET", "/rate-limit/status/", "POST"),
        ("GET", "/rate-limit/reset/x", "DELETE"),
        ("DELETE", "/health", "GET,HEAD"),
        ("BREW", "/docs", "GET,HEAD"),
    ] {
        let response = gateway.request(method, path, &[], "");
        let expected = (405, r#"{"detail":"Method Not Allowed"}"#);
        assert_eq!((response.status, response.body.as_str()), expected, "{method} {path}");
        assert_eq!(response.header("Allow"), Some(allow), "{method} {path}");
    }
}

/// Sends bytes and reads the answer, if there is an answer.
fn throw(gateway: &Gateway, bytes: &[u8]) {
    let mut socket = TcpStream::connect(gateway.address()).unwrap();
    // The gateway may close the connection at any time.
    let _ = socket.write_all(bytes);
    let _ = socket.shutdown(std::net::Shutdown::Write);
    let _ = socket.read_to_end(&mut vec![]);
}

#[test]
fn hostile_bytes_harm_neither_gateway_nor_server() {
    let (server, mut gateway) = start();
    let deep = "[".repeat(10_000);
    for body in [
        "\0".to_owned(),
        "\u{feff}{}".to_owned(),
        deep.clone(),
        format!(r#"{{"identifier":{deep}"#),
        r#"{"identifier":"\ud800"}"#.to_owned(),
        r#"{"identifier":"x","limit":1e400}"#.to_owned(),
        r#"{"identifier":"x","limit":-0.0}"#.to_owned(),
        r#"{"identifier":"x","limit":99999999999999999999999999}"#.to_owned(),
        r#"{"identifier":"x","window_seconds":1e-320}"#.to_owned(),
        r#"{"identifier":"x","identifier":1}"#.to_owned(),
    ] {
        assert_eq!(gateway.post("/rate-limit/check", &body).status, 422, "{body}");
    }
    for path in
        ["/%", "/%zz", "/rate-limit/status/%", "/rate-limit/status/x?%&=&&limit", "/?\u{1f980}"]
    {
        throw(&gateway, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    }
    for request in [
        &b"\x16\x03\x01\x02\x00\x01"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: \xff\xfe\r\nX-Request-Id: \x80\r\nHost: \xff\r\n\r\n",
        b"POST /rate-limit/check HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /rate-limit/check HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{",
        b"POST /rate-limit/check HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /rate-limit/check HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n\xff\xff",
    ] {
        throw(&gateway, request);
    }
    let many_headers = "X: y\r\n".repeat(10_000);
    throw(&gateway, format!("GET / HTTP/1.1\r\n{many_headers}\r\n").as_bytes());
    throw(&gateway, format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1_000_000)).as_bytes());

    assert!(gateway.is_running(), "{}", gateway.log());
    assert_eq!(gateway.get("/health").status, 200);
    assert_eq!(server.client().call::<String>("PING"), "PONG");
}
