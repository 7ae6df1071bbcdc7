//! The queries of the dashboard and of the alerts: a real Prometheus runs them on the metrics of
//! real gateways.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Gateway, Prometheus, Server, eventually, promtool};

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(in_repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns every query of the dashboard, with its variables.
fn dashboard_targets() -> Vec<String> {
    let dashboard = read("observability/grafana-dashboard.json");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("a dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    targets.map(|target| target["expr"].as_str().expect("a query").to_owned()).collect()
}

/// Returns every query of the dashboard, with the values that Grafana would insert for its
/// variables.
fn dashboard_queries() -> Vec<String> {
    let put_in = |query: String| {
        let query = query.replace("$__rate_interval", "1m").replace("$instance", ".*");
        query.replace("$job", "ratelimit-gateway")
    };
    dashboard_targets().into_iter().map(put_in).collect()
}

/// Returns the query of every alert, in which a comparison yields its result and does not filter
/// series.
fn alert_queries(rules: &[Value]) -> Vec<String> {
    let query = |rule: &Value| rule["query"].as_str().expect("a query").to_owned();
    let queries = rules.iter().map(query);
    let compared = |query: String| query.replace(" > ", " > bool ").replace(" == ", " == bool ");
    queries.map(compared).collect()
}

/// Causes some of every event that a gateway counts.
fn cause_events(gateway: &Gateway) {
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
#[ignore = "make test-web"]
fn the_alerts_pass_their_rule_tests() {
    promtool(["check", "rules"], "observability/prometheus-alerts.yml");
    promtool(["test", "rules"], "tests/observability/alerts.yml");
}

#[test]
#[ignore = "make test-web"]
fn every_query_finds_what_gateways_export() {
    let mut server = Server::start();
    let gateway = |mode| {
        let settings = Gateway::builder().redis(&server).env("REDIS_TIMEOUT_MS", "1000");
        settings.env("FAIL_MODE", mode).start()
    };
    let gateways = [gateway("local"), gateway("closed")];
    let prometheus = Prometheus::watch(&gateways, "ratelimit-gateway");
    eventually("both gateways are read", || {
        gateways.iter().for_each(cause_events);
        let up = prometheus.query("sum(up) == 2 and sum(ratelimit_redis_breaker_open) == 0");
        Some(()).filter(|()| has_values(&up.expect("a query")))
    });
    server.stop();
    let rules = prometheus.rules();
    assert!(rules.iter().all(|rule| rule["health"] == "ok"), "{rules:?}");
    for query in [dashboard_queries(), alert_queries(&rules)].concat() {
        eventually(&format!("{query} finds something"), || {
            gateways.iter().for_each(cause_events);
            let series = prometheus.query(&query);
            has_values(&series.unwrap_or_else(|error| panic!("{query}: {error}"))).then_some(())
        });
    }
}

#[test]
#[ignore = "make test-web"]
fn every_query_of_the_dashboard_is_for_the_jobs_and_gateways_that_were_chosen() {
    for query in dashboard_targets() {
        for chosen in [r#"job=~"$job""#, r#"instance=~"$instance""#] {
            let (selectors, with) = (query.matches('{').count(), query.matches(chosen).count());
            assert_eq!(selectors, with, "{query} lacks {chosen}");
        }
    }
}
