//! A Prometheus of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::http;
use super::patience::eventually;
use super::process::{Process, log_tail};
use super::server::free_port;

/// A running Prometheus.
#[derive(Debug)]
pub(crate) struct Prometheus {
    _process: Process,
    address: SocketAddr,
    log: PathBuf,
    /// Deleted when this is dropped.
    _directory: TempDir,
}

impl Prometheus {
    /// Starts one with a configuration and the rules that it names.
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
        let this = Self { _process: process, address, log, _directory: directory };
        eventually("Prometheus is ready", || {
            this.request("/-/ready").filter(|answer| answer.status == 200)
        });
        this
    }

    /// The series that a query finds now, or why it cannot be run.
    pub(crate) fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let answer = self.api(&format!("query?query={}", percent_encoded(expression)));
        match answer["data"]["result"].as_array() {
            Some(series) => Ok(series.clone()),
            None => Err(answer["error"].to_string()),
        }
    }

    /// The rules as Prometheus reads them.
    pub(crate) fn rules(&self) -> Vec<Value> {
        let answer = self.api("rules");
        let groups = answer["data"]["groups"].as_array().expect("a list of groups");
        groups.iter().flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
    }

    /// The names of the alerts that fire now.
    pub(crate) fn firing(&self) -> Vec<String> {
        let answer = self.api("alerts");
        let alerts = answer["data"]["alerts"].as_array().expect("a list of alerts");
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing.filter_map(|alert| Some(alert["labels"]["alertname"].as_str()?.to_owned())).collect()
    }

    fn api(&self, path: &str) -> Value {
        let answer = self.request(&format!("/api/v1/{path}"));
        let answer = answer.unwrap_or_else(|| panic!("no answer\n{}", log_tail(&self.log)));
        serde_json::from_str(&answer.body).expect("an answer is JSON")
    }

    fn request(&self, path: &str) -> Option<http::Response> {
        // In HTTP 1.0, answers come in one piece.
        http::exchange(self.address, format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}
