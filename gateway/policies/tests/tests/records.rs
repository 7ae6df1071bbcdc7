//! Records of requests, for logs.

use policies::attributes::{Attributes, ClaimSource, Claims, RequestError};
use policies::digest::HashKey;
use policies::model::Entry;
use policies::record::RecordedValue;

use super::{NOW, load, options, policies};

const FILE: &str = "
version: 1
secret: [header.x-api-key]
policies:
  - name: partner
    match: {header.x-api-key: [k-partner, k-other]}
    by: [header.x-api-key]
    missing: deny
    limits: [{name: r, limit: 5, per: 1m}]
  - {name: api, match: {path: /v1/**}, by: [header.x-api-key, client.ip/24/56], missing: skip, limits: [{name: r, limit: 5, per: 1m}]}
  - {name: claims, match: {jwt.groups: staff}, by: [word], missing: share, limits: [{name: r, limit: 5, per: 1m}]}
";

/// The key of the digests of `options`.
fn hash_key() -> HashKey {
    options().hash_key.unwrap()
}

fn digest(text: &str) -> String {
    hash_key().digest(text.as_bytes())
}

fn text(text: &str) -> RecordedValue {
    RecordedValue::Text(text.to_owned())
}

/// Claims whose token is not verified.
struct Unverified;

impl ClaimSource for Unverified {
    fn claims(&self) -> Option<&Claims> {
        panic!("a record verifies no token")
    }

    fn is_known(&self) -> bool {
        false
    }
}

#[test]
fn a_record_has_what_policies_read_and_no_secret() {
    let policies = policies(FILE);
    let claims: Claims = serde_json::from_str(r#"{"groups": ["staff", 7], "sub": "ann"}"#).unwrap();
    let mut attributes = Attributes::new(Entry::Authz, policies.path_form());
    attributes.set_target(b"/v1/%61?secret=1").unwrap();
    attributes.set_method(b"GET");
    attributes.add_header("X-Api-Key", &b"k-1"[..]);
    attributes.add_header("Cookie", &b"session"[..]);
    attributes.set("client.ip", "2001:db8::1").unwrap();
    attributes.set_bytes("word", b"\xff\0").unwrap();
    attributes.set_claims(&claims);
    let expected = [
        ("client.ip", text("2001:db8::1")),
        ("header.x-api-key", text(&digest("k-1"))),
        ("jwt.groups", RecordedValue::List(["staff", "7"].map(str::to_owned).into())),
        ("path", text("/v1/a")),
        ("word", RecordedValue::Bytes { hex: vec![0xff, 0] }),
    ];
    assert_eq!(policies.record(&attributes), expected);
    let hex = serde_json::to_string(&expected[4].1).unwrap();
    assert_eq!(hex, r#"{"hex":"ff00"}"#);
    assert_eq!(RecordedValue::from_hex("ff00"), Some(expected[4].1.clone()));
    for wrong in ["f", "fg", "\u{e9}"] {
        assert_eq!(RecordedValue::from_hex(wrong), None, "{wrong}");
    }
    attributes.set_claims(&Unverified);
    assert!(policies.record(&attributes).iter().all(|(name, _)| *name != "jwt.groups"));
}

#[test]
fn each_group_of_secret_addresses_has_a_digest_of_its_own() {
    let policies = policies(
        "{version: 1, secret: [client.ip], policies: [{name: a, by: [client.ip/24/56], missing: \
         skip, limits: [{name: r, limit: 5, per: 1m, by: [client.ip]}]}]}",
    );
    let mut attributes = Attributes::new(Entry::Check, policies.path_form());
    attributes.set("client.ip", "203.0.113.7").unwrap();
    let keys: Vec<_> = policies.record(&attributes).into_iter().map(|(name, _)| name).collect();
    assert_eq!(keys, ["client.ip", "client.ip/24/56"]);
    let record = policies.record(&attributes);
    assert_ne!(record[0].1, record[1].1);
    let key = &policies.judge(&attributes, NOW).unwrap().limits[0].key;
    let RecordedValue::Text(alone) = &record[0].1 else { panic!("{record:?}") };
    assert_eq!(*key, format!("policy:r:tb:{{a|{alone}}}"));
}

#[test]
fn a_glob_without_a_star_is_compared_with_a_digest_and_another_needs_the_value() {
    let file = policies(FILE);
    let applied = |value: &RecordedValue, key: Option<&HashKey>| {
        let mut attributes = Attributes::new(Entry::Check, file.path_form());
        file.restore(&mut attributes, "header.x-api-key", value, key).unwrap();
        attributes.set("path", "/v1").unwrap();
        let judged = file.judge(&attributes, NOW);
        judged.map(|judgement| judgement.policy.map(|policy| policy.name.to_string()))
    };
    let (key, secret) = (hash_key(), RequestError::Secret("header.x-api-key".into()));
    let partner = text(&digest("k-partner"));
    assert_eq!(applied(&partner, Some(&key)), Ok(Some("partner".to_owned())));
    // The policy `api` needs an address, and `claims` a claim.
    assert_eq!(applied(&text(&digest("k-1")), Some(&key)), Ok(None));
    assert_eq!(applied(&partner, None), Err(secret.clone()));
    for (clause, expected) in [
        ("'k-*'", Err(secret.clone())),
        ("'*'", Ok(true)),
        ("[k-partner, 'k-*']", Ok(true)),
        ("{not: 'x-*'}", Err(secret.clone())),
        ("{not: k-other}", Ok(true)),
        ("{not: [k-partner, 'x-*']}", Ok(false)),
        ("{exists: true}", Ok(true)),
        ("{exists: false}", Ok(false)),
    ] {
        for shadow in [false, true] {
            let file = format!(
                "{{version: 1, policies: [{{name: a, match: {{header.cookie: {clause}}}, by: [], \
                 shadow: {shadow}, limits: [{{name: r, limit: 5, per: 1m}}]}}]}}"
            );
            let policies = policies(&file);
            let mut attributes = Attributes::new(Entry::Check, policies.path_form());
            policies.restore(&mut attributes, "header.cookie", &partner, Some(&key)).unwrap();
            let judged = policies.judge(&attributes, NOW);
            let applied =
                judged.map(|judged| judged.policy.is_some() || !judged.shadows.is_empty());
            let expected =
                expected.clone().map_err(|_| RequestError::Secret("header.cookie".into()));
            assert_eq!(applied, expected, "{clause}");
        }
    }
}

#[test]
fn a_secret_that_names_a_cost_or_a_plan_needs_the_key_of_digests() {
    let plans = "plans: {p: [{name: r, limit: 5, per: 1m}]}";
    for policy in [
        "plan: {from: header.cookie, default: p, trusted: true}",
        "limits: [{name: r, limit: 5, per: 1m, cost: {from: header.cookie, default: 1, trusted: true}}]",
    ] {
        let file = format!("{{version: 1, {plans}, policies: [{{name: a, by: [], {policy}}}]}}");
        assert!(load(&file).is_ok(), "{file}");
        let options = policies::LoadOptions { hash_key: None, ..options() };
        let error = policies::Policies::load(file.as_bytes(), &options).unwrap_err();
        assert!(error.to_string().contains("IDENTITY_HASH_KEY"), "{error}");
        let policies = policies(&file);
        let value = text(&digest("p"));
        let mut attributes = Attributes::new(Entry::Check, policies.path_form());
        policies.restore(&mut attributes, "header.cookie", &value, None).unwrap();
        let expected = RequestError::Secret("header.cookie".into());
        assert_eq!(policies.judge(&attributes, NOW).unwrap_err(), expected);
    }
}
