//! The file of policies: its load, its changes, its errors, and the pages and commands about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ratelimit_test_tokens::Algorithm;
use ring::digest::{SHA256, digest};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    ApiKey, Gateway, GatewayBuilder, Issuer, Network, Proxy, Response, Server, eventually,
    kept_request, repository, timed,
};

const FIRST: &str = "version: 1
policies:
  - name: per-address
    match: {path: /login}
    by: [client.ip]
    missing: deny
    limits: [{name: rate, limit: 20, per: 1s}, {name: hour, limit: 1000, per: 1h, algorithm: sliding_window}]
";

/// A directory with a file of policies.
struct Site {
    directory: TempDir,
}

impl Site {
    fn new(policies: &str) -> Self {
        let site = Self { directory: TempDir::new().expect("a directory") };
        fs::write(site.file(), policies).expect("the file is written");
        site
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("limits.yaml")
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Replaces the file as a whole.
    fn replace(&self, policies: &str) {
        let new = self.path("limits.yaml.new");
        fs::write(&new, policies).expect("the file is written");
        fs::rename(new, self.file()).expect("the file is replaced");
    }

    fn settings(&self) -> GatewayBuilder {
        let file = self.file().display().to_string();
        Gateway::builder().env("REDIS_URL", "memory://").env("POLICIES_FILE", &file)
    }
}

/// Returns the version of a file.
fn version(policies: &str) -> String {
    let hash = digest(&SHA256, policies.as_bytes());
    hash.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

fn page(gateway: &Gateway) -> Value {
    let answer = gateway.get("/policies");
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).expect("JSON")
}

fn wait_for_version(gateway: &Gateway, expected: &str) {
    eventually("the version is in force", || (page(gateway)["version"] == expected).then_some(()));
}

fn explain(gateway: &Gateway, body: &Value) -> Response {
    gateway.post("/policies/explain", &body.to_string())
}

fn explained(gateway: &Gateway, attributes: &Value) -> Value {
    let answer = explain(gateway, &json!({ "attributes": attributes }));
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).expect("JSON")
}

#[test]
fn an_error_of_the_file_stops_the_start_and_names_its_line() {
    let site = Site::new(&FIRST.replace("limit: 20", "limt: 20"));
    let file = site.file().display().to_string();
    let fault = "line 7, column 27: unknown key `limt`; did you mean `limit`?";
    for output in [site.settings().fails(), site.settings().answers(&["--check-config"])] {
        let (status, line) = output;
        assert_eq!(status.code(), Some(2), "{line}");
        assert!(line.contains(&format!("POLICIES_FILE: {file}: line 7")), "{line}");
        assert!(line.contains(fault), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
    fs::remove_file(site.file()).unwrap();
    let (status, line) = site.settings().fails();
    assert_eq!(status.code(), Some(2));
    assert_eq!(line, format!("POLICIES_FILE: {file}: No such file or directory (os error 2)\n"));
    // A secret value needs the secret of digests.
    fs::write(site.file(), FIRST.replace("client.ip", "header.cookie")).unwrap();
    let (status, line) = site.settings().answers(&["--check-config"]);
    assert!(status.code() == Some(2) && line.contains("IDENTITY_HASH_KEY"), "{line}");
    let settings = site.settings().env("IDENTITY_HASH_KEY", "a secret of digests");
    let (status, lines) = settings.answers(&["--check-config"]);
    assert!(status.success() && lines.ends_with("settings ok\n"), "{lines}");
}

#[test]
fn a_version_that_was_kept_is_in_force_while_the_file_is_broken() {
    let site = Site::new(FIRST);
    let kept = site.path("kept.yaml");
    let settings = || site.settings().env("POLICIES_CACHE_FILE", &kept);
    drop(settings().start());
    assert_eq!(fs::read_to_string(&kept).unwrap(), FIRST);

    fs::write(site.file(), "version: 2\n").unwrap();
    let gateway = settings().start();
    let log = gateway.log_with("those of POLICIES_CACHE_FILE are in force");
    assert!(log.contains("line 1, column"), "{log}");
    let log = gateway.log_with("policies loaded");
    let loaded = log.lines().find(|line| line.contains("policies loaded")).unwrap();
    assert!(loaded.contains("kept.yaml") && loaded.contains(&version(FIRST)), "{loaded}");
    let shown = page(&gateway);
    assert_eq!(shown["version"], version(FIRST).as_str());
    assert!(shown["error"]["problems"][0]["line"] == 1, "{shown}");
    assert_eq!(gateway.metric(r#"ratelimit_policies_loads_total{outcome="refused"}"#), 1.0);
    // A file without an error replaces both.
    let second = FIRST.replace("20", "21");
    site.replace(&second);
    wait_for_version(&gateway, &version(&second));
    eventually("the version is kept", || {
        (fs::read_to_string(&kept).unwrap() == second).then_some(())
    });
    assert_eq!(page(&gateway)["error"], Value::Null);

    // A version that cannot be used is no replacement.
    fs::write(&kept, "version: 2\n").unwrap();
    fs::write(site.file(), "version: 2\n").unwrap();
    let (status, line) = settings().fails();
    assert_eq!(status.code(), Some(2));
    assert!(line.contains("; POLICIES_CACHE_FILE cannot replace it: line 1, column 1: "), "{line}");
    assert!(line.starts_with("POLICIES_FILE: ") && line.lines().count() == 1, "{line}");
    site.replace(FIRST);

    // A place that cannot be written is no place for the next start.
    let (status, line) =
        site.settings().env("POLICIES_CACHE_FILE", &site.path("none/kept.yaml")).fails();
    assert_eq!(status.code(), Some(2));
    assert!(
        line.ends_with("POLICIES_CACHE_FILE: No such file or directory (os error 2)\n"),
        "{line}"
    );
}

#[test]
fn a_change_takes_effect_within_a_second_and_an_error_changes_nothing() {
    let site = Site::new(FIRST);
    let gateway = site.settings().start();
    let info = |version: &str| format!(r#"ratelimit_policies_info{{version="{version}"}}"#);
    let loads = |outcome| {
        gateway.metric(&format!(r#"ratelimit_policies_loads_total{{outcome="{outcome}"}}"#))
    };
    assert_eq!(gateway.metric(&info(&version(FIRST))), 1.0);
    assert_eq!((loads("loaded"), loads("refused"), loads("unreadable")), (1.0, 0.0, 0.0));

    let second = FIRST.replace("name: per-address", "name: other");
    let ((), time) = timed(|| {
        site.replace(&second);
        wait_for_version(&gateway, &version(&second));
    });
    assert!(time < Duration::from_secs(1), "{time:?}");
    let log = gateway.log_with(r#""removed":"per-address""#);
    assert!(log.contains(&version(&second)), "{log}");
    // The series of the former version is gone.
    let metrics = gateway.get("/metrics").body;
    assert!(metrics.contains(&info(&version(&second))), "{metrics}");
    assert!(!metrics.contains(&version(FIRST)), "{metrics}");

    // The first half of the file, an empty file, and no file.
    for (content, outcome) in
        [(Some(&second[..100]), "refused"), (Some(""), "refused"), (None, "unreadable")]
    {
        let before = loads(outcome);
        match content {
            Some(content) => fs::write(site.file(), content).unwrap(),
            None => fs::remove_file(site.file()).unwrap(),
        }
        eventually("the error is counted", || (loads(outcome) > before).then_some(()));
        let shown = page(&gateway);
        assert_eq!(shown["version"], version(&second).as_str());
        assert!(shown["error"]["detail"].is_string(), "{shown}");
    }
    assert_eq!(gateway.get("/health").status, 200);
    gateway.log_with("the former ones are in force");
    // The same file ends the error.
    site.replace(&second);
    eventually("the error is over", || page(&gateway)["error"].is_null().then_some(()));
}

#[test]
fn health_has_the_version_and_a_fault_of_the_file_changes_no_status() {
    let site = Site::new(FIRST);
    let gateway = site.settings().start();
    let health = |path: &str| {
        let answer = gateway.get(path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let answer: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(answer["status"], "healthy");
        answer["policies"].clone()
    };
    for path in ["/health", "/health/ready"] {
        assert_eq!(health(path), json!({ "version": version(FIRST), "fault": false }));
    }
    site.replace("version: 2\n");
    eventually("the fault is shown", || (health("/health")["fault"] == true).then_some(()));
    assert_eq!(health("/health/ready"), json!({ "version": version(FIRST), "fault": true }));
    let second = FIRST.replace("20", "21");
    site.replace(&second);
    let expected = json!({ "version": version(&second), "fault": false });
    eventually("the fault is over", || (health("/health") == expected).then_some(()));
}

#[test]
fn a_change_that_reads_claims_without_keys_is_refused_as_at_the_start() {
    let claims = "version: 1
policies: [{name: users, by: [jwt.sub], missing: deny, limits: [{name: rate, limit: 1, per: 1h}]}]
";
    let site = Site::new(FIRST);
    let kept = site.path("kept.yaml");
    let settings = || site.settings().env("POLICIES_CACHE_FILE", &kept);
    let gateway = settings().start();
    site.replace(claims);
    let log = gateway.log_with("no request has `jwt.sub` without the setting IDENTITY_JWKS_FILE");
    assert!(log.contains("the former ones are in force"), "{log}");
    assert_eq!(page(&gateway)["version"], version(FIRST).as_str());
    assert_eq!(gateway.metric(r#"ratelimit_policies_loads_total{outcome="refused"}"#), 1.0);
    drop(gateway);
    // The file itself stops the start, also where a version was kept.
    let (status, line) = settings().fails();
    assert!(status.code() == Some(2) && line.starts_with("IDENTITY_JWKS_FILE: "), "{line}");
    // So does a kept version that would deny every request.
    fs::write(site.file(), "version: 2\n").unwrap();
    fs::write(&kept, claims).unwrap();
    let (status, line) = settings().fails();
    assert_eq!(status.code(), Some(2), "{line}");
    let rule =
        "POLICIES_CACHE_FILE cannot replace it: no request has `jwt.sub` without the setting";
    assert!(line.starts_with("POLICIES_FILE: ") && line.contains(rule), "{line}");
}

#[test]
fn only_regular_files_of_a_bounded_length_are_read() {
    let site = Site::new(FIRST);
    let gateway = site.settings().start();
    // A FIFO that no process writes to, and a file that has no blocks on its disk.
    let fifo = site.path("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
    let sparse = site.path("sparse");
    fs::File::create(&sparse).and_then(|file| file.set_len(3 << 30)).expect("a file");
    for (other, fault) in [(fifo, "is no file of settings"), (sparse, "at most 16777216 bytes")] {
        let settings = || Gateway::builder().env("REDIS_URL", "memory://");
        for name in ["POLICIES_FILE", "API_KEYS_FILE"] {
            let (status, line) = settings().env(name, &other).answers(&["--check-config"]);
            assert!(status.code() == Some(2) && line.contains(fault), "{name}: {line}");
        }
        fs::rename(other, site.file()).expect("the file is replaced");
        eventually("the error is shown", || {
            page(&gateway)["error"].to_string().contains(fault).then_some(())
        });
        assert_eq!(page(&gateway)["version"], version(FIRST).as_str());
        // The file is read again.
        let second = FIRST.replace("20", "21");
        site.replace(&second);
        wait_for_version(&gateway, &version(&second));
        site.replace(FIRST);
        wait_for_version(&gateway, &version(FIRST));
    }
    let (status, log) = gateway.terminate();
    assert!(status.success(), "{log}");
}

#[test]
fn a_link_to_another_file_is_a_change() {
    let site = Site::new(FIRST);
    let second = FIRST.replace("20", "21");
    fs::write(site.path("second.yaml"), &second).unwrap();
    let link = site.path("link.yaml");
    symlink(site.file(), &link).unwrap();
    let gateway = Gateway::builder().env("REDIS_URL", "memory://").env("POLICIES_FILE", &link);
    let gateway = gateway.start();
    assert_eq!(page(&gateway)["version"], version(FIRST).as_str());
    // As Kubernetes does.
    symlink(site.path("second.yaml"), site.path("link.new")).unwrap();
    fs::rename(site.path("link.new"), &link).unwrap();
    wait_for_version(&gateway, &version(&second));
}

/// Returns a file in which every number is that of the version.
fn numbered(number: u32) -> String {
    let limit = number + 1;
    format!(
        "version: 1
plans:
  only: [{{name: a, limit: {limit}, per: 1h}}, {{name: b, limit: {limit}, per: 1m}}]
policies:
  - {{name: first, match: {{path: /a}}, by: [], plan: only}}
  - {{name: second, by: [], limits: [{{name: c, limit: {limit}, per: 1h}}]}}
"
    )
}

/// Asserts that the limits of a check are those of one version.
fn assert_of_one_version(answer: &Response) {
    let limits = answer.header("RateLimit-Policy").expect("the limits");
    let numbers = limits.split(";q=").skip(1).filter_map(|rest| rest.split(';').next());
    let numbers: Vec<_> = numbers.collect();
    assert!(numbers.len() == 2 && numbers[0] == numbers[1], "{answer:?}");
}

/// Returns the version of an explanation, whose limits have the number of the version.
fn version_of(answer: &Response, versions: &BTreeMap<String, u32>, count: usize) -> String {
    let account: Value = serde_json::from_str(&answer.body).expect("JSON");
    let version = account["version"].as_str().expect("a version").to_owned();
    let number = versions.get(&version).unwrap_or_else(|| panic!("{version} is no whole"));
    let limits = account["limits"].as_array().expect("limits");
    assert_eq!(limits.len(), count);
    assert!(limits.iter().all(|limit| limit["limit"] == *number), "{account}");
    version
}

#[test]
fn each_request_is_judged_by_one_whole_version_while_the_file_changes() {
    const VERSIONS: u32 = 25;
    let versions: BTreeMap<_, _> =
        (0..VERSIONS).map(|number| (version(&numbered(number)), number + 1)).collect();
    let site = Site::new(&numbered(0));
    let gateway = site.settings().start();
    let done = AtomicBool::new(false);
    let client = |client: usize| {
        let mut connection = gateway.connect();
        let mut seen = BTreeSet::new();
        let (route, path) = match client % 4 {
            0 => ("/policies/explain", "/a"),
            1 => ("/policies/explain", "/b"),
            _ => ("/rate-limit/check", "/a"),
        };
        let body = json!({ "attributes": { "path": path } }).to_string();
        let request = kept_request("POST", route, &[], &body);
        while !done.load(Ordering::Relaxed) {
            let answer = connection.exchange(&request).expect("an answer");
            assert_eq!(answer.status, 200, "{answer:?}");
            if route == "/rate-limit/check" {
                assert_of_one_version(&answer);
            } else {
                seen.insert(version_of(&answer, &versions, if path == "/a" { 2 } else { 1 }));
            }
            thread::sleep(Duration::from_millis(20));
        }
        seen
    };
    let seen = thread::scope(|scope| {
        let clients: Vec<_> = (0..200).map(|number| scope.spawn(move || client(number))).collect();
        for number in 1..VERSIONS {
            let start = Instant::now();
            let file = numbered(number);
            if number.is_multiple_of(2) {
                site.replace(&file);
            } else {
                // Piece by piece, as `cp` and editors do. The first piece is no file.
                fs::write(site.file(), &file[..60]).unwrap();
                thread::sleep(Duration::from_millis(20));
                fs::write(site.file(), &file).unwrap();
            }
            thread::sleep(Duration::from_millis(100).saturating_sub(start.elapsed()));
        }
        wait_for_version(&gateway, &version(&numbered(VERSIONS - 1)));
        done.store(true, Ordering::Relaxed);
        clients
            .into_iter()
            .flat_map(|client| client.join().expect("a client"))
            .collect::<BTreeSet<_>>()
    });
    assert!(seen.len() > 1, "{seen:?}");
}

#[test]
fn an_explanation_has_each_clause_and_no_secret() {
    let site = Site::new(
        "version: 1
secret: [header.x-api-key]
policies:
  - name: keys
    match: {path: '/v1/**', header.x-api-key: 'key-*'}
    by: [header.x-api-key]
    missing: deny
    limits: [{name: rate, limit: 20, per: 1s}]
    overrides: [{by: '*', block: true, until: '2020-01-01', reason: TICKET-1}]
  - {name: users, match: {path: /users}, by: [jwt.sub], missing: deny, limits: [{name: rate, limit: 5, per: day, algorithm: fixed_window}]}
",
    );
    let keys = [ApiKey::new("reader", &["read"]), ApiKey::new("checker", &["check"])];
    ApiKey::write(Path::new(&site.path("keys.json")), &keys.each_ref());
    let set = site.path("set.json");
    Issuer::write(Path::new(&set), &[&Issuer::new(Algorithm::ES256)]);
    let settings = site.settings().env("IDENTITY_HASH_KEY", "a secret of digests");
    let settings = settings.env("IDENTITY_JWKS_FILE", &set).env("IDENTITY_ISSUER", Issuer::NAME);
    let settings = settings.env("IDENTITY_AUDIENCE", Issuer::AUDIENCE);
    let gateway = settings.env("API_KEYS_FILE", &site.path("keys.json")).start();
    let ask = |key: &ApiKey, method: &str, path: &str, body: &str| {
        gateway.request(method, path, &[key.header()], body)
    };
    let attributes = json!({ "path": "//v1/x", "header.X-API-Key": "key-of-ann", "unknown": 1 });
    let body = json!({ "attributes": attributes }).to_string();
    let answer = ask(&keys[0], "POST", "/policies/explain", &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(!answer.body.contains("key-of-ann"), "{answer:?}");
    let account: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((&account["policy"], &account["allowed"]), (&json!("keys"), &json!(true)));
    assert_eq!(account["unread"], json!(["unknown"]));
    let clause = json!({ "attribute": "path", "clause": "/v1/**", "value": "/v1/x", "holds": true,
        "reason": "one of the values matches" });
    assert_eq!(account["tried"][0]["clauses"][0], clause);
    let key = account["limits"][0]["key"].as_str().unwrap();
    assert!(key.starts_with("policy:rate:tb:{keys|sha256:"), "{key}");

    // Claims can be written here, and a check takes them from a token only.
    let body = json!({ "attributes": { "path": "/users", "jwt.sub": "ann" } }).to_string();
    let account: Value =
        serde_json::from_str(&ask(&keys[0], "POST", "/policies/explain", &body).body).unwrap();
    assert_eq!(account["limits"][0]["key"], "policy:rate:fw:{users|ann}");
    assert!(account["limits"][0]["window_ms"][1].is_u64(), "{account}");

    let shown = ask(&keys[0], "GET", "/policies", "");
    let warnings = serde_json::from_str::<Value>(&shown.body).unwrap()["warnings"].clone();
    assert!(warnings.to_string().contains("override"), "{warnings}");
    for (method, path) in [("GET", "/policies"), ("POST", "/policies/explain")] {
        assert_eq!(ask(&keys[1], method, path, "{}").status, 403);
        assert_eq!(gateway.request(method, path, &[], "{}").status, 401);
    }
}

#[test]
fn without_a_file_there_are_no_policies() {
    let gateway = Gateway::builder().env("REDIS_URL", "memory://").start();
    for answer in [gateway.get("/policies"), explain(&gateway, &json!({}))] {
        assert_eq!(answer.status, 404);
        assert!(answer.body.contains("NO_POLICIES"), "{answer:?}");
    }
}

#[test]
fn a_request_that_no_policy_can_judge_has_an_error() {
    let site = Site::new(FIRST);
    let gateway = site.settings().start();
    for (body, status, part) in [
        (json!({ "policy": "nowhere" }), 200, r#""error":"there is no policy `nowhere`""#),
        (json!({ "attributes": { "jwt": "x" } }), 422, "an attribute must be"),
        (
            json!({ "limit": 5, "policy": "per-address" }),
            422,
            "limit is for checks without policies",
        ),
        (json!({ "attributes": { "path": "/%" } }), 400, "ATTRIBUTE_MALFORMED"),
        (json!({ "attributes": { "host": "shop:x" } }), 400, "must be a name or an address"),
        (json!({ "attributes": { "client.ip": "me" } }), 400, "must be an address"),
        (json!({ "attributes": [] }), 422, "dict_type"),
    ] {
        let answer = explain(&gateway, &body);
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.body.contains(part), "{answer:?}");
    }
    let missing = explained(&gateway, &json!({ "path": "/login" }));
    assert_eq!((&missing["allowed"], &missing["outcome"]), (&json!(false), &json!("missing")));
}

#[test]
fn the_command_line_explains_a_request_without_a_service() {
    let site = Site::new(
        "version: 1
policies:
  - name: api
    match: {path: '/v1/**'}
    by: [jwt.sub]
    missing: deny
    limits: [{name: rate, limit: 5, per: 1s}]
    overrides: [{by: mallory, block: true, until: '2026-12-24', reason: abuse}]
  - {name: named, match: named, by: [header.cookie], missing: deny, limits: [{name: rate, limit: 5, per: 1s}]}
",
    );
    let file = site.file().display().to_string();
    let run = |words: &[&str]| {
        let words = [&["explain", &file], words].concat();
        let settings = Gateway::builder().env("IDENTITY_HASH_KEY", "0123456789abcdef");
        let (status, output) = settings.env("KEY_PREFIX", "app:").answers(&words);
        (status.code(), output)
    };
    let (code, output) = run(&["path=/v1/x", "jwt.sub=ann"]);
    let account: Value = serde_json::from_str(&output).unwrap();
    assert_eq!((code, &account["policy"]), (Some(0), &json!("api")));
    assert_eq!(account["limits"][0]["key"], "app:policy:rate:tb:{api|ann}");
    let mallory = ["path=/v1/x", "jwt.sub=mallory", "--at"];
    for (at, expected) in [("2026-12-24T23:59:59Z", Some(1)), ("2026-12-25T00:00:00Z", Some(0))] {
        assert_eq!(run(&[&mallory[..], &[at]].concat()).0, expected, "{at}");
    }
    assert_eq!(run(&["path=/v1/x"]).0, Some(1));
    // A file that reads secrets is explained without the secret of digests, with other digests.
    assert!(!run(&["--policy", "named", "header.cookie=c"]).1.contains("note: "));
    let words = ["explain", &file, "--policy", "named", "header.cookie=c"];
    let (status, output) = Gateway::builder().answers(&words);
    assert_eq!(status.code(), Some(0), "{output}");
    assert!(
        output.contains("note: without IDENTITY_HASH_KEY, secret values have other"),
        "{output}"
    );
    for (words, line) in [
        (&["path"][..], "an attribute is NAME=VALUE"),
        (&["path=/%"], "path: each % in a path"),
        (&["--policy", "nowhere"], "there is no policy `nowhere`"),
        (&["--at", "noon"], "a time has a form such as"),
    ] {
        let (code, output) = run(words);
        assert!(code == Some(2) && output.contains(line), "{words:?} {output}");
    }
    let (status, output) = Gateway::builder().answers(&["explain", &site.path("none")]);
    assert!(status.code() == Some(2) && output.contains("No such file"), "{output}");
}

#[test]
fn the_schema_of_the_repository_is_the_one_that_is_printed() {
    let (status, printed) = Gateway::builder().answers(&["schema"]);
    assert!(status.success());
    let path = repository().join("examples/policies/policies.schema.json");
    let kept = fs::read_to_string(path).expect("the schema");
    assert!(kept == printed, "write the output of `ratelimit-gateway schema` to the file");
    let schema: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

const LARGE: &str = "version: 1
policies:
  - name: large
    by: []
    limits: [{name: log, limit: 5000000, per: 1d, algorithm: sliding_window}]
";

#[test]
fn a_limit_that_redis_refuses_is_an_error_of_the_file() {
    let mut server = Server::start();
    let site = Site::new(LARGE);
    let settings = || site.settings().env("REDIS_URL", &server.url());
    let refusal = "line 5, column 14: policy `large`, limit `log`: limit must be an integer between 1 and \
                   1000000; expected a smaller limit, a longer `resolution`, or a larger setting \
                   ratelimit.sliding-window-max-limit of Redis";
    for (status, line) in [settings().fails(), settings().answers(&["--check-config", "--connect"])]
    {
        assert_eq!(status.code(), Some(2), "{line}");
        assert!(line.contains(refusal), "{line}");
    }
    server.client().call::<()>("CONFIG SET ratelimit.sliding-window-max-limit 10000000");
    let gateway = settings().start();
    assert_eq!(page(&gateway)["error"], Value::Null);
    // Another Redis has other settings. The policies stay in force.
    server.restart();
    gateway.check("someone");
    eventually("the refusal is reported", || {
        gateway.check("someone");
        let shown = page(&gateway);
        assert_eq!(shown["version"], version(LARGE).as_str());
        let is_refused =
            shown["error"]["detail"].as_str().is_some_and(|text| text.contains(refusal));
        is_refused.then(|| assert_eq!(shown["error"]["problems"][0]["line"], 5, "{shown}"))
    });
    let log = gateway.log_with("Redis refuses limits of the policies in force");
    assert!(!log.contains("the former ones are in force"), "{log}");
    // The error ends with its cause, and was counted once.
    server.client().call::<()>("CONFIG SET ratelimit.sliding-window-max-limit 10000000");
    eventually("the error is over", || page(&gateway)["error"].is_null().then_some(()));
    let refused = r#"ratelimit_policies_loads_total{outcome="refused"}"#;
    assert_eq!(gateway.metric(refused), 1.0);

    let larger = LARGE.replace("5000000", "50000000");
    site.replace(&larger);
    eventually("the refusal is reported", || page(&gateway)["error"].is_object().then_some(()));
    assert_eq!(page(&gateway)["version"], version(LARGE).as_str());
    gateway.log_with("the former ones are in force");
    server.client().call::<()>("CONFIG SET ratelimit.sliding-window-max-limit 100000000");
    wait_for_version(&gateway, &version(&larger));
    assert_eq!((page(&gateway)["error"].clone(), gateway.metric(refused)), (Value::Null, 2.0));
}

#[test]
fn a_shown_key_is_the_one_in_redis() {
    let server = Server::start();
    let site = Site::new(
        "version: 1
policies: [{name: api, by: [user], missing: deny, limits: [{name: rate, limit: 1, per: 1d}]}]
",
    );
    let settings = site.settings().env("REDIS_URL", &server.url());
    let gateway = settings.env("KEY_PREFIX", "app:").start();
    let attributes = json!({ "user": "ann" });
    let body = json!({ "attributes": attributes }).to_string();
    for _ in 0..2 {
        assert_eq!(gateway.post("/rate-limit/check", &body).status, 200);
    }
    let keys: Vec<String> = server.client().call("KEYS *");
    assert_eq!(keys, ["app:policy:rate:tb:{api|ann}"]);
    assert_eq!(explained(&gateway, &attributes)["limits"][0]["key"], keys[0].as_str());
    let top: Value = serde_json::from_str(&gateway.get("/rate-limit/top").body).unwrap();
    assert_eq!(top["top"][0]["identifier"], keys[0].as_str(), "{top}");
}

const NEW_LIMITS: &str = "version: 1
policies:
  - name: several
    match: {path: /several}
    by: []
    limits: [{name: rate, limit: 5, per: 1d}, {name: log, limit: 5, per: 1d, algorithm: sliding_window, resolution: 1m}]
  - name: window
    by: []
    limits: [{name: month, limit: 5, per: month, algorithm: fixed_window}]
";

/// A real server behind a network in which a word of its commands has another first letter: the server
/// then answers as one with an older module.
#[test]
fn a_command_that_an_older_module_lacks_is_an_error_of_the_file() {
    let server = Server::start();
    let site = Site::new(NEW_LIMITS);
    let advice = "load the ratelimit module into Redis, in a version as new as this gateway";
    let missing = |place: &str, name: &str| {
        format!("policy {place}: Redis has no command RATELIMIT.{name}: {advice}")
    };
    for (word, refusal) in [
        ("RATELIMIT.FW", missing("`window`, limit `month`", "FW")),
        ("RATELIMIT.SW", missing("`several`, limit `log`", "SW")),
        ("RATELIMIT.MULTI", missing("`several`, limits `rate`, `log`", "MULTI")),
        ("RESOLUTION", "policy `several`, limit `log`: options must be ".to_owned()),
    ] {
        let proxy = Proxy::to(&server);
        proxy.set(Network::Unknown(word));
        let settings = || site.settings().env("REDIS_URL", &proxy.url());
        let (status, line) = settings().fails();
        assert_eq!(status.code(), Some(2), "{word}: {line}");
        assert!(line.contains(&refusal), "{word}: {line}");
        // The module is replaced by an older one later.
        proxy.set(Network::Sound);
        let gateway = settings().start();
        assert_eq!(page(&gateway)["error"], Value::Null, "{word}");
        proxy.set(Network::Unknown(word));
        // No call fails: the connection is lost between two calls.
        proxy.reset_all();
        eventually("the missing command is reported", || {
            let shown = page(&gateway);
            shown["error"]["detail"].as_str().filter(|detail| detail.contains(&refusal)).map(|_| ())
        });
        proxy.set(Network::Sound);
        proxy.reset_all();
        eventually("the error is over", || page(&gateway)["error"].is_null().then_some(()));
    }
    // Without the module there is no answer about limits: FAIL_MODE decides, as without Redis.
    let bare = Server::builder().without_module().start();
    let gateway = site.settings().env("REDIS_URL", &bare.url()).start();
    assert_eq!(page(&gateway)["error"], Value::Null);
    assert_eq!(gateway.get("/health/ready").status, 503);
}

const PLANS: &str = "version: 1
plans:
  free: [{name: rate, limit: 10, per: 1h}, {name: yearly, limit: 100, per: year, algorithm: fixed_window}]
  pro: [{name: rate, limit: 100, per: 1h, algorithm: sliding_window}, {name: yearly, limit: 1000, per: year, algorithm: fixed_window}]
policies:
  - name: api
    by: [user]
    missing: deny
    plan: {from: plan, default: free}
    overrides: [{by: mallory, block: true, reason: abuse}]
";

#[test]
fn limits_of_a_policy_are_read_reset_and_given_back_by_the_body_of_a_check() {
    let server = Server::start();
    let site = Site::new(PLANS);
    let gateway = site.settings().env("REDIS_URL", &server.url()).start();
    let body = |user: &str, plan: &str, cost: u32| {
        json!({ "attributes": { "user": user, "plan": plan }, "cost": cost }).to_string()
    };
    let post = |path: &str, body: &str| -> Value {
        let answer = gateway.post(path, body);
        assert_eq!(answer.status, 200, "{path} {answer:?}");
        serde_json::from_str(&answer.body).expect("JSON")
    };
    let used = |plan: &str| {
        let status = post("/rate-limit/status", &body("ann", plan, 1));
        assert_eq!((&status["policy"], &status["plan"]), (&json!("api"), &json!(plan)));
        let limits = status["limits"].as_array().expect("limits").clone();
        let used = |limit: &Value| limit["requests_used"].as_u64().expect("a number");
        limits.iter().map(used).collect::<Vec<_>>()
    };
    assert_eq!(used("free"), [0, 0]);
    for (plan, cost) in [("free", 4), ("pro", 5)] {
        assert_eq!(post("/rate-limit/check", &body("ann", plan, cost))["allowed"], true);
    }
    // The limits of one name and kind share their state across the plans.
    assert_eq!((used("free"), used("pro")), (vec![4, 9], vec![5, 9]));
    let explained = post("/policies/explain", &body("ann", "free", 7));
    assert_eq!(
        (&explained["allowed"], &explained["limits"][0]["state"]["remaining"]),
        (&json!(false), &json!(6))
    );

    let refunded = post("/rate-limit/refund", &body("ann", "free", 3));
    assert_eq!(refunded["limits"][0], json!({ "name": "rate", "refunded": 3 }));
    assert_eq!((used("free"), used("pro")), (vec![1, 6], vec![5, 6]));
    let amount = json!({ "policy": "api", "attributes": { "user": "ann" }, "amount": 1 });
    let refunded = post("/rate-limit/refund", &amount.to_string());
    assert_eq!(refunded["limits"][1], json!({ "name": "yearly", "refunded": 1 }));
    assert_eq!((used("free"), used("pro")), (vec![0, 5], vec![5, 5]));

    // Another identity keeps its units.
    post("/rate-limit/check", &body("ben", "free", 2));
    let message = post("/rate-limit/reset", &body("ann", "free", 1))["message"].clone();
    assert_eq!(message, "Rate limit reset for the policy api");
    assert_eq!((used("free"), used("pro")), (vec![0, 0], vec![0, 0]));
    assert_eq!(server.client().call::<i64>("DBSIZE"), 2);

    let blocked = post("/rate-limit/status", &body("mallory", "free", 1));
    assert_eq!((&blocked["allowed"], &blocked["limits"]), (&json!(false), &json!([])));
    assert_eq!(blocked["override"]["reason"], "abuse");
}

#[test]
fn limits_of_callers_can_be_refused() {
    let site = Site::new(FIRST);
    let gateway = site.settings().env("INLINE_LIMITS", "false").start();
    let limit =
        json!({ "identifier": "x", "algorithm": "token_bucket", "limit": 5, "window_seconds": 1 });
    for (path, body) in [
        ("/rate-limit/leases", json!({ "identifier": "x", "limit": 5, "ttl_seconds": 5 })),
        ("/rate-limit/reserve", json!({ "reservation": "r", "ttl_seconds": 5, "limits": [limit] })),
    ] {
        let answer = gateway.post(path, &body.to_string());
        assert_eq!(answer.status, 403, "{path} {answer:?}");
        assert!(answer.body.contains("INLINE_LIMITS"), "{answer:?}");
    }
}

#[test]
fn claims_come_from_a_verified_token_of_the_end_user() {
    let site = Site::new(
        "version: 1
policies:
  - name: users
    by: [jwt.sub]
    missing: deny
    plan: {from: jwt.realm.plan, default: free}
plans:
  free: [{name: rate, limit: 1, per: 1h}]
  pro: [{name: rate, limit: 2, per: 1h}]
",
    );
    let [issuer, forger] = [(); 2].map(|()| Issuer::new(Algorithm::ES256));
    let set = site.path("set.json");
    Issuer::write(Path::new(&set), &[&issuer]);
    let settings = || {
        let settings = site.settings().env("IDENTITY_JWKS_FILE", &set);
        settings.env("IDENTITY_AUDIENCE", Issuer::AUDIENCE).env("IDENTITY_ISSUER", Issuer::NAME)
    };
    // Without keys each request would lack the claims.
    for (status, line) in [site.settings().fails(), site.settings().answers(&["--check-config"])] {
        assert_eq!(status.code(), Some(2), "{line}");
        assert!(line.starts_with("IDENTITY_JWKS_FILE: ") && line.contains("`jwt."), "{line}");
    }
    let gateway = settings().start();
    let explained = |token: &str| -> Value {
        let answer = explain(&gateway, &json!({ "token": token }));
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_str(&answer.body).expect("JSON")
    };
    let claims = json!({ "realm": { "plan": "pro" } });
    let token = issuer.token_that_says("ann", &claims);
    let account = explained(&token);
    assert_eq!((&account["plan"], &account["outcome"]), (&json!("pro"), &json!("limited")));
    assert_eq!(account["limits"][0]["key"], "policy:rate:tb:{users|ann}");
    let expired = json!({ "exp": 1, "realm": { "plan": "pro" } });
    for token in [forger.token("ann", ""), issuer.token_that_says("ann", &expired), "x".to_owned()]
    {
        assert_eq!(explained(&token)["outcome"], "missing");
    }
    // Another key set holds within two seconds, also for tokens that were verified before.
    Issuer::write(Path::new(&set), &[&forger]);
    eventually("the new keys are in use", || {
        (explained(&token)["outcome"] == "missing").then_some(())
    });
    assert_eq!(explained(&forger.token("ann", ""))["outcome"], "limited");

    fs::write(&set, "{}").unwrap();
    let (status, line) = settings().answers(&["--check-config"]);
    assert!(status.code() == Some(2) && line.starts_with("IDENTITY_JWKS_FILE: "), "{line}");
}
