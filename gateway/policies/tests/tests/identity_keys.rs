use policies::Kind;
use policies::attributes::RequestError;
use policies::model::Entry;

use super::{NOW, policies, request};

const FILE: &str = "
version: 1
plans:
  free: [{name: rate, limit: 1, per: 1s}, {name: all, limit: 1, per: 1h, by: []}]
  pro: [{name: rate, limit: 2, per: 1s}, {name: log, limit: 2, per: 1s, algorithm: sliding_window}]
policies:
  - name: trial
    match: {path: /a}
    by: []
    limits: [{name: rate, limit: 1, per: 1s}]
    shadow: true
  - name: api
    match: {path: /a}
    by: [user]
    missing: deny
    plan: {from: plan, default: free}
    overrides: [{by: acme, limits: [{name: own, limit: 3, per: 1s}], reason: x}]
";

/// Returns the policy and the keys of a request.
fn keys(
    policy: Option<&'static str>,
    values: &[(&str, &'static str)],
) -> Option<(String, Vec<String>)> {
    let policies = policies(FILE);
    let mut request = request(&policies, Entry::Check, values);
    policy.into_iter().for_each(|name| request.set_policy(name));
    let keys = policies.identity_keys(&request, NOW).unwrap()?;
    Some((keys.policy.name.to_string(), keys.keys.into_iter().map(|key| key.key).collect()))
}

#[test]
fn the_keys_are_those_of_all_plans_and_overrides() {
    let expected = [
        "policy:rate:tb:{api|ann}",
        "policy:all:tb:{api|}",
        "policy:log:sw:{api|ann}",
        "policy:own:tb:{api|ann}",
    ];
    let expected = Some(("api".to_owned(), expected.map(str::to_owned).to_vec()));
    for plan in ["free", "pro", "none"] {
        assert_eq!(keys(None, &[("path", "/a"), ("user", "ann"), ("plan", plan)]), expected);
    }
    assert_eq!(keys(Some("api"), &[("user", "ann")]), expected);
    // A request that lacks the identity has taken nothing of it.
    let shared = vec!["policy:all:tb:{api|}".to_owned()];
    assert_eq!(keys(None, &[("path", "/a")]), Some(("api".to_owned(), shared)));
    assert_eq!(keys(None, &[("path", "/b")]), None);
    let trial = vec!["policy:rate:tb:{trial|}".to_owned()];
    assert_eq!(keys(Some("trial"), &[]), Some(("trial".to_owned(), trial)));
}

#[test]
fn each_key_has_the_kind_of_its_limit() {
    let policies = policies(FILE);
    let request = request(&policies, Entry::Check, &[("path", "/a"), ("user", "ann")]);
    let keys = policies.identity_keys(&request, NOW).unwrap().unwrap().keys;
    let kinds: Vec<_> = keys.iter().map(|key| (key.name, key.kind)).collect();
    let bucket = |name| (name, Kind::TokenBucket);
    let log = ("log", Kind::SlidingWindow);
    assert_eq!(kinds, [bucket("rate"), bucket("all"), log, bucket("own")]);
    for (values, missing) in
        [(&[("path", "/a")][..], Some("user")), (&[("path", "/a"), ("user", "ann")], None)]
    {
        let request = super::request(&policies, Entry::Check, values);
        let keys = policies.identity_keys(&request, NOW).unwrap().unwrap();
        assert_eq!(keys.missing.map(ToString::to_string).as_deref(), missing);
    }

    let mut unknown = super::request(&policies, Entry::Check, &[]);
    unknown.set_policy("nowhere");
    let error = RequestError::UnknownPolicy("nowhere".into());
    assert_eq!(policies.identity_keys(&unknown, NOW).unwrap_err(), error);
}
