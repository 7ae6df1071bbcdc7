//! The gateway and its OpenAPI document: Schemathesis sends requests that the document allows, and
//! requests that it forbids, and compares every answer with the document.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ratelimit_test_tokens::Algorithm;
use tempfile::TempDir;

use crate::harness::{ApiKey, Gateway, GatewayBuilder, Issuer, Server};

/// Seed of the random requests, so that each run sends the same requests.
const SEED: &str = "1";

/// Number of requests of each kind for each operation, in addition to the requests for the limits
/// of the document.
const EXAMPLES: &str = "100";

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Starts a gateway, and a server that accepts every limit that the document allows.
fn start(settings: impl FnOnce(GatewayBuilder) -> GatewayBuilder) -> (Server, Gateway) {
    let server = Server::start();
    server.client().call::<()>("CONFIG SET ratelimit.sliding-window-max-limit 1000000000");
    // The gateway waits for answers as long as a busy machine may need.
    let builder = Gateway::builder().redis(&server);
    let gateway = settings(builder).start();
    (server, gateway)
}

/// Asserts that Schemathesis reports no error. `configuration` is the configuration of
/// Schemathesis.
fn assert_conforms(gateway: &Gateway, configuration: &str) {
    let directory = TempDir::new().expect("a directory for reports");
    fs::write(directory.path().join("schemathesis.toml"), configuration).expect("a file");
    // Schemathesis ends by itself, unless it hangs.
    let output = Command::new("timeout")
        .args(["--kill-after=5", "600"])
        .arg(in_repository("target/schemathesis/bin/schemathesis"))
        .args(["run", &format!("{}/openapi.json", gateway.url())])
        .args(["--checks", "all", "--phases", "examples,coverage,fuzzing,stateful"])
        .args(["--seed", SEED, "--max-examples", EXAMPLES, "--no-color"])
        .args(["--suppress-health-check", "all", "--warnings", "off"])
        .env("PYTHONPATH", in_repository("tests"))
        .env("SCHEMATHESIS_HOOKS", "conformance")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(&directory)
        .output()
        .expect("Schemathesis starts");
    let report = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{report}\n{errors}", output.status);
    println!("{report}");
}

#[test]
#[ignore = "make test-web"]
fn answers_match_the_description() {
    let (_server, gateway) = start(|builder| builder);
    assert_conforms(&gateway, "");
}

#[test]
#[ignore = "make test-web"]
fn answers_to_callers_match_the_description() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("keys.json");
    let key = ApiKey::new("schemathesis", &["check", "read", "reset", "force"]);
    ApiKey::write(&path, &[&key]);
    let policies = in_repository("gateway/policies/tests/tests/examples/larger.yaml");
    let set = directory.path().join("set.json");
    Issuer::write(&set, &[&Issuer::new(Algorithm::ES256)]);
    let (_server, gateway) = start(|builder| {
        let builder = builder.env("API_KEYS_FILE", &path.display().to_string());
        let builder = builder.env("IDENTITY_JWKS_FILE", &set.display().to_string());
        let builder = builder.env("IDENTITY_ISSUER", Issuer::NAME);
        let builder = builder.env("IDENTITY_AUDIENCE", Issuer::AUDIENCE);
        let builder = builder.env("POLICIES_FILE", &policies.display().to_string());
        let builder = builder.env("IDENTITY_HASH_KEY", "a secret of digests");
        builder.env("METRICS_OPEN", "false").env("DENY_STATUS", "429")
    });
    assert_conforms(&gateway, &format!("[auth.openapi.apiKey]\napi_key = {:?}\n", key.key));
}

#[test]
#[ignore = "make test-web"]
fn the_schema_of_policies_accepts_the_examples_and_refuses_a_typo() {
    let directory = in_repository("gateway/policies/tests/tests/examples");
    let examples = ["first.yaml", "larger.yaml"].map(|name| directory.join(name));
    let other = TempDir::new().expect("a directory");
    let typo = other.path().join("typo.yaml");
    let text = fs::read_to_string(&examples[0]).expect("an example");
    fs::write(&typo, text.replace("limit: 20", "limt: 20")).expect("a file");
    let output = Command::new(in_repository("target/schemathesis/bin/python"))
        .arg(in_repository("tests/schema.py"))
        .arg(in_repository("examples/policies/policies.schema.json"))
        .args(&examples)
        .arg(&typo)
        .output()
        .expect("Python starts");
    let lines = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!(lines.len(), 3, "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(&lines[..2], ["valid", "valid"]);
    assert!(lines[2].starts_with("invalid: "), "{lines:?}");
}
