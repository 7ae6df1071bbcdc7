//! Checks with `force`: costs that are known only afterwards.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{ApiKey, Gateway, NOON, Response, Server, UNAVAILABLE, eventually};

fn post(gateway: &Gateway, check: &Value) -> Response {
    gateway.post("/rate-limit/check", &check.to_string())
}

fn check(algorithm: &str, cost: u32, force: bool) -> Value {
    json!({ "identifier": "user", "algorithm": algorithm, "limit": 10, "window_seconds": 3_600,
        "cost": cost, "force": force })
}

#[test]
fn a_forced_check_takes_more_than_there_is_and_later_checks_wait() {
    let server = Server::at(NOON);
    let redis = Gateway::builder().redis(&server).start();
    let memory = Gateway::builder().clock(server.clock()).env("REDIS_URL", "memory://").start();
    for gateway in [&redis, &memory] {
        for (algorithm, wait) in
            [("token_bucket", 5_760), ("sliding_window", 3_600), ("fixed_window", 3_600)]
        {
            let forced = post(gateway, &check(algorithm, 25, true));
            assert_eq!(forced.status, 200, "{}", forced.body);
            assert!(
                forced.body.starts_with(r#"{"allowed":true,"remaining":0,"#),
                "{}",
                forced.body
            );
            let denied: Value =
                serde_json::from_str(&post(gateway, &check(algorithm, 1, false)).body).unwrap();
            assert_eq!((&denied["allowed"], &denied["remaining"]), (&json!(false), &json!(0)));
            let told = denied["retry_after"].as_f64().unwrap();
            assert!((f64::from(wait) - 60.0..=f64::from(wait)).contains(&told), "{denied}");
            // The deny cache has this denial, and does not answer a forced check.
            let forced = post(gateway, &check(algorithm, 1, true));
            assert!(forced.body.starts_with(r#"{"allowed":true,"#), "{}", forced.body);
            let looked = post(gateway, &check(algorithm, 0, true));
            assert!(looked.body.starts_with(r#"{"allowed":false,"#), "{}", looked.body);
        }
    }
    let status =
        redis.get("/rate-limit/status/user?algorithm=fixed_window&limit=30&window_seconds=3600");
    assert!(status.body.contains(r#""requests_used":26,"#), "{}", status.body);
}

#[test]
fn a_denial_after_a_forced_check_has_the_wait_of_the_debt() {
    let server = Server::at(NOON);
    let gateway = Gateway::builder().redis(&server).start();
    let batch = |checks: &[Value]| {
        gateway.post("/rate-limit/check/batch", &json!({ "checks": checks }).to_string())
    };
    let wait = |answer: &Response| {
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        body["retry_after"].as_f64().unwrap()
    };
    post(&gateway, &check("token_bucket", 10, false));
    let mut told = wait(&post(&gateway, &check("token_bucket", 1, false)));
    for in_batch in [false, true] {
        let forced = check("token_bucket", 10, true);
        let answer = if in_batch { batch(&[forced]) } else { post(&gateway, &forced) };
        assert_eq!(answer.status, 200, "{}", answer.body);
        let more = wait(&post(&gateway, &check("token_bucket", 1, false)));
        assert!(more > told, "{more} after {told}");
        told = more;
    }
}

#[test]
fn a_forced_check_is_refused_in_every_fail_mode() {
    for mode in ["closed", "open", "local"] {
        let mut server = Server::start();
        let gateway = Gateway::builder().redis(&server).env("FAIL_MODE", mode).start();
        server.kill();
        for algorithm in ["token_bucket", "sliding_window", "fixed_window"] {
            let answer = eventually("the gateway has noticed", || {
                Some(post(&gateway, &check(algorithm, 1, true))).filter(|it| it.status == 503)
            });
            assert_eq!(answer.body, UNAVAILABLE, "{mode}");
            let status = if mode == "closed" { 503 } else { 200 };
            assert_eq!(post(&gateway, &check(algorithm, 1, false)).status, status, "{mode}");
        }
    }
}

#[test]
fn a_forced_check_needs_a_scope_of_its_own() {
    let (server, directory) = (Server::at(NOON), TempDir::new().unwrap());
    let path = directory.path().join("keys.json");
    let [both, checks, forces] = [&["check", "force"][..], &["check"], &["force"]]
        .map(|scopes| ApiKey::new(&scopes.join("-"), scopes));
    ApiKey::write(&path, &[&both, &checks, &forces]);
    let builder = Gateway::builder().redis(&server);
    let gateway = builder.env("API_KEYS_FILE", &path.display().to_string()).start();

    let send = |key: &ApiKey, path: &str, body: &Value| {
        gateway.request("POST", path, &[key.header()], &body.to_string())
    };
    let forced = check("fixed_window", 25, true);
    let refusal = |scope: &str| {
        format!(r#"{{"detail":"The caller needs the scope {scope}","error_code":"FORBIDDEN"}}"#)
    };
    for (key, scope) in [(&checks, "force"), (&forces, "check")] {
        let refused = send(key, "/rate-limit/check", &forced);
        assert_eq!((refused.status, &refused.body), (403, &refusal(scope)));
        let challenge =
            format!(r#"Bearer realm="ratelimit", error="insufficient_scope", scope="{scope}""#);
        assert_eq!(refused.header("WWW-Authenticate"), Some(challenge.as_str()));
    }
    assert_eq!(server.client().call::<i64>("DBSIZE"), 0);
    assert_eq!(send(&checks, "/rate-limit/check", &check("fixed_window", 1, false)).status, 200);
    assert_eq!(send(&both, "/rate-limit/check", &forced).status, 200);

    let checks_of = json!({ "checks": [forced, check("token_bucket", 1, false)] });
    let answer = send(&checks, "/rate-limit/check/batch", &checks_of);
    let answer: Value = serde_json::from_str(&answer.body).unwrap();
    let expected = json!({ "status": 403, "detail": "The caller needs the scope force",
        "error_code": "FORBIDDEN" });
    assert_eq!((&answer["results"][0], &answer["results"][1]["status"]), (&expected, &json!(200)));
}

#[test]
fn the_most_debt_is_an_answer_and_no_error() {
    let server = Server::at(NOON);
    let redis = Gateway::builder().redis(&server).start();
    let memory = Gateway::builder().clock(server.clock()).env("REDIS_URL", "memory://").start();
    for gateway in [&redis, &memory] {
        for algorithm in ["token_bucket", "sliding_window", "fixed_window"] {
            let most = check(algorithm, 1_000_000_000, true);
            let allowed = [(); 7].map(|()| {
                let answer = post(gateway, &most);
                assert_eq!(answer.status, 200, "{}", answer.body);
                answer.body.starts_with(r#"{"allowed":true,"#)
            });
            // 4,294,967,295 units are four times the cost and a part of it: the rest was dropped.
            assert_eq!(allowed, [true, true, true, true, false, false, false], "{algorithm}");
            let batch = json!({ "checks": [most] }).to_string();
            let answer = gateway.post("/rate-limit/check/batch", &batch);
            assert!(answer.body.contains(r#""allowed":false,"#), "{}", answer.body);
        }
    }
}
