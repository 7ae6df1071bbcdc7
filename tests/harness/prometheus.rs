//! A Prometheus process.

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::document::repository;
use super::gateway::Gateway;
use super::http;
use super::port::free_port;
use super::process::{Process, log_tail};
use super::wait::eventually;

/// A running Prometheus.
#[derive(Debug)]
pub(crate) struct Prometheus {
    process: Process,
    address: SocketAddr,
    log: PathBuf,
    /// Removed when this value is dropped.
    _directory: TempDir,
}

impl Prometheus {
    /// Starts a Prometheus that scrapes these gateways as a job of this name, with the example
    /// configuration and the alerts. An alert fires after a second instead of minutes.
    pub(crate) fn watch<'g>(gateways: impl IntoIterator<Item = &'g Gateway>, job: &str) -> Self {
        let targets = gateways.into_iter().map(|gateway| format!("{}\n", gateway.admin_address()));
        let targets = targets.collect::<Vec<_>>().join("          - ");
        let example = read("observability/prometheus.yml");
        // The timeout of a scrape is the scrape interval, which must suffice on a busy machine.
        let configuration = example
            .replace("localhost:8000\n", &targets)
            .replace("scrape_interval: 15s", "scrape_interval: 2s")
            .replace("evaluation_interval: 15s", "evaluation_interval: 500ms");
        assert!(configuration.contains(&targets) && !configuration.contains("15s"), "{example}");
        let configuration =
            configuration.replace("job_name: ratelimit-gateway", &format!("job_name: {job}"));

        let rules = read("observability/prometheus-alerts.yml");
        let rules = ["30s", "1m", "5m"].into_iter().fold(rules, |rules, time| {
            rules.replace(&format!("        for: {time}\n"), "        for: 1s\n")
        });
        // The comment in the file describes this replacement.
        let rules = rules.replace(r#"job="ratelimit-gateway""#, &format!(r#"job="{job}""#));
        Self::start(&configuration, ("prometheus-alerts.yml", &rules))
    }

    /// Starts a Prometheus with a configuration and the rules that the configuration names.
    pub(crate) fn start(configuration: &str, rules: (&str, &str)) -> Self {
        let directory = TempDir::new().expect("a directory for Prometheus");
        let file = |name: &str| directory.path().join(name);
        fs::write(file("prometheus.yml"), configuration).expect("a configuration");
        fs::write(file(rules.0), rules.1).expect("rules");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let mut command = Command::new("prometheus");
        command
            .arg(option("config.file", &file("prometheus.yml")))
            .arg(option("storage.tsdb.path", &file("data")))
            .arg(format!("--web.listen-address={address}"));
        let log = file("prometheus.log");
        let process = Process::start(&mut command, &log);
        let this = Self { process, address, log, _directory: directory };
        eventually("Prometheus is ready", || {
            let answer = this.request("/-/ready").filter(|answer| answer.status == 200);
            answer.filter(|_| this.process.listens_on(address.port()))
        });
        this
    }

    /// Returns the current series of a query, or the error of the query.
    pub(crate) fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let answer = self.api(&format!("query?query={}", percent_encoded(expression)));
        match answer["data"]["result"].as_array() {
            Some(series) => Ok(series.clone()),
            None => Err(answer["error"].to_string()),
        }
    }

    /// Returns the rules as Prometheus reads them.
    pub(crate) fn rules(&self) -> Vec<Value> {
        let answer = self.api("rules");
        let groups = answer["data"]["groups"].as_array().expect("a list of groups");
        groups.iter().flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
    }

    /// Returns the names and the instances of the alerts that fire now.
    pub(crate) fn firing(&self) -> HashSet<(String, String)> {
        let answer = self.api("alerts");
        let alerts = answer["data"]["alerts"].as_array().expect("a list of alerts");
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        let label = |alert: &Value, name: &str| Some(alert["labels"][name].as_str()?.to_owned());
        firing
            .filter_map(|alert| Some((label(alert, "alertname")?, label(alert, "instance")?)))
            .collect()
    }

    /// Returns whether an alert fires for a gateway now.
    pub(crate) fn fires(&self, alert: &str, gateway: &Gateway) -> bool {
        self.firing().contains(&(alert.to_owned(), gateway.admin_address().to_string()))
    }

    fn api(&self, path: &str) -> Value {
        let answer = self.request(&format!("/api/v1/{path}"));
        let answer = answer.unwrap_or_else(|| panic!("no answer\n{}", log_tail(&self.log)));
        serde_json::from_str(&answer.body).expect("an answer is JSON")
    }

    fn request(&self, path: &str) -> Option<http::Response> {
        // HTTP 1.0 has no chunked answers.
        http::exchange(self.address, format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// Runs promtool on a file of the repository with rules, or with tests of rules, which must succeed.
pub(crate) fn promtool(arguments: [&str; 2], file: &str) {
    let mut promtool = Command::new("promtool");
    let file = repository().join(file);
    let output = promtool.args(arguments).arg(file).output().expect("promtool");
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
}
