//! Metrics and log of the gateway, and the names in the files that use them.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Gateway, Server, eventually, repository};

/// Returns the value of a series, named as in `/metrics`, or `None` when `/metrics` does not have
/// the series.
fn value(gateway: &Gateway, series: &str) -> Option<f64> {
    let page = gateway.get("/metrics").body;
    let line = page.lines().find(|line| line.rsplit_once(' ').is_some_and(|(it, _)| it == series));
    line.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

fn decisions(algorithm: &str, outcome: &str, source: &str) -> String {
    let labels = format!(r#"algorithm="{algorithm}",outcome="{outcome}",source="{source}""#);
    format!("ratelimit_decisions_total{{{labels}}}")
}

/// Asserts that the gateway has counted exactly these decisions.
fn assert_decisions(gateway: &Gateway, expected: &[(&str, &str, &str, f64)]) {
    for algorithm in ["token_bucket", "sliding_window"] {
        for outcome in ["allowed", "denied"] {
            for source in ["redis", "local", "cache", "open"] {
                let same =
                    |(a, o, s, _): &&(_, _, _, _)| (*a, *o, *s) == (algorithm, outcome, source);
                let count = expected.iter().find(same).map_or(0.0, |(_, _, _, count)| *count);
                let series = decisions(algorithm, outcome, source);
                assert_eq!(value(gateway, &series), Some(count), "{series}");
            }
        }
    }
}

/// Sends `times` checks of one unit of a quota of two units.
fn check(gateway: &Gateway, algorithm: &str, times: usize) {
    let body = format!(r#"{{"identifier": "user", "algorithm": "{algorithm}", "limit": 2}}"#);
    for _ in 0..times {
        assert_eq!(gateway.post("/rate-limit/check", &body).status, 200);
    }
}

#[test]
fn counters_are_exported_before_the_first_event() {
    let server = Server::start();
    let settings = Gateway::builder()
        .redis(&server)
        .env("REDIS_MAX_BACKLOG", "77")
        .env("MAX_CONNECTIONS", "88");
    let gateway = settings.start();
    assert_decisions(&gateway, &[]);
    let node = format!("node=\"127.0.0.1:{}\"", server.port());
    for (series, expected) in [
        (r#"ratelimit_redis_errors_total{kind="timeout"}"#, 0.0),
        (r#"ratelimit_redis_errors_total{kind="disconnected"}"#, 0.0),
        (r#"ratelimit_redis_errors_total{kind="out_of_memory"}"#, 0.0),
        ("ratelimit_redis_backlog", 0.0),
        ("ratelimit_redis_max_backlog", 77.0),
        (&format!("ratelimit_redis_connections{{{node}}}"), 4.0),
        (&format!("ratelimit_redis_breaker_open{{{node}}}"), 0.0),
        ("ratelimit_redis_call_duration_seconds_count", 0.0),
        ("http_connections_refused_total", 0.0),
        ("http_max_connections", 88.0),
        ("log_lines_dropped_total", 0.0),
    ] {
        assert_eq!(value(&gateway, series), Some(expected), "{series}");
    }
    for series in ["resident_memory_bytes", "open_fds", "max_fds", "start_time_seconds"] {
        let value = value(&gateway, &format!("process_{series}"));
        assert!(value.is_some_and(|value| value > 0.0), "{series}: {value:?}");
    }
    let page = gateway.get("/metrics").body;
    let build = r#"ratelimit_build_info{version="1.0.0",rustc="1."#;
    assert!(page.lines().any(|line| line.starts_with(build) && line.ends_with(" 1")), "{page}");
    assert!(page.contains("# HELP ratelimit_decisions_total "), "{page}");
}

#[test]
fn decisions_are_counted_by_algorithm_outcome_and_source() {
    let server = Server::start();
    let gateway = Gateway::builder().redis(&server).env("DENY_CACHE_MAX_MS", "3600000").start();
    check(&gateway, "token_bucket", 3);
    check(&gateway, "sliding_window", 6);
    // A peek decides nothing.
    gateway.post("/rate-limit/check", r#"{"identifier": "user", "cost": 0}"#);
    gateway.get("/rate-limit/status/user");
    gateway.post("/rate-limit/check", r#"{"identifier": "user", "limit": "x"}"#);
    let batch = r#"{"checks": [{"identifier": "a"}, {"identifier": "b"}, {"identifier": 1}]}"#;
    gateway.post("/rate-limit/check/batch", batch);
    let expected = [
        ("token_bucket", "allowed", "redis", 4.0),
        ("token_bucket", "denied", "redis", 1.0),
        ("sliding_window", "allowed", "redis", 2.0),
        ("sliding_window", "denied", "redis", 1.0),
        ("sliding_window", "denied", "cache", 3.0),
    ];
    assert_decisions(&gateway, &expected);
}

#[test]
fn decisions_without_redis_are_counted_as_such() {
    for (mode, expected) in [
        ("open", &[("token_bucket", "allowed", "open", 3.0)][..]),
        (
            "local",
            &[("token_bucket", "allowed", "local", 2.0), ("token_bucket", "denied", "local", 1.0)],
        ),
    ] {
        let url = ("REDIS_URL", "redis://127.0.0.1:1/");
        let gateway = Gateway::builder().env(url.0, url.1).env("FAIL_MODE", mode).start();
        check(&gateway, "token_bucket", 3);
        assert_decisions(&gateway, expected);
    }
}

#[test]
fn requests_are_counted_and_timed_by_route_method_and_status() {
    let server = Server::start();
    let gateway = Gateway::start(&server);
    let check = r#"{"identifier": "user"}"#;
    for (method, path, body, route, status) in [
        ("POST", "/rate-limit/check", check, "/rate-limit/check", 200),
        ("POST", "/rate-limit/check", "{}", "/rate-limit/check", 422),
        ("GET", "/rate-limit/check", "", "/rate-limit/check", 405),
        ("POST", "/rate-limit/check/batch", "{}", "/rate-limit/check/batch", 422),
        ("POST", "/rate-limit/refund", "{}", "/rate-limit/refund", 422),
        ("GET", "/rate-limit/status/user", "", "/rate-limit/status/{identifier}", 200),
        ("DELETE", "/rate-limit/reset/user", "", "/rate-limit/reset/{identifier}", 200),
        ("GET", "/health/ready", "", "/health/ready", 200),
        ("GET", "/docs", "", "/docs", 200),
        ("GET", "/user", "", "unmatched", 404),
    ] {
        assert_eq!(gateway.request(method, path, &[], body).status, status, "{method} {path}");
        let labels = format!(r#"route="{route}",method="{method}""#);
        let count = format!(r#"http_requests_total{{{labels},status="{status}"}}"#);
        assert_eq!(value(&gateway, &count), Some(1.0), "{count}");
        let timed = format!("http_request_duration_seconds_count{{{labels}}}");
        assert!(value(&gateway, &timed).is_some_and(|count| count >= 1.0), "{timed}");
        let longest = format!(r#"http_request_duration_seconds_bucket{{{labels},le="+Inf"}}"#);
        assert_eq!(value(&gateway, &longest), value(&gateway, &timed));
    }
}

#[test]
fn calls_that_wait_for_redis_are_exported_and_timed() {
    let server = Server::start();
    let gateway = Gateway::start(&server);
    let timed = || value(&gateway, "ratelimit_redis_call_duration_seconds_count").unwrap();
    let waiting = || value(&gateway, "ratelimit_redis_backlog").unwrap();
    thread::scope(|scope| {
        let mut client = server.client();
        client.call::<()>("CLIENT PAUSE 60000 WRITE");
        for _ in 0..3 {
            scope.spawn(|| check(&gateway, "token_bucket", 1));
        }
        eventually("three calls wait", || (waiting() == 3.0).then_some(()));
        assert_eq!(timed(), 0.0);
        client.call::<()>("CLIENT UNPAUSE");
    });
    assert_eq!((waiting(), timed()), (0.0, 3.0));
    let time = value(&gateway, "ratelimit_redis_call_duration_seconds_sum").unwrap();
    assert!(time > 0.0, "{time}");
}

#[test]
fn a_redis_that_stops_and_starts_is_exported() {
    let mut server = Server::start();
    let gateway = Gateway::start(&server);
    let node = format!("node=\"127.0.0.1:{}\"", server.port());
    let state = || {
        ["connections", "breaker_open"]
            .map(|name| value(&gateway, &format!("ratelimit_redis_{name}{{{node}}}")).unwrap())
    };
    server.stop();
    eventually("no connection, and an open breaker", || (state() == [0.0, 1.0]).then_some(()));
    gateway.post("/rate-limit/check", r#"{"identifier": "user"}"#);
    let errors = r#"ratelimit_redis_errors_total{kind="disconnected"}"#;
    assert_eq!(value(&gateway, errors), Some(1.0));
    server.resume();
    eventually("all connections, and a closed breaker", || (state() == [4.0, 0.0]).then_some(()));
}

#[test]
fn connections_of_clients_are_exported_while_they_are_open() {
    let server = Server::start();
    let gateway = Gateway::start(&server);
    let open = || value(&gateway, "http_connections").unwrap();
    let idle = [(); 5].map(|()| TcpStream::connect(gateway.address()).unwrap());
    // The request for the metrics has a connection too.
    eventually("five connections and that of the question", || (open() == 6.0).then_some(()));
    drop(idle);
    eventually("the connections are gone", || (open() == 1.0).then_some(()));
}

#[test]
fn neither_metrics_nor_log_have_identifiers_of_any_request() {
    let mut server = Server::start();
    server.client().call::<()>("SET sliding_window:{someone} value");
    let gateway = Gateway::builder().redis(&server).env("FAIL_MODE", "local").start();
    let ask_everything = || {
        gateway.post("/rate-limit/check", r#"{"identifier": "someone", "limit": 1}"#);
        let window = r#"{"identifier": "someone", "algorithm": "sliding_window"}"#;
        gateway.post("/rate-limit/check", window);
        gateway.post("/rate-limit/check", r#"{"identifier": "someone", "limit": "someone"}"#);
        gateway.post("/rate-limit/check", r#"{"identifier": someone"#);
        let batch =
            format!(r#"{{"checks": [{window}, {{"identifier": "someone", "cost": "x"}}]}}"#);
        gateway.post("/rate-limit/check/batch", &batch);
        let refund = r#"{"identifier": "someone", "amount": 1}"#;
        gateway.post("/rate-limit/refund", refund);
        gateway.post("/rate-limit/refund", &refund.replace('1', "-1"));
        gateway.get("/rate-limit/status/someone?algorithm=sliding_window&limit=1000001");
        gateway.get("/rate-limit/status/someone?someone=someone&limit=someone");
        gateway.delete("/rate-limit/reset/someone?algorithm=token_bucket");
        gateway.delete("/rate-limit/reset/someone?algorithm=someone");
        gateway.get("/someone");
        gateway.request("SOMEONE", "/health?someone", &[("User-Agent", "someone")], "");
    };
    ask_everything();
    server.stop();
    ask_everything();
    let metrics = gateway.get("/metrics").body;
    assert!(!metrics.to_lowercase().contains("someone"), "{metrics}");
    let (_, log) = gateway.terminate();
    assert!(log.contains("wrong_type") && !log.to_lowercase().contains("someone"), "{log}");
}

#[test]
fn each_request_is_a_line_of_the_log_and_probes_only_at_debug() {
    let server = Server::start();
    for (level, probes) in [("INFO", 0), ("DEBUG", 4)] {
        let gateway = Gateway::builder().redis(&server).env("LOG_LEVEL", level).start();
        let id = [("X-Request-Id", "id-7")];
        gateway.request("GET", "/rate-limit/status/user?limit=5", &id, "");
        // The harness itself has sent a probe to the gateway.
        for probe in ["/health", "/health/ready", "/metrics"] {
            gateway.get(probe);
        }
        let (_, log) = gateway.terminate();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let lines = lines.filter(|line| line["message"] == "answered").collect::<Vec<_>>();
        let is_probe = |line: &&Value| {
            let route = line["route"].as_str().unwrap();
            route == "/metrics" || route.starts_with("/health")
        };
        let (asked, others): (Vec<_>, Vec<_>) = lines.iter().partition(is_probe);
        assert!(asked.len() >= probes && (probes > 0 || asked.is_empty()), "{log}");
        let [line] = others[..] else { panic!("{log}") };
        assert_eq!((&line["level"], &line["method"]), (&"INFO".into(), &"GET".into()));
        assert_eq!(line["route"], "/rate-limit/status/{identifier}");
        assert_eq!((&line["status"], &line["span"]["request_id"]), (&200.into(), &"id-7".into()));
        assert!(line["time_ms"].as_f64().is_some_and(|time| time > 0.0), "{line}");
        assert_eq!(line["span"].get("trace_id"), None);
    }
}

#[test]
fn a_log_without_a_reader_delays_no_request() {
    let server = Server::start();
    let gateway =
        Gateway::builder().redis(&server).env("SHUTDOWN_DELAY_MS", "0").without_reader().start();
    // The log is much larger than the buffer of a pipe.
    for _ in 0..1500 {
        assert_eq!(gateway.get("/rate-limit/status/user").status, 200);
    }
    let (status, errors) = gateway.terminate();
    assert!(status.success() && errors.is_empty(), "{errors}");
}

#[test]
fn the_dashboard_and_the_alerts_name_metrics_that_exist() {
    let server = Server::start();
    let gateway = Gateway::start(&server);
    check(&gateway, "token_bucket", 1);
    let page = gateway.get("/metrics").body;
    let exported = page.lines().filter(|line| !line.starts_with('#'));
    let exported: BTreeSet<_> = exported.filter_map(|line| line.split(['{', ' ']).next()).collect();
    for file in ["grafana-dashboard.json", "prometheus-alerts.yml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../observability").join(file);
        let text = fs::read_to_string(path).unwrap();
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let prefixes = ["ratelimit_", "http_", "process_", "log_"];
        let named = words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix)));
        let named = named.collect::<BTreeSet<_>>();
        assert!(named.len() > 5, "{named:?}");
        let unknown = named.difference(&exported).collect::<Vec<_>>();
        assert!(unknown.is_empty(), "{file}: {unknown:?} are not in\n{page}");
    }
}

/// Returns the names of metrics in the table below a heading of a page.
fn documented(page: &str, heading: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(repository().join(page)).unwrap();
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    let rows = section.lines().take_while(|line| !line.starts_with("## "));
    let names = rows.filter_map(|row| row.strip_prefix("| `")?.split('|').next());
    let names = names.flat_map(|cell| cell.split(", "));
    names.map(|name| name.trim_matches(['`', ' ']).to_owned()).filter(|name| name != "…").collect()
}

#[test]
fn the_tables_of_metrics_have_what_the_gateway_exports() {
    let (server, directory) = (Server::start(), TempDir::new().unwrap());
    let file = directory.path().join("policies.yaml");
    let policies =
        "{version: 1, policies: [{name: all, by: [], limits: [{name: a, limit: 1, per: 1s}]}]}";
    fs::write(&file, policies).unwrap();
    let settings = Gateway::builder().redis(&server);
    let gateway = settings.env("POLICIES_FILE", &file.display().to_string()).start();
    check(&gateway, "token_bucket", 1);
    let page = gateway.get("/metrics").body;
    let exported = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    // The metrics of the process are listed in part.
    let exported = exported.filter(|name| !name.starts_with("process_"));
    let exported: BTreeSet<_> = exported.map(str::to_owned).collect();
    // A gateway without GRPC_PORT has none of gRPC.
    let of_others = ["process_", "grpc_", "ratelimit_rls_"];
    let mut listed = documented("docs/gateway.md", "Watching it");
    listed.retain(|name| !of_others.iter().any(|prefix| name.starts_with(prefix)));
    assert_eq!(listed, exported);
    let of_policies = documented("docs/policies.md", "Metrics");
    assert!(of_policies.len() > 3 && of_policies.is_subset(&exported), "{of_policies:?}");
}
