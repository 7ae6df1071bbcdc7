use policies::model::Entry;
use serde_json::{Value, json};

use super::{NOW, policies, request};

const FILE: &str = "
version: 1
secret: [header.x-api-key]
policies:
  - name: trial
    match: {path: /a}
    by: []
    limits: [{name: rate, limit: 1, per: 1s}]
    shadow: true
  - name: keys
    match: {path: /a, header.x-api-key: 'k*', jwt.role: {not: [banned]}}
    by: [header.x-api-key]
    missing: deny
    limits: [{name: rate, limit: 2, per: 1s}]
  - name: rest
    by: []
    limits: [{name: rate, limit: 3, per: 1s}]
";

#[test]
fn each_clause_has_its_value_and_reason_and_secrets_stay_hidden() {
    let policies = policies(FILE);
    let mut values = vec![("path", "/a"), ("header.x-api-key", "key"), ("other", "x")];
    let explain = |values: &[(&str, &'static str)]| {
        let request = request(&policies, Entry::Check, values);
        serde_json::to_value(policies.explain(&request, NOW)).unwrap()
    };
    let explained = explain(&values);
    assert_eq!(explained["policy"], "rest");
    assert_eq!(explained["unread"], json!(["other"]));
    assert_eq!(explained["shadow_limits"][0]["key"], "policy:rate:tb:{trial|}");
    let keys = &explained["tried"][1];
    assert_eq!(
        (&keys["applies"], &keys["reason"]),
        (&json!(false), &json!("a clause does not hold"))
    );
    assert_eq!(
        keys["clauses"],
        json!([
            {"attribute": "path", "clause": "/a", "value": "/a", "holds": true,
             "reason": "one of the values matches"},
            {"attribute": "header.x-api-key", "clause": "(secret)", "value": "(secret)",
             "holds": true, "reason": "one of the values matches"},
            {"attribute": "jwt.role", "clause": "not: banned", "value": null, "holds": false,
             "reason": "the attribute is missing: only `exists: false` holds then"},
        ])
    );
    values.push(("jwt.role", "user"));
    let explained = explain(&values);
    assert_eq!(explained["policy"], "keys");
    let digest = explained["tried"][1]["identity"][0]["value"].as_str().unwrap();
    assert!(digest.starts_with("sha256:") && digest.len() == 39);
    assert_eq!(explained["limits"][0]["key"], format!("policy:rate:tb:{{keys|{digest}}}"));
    assert_eq!(explained["tried"].as_array().map(Vec::len), Some(2));
    assert!(!explained.to_string().contains("key\"}") && explained["error"] == Value::Null);
}

#[test]
fn an_attribute_that_a_limit_alone_lacks_is_named() {
    let policies = policies(
        "version: 1
policies: [{name: a, by: [a], missing: deny, limits: [{name: r, limit: 1, per: 1s}, {name: u, by: [a, u], limit: 1, per: 1s}]}]",
    );
    for name in [None, Some("a")] {
        let mut request = request(&policies, Entry::Check, &[("a", "1")]);
        name.into_iter().for_each(|name| request.set_policy(name));
        let explained = policies.explain(&request, NOW);
        assert_eq!((explained.outcome, explained.allowed), ("missing", false));
        let reason = "`u` is missing, and the policy denies such requests";
        assert_eq!(explained.tried[0].reason, reason);
    }
}

#[test]
fn a_fault_of_the_request_is_explained() {
    let policies = policies(FILE);
    let mut faulty = request(&policies, Entry::Authz, &[("path", "/a"), ("jwt.role", "user")]);
    faulty.add_header("x-api-key", b"k1".as_slice());
    faulty.add_header("X-API-Key", b"k2".as_slice());
    let explained = policies.explain(&faulty, NOW);
    assert_eq!(explained.outcome, "error");
    let text = "`header.x-api-key` must occur at most once";
    assert_eq!(explained.error.as_deref(), Some(text));
    assert_eq!(explained.tried.len(), 2);
    assert_eq!(explained.tried[1].reason, text);
}

#[test]
fn attributes_that_no_policy_reads_are_counted_by_the_names_of_the_file() {
    let policies = policies(FILE);
    let values = [
        ("path", "/a"),
        ("method", "GET"),
        ("identifier", "i"),
        ("header.X-API-KEY", "k"),
        ("header.X-API-Keys", "k"),
        ("query.x", "y"),
        ("api_key", "k"),
        ("jwt.role", "user"),
    ];
    let request = request(&policies, Entry::Check, &values);
    assert_eq!(policies.count_unread(&request), 3);
    let unread = policies.explain(&request, NOW).unread;
    assert_eq!(unread, ["header.x-api-keys", "query.x", "api_key"]);
}
