//! The files for Railway and Render: every field is one that these services have, every name refers
//! to an existing object, and the commands of the files are run.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::harness::{Gateway, Process, eventually, free_port, repository};

/// The longest time that a gateway takes to stop, by default.
const STOPS_WITHIN_SECONDS: u64 = 11;

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn railway(path: &str) -> Value {
    serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the service with this name in render.yaml.
fn render(name: &str) -> Value {
    let output = Command::new(repository().join("target/kubernetes/bin/python"))
        .args([
            "-c",
            "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))",
        ])
        .arg(repository().join("render.yaml"))
        .output()
        .expect("Python starts");
    let file: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_fields(&file, &["services"]);
    let services = file["services"].as_array().unwrap();
    services.iter().find(|service| service["name"] == name).expect(name).clone()
}

fn fields(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("{value} has no fields"))
}

fn assert_fields(value: &Value, known: &[&str]) {
    for name in fields(value).keys() {
        assert!(known.contains(&name.as_str()), "{name} is not one of {known:?}");
    }
}

/// Returns the variables of a service of Render.
fn variables(service: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let variables = service["envVars"].as_array().unwrap().iter();
    variables.map(|variable| (variable["key"].as_str().unwrap(), variable))
}

fn gateway_help() -> String {
    Gateway::builder().answers(&["--help"]).1
}

fn assert_is_a_setting(name: &str) {
    assert!(gateway_help().contains(&format!("\n  {name}\n")), "the gateway has no {name}");
}

/// Runs the command that starts Redis on a host, with a substitute for the entrypoint of the image.
fn assert_starts_a_redis_with_a_password(command: &str) {
    let directory = TempDir::new().unwrap();
    let entrypoint = directory.path().join("ratelimit-entrypoint.sh");
    let port = free_port().to_string();
    fs::write(&entrypoint, format!("#!/bin/sh\nexec \"$@\" --bind 127.0.0.1 --port {port}\n"))
        .unwrap();
    fs::set_permissions(&entrypoint, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", directory.path().display(), env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    // The server replaces the shell, so that it ends with the test.
    let shell =
        shell.args(["-c", &format!("exec {command}")]).current_dir(&directory).env("PATH", path);
    let log = directory.path().join("log");
    let _server = Process::start(shell.env("REDIS_PASSWORD", "a secret"), &log);
    let ask = |password: &str| {
        let mut client = Command::new("redis-cli");
        let client = client.args(["-e", "-p", &port, "CONFIG", "GET", "appendonly"]);
        client.env("REDISCLI_AUTH", password).output().unwrap()
    };
    let answer = eventually("Redis answers", || {
        Some(ask("a secret")).filter(|output| output.status.success())
    });
    assert_eq!(answer.stdout, b"appendonly\nyes\n");
    assert!(!ask("another").status.success());
}

fn assert_is_ready_at(path: &Value) {
    let gateway = Gateway::builder().env("REDIS_URL", "memory://").start();
    assert_eq!(gateway.get(path.as_str().unwrap()).status, 200, "{path}");
}

/// Asserts that the Dockerfile has a stage for this image, or for the gateway without an argument.
fn assert_is_built(image: Option<&str>) {
    let dockerfile = read("Dockerfile");
    let default = dockerfile.lines().find_map(|line| line.strip_prefix("ARG IMAGE="));
    assert_eq!(default, Some("gateway"));
    let stages = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM "));
    let stages: Vec<_> = stages.collect();
    assert_eq!(stages.last(), Some(&"${IMAGE}"));
    let end = format!(" AS {}", image.unwrap_or("gateway"));
    assert!(stages.iter().any(|stage| stage.ends_with(&end)), "no stage{end} in {stages:?}");
}

#[test]
#[ignore = "make test-web"]
fn railway_builds_and_starts_both() {
    let gateway = railway("railway.json");
    let redis = railway("deploy/railway/redis.json");
    for service in [&gateway, &redis] {
        assert_fields(service, &["$schema", "build", "deploy"]);
        assert_fields(&service["build"], &["builder", "dockerfilePath"]);
        let deploy = [
            "startCommand",
            "healthcheckPath",
            "healthcheckTimeout",
            "restartPolicyType",
            "drainingSeconds",
        ];
        assert_fields(&service["deploy"], &deploy);
        assert_eq!(service["build"]["builder"], "DOCKERFILE");
        assert_eq!(service["build"]["dockerfilePath"], "Dockerfile");
    }
    assert!(gateway["deploy"]["drainingSeconds"].as_u64().unwrap() > STOPS_WITHIN_SECONDS);
    assert_is_ready_at(&gateway["deploy"]["healthcheckPath"]);
    assert_starts_a_redis_with_a_password(redis["deploy"]["startCommand"].as_str().unwrap());
    assert_is_built(None);

    let readme = read("deploy/README.md");
    assert!(readme.contains("`/deploy/railway/redis.json`") && readme.contains("IMAGE=redis\n"));
    assert_is_built(Some("redis"));
    for (name, _) in readme.lines().filter_map(|line| line.trim().split_once("=${{redis.")) {
        assert_is_a_setting(name);
    }
}

#[test]
#[ignore = "make test-web"]
fn render_builds_and_starts_both() {
    let (gateway, redis) = (render("ratelimit-gateway"), render("ratelimit-redis"));
    for service in [&gateway, &redis] {
        let known = [
            "type",
            "name",
            "runtime",
            "plan",
            "dockerfilePath",
            "dockerCommand",
            "healthCheckPath",
            "maxShutdownDelaySeconds",
            "envVars",
            "disk",
        ];
        assert_fields(service, &known);
        assert_eq!((&service["runtime"], &service["plan"]), (&"docker".into(), &"starter".into()));
        assert_eq!(service["dockerfilePath"], "./Dockerfile");
        let (_, image) = variables(service).find(|(name, _)| *name == "IMAGE").unwrap();
        assert_is_built(image["value"].as_str());
    }
    assert_eq!((&gateway["type"], &redis["type"]), (&"web".into(), &"pserv".into()));
    assert!(gateway["maxShutdownDelaySeconds"].as_u64().unwrap() > STOPS_WITHIN_SECONDS);
    assert_is_ready_at(&gateway["healthCheckPath"]);
    assert_starts_a_redis_with_a_password(redis["dockerCommand"].as_str().unwrap());

    for (name, variable) in variables(&gateway).filter(|(name, _)| *name != "IMAGE") {
        assert_is_a_setting(name);
        let other = &variable["fromService"];
        assert_eq!((&other["type"], &other["name"]), (&redis["type"], &redis["name"]));
        match other["envVarKey"].as_str() {
            Some(key) => assert!(variables(&redis).any(|(name, _)| name == key), "no {key}"),
            None => assert_eq!(other["property"], "host"),
        }
    }
    assert_fields(&redis["disk"], &["name", "mountPath", "sizeGB"]);
}
