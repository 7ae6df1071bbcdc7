//! Authentication and authorization of callers: keys, tokens and scopes.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use ratelimit_test_tokens::Algorithm;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{ApiKey, Gateway, Issuer, Response, eventually};

/// Every operation that requires a scope, with its body and the scope.
const GUARDED: [(&str, &str, &str, &str); 5] = [
    ("POST", "/rate-limit/check", r#"{"identifier": "user"}"#, "check"),
    ("POST", "/rate-limit/check/batch", r#"{"checks": [{"identifier": "user"}]}"#, "check"),
    ("POST", "/rate-limit/refund", r#"{"identifier": "user", "amount": 1}"#, "reset"),
    ("GET", "/rate-limit/status/user", "", "read"),
    ("DELETE", "/rate-limit/reset/user", "", "reset"),
];

/// Every operation that requires no authentication.
const OPEN: [&str; 8] = [
    "/",
    "/docs",
    "/redoc",
    "/openapi.json",
    "/health",
    "/health/live",
    "/health/ready",
    "/metrics",
];

/// The files with the keys of callers, and the settings of the gateways.
struct Site {
    directory: TempDir,
    settings: Vec<(&'static str, String)>,
}

impl Site {
    /// Returns settings without Redis, because few of these tests depend on Redis.
    fn new() -> Self {
        let settings = vec![("REDIS_URL", "memory://".to_owned())];
        Self { directory: TempDir::new().unwrap(), settings }
    }

    /// Requires one of these keys.
    fn keys(self, keys: &[&ApiKey]) -> Self {
        ApiKey::write(&self.keys_file(), keys);
        let path = self.keys_file().display().to_string();
        self.set("API_KEYS_FILE", &path)
    }

    /// Requires a token of one of these issuers.
    fn issuers(self, issuers: &[&Issuer]) -> Self {
        Issuer::write(&self.key_set(), issuers);
        let path = self.key_set().display().to_string();
        self.set("JWT_JWKS_FILE", &path)
            .set("JWT_AUDIENCE", Issuer::AUDIENCE)
            .set("JWT_ISSUER", Issuer::NAME)
    }

    fn set(mut self, name: &'static str, value: &str) -> Self {
        self.settings.push((name, value.to_owned()));
        self
    }

    fn keys_file(&self) -> PathBuf {
        self.directory.path().join("keys.json")
    }

    fn key_set(&self) -> PathBuf {
        self.directory.path().join("jwks.json")
    }

    fn gateway(&self) -> Gateway {
        let builder = Gateway::builder();
        self.settings
            .iter()
            .fold(builder, |builder, (name, value)| builder.env(name, value))
            .start()
    }
}

fn status(gateway: &Gateway, header: (&str, &str)) -> u16 {
    gateway.request("GET", "/rate-limit/status/user", &[header], "").status
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// Asserts that the answer refuses a request without credentials or, if `has_credentials`, with
/// invalid credentials.
fn assert_unauthenticated(answer: &Response, has_credentials: bool) {
    let body = r#"{"detail":"Not authenticated","error_code":"UNAUTHENTICATED"}"#;
    assert_eq!((answer.status, answer.body.as_str()), (401, body));
    let challenge = match has_credentials {
        true => r#"Bearer realm="ratelimit", error="invalid_token""#,
        false => r#"Bearer realm="ratelimit""#,
    };
    assert_eq!(answer.header("WWW-Authenticate"), Some(challenge));
}

#[test]
fn each_route_asks_for_its_scope() {
    let keys = ["check", "read", "reset"].map(|scope| (scope, ApiKey::new(scope, &[scope])));
    let site = Site::new().keys(&keys.each_ref().map(|(_, key)| key));
    let gateway = site.gateway();
    for (method, path, body, scope) in GUARDED {
        for (own, key) in &keys {
            let answer = gateway.request(method, path, &[key.header()], body);
            if *own == scope {
                assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
                continue;
            }
            let expected = format!(
                r#"{{"detail":"The caller needs the scope {scope}","error_code":"FORBIDDEN"}}"#
            );
            assert_eq!((answer.status, answer.body), (403, expected), "{method} {path} {own}");
            let challenge =
                format!(r#"Bearer realm="ratelimit", error="insufficient_scope", scope="{scope}""#);
            let headers = answer.headers.iter().any(|(_, value)| *value == challenge);
            assert!(headers, "{challenge} in {:?}", answer.headers);
        }
        assert_unauthenticated(&gateway.request(method, path, &[], body), false);
        for header in [("X-API-Key", "x"), ("Authorization", "Bearer x")] {
            assert_unauthenticated(&gateway.request(method, path, &[header], body), true);
        }
    }
}

#[test]
fn every_client_may_call_when_no_file_lists_callers() {
    let site = Site::new();
    let gateway = site.gateway();
    for (method, path, body, _) in GUARDED {
        assert_eq!(gateway.request(method, path, &[], body).status, 200);
        assert_eq!(gateway.request(method, path, &[("X-API-Key", "x")], body).status, 200);
    }
    let document = gateway.get("/openapi.json").body;
    assert!(!document.contains("security") && !document.contains("401"), "{document}");
}

#[test]
fn routes_without_data_of_callers_are_open() {
    let site = Site::new().keys(&[]);
    let gateway = site.gateway();
    for path in OPEN {
        assert_eq!(gateway.get(path).status, 200, "{path}");
    }
    assert_eq!(gateway.get("/unknown").status, 404);
    assert_eq!(gateway.get("/rate-limit/check").status, 405);
    // A browser sends a preflight request first, without the key.
    let asked = [
        ("Origin", "https://example.com"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization,content-type,x-api-key"),
    ];
    let allowed = gateway.request("OPTIONS", "/rate-limit/check", &asked, "");
    assert_eq!(allowed.status, 200);
    let headers = allowed.header("Access-Control-Allow-Headers");
    assert_eq!(headers, Some("authorization,content-type,x-api-key"));
    // A page can read the error of its call.
    let refused = gateway.request("POST", "/rate-limit/check", &asked[..1], "{}");
    assert_eq!((refused.status, refused.header("Access-Control-Allow-Origin")), (401, Some("*")));
    assert!(refused.header("Access-Control-Expose-Headers").unwrap().contains("www-authenticate"));
}

#[test]
fn metrics_can_be_for_callers_that_may_read() {
    let keys = [ApiKey::new("reader", &["read"]), ApiKey::new("checker", &["check"])];
    let site = Site::new().keys(&keys.each_ref()).set("METRICS_OPEN", "false");
    let gateway = site.gateway();
    assert_unauthenticated(&gateway.get("/metrics"), false);
    let answer = |key: &ApiKey| gateway.request("GET", "/metrics", &[key.header()], "");
    assert_eq!([answer(&keys[0]).status, answer(&keys[1]).status], [200, 403]);
    let metrics = answer(&keys[0]).body;
    for line in [
        r#"ratelimit_auth_failures_total{reason="missing"} 1"#,
        r#"ratelimit_auth_failures_total{reason="expired"} 0"#,
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line}\n{metrics}");
    }
}

#[test]
fn the_description_lists_the_authentication_of_each_operation() {
    let issuer = Issuer::new(Algorithm::HS256);
    let site = Site::new().keys(&[]).issuers(&[&issuer]).set("METRICS_OPEN", "false");
    let gateway = site.gateway();
    let document: Value = serde_json::from_str(&gateway.get("/openapi.json").body).unwrap();
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!(schemes["apiKey"]["name"], "x-api-key");
    assert_eq!(
        (&schemes["apiKey"]["in"], &schemes["bearer"]["scheme"]),
        (&json!("header"), &json!("bearer"))
    );
    let mut guarded = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let answer = gateway.request(&method.to_uppercase(), path, &[], "");
            let scope = &operation["security"][0]["apiKey"][0];
            if scope.is_null() {
                assert_eq!(answer.status, 200, "{method} {path}");
                continue;
            }
            guarded += 1;
            assert_unauthenticated(&answer, false);
            assert_eq!(*scope, operation["security"][1]["bearer"][0]);
            for status in ["401", "403"] {
                let schema = &operation["responses"][status]["content"]["application/json"];
                assert_eq!(schema["schema"]["$ref"], "#/components/schemas/ErrorBody", "{path}");
            }
        }
    }
    assert!(guarded > GUARDED.len());
}

#[test]
fn a_caller_is_authenticated_before_its_body_is_read() {
    let site = Site::new().keys(&[]);
    let gateway = site.gateway();
    let mut socket = TcpStream::connect(gateway.address()).unwrap();
    let head = b"POST /rate-limit/check HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n";
    socket.write_all(head).unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
}

#[test]
fn a_caller_that_sends_a_large_body_first_reads_the_refusal() {
    let site = Site::new().keys(&[]);
    let gateway = site.gateway();
    // The body is larger than the buffers of the sockets, so the gateway must read it.
    let body = "x".repeat(12_000_000);
    assert_unauthenticated(&gateway.post("/rate-limit/check", &body), false);
}

#[test]
fn a_change_of_the_keys_holds_without_a_restart() {
    let [old, new] = ["old", "new"].map(|name| ApiKey::new(name, &["read"]));
    let site = Site::new().keys(&[&old]);
    let gateway = site.gateway();
    let statuses = || [&old, &new].map(|key| status(&gateway, key.header()));
    assert_eq!(statuses(), [200, 401]);

    ApiKey::write(&site.keys_file(), &[&new]);
    eventually("the new key is known", || (statuses() == [401, 200]).then_some(()));

    fs::write(site.keys_file(), r#"{"keys": [{"name": "old"}]}"#).unwrap();
    let line = "a changed file is not valid; the former content is used";
    eventually("the fault is logged", || gateway.log().contains(line).then_some(()));
    assert_eq!(statuses(), [401, 200]);

    ApiKey::write(&site.keys_file(), &[&old, &new]);
    eventually("the file is good again", || (statuses() == [200, 200]).then_some(()));
}

#[test]
fn tokens_of_each_algorithm_are_verified() {
    let issuers = [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256].map(Issuer::new);
    let site = Site::new().issuers(&issuers.each_ref());
    let gateway = site.gateway();
    for issuer in &issuers {
        let token = bearer(&issuer.token("alice", "openid read"));
        assert_eq!(status(&gateway, ("Authorization", &token)), 200);
        let answer =
            gateway.request("DELETE", "/rate-limit/reset/user", &[("Authorization", &token)], "");
        assert_eq!(answer.status, 403);

        let scope = "read";
        for claims in [
            json!({ "scope": scope, "exp": 1_000_000_000 }),
            json!({ "scope": scope, "nbf": 4_000_000_000_u64 }),
            json!({ "scope": scope, "aud": "another" }),
            json!({ "scope": scope, "iss": "https://another.example" }),
            json!({ "scope": scope, "iss": [Issuer::NAME] }),
        ] {
            let token = bearer(&issuer.token_that_says("alice", &claims));
            let headers = [("Authorization", token.as_str())];
            let answer = gateway.request("GET", "/rate-limit/status/user", &headers, "");
            assert_unauthenticated(&answer, true);
        }
        // The token is valid, but `X-API-Key` takes keys only.
        let token = issuer.token("alice", "read");
        assert_eq!(status(&gateway, ("X-API-Key", &token)), 401);
    }
}

#[test]
fn a_new_key_set_holds_without_a_restart() {
    let (old, new) = (Issuer::new(Algorithm::ES256), Issuer::new(Algorithm::RS256));
    let site = Site::new().issuers(&[&old]);
    let gateway = site.gateway();
    let tokens = [&old, &new].map(|issuer| bearer(&issuer.token("alice", "read")));
    let statuses =
        || tokens.each_ref().map(|token| status(&gateway, ("Authorization", token.as_str())));
    assert_eq!(statuses(), [200, 401]);
    Issuer::write(&site.key_set(), &[&old, &new]);
    eventually("both issuers are known", || (statuses() == [200, 200]).then_some(()));
    Issuer::write(&site.key_set(), &[&new]);
    eventually("the old one is forgotten", || (statuses() == [401, 200]).then_some(()));
}

/// Inserts keys that cannot be used before the keys of a set.
fn add_unusable_keys(path: &Path) {
    let mut set: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let unusable = [
        json!({ "kty": "RSA", "n": "_".repeat(172), "e": "AQAB" }),
        json!({ "kty": "oct", "kid": "no-value" }),
        json!({ "alg": "RS256" }),
    ];
    set["keys"].as_array_mut().unwrap().splice(0..0, unusable);
    fs::write(path, set.to_string()).unwrap();
}

#[test]
fn a_key_that_cannot_be_used_leaves_the_others() {
    let (old, new) = (Issuer::new(Algorithm::ES256), Issuer::new(Algorithm::RS256));
    let site = Site::new().issuers(&[&old]);
    add_unusable_keys(&site.key_set());
    let gateway = site.gateway();
    let tokens = [&old, &new].map(|issuer| bearer(&issuer.token("alice", "read")));
    let statuses =
        || tokens.each_ref().map(|token| status(&gateway, ("Authorization", token.as_str())));
    assert_eq!(statuses(), [200, 401]);
    for fault in ["n must have 2048 to 8192 bits; it has 1032", "must have k", "kty is missing"] {
        let log = gateway.log_with(fault);
        let line = log.lines().find(|line| line.contains(fault)).unwrap();
        assert!(line.contains(r#""level":"WARN""#), "{line}");
    }

    Issuer::write(&site.key_set(), &[&new]);
    add_unusable_keys(&site.key_set());
    eventually("the new issuer is known", || (statuses() == [401, 200]).then_some(()));

    Issuer::write(&site.key_set(), &[]);
    add_unusable_keys(&site.key_set());
    gateway.log_with("a changed file is not valid; the former content is used");
    assert_eq!(statuses(), [401, 200]);
}

#[test]
fn scopes_are_in_the_claim_of_the_settings() {
    let issuer = Issuer::new(Algorithm::HS256);
    let site = Site::new().issuers(&[&issuer]);
    let site = site.set("JWT_SCOPE_CLAIM", "permissions,realm_access.roles");
    let gateway = site.set("JWT_SCOPE_PREFIX", "limits:").gateway();
    for (claims, expected) in [
        (json!({ "permissions": ["limits:read"] }), 200),
        (json!({ "realm_access": { "roles": ["other", "limits:read"] } }), 200),
        (json!({ "permissions": ["read"], "scope": "limits:read" }), 403),
        (json!({ "permissions": { "limits:read": true } }), 401),
    ] {
        let token = bearer(&issuer.token_that_says("alice", &claims));
        assert_eq!(status(&gateway, ("Authorization", &token)), expected, "{claims}");
    }
}

#[test]
fn keys_and_tokens_are_valid_side_by_side() {
    let (key, issuer) = (ApiKey::new("shop", &["read"]), Issuer::new(Algorithm::HS256));
    let site = Site::new().keys(&[&key]).issuers(&[&issuer]);
    let gateway = site.gateway();
    let (key_bearer, token) = (bearer(&key.key), bearer(&issuer.token("alice", "read")));
    for header in [key.header(), ("Authorization", &key_bearer), ("Authorization", &token)] {
        assert_eq!(status(&gateway, header), 200);
    }
    assert_eq!(status(&gateway, ("Authorization", "Bearer x")), 401);
}

#[test]
fn the_log_has_the_caller_and_the_reason_of_a_refusal_but_no_secret() {
    let (key, issuer) = (ApiKey::new("shop", &["read"]), Issuer::new(Algorithm::HS256));
    let (good, expired) =
        (issuer.token("alice", "read"), issuer.token_that_says("alice", &json!({ "exp": 1 })));
    for (format, parts) in [
        ("json", [r#""caller":"key:shop""#, r#""caller":"token:alice""#, r#""refusal":"expired""#]),
        ("text", ["caller=key:shop", "caller=token:alice", r#"refusal="expired""#]),
    ] {
        let site = Site::new().keys(&[&key]).issuers(&[&issuer]);
        let gateway = site.set("LOG_LEVEL", "DEBUG").set("LOG_FORMAT", format).gateway();
        for (secret, expected) in
            [(key.key.as_str(), 200), (&good, 200), (&expired, 401), ("a-wrong-key", 401)]
        {
            assert_eq!(status(&gateway, ("Authorization", &bearer(secret))), expected);
            status(&gateway, ("X-API-Key", secret));
        }
        let (_, log) = gateway.terminate();
        for part in parts {
            assert!(log.contains(part), "{part}\n{log}");
        }
        let signature = good.rsplit('.').next().unwrap();
        for secret in [key.key.as_str(), key.hash(), &good, signature, &expired, "a-wrong-key"] {
            assert!(!log.contains(secret), "{secret}\n{log}");
        }
    }
}

#[test]
fn files_that_cannot_be_used_stop_the_start_with_one_line() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("file.json");
    let name = path.display().to_string();
    for (variable, content, fault) in [
        ("API_KEYS_FILE", None, "No such file or directory (os error 2)"),
        (
            "API_KEYS_FILE",
            Some(r#"{"keys": [{"name": "a b", "sha256": "", "scopes": []}]}"#),
            "key 1 (\"a b\"): a name is 1 to 128 visible ASCII characters without spaces",
        ),
        (
            "JWT_JWKS_FILE",
            Some(r#"{"keys": []}"#),
            "the set has no key for signatures by HS256, RS256 or ES256",
        ),
    ] {
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        let mut builder = Gateway::builder().env(variable, &name);
        if variable == "JWT_JWKS_FILE" {
            builder = builder.env("JWT_AUDIENCE", "me").env("JWT_ISSUER", "it");
        }
        let (status, output) = builder.fails();
        assert_eq!(status.code(), Some(2));
        assert_eq!(output, format!("{variable}: {name}: {fault}\n"));
    }
}

#[test]
fn a_new_key_works_with_its_printed_entry() {
    let answer = |words: &[&str]| Gateway::builder().answers(words);
    let (status, output) = answer(&["new-api-key", "shop", "check,read"]);
    let [key, entry] = output.lines().collect::<Vec<_>>()[..] else { panic!("{output}") };
    assert!(status.success() && !entry.contains(key), "{output}");

    let site = Site::new().keys(&[]);
    fs::write(site.keys_file(), format!(r#"{{"keys": [{entry}]}}"#)).unwrap();
    let gateway = site.gateway();
    assert_eq!(status_of_key(&gateway, key), [200, 200, 403]);

    for (words, line) in [
        (
            &["new-api-key", "two words", "check"][..],
            "new-api-key: a name is 1 to 128 visible ASCII characters without spaces\n",
        ),
        (
            &["new-api-key", "shop", "check,admin"],
            "new-api-key: \"admin\" is not a scope; those are check, read, reset, force\n",
        ),
        (
            &["new-api-key", "shop"],
            "the following required arguments were not provided: <SCOPES>; see --help\n",
        ),
    ] {
        let (status, output) = answer(words);
        assert_eq!((status.code(), output.as_str()), (Some(2), line));
    }
}

/// Returns the statuses of a check, a peek and a reset with this key.
fn status_of_key(gateway: &Gateway, key: &str) -> [u16; 3] {
    let request =
        |method, path, body| gateway.request(method, path, &[("X-API-Key", key)], body).status;
    [
        request("POST", "/rate-limit/check", r#"{"identifier": "user"}"#),
        request("GET", "/rate-limit/status/user", ""),
        request("DELETE", "/rate-limit/reset/user", ""),
    ]
}
