//! The dashboard and the alerts, with a real Prometheus that reads real gateways.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{Gateway, Prometheus, Server, eventually};

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(in_repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What Prometheus says about a file with rules, or with tests of rules.
fn promtool(arguments: [&str; 2], file: &str) {
    let mut promtool = Command::new("promtool");
    let output = promtool.args(arguments).arg(in_repository(file)).output().expect("promtool");
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
}

/// Every query of the dashboard, with what Grafana would put in for its variables.
fn dashboard_queries() -> Vec<String> {
    let dashboard = read("observability/grafana-dashboard.json");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("a dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let query = |target: &Value| {
        let query = target["expr"].as_str().expect("a query");
        query.replace("$__rate_interval", "1m").replace("$instance", ".*")
    };
    targets.map(query).collect()
}

/// Every alert's query, without its threshold: what is compared rather than what is found.
fn alert_queries(rules: &[Value]) -> Vec<String> {
    let query = |rule: &Value| rule["query"].as_str().expect("a query").to_owned();
    let queries = rules.iter().map(query);
    let compared = |query: String| query.replace(" > ", " > bool ").replace(" == ", " == bool ");
    queries.map(compared).collect()
}

/// The example configuration for these gateways, and quick.
fn configuration(gateways: &[Gateway]) -> String {
    let targets = gateways.iter().map(|gateway| format!("{}\n", gateway.address()));
    let targets = targets.collect::<Vec<_>>().join("          - ");
    let example = read("observability/prometheus.yml");
    let configuration = example.replace("localhost:8000\n", &targets).replace("15s", "250ms");
    assert!(configuration.contains(&targets) && configuration.contains(": 250ms"), "{example}");
    configuration
}

/// The alerts, which do not wait so long.
fn impatient_rules() -> String {
    let rules = read("observability/prometheus-alerts.yml");
    ["30s", "1m", "5m"].into_iter().fold(rules, |rules, time| {
        rules.replace(&format!("        for: {time}\n"), "        for: 1s\n")
    })
}

/// Some of everything that a gateway counts.
fn use_it(gateway: &Gateway) {
    for algorithm in ["token_bucket", "sliding_window"] {
        for _ in 0..3 {
            let body =
                format!(r#"{{"identifier": "user", "algorithm": "{algorithm}", "limit": 2}}"#);
            gateway.post("/rate-limit/check", &body);
        }
    }
    gateway.get("/rate-limit/status/user");
}

fn has_values(series: &[Value]) -> bool {
    series.iter().any(|series| series["value"][1] != "NaN")
}

#[test]
fn the_alerts_fire_when_they_should_and_at_no_other_time() {
    promtool(["check", "rules"], "observability/prometheus-alerts.yml");
    promtool(["test", "rules"], "tests/observability/alerts.yml");
}

#[test]
fn every_query_finds_what_gateways_export_and_an_outage_is_told() {
    let mut server = Server::start();
    let gateway = |mode| {
        let settings = Gateway::builder().redis(&server).env("REDIS_TIMEOUT_MS", "1000");
        settings.env("FAIL_MODE", mode).start()
    };
    let mut gateways = vec![gateway("local"), gateway("closed")];
    let rules = impatient_rules();
    let prometheus =
        Prometheus::start(&configuration(&gateways), ("prometheus-alerts.yml", &rules));

    let outage = ["RedisUnavailable", "FailModeActive"];
    eventually("both gateways are read", || {
        gateways.iter().for_each(use_it);
        let up = prometheus.query("sum(up) == 2 and sum(ratelimit_redis_breaker_open) == 0");
        Some(()).filter(|()| has_values(&up.expect("a query")))
    });
    assert!(!outage.iter().any(|name| prometheus.firing().iter().any(|other| other == name)));

    server.stop();
    eventually("the outage is told", || {
        gateways.iter().for_each(use_it);
        let firing = prometheus.firing();
        outage.iter().all(|name| firing.iter().any(|other| other == name)).then_some(())
    });

    let rules = prometheus.rules();
    assert!(rules.iter().all(|rule| rule["health"] == "ok"), "{rules:?}");
    for query in [dashboard_queries(), alert_queries(&rules)].concat() {
        eventually(&format!("{query} finds something"), || {
            gateways.iter().for_each(use_it);
            let series = prometheus.query(&query);
            has_values(&series.unwrap_or_else(|error| panic!("{query}: {error}"))).then_some(())
        });
    }

    drop(gateways.pop());
    eventually("a gateway that has gone is told", || {
        prometheus.firing().iter().any(|name| name == "GatewayDown").then_some(())
    });
}
