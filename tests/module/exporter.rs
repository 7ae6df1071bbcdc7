//! redis_exporter and the script that is shipped for it: the metrics of `INFO ratelimit`.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use redis::from_redis_value;
use tempfile::TempDir;

use crate::harness::{
    Client, NOON, Process, Prometheus, Server, eventually, free_port, http_exchange, promtool,
    repository,
};

const SCRIPT: &str = "observability/redis-exporter.lua";
const ALERTS: &str = "observability/module-alerts.yml";

/// An exporter that logs in as a user with only the rights that docs/redis.md lists.
struct Exporter {
    process: Process,
    address: SocketAddr,
    /// The directory of the log; removed on drop.
    _directory: TempDir,
}

impl Exporter {
    fn start(server: &Server) -> Self {
        let rights = "+info +eval +ping +client|setname +select";
        let user = format!("ACL SETUSER exporter on >secret -@all {rights}");
        server.client().call::<()>(&user);
        let directory = TempDir::new().expect("a directory for the exporter");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new("prometheus-redis-exporter");
        command
            .args(["-redis.addr", &format!("redis://{}", server.address())])
            .args(["-redis.user", "exporter", "-redis.password", "secret"])
            .arg("-script")
            .arg(repository().join(SCRIPT))
            .args(["-web.listen-address", &address.to_string()]);
        let process = Process::start(&mut command, &directory.path().join("log"));
        let exporter = Self { process, address, _directory: directory };
        eventually("the exporter answers", || {
            exporter.page().filter(|_| exporter.process.listens_on(address.port()))
        });
        exporter
    }

    fn page(&self) -> Option<String> {
        let request = "GET /metrics HTTP/1.0\r\n\r\n";
        http_exchange(self.address, request.as_bytes()).ok().map(|answer| answer.body)
    }

    /// Returns the values of the script by their names.
    fn values(&self) -> BTreeMap<String, f64> {
        let page = self.page().expect("the metrics");
        let values = page.lines().filter_map(|line| {
            let (key, value) =
                line.strip_prefix("redis_script_values{key=\"")?.split_once("\"} ")?;
            Some((key.to_owned(), value.parse().expect("a number")))
        });
        values.collect()
    }
}

/// Makes three calls of each algorithm, two of which are denied.
fn call_both(client: &mut Client) {
    for algorithm in ["TB", "SW"] {
        for _ in 0..3 {
            client.decide(&format!("RATELIMIT.{algorithm} {algorithm} 1 86400"));
        }
    }
}

#[test]
#[ignore = "make test-web"]
fn every_field_of_info_is_a_metric() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let exporter = Exporter::start(&server);
    assert_eq!(exporter.values().get("ratelimit_token_bucket_denied"), Some(&0.0));

    call_both(&mut client);
    let info: String = client.call("INFO ratelimit");
    let fields = info.lines().filter_map(|line| line.split_once(':'));
    let number = |value: &str| value.parse::<f64>().expect("a number");
    let fields: BTreeMap<_, _> =
        fields.map(|(field, value)| (field.to_owned(), number(value))).collect();
    assert_eq!(fields["ratelimit_sliding_window_denied"], 2.0);
    assert_eq!(exporter.values(), fields);
}

#[test]
#[ignore = "make test-web"]
fn a_server_without_the_module_has_no_such_metrics() {
    let server = Server::builder().without_module().start();
    let exporter = Exporter::start(&server);
    assert_eq!(exporter.values(), BTreeMap::new());
    let page = exporter.page().expect("the metrics");
    assert!(page.contains("\nredis_up 1\n"), "{page}");
}

#[test]
#[ignore = "make test-web"]
fn a_replica_without_its_primary_has_the_metrics() {
    let server = Server::builder().config("replica-serve-stale-data", "no").start();
    server.client().call::<()>(&format!("REPLICAOF 127.0.0.1 {}", free_port()));
    let script = fs::read_to_string(repository().join(SCRIPT)).expect("the script");
    let reply = server.client().reply(&[b"EVAL", script.as_bytes(), b"0"]);
    let values: Vec<String> = from_redis_value(reply.expect("values")).expect("texts");
    assert!(values.contains(&"ratelimit_token_bucket_denied".to_owned()), "{values:?}");
}

#[test]
#[ignore = "make test-web"]
fn the_alert_fires_when_it_should_and_at_no_other_time() {
    promtool(["check", "rules"], ALERTS);
    promtool(["test", "rules"], "tests/observability/module-alerts.yml");
}

#[test]
#[ignore = "make test-web"]
fn the_alert_fires_on_what_the_exporter_exports() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let exporter = Exporter::start(&server);
    let rules = fs::read_to_string(repository().join(ALERTS)).expect("the alert");
    let rules = rules.replace("for: 5m", "for: 1s");
    let configuration = format!(
        "global: {{scrape_interval: 250ms, evaluation_interval: 250ms}}\n\
         rule_files: [module-alerts.yml]\n\
         scrape_configs: [{{job_name: redis, static_configs: [{{targets: ['{}']}}]}}]\n",
        exporter.address
    );
    let prometheus = Prometheus::start(&configuration, ("module-alerts.yml", &rules));
    eventually("the alert fires", || {
        call_both(&mut client);
        let alert = ("RatelimitModuleManyDenials".to_owned(), exporter.address.to_string());
        prometheus.firing().contains(&alert).then_some(())
    });
}
