//! The log of decisions, and its replay.

use std::fs;
use std::time::Duration;

use ring::hmac;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Gateway, GatewayBuilder, Server, eventually, json_of};

/// The key of the digests.
const HASH_KEY: &str = "0123456789abcdef";

/// The value of the header whose digest has an override.
const SECRET: &str = "k-monitor";

/// Policies with a secret attribute in an identity, in a clause and in overrides.
const POLICIES: &str = r#"
version: 1
secret: [header.x-api-key]
unmatched: deny
plans:
  free: [{name: rate, limit: 2, per: 10s}, {name: log, limit: 4, per: 1m, algorithm: sliding_window}]
  pro: [{name: rate, limit: 6, per: 10s}]
policies:
  - name: trial
    by: [header.x-api-key]
    missing: skip
    limits: [{name: tries, limit: 1, per: 1m}]
    shadow: true
  - name: partner
    match: {header.x-api-key: [k-partner, k-other-partner]}
    by: [header.x-api-key, client.ip]
    missing: share
    limits: [{name: day, limit: 5, per: day, algorithm: fixed_window}]
  - name: api
    match: {path: /v1/**}
    by: [header.x-api-key]
    missing: skip
    plan: {from: plan, default: free}
    overrides:
      - {by: "DIGEST", unlimited: true, reason: probes}
      - {match: {header.x-api-key: k-evil}, block: true, reason: abuse}
  - name: tokens
    match: named
    by: [identifier]
    missing: deny
    limits: [{name: tokens, limit: 100, per: 1m, charge: always}]
"#;

struct Site {
    directory: TempDir,
}

impl Site {
    /// Returns a directory with the policies, in which an override has the digest of [`SECRET`].
    fn new() -> Self {
        let site = Self { directory: TempDir::new().unwrap() };
        let policies = POLICIES.replace("DIGEST", &digest(SECRET));
        fs::write(site.path("policies.yaml"), policies).unwrap();
        site
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn settings(&self) -> GatewayBuilder {
        Gateway::builder()
            .env("POLICIES_FILE", &self.path("policies.yaml"))
            .env("IDENTITY_HASH_KEY", HASH_KEY)
            .env("LOG_DECISIONS", "true")
            .env("DENY_CACHE_SIZE", "0")
    }

    /// Returns the report of a replay of the log.
    fn replay(&self, log: &str, hash_key: Option<&str>) -> Value {
        fs::write(self.path("gateway.log"), log).unwrap();
        let mut settings = Gateway::builder();
        if let Some(key) = hash_key {
            settings = settings.env("IDENTITY_HASH_KEY", key);
        }
        let (file, log) = (self.path("policies.yaml"), self.path("gateway.log"));
        let (status, output) = settings.answers(&["replay", &file, &log, "--json"]);
        assert_eq!(status.code(), Some(0), "{output}");
        serde_json::from_str(&output).unwrap()
    }
}

/// Returns the digest of a secret value.
fn digest(value: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, HASH_KEY.as_bytes());
    let tag = hmac::sign(&key, value.as_bytes());
    let digits = tag.as_ref().iter().take(16).map(|byte| format!("{byte:02x}"));
    format!("sha256:{}", digits.collect::<String>())
}

/// The bodies of checks, of which some are in a batch.
fn bodies() -> Vec<Value> {
    let api =
        |key: &str| json!({ "attributes": { "header.x-api-key": key, "path": "/v1/%61?q=1" } });
    let partner = |address: &str| json!({ "attributes": { "header.x-api-key": "k-partner", "client.ip": address } });
    let mut bodies = vec![api("k-1"); 4];
    bodies.extend([api("k-2"), api(SECRET), api("k-evil")]);
    bodies.extend(vec![partner("203.0.113.7"); 7]);
    bodies.push(partner("2001:db8::1"));
    bodies.extend(vec![json!({ "policy": "tokens", "identifier": "ann", "cost": 60 }); 3]);
    bodies.push(json!({ "policy": "tokens", "identifier": "ann", "cost": 0 }));
    bodies.push(json!({ "attributes": { "path": "/v1", "plan": "pro" } }));
    let mut pro = api("k-3");
    pro["attributes"]["plan"] = json!("pro");
    bodies.extend(vec![pro; 2]);
    bodies
}

/// Sends all bodies as checks, and then as a batch. Returns the decisions. A batch takes the rest of a
/// cost that is always charged after all of its checks, so that no such check is in it.
fn send(gateway: &Gateway) -> Vec<bool> {
    let mut allowed = Vec::new();
    for body in bodies() {
        let answer = gateway.post("/rate-limit/check", &body.to_string());
        allowed.push(json_of(&answer)["allowed"] == true);
    }
    let is_whole = |body: &Value| body["policy"] != "tokens";
    let checks: Vec<_> = bodies().into_iter().filter(is_whole).collect();
    let batch = json!({ "checks": checks }).to_string();
    let batch = json_of(&gateway.post("/rate-limit/check/batch", &batch));
    let results = batch["results"].as_array().unwrap().iter();
    allowed.extend(results.map(|result| result["allowed"] == true));
    allowed
}

/// Returns the log when it has the lines about this number of decisions, and these lines.
fn decisions(gateway: &Gateway, count: usize) -> (String, Vec<Value>) {
    eventually("all decisions are logged", || {
        let log = gateway.log();
        let lines = log.lines().filter(|line| line.starts_with("{\"time\""));
        let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines.len() >= count).then(|| (log.clone(), lines))
    })
}

#[test]
fn a_replay_of_the_log_gives_the_decisions_of_the_gateway() {
    let site = Site::new();
    let server = Server::at(crate::harness::NOON);
    let gateway = site.settings().redis(&server).clock(server.clock()).start();
    let mut allowed = Vec::new();
    for wait in [0, 2_500, 5_000, 17_000, 86_400_000] {
        server.clock().advance(Duration::from_millis(wait));
        allowed.extend(send(&gateway));
    }
    let (log, lines) = decisions(&gateway, allowed.len());
    let logged: Vec<_> = lines.iter().map(|line| line["allowed"] == true).collect();
    assert_eq!(logged, allowed);
    let denied = allowed.iter().filter(|allowed| !**allowed).count();
    assert!((50..200).contains(&denied), "{denied}");
    assert!(!log.contains("k-1") && !log.contains(SECRET), "{log}");

    let report = site.replay(&log, Some(HASH_KEY));
    assert_eq!(report["agreement"], json!([allowed.len(), 0]), "{report}");
    assert_eq!(report["new"]["denied"], json!(denied));
    assert_eq!(report["skipped"]["malformed"], json!(0));
    // The requests of this test are the other lines.
    assert!(report["skipped"]["events"].as_u64().unwrap() > 0, "{report}");

    // Without the key no clause on a secret value can be judged.
    let report = site.replay(&log, None);
    let unknown = lines.iter().filter(|line| line["attributes"].get("header.x-api-key").is_some());
    let unknown = unknown.filter(|line| line.get("policy").is_none()).count();
    assert_eq!(report["skipped"]["secrets"]["header.x-api-key"], json!(unknown), "{report}");
}

#[test]
fn a_decision_is_one_line_in_every_form_and_at_every_level_of_the_log() {
    let site = Site::new();
    for (format, level) in [("text", "INFO"), ("text", "ERROR"), ("json", "ERROR")] {
        let settings = site.settings().env("REDIS_URL", "memory://").env("LOG_FORMAT", format);
        let gateway = settings.env("LOG_LEVEL", level).start();
        let allowed = send(&gateway);
        let (log, lines) = decisions(&gateway, allowed.len());
        let logged: Vec<_> = lines.iter().map(|line| line["allowed"] == true).collect();
        assert_eq!(logged, allowed, "{format}");
        let report = site.replay(&log, Some(HASH_KEY));
        assert_eq!(report["judged"], json!(allowed.len()), "{format}: {report}");
    }
}

#[test]
fn a_line_has_the_attributes_that_policies_read_and_the_parts_that_decided() {
    let site = Site::new();
    let gateway = site.settings().env("REDIS_URL", "memory://").start();
    let body = json!({ "cost": 2, "identifier": "ann", "attributes": {
        "header.x-api-key": "k-1", "path": "//v1/%61?q=1", "header.cookie": "c", "other": "x",
    } });
    let answer = gateway.post("/rate-limit/check", &body.to_string());
    assert_eq!(json_of(&answer)["allowed"], json!(true));
    let unmatched = json!({ "attributes": { "path": "/else" } });
    gateway.post("/rate-limit/check", &unmatched.to_string());
    let version = json_of(&gateway.get("/policies"))["version"].clone();
    let (_, lines) = decisions(&gateway, 2);
    let [first, second] = &lines[..] else { panic!("{lines:?}") };
    let expected =
        json!({ "header.x-api-key": digest("k-1"), "identifier": "ann", "path": "/v1/a" });
    assert_eq!(first["attributes"], expected);
    assert_eq!((&first["entry"], &first["cost"]), (&json!("check"), &json!(2)));
    assert_eq!((&first["version"], first.get("policy")), (&version, None));
    assert_eq!(first["request_id"], json!(answer.header("X-Request-ID").unwrap()));
    let time = first["time"].as_str().unwrap();
    assert_eq!((time.len(), time.ends_with('Z')), ("2027-01-15T12:00:00.000000Z".len(), true));
    let decision = json!({
        "source": "local", "policy": "api", "plan": "free", "override": null,
        "limits": ["rate", "log"], "violated": [],
    });
    assert_eq!(first["decision"], decision);
    assert_eq!(
        (&second["allowed"], &second["decision"]["source"]),
        (&json!(false), &json!("policy"))
    );
    assert_eq!(second["decision"]["violated"], json!(["unmatched"]));
}

#[test]
fn without_the_setting_no_decision_is_logged() {
    let site = Site::new();
    let settings = site.settings().env("LOG_DECISIONS", "false").env("REDIS_URL", "memory://");
    let gateway = settings.start();
    send(&gateway);
    let (_, log) = gateway.terminate();
    assert!(!log.contains("\"attributes\""), "{log}");
}
