//! The rules of the conversion.

use std::path::Path;

use import::convert;

use super::{assert_keys, assert_notes, key, load};

#[test]
fn the_example_is_what_the_conversion_makes_of_its_source() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/policies");
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    let conversion = convert(&read("envoyproxy-ratelimit.yaml")).unwrap();
    assert_eq!(conversion.file, read("envoy.yaml"));
    for difference in ["First match", "All or nothing", "Denied requests do not count"] {
        assert!(conversion.notes.iter().any(|note| note.starts_with(difference)), "{difference}");
    }
}

#[test]
fn each_descriptor_gets_the_limit_that_the_service_would_choose() {
    let conversion = convert(
        r#"
domain: d
descriptors:
  - key: a
    rate_limit: {unit: minute, requests_per_unit: 1}
    descriptors:
      - key: b
        value: x
        rate_limit: {unit: week, requests_per_unit: 2}
      - key: b
        rate_limit: {unit: month, requests_per_unit: 3}
  - key: a
    value: closed
    rate_limit: {unit: second, requests_per_unit: 0}
  - key: a
    value: "sh*"
    share_threshold: true
    rate_limit: {unit: HOUR, requests_per_unit: 4}
  - key: generic_key
    value: one
    descriptors:
      - key: generic_key
        value: two*
        rate_limit: {unit: year, requests_per_unit: 9999999999}
  - key: path
    value: /v1/x/
    rate_limit: {unit: day, requests_per_unit: 5}
"#,
    )
    .unwrap();
    let expected = [
        (&[("a", "v")][..], "policy:rate:fw:{a|v}"),
        (&[("a", "v"), ("b", "x")], "policy:rate:fw:{a.b-x|v}"),
        (&[("a", "v"), ("b", "y")], "policy:rate:fw:{a.b|v|y}"),
        // The service descends to the node of the exact value, which has no children.
        (&[("a", "closed"), ("b", "y")], ""),
        (&[("a", "closed")], "a-closed"),
        (&[("a", "shop")], "policy:rate:fw:{a-sh|}"),
        (&[("b", "x")], ""),
        (&[("generic_key", "one")], ""),
        (
            &[("generic_key", "one"), ("generic_key", "two2")],
            "policy:rate:fw:{generic_key-one.generic_key-two|one/two2}",
        ),
        (&[("path", "/v1/x")], "policy:rate:fw:{path-v1-x|}"),
        (&[("c", "x")], ""),
    ];
    assert_keys(&conversion, "d", &expected);
    assert_eq!(key(&load(&conversion), &[("domain", "other"), ("a", "v")]), "");
    assert!(conversion.notes.iter().any(|note| note.contains("becomes 1000000000")));
}

#[test]
fn each_part_without_an_equivalent_is_named() {
    let conversion = convert(
        r#"
domain: d
descriptors:
  - key: a
    detailed_metric: true
    rate_limit: {unit: minute, requests_per_unit: 1, replaces: [{name: x}]}
  - key: jwt.sub
    rate_limit: {unit: minute, requests_per_unit: 1}
  - key: b
    rate_limit: {unit: decade, requests_per_unit: 1}
  - key: remote_address
    value: home
    rate_limit: {unit: minute, requests_per_unit: 1}
  - key: domain
    value: q
    rate_limit: {unit: day, requests_per_unit: 7}
  - key: remote_address
    descriptors:
      - key: remote_address
        value: 10.0.0.1
        rate_limit: {unit: day, requests_per_unit: 7}
  - key: host
    value: a.example:443
    rate_limit: {unit: day, requests_per_unit: 7}
"#,
    )
    .unwrap();
    let expected = [
        "line 5: a: `detailed_metric` has no equivalent, and no effect on decisions.",
        "line 6: a: `replaces` has no equivalent: both limits apply to a request with both \
         descriptors, where the service applies this one alone.",
        "line 7: descriptors: the key `jwt.sub` has no equivalent; its limits are left out.",
        "line 10: b: left out: the unit `decade` is unknown.",
        "line 13: remote_address=home: left out: a value of `remote_address` is no address.",
        "line 14: descriptors: the key `domain` has no equivalent; its limits are left out.",
        "line 21: The policy `remote_address.remote_address-10.0.0.1` is left out: no equivalent: \
         `*/10.0.0.1` is no network.",
        "line 24: The policy `host-a.example-443` is left out: no equivalent: `a.example:443` never \
         matches: a host has neither port nor trailing dot.",
    ];
    assert_notes(&conversion, &expected);
    assert_eq!(load(&conversion).policies().len(), 1, "{}", conversion.file);
}

#[test]
fn limits_of_limitador_with_the_same_conditions_are_one_policy() {
    let conversion = convert(
        r#"
- namespace: shop
  max_value: 10
  seconds: 60
  conditions: ["descriptors[0]['req.method'] == 'GET'"]
  variables: ["descriptors[0].user_id"]
- namespace: shop
  name: Per Hour
  max_value: 100
  seconds: 3600
  conditions: ["descriptors[0][\"req.method\"] == \"GET\""]
  variables: []
- namespace: shop
  max_value: 5
  seconds: 1
  conditions: []
  variables: [user_id]
- namespace: shop
  max_value: 0
  seconds: 1
  conditions: ["user_id != 'a' && user_id != \"b\"", "plan in ['x', 'y*']"]
- namespace: shop
  max_value: 1
  seconds: 1
  conditions: ["size(user_id) > 3"]
- namespace: shop
  max_value: 1
  seconds: 1
  policy: x
  conditions: ["kind == 1 && kind == 2"]
- namespace: shop
  max_value: 1
  seconds: 1
  variables: ["descriptors[0].domain"]
"#,
    )
    .unwrap();
    let policies = load(&conversion);
    let names: Vec<_> = policies.policies().iter().map(|policy| &*policy.name).collect();
    assert_eq!(names, ["shop.plan-x-y.user_id-not-a-b", "shop.req.method-get", "shop"]);
    let expected = [
        (&[("req.method", "GET"), ("user_id", "a")][..], "policy:rate:fw:{shop.req.method-get|a}"),
        (&[("req.method", "GET")], "policy:per-hour:fw:{shop.req.method-get|}"),
        (&[("user_id", "a")], "policy:rate:fw:{shop|a}"),
        (&[("user_id", "c"), ("plan", "y*")], "shop.plan-x-y.user_id-not-a-b"),
        (&[("user_id", "c"), ("plan", "yz")], "policy:rate:fw:{shop|c}"),
    ];
    assert_keys(&conversion, "shop", &expected);
    let expected = [
        "line 22: limit 5: left out: the condition `size(user_id) > 3` has no equivalent.",
        "line 29: limit 6: `policy` has no equivalent.",
        "line 26: limit 6: left out: the condition `kind == 1 && kind == 2` cannot hold with the \
         others.",
        "line 31: limit 7: left out: the variable `descriptors[0].domain` has no equivalent.",
        "The limits of the policy `shop` do not count requests of shop.plan-x-y.user_id-not-a-b, \
         shop.req.method-get, as limitador would.",
    ];
    assert_notes(&conversion, &expected);
    assert!(conversion.notes.iter().any(|note| note.starts_with("First match")));
}

#[test]
fn files_that_are_no_configuration_are_refused_with_a_reason() {
    for (file, reason) in [
        ("", "the file has neither `domain`"),
        ("a: [", "not valid YAML"),
        ("descriptors: []", "the key `domain` is missing"),
        ("{domain: d, descriptors: []}", "there is no limit that can be converted"),
        ("- max_value: 1", "limit 1: no `namespace`"),
        ("a: &x 1\nb: *x", "line 2: an alias"),
        ("a: 1\n---\nb: 1", "a second document"),
        ("{a: 1, a: 2}", "the key `a` is repeated"),
        (&("[".repeat(100) + &"]".repeat(100)), "line 1: a list or map"),
    ] {
        let error = convert(file).unwrap_err().to_string();
        assert!(error.contains(reason), "{file}: {error}");
    }
}
