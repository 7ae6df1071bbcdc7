use policies::attributes::{Attributes, ClientAddress, RequestError};
use policies::judgement::{Outcome, merge};
use policies::model::Entry;
use policies::path::PathForm;

use super::{NOW, applied, judge, keys, load, policies, request};

const LIMITS: &str = "limits: [{name: rate, limit: 10, per: 1s}]";

#[test]
fn a_header_or_query_of_the_client_never_chooses_the_policy() {
    let policies = policies(&format!(
        "version: 1\npolicies:\n  - {{name: free, match: named, by: [], {LIMITS}}}\n  - {{name: all, by: [], {LIMITS}}}\n"
    ));
    let mut forged = Attributes::new(Entry::Authz, policies.path_form());
    forged.set_target(b"/x?policy=free&deny_status=200").unwrap();
    forged.add_header("X-RateLimit-Policy", b"free".as_slice());
    assert_eq!(applied(&policies.judge(&forged, NOW).unwrap()), Some("all"));
}

#[test]
fn all_limits_of_one_identity_share_a_slot_tag_that_is_never_empty() {
    let policies = policies(
        "version: 1\npolicies: [{name: p, by: [], limits: [{name: rate, limit: 1, per: 1s}, {name: daily, limit: 9, per: day, algorithm: fixed_window}]}]",
    );
    let judgement = judge(&policies, &[]);
    assert_eq!(keys(&judgement), ["policy:rate:tb:{p|}", "policy:daily:fw:{p|}"]);
}

#[test]
fn a_limit_that_changes_its_kind_has_another_key() {
    let policies = policies(
        "version: 1\nplans:\n  free: [{name: rate, limit: 60, per: 1m}]\n  pro: [{name: rate, limit: 1000, per: 1m, algorithm: sliding_window}]\npolicies: [{name: api, by: [jwt.sub], missing: deny, plan: {from: jwt.plan, default: free}}]",
    );
    let key = |plan| keys(&judge(&policies, &[("jwt.sub", "alice"), ("jwt.plan", plan)]));
    assert_eq!(key("free"), ["policy:rate:tb:{api|alice}"]);
    assert_eq!(key("pro"), ["policy:rate:sw:{api|alice}"]);
    assert_eq!(key("unknown"), key("free"));
}

#[test]
fn a_shadow_policy_in_front_of_the_real_one_does_not_switch_it_off() {
    let policies = policies(&format!(
        "version: 1\npolicies:\n  - {{name: trial, by: [], missing: deny, shadow: true, {LIMITS}}}\n  - {{name: real, by: [], {LIMITS}}}\n"
    ));
    let judgement = judge(&policies, &[]);
    assert_eq!(applied(&judgement), Some("real"));
    assert_eq!(judgement.shadows.len(), 1);
}

#[test]
fn a_request_that_names_a_trial_is_unmatched_by_the_rule_of_the_file() {
    for (word, deny) in [("allow", false), ("deny", true)] {
        let policies = policies(&format!(
            "version: 1\nunmatched: {word}\npolicies:\n  - {{name: trial, by: [], shadow: true, {LIMITS}}}\n"
        ));
        let mut request = request(&policies, Entry::Check, &[]);
        request.set_policy("trial");
        let judgement = policies.judge(&request, NOW).unwrap();
        assert_eq!(judgement.outcome, Outcome::Unmatched { deny });
        assert_eq!((judgement.can_be_allowed(), judgement.shadows.len()), (!deny, 1));
    }
}

#[test]
fn the_policies_that_skip_a_request_are_in_the_judgement() {
    let policies = policies(&format!(
        "version: 1\npolicies:\n  - {{name: trial, by: [identifier], missing: skip, shadow: true, {LIMITS}}}\n  - {{name: first, match: {{path: /a}}, by: [identifier], missing: skip, {LIMITS}}}\n  - {{name: other, match: {{path: /b}}, by: [identifier], missing: skip, {LIMITS}}}\n  - {{name: rest, match: {{path: \"/*\"}}, by: [], enforce: false, {LIMITS}}}\n"
    ));
    let skipped = |policy: Option<&str>, attributes: &[(&str, &str)]| {
        let mut request = request(&policies, Entry::Check, attributes);
        if let Some(policy) = policy {
            request.set_policy(policy);
        }
        let judgement = policies.judge(&request, NOW).unwrap();
        let names = judgement.skipped.iter().map(|policy| policy.name.to_string());
        (applied(&judgement).map(str::to_owned), names.collect::<Vec<_>>().join(" "))
    };
    let rest = Some("rest".to_owned());
    assert_eq!(skipped(None, &[("path", "/a")]), (rest.clone(), "trial first".to_owned()));
    assert_eq!(skipped(None, &[("path", "/c")]), (rest, "trial".to_owned()));
    assert_eq!(skipped(None, &[("path", "/a/b")]), (None, "trial".to_owned()));
    assert_eq!(skipped(Some("trial"), &[]), (None, "trial".to_owned()));
    assert_eq!(skipped(Some("first"), &[]), (None, "first".to_owned()));
    let first = Some("first".to_owned());
    assert_eq!(skipped(None, &[("path", "/a"), ("identifier", "u")]), (first, String::new()));
}

#[test]
fn a_policy_that_is_not_enforced_ends_the_search_and_only_counts() {
    let policies = policies(&format!(
        "version: 1\npolicies:\n  - {{name: counted, match: {{path: /a}}, by: [], enforce: false, {LIMITS}}}\n  - {{name: rest, by: [], {LIMITS}}}\n"
    ));
    let judgement = judge(&policies, &[("path", "/a")]);
    assert_eq!((applied(&judgement), judgement.limits.len()), (Some("counted"), 0));
    assert_eq!(judgement.shadows[0].limits[0].key, "policy:rate:tb:{counted|}");
}

#[test]
fn a_concurrency_limit_applies_only_to_a_check_with_a_lease() {
    let policies = policies(
        "version: 1\npolicies: [{name: jobs, entry: [check], by: [], limits: [{name: flight, limit: 2, ttl: 60s, algorithm: concurrency}]}]",
    );
    let mut check = request(&policies, Entry::Check, &[]);
    assert_eq!(policies.judge(&check, NOW).unwrap().limits, []);
    check.set_lease();
    assert_eq!(keys(&policies.judge(&check, NOW).unwrap()), ["policy:flight:lease:{jobs|}"]);
}

#[test]
fn an_unknown_address_is_an_error_only_for_a_policy_that_reads_it() {
    let policies = policies(&format!(
        "version: 1\npolicies:\n  - {{name: a, match: {{path: /a}}, by: [client.ip], missing: deny, {LIMITS}}}\n  - {{name: rest, by: [], {LIMITS}}}\n"
    ));
    let judged = |path, client| {
        let mut attributes = request(&policies, Entry::Authz, &[("path", path)]);
        attributes.set_client(client);
        policies.judge(&attributes, NOW).map(|judgement| judgement.limits.len())
    };
    assert_eq!(judged("/a", ClientAddress::Unknown), Err(RequestError::ClientAddressUnknown));
    assert_eq!(judged("/a", ClientAddress::Malformed), Err(RequestError::ClientAddressMalformed));
    assert_eq!(judged("/b", ClientAddress::Unknown), Ok(1));
}

#[test]
fn the_largest_cost_that_an_end_user_writes_is_clamped_and_text_is_the_default() {
    let policies = policies(
        "version: 1\npolicies: [{name: a, by: [], limits: [{name: r, limit: 50, per: 1s, cost: {from: header.t, default: 3, min: 2, trusted: true}}]}]",
    );
    for (text, cost) in [
        ("7", 7),
        ("0", 2),
        ("-5", 2),
        ("1000000000000000000000", 50),
        ("1e9", 3),
        ("abc", 3),
        ("5, 5", 3),
        ("", 3),
        ("+5", 3),
    ] {
        assert_eq!(judge(&policies, &[("header.t", text)]).limits[0].cost, cost, "{text}");
    }
    assert_eq!(judge(&policies, &[]).limits[0].cost, 3);
}

#[test]
fn a_cost_of_zero_only_looks_at_all_limits() {
    let policies = policies(
        "version: 1\npolicies: [{name: a, by: [], limits: [{name: r, limit: 50, per: 1s, cost: 5}, {name: s, limit: 50, per: 1m}]}]",
    );
    let costs = |cost| {
        let mut check = request(&policies, Entry::Check, &[]);
        check.set_cost(cost);
        let judgement = policies.judge(&check, NOW).unwrap();
        judgement.limits.iter().map(|limit| limit.cost).collect::<Vec<_>>()
    };
    assert_eq!(costs(0), [0, 0]);
    assert_eq!(costs(7), [5, 7]);
    assert_eq!(costs(u64::MAX), [5, 1_000_000_000]);
}

#[test]
fn a_missing_attribute_differs_from_an_empty_one_and_pools_only_where_the_file_says() {
    let file = |missing| {
        policies(&format!(
            "version: 1\npolicies: [{{name: a, by: [jwt.sub], missing: {missing}, {LIMITS}}}]"
        ))
    };
    let share = file("share");
    assert_eq!(keys(&judge(&share, &[])), ["policy:rate:tb:{a|-}"]);
    assert_eq!(keys(&judge(&share, &[("jwt.sub", "")])), ["policy:rate:tb:{a|}"]);
    assert_eq!(keys(&judge(&share, &[("jwt.sub", "-")])), ["policy:rate:tb:{a|%2D}"]);
    let skip = file("skip");
    assert_eq!(judge(&skip, &[]).outcome, Outcome::Unmatched { deny: false });
    let deny = file("deny");
    let outcome = judge(&deny, &[]).outcome;
    let Outcome::Missing { attribute } = outcome else { panic!("{outcome:?}") };
    assert_eq!(attribute.to_string(), "jwt.sub");
}

#[test]
fn equal_keys_of_one_request_are_one_limit_with_the_sum_of_the_costs() {
    let policies = policies(&format!("version: 1\npolicies: [{{name: a, by: [], {LIMITS}}}]"));
    let limits = [2, 3].into_iter().flat_map(|cost| {
        let mut descriptor = request(&policies, Entry::Check, &[]);
        descriptor.set_cost(cost);
        policies.judge(&descriptor, NOW).unwrap().limits
    });
    let merged = merge(limits);
    assert_eq!((merged.len(), merged[0].cost), (1, 5));
}

#[test]
fn a_date_ends_with_its_day_in_the_time_zone_of_the_file() {
    let policies = policies(&format!(
        "version: 1\ntimezone: America/New_York\npolicies: [{{name: a, by: [identifier], missing: deny, {LIMITS}, overrides: [{{by: x, block: true, until: '2026-07-04', reason: r}}]}}]"
    ));
    let request = request(&policies, Entry::Check, &[("identifier", "x")]);
    // 2026-07-05T00:00:00-04:00
    let end_ms = 1_783_224_000_000;
    let outcome = |ms: i64| {
        let now = limiter::Instant::from_micros(u64::try_from(ms).unwrap() * 1_000);
        policies.judge(&request, now).unwrap().outcome
    };
    assert_eq!(outcome(end_ms - 1), Outcome::Blocked { until_ms: Some(end_ms) });
    assert_eq!(outcome(end_ms), Outcome::Limited);
}

#[test]
fn a_secret_never_enters_a_key_and_is_overridden_by_its_digest() {
    let digest = super::options().hash_key.unwrap().digest(b"key");
    let policies = policies(&format!(
        "version: 1\nsecret: [header.x-api-key]\npolicies: [{{name: a, by: [header.X-API-Key], missing: deny, {LIMITS}, overrides: [{{by: '{digest}', unlimited: true, reason: r}}]}}]"
    ));
    let values = [("header.x-api-key", "other key")];
    let [key] = keys(&judge(&policies, &values)).try_into().unwrap();
    assert!(key.starts_with("policy:rate:tb:{a|sha256:") && !key.contains("other"), "{key}");
    assert_eq!(judge(&policies, &[("header.x-api-key", "key")]).outcome, Outcome::Unlimited);
}

#[test]
fn an_attribute_that_comes_twice_is_an_error_where_the_policy_would_apply() {
    let policies = policies(&format!(
        "version: 1\npolicies:\n  - {{name: a, match: {{path: /a, header.v: '1*'}}, by: [], {LIMITS}}}\n  - {{name: rest, by: [], {LIMITS}}}\n"
    ));
    let judged = |target: &'static [u8]| {
        let mut twice = Attributes::new(Entry::Authz, policies.path_form());
        twice.set_target(target).unwrap();
        twice.add_header("V", b"1".as_slice());
        twice.add_header("v", b"2".as_slice());
        policies.judge(&twice, NOW).map(|judgement| applied(&judgement).map(str::to_owned))
    };
    assert_eq!(judged(b"/a"), Err(RequestError::Repeated("header.v".into())));
    assert_eq!(judged(b"/b"), Ok(Some("rest".to_owned())));
}

#[test]
fn a_clause_on_a_missing_attribute_does_not_hold_also_with_not() {
    let policies = policies(&format!(
        "version: 1\nunmatched: deny\npolicies:\n  - {{name: a, match: {{w: {{not: x}}}}, by: [], {LIMITS}}}\n  - {{name: b, match: {{v: {{exists: false}}, u: {{exists: true}}}}, by: [], {LIMITS}}}\n"
    ));
    assert_eq!(judge(&policies, &[]).outcome, Outcome::Unmatched { deny: true });
    assert_eq!(applied(&judge(&policies, &[("w", "y")])), Some("a"));
    assert_eq!(applied(&judge(&policies, &[("w", "x"), ("u", "")])), Some("b"));
}

#[test]
fn the_rate_limit_service_reaches_only_policies_that_name_its_domain() {
    let policies = policies(&format!(
        "version: 1\npolicies:\n  - {{name: envoy, match: {{domain: edge}}, by: [generic_key], missing: share, {LIMITS}}}\n  - {{name: rest, by: [], {LIMITS}}}\n"
    ));
    let judged = |domain: &'static [u8]| {
        let mut descriptor = Attributes::new(Entry::Rls, PathForm::default());
        descriptor.add_descriptor_entry("domain", domain);
        descriptor.add_descriptor_entry("generic_key", b"a");
        descriptor.add_descriptor_entry("generic_key", b"b");
        keys(&policies.judge(&descriptor, NOW).unwrap())
    };
    assert_eq!(judged(b"edge"), ["policy:rate:tb:{envoy|a/b}"]);
    assert_eq!(judged(b"other"), <[String; 0]>::default());
}

#[test]
fn a_request_that_names_a_policy_skips_its_match_and_must_name_one_for_its_entry() {
    let policies = policies(&format!(
        "version: 1\npolicies:\n  - {{name: a, entry: [check], match: {{path: /a}}, by: [], {LIMITS}}}\n"
    ));
    let judged = |entry, name: &'static str| {
        let mut named = request(&policies, entry, &[]);
        named.set_policy(name);
        policies.judge(&named, NOW).map(|judgement| applied(&judgement).map(str::to_owned))
    };
    assert_eq!(judged(Entry::Check, "a"), Ok(Some("a".to_owned())));
    assert_eq!(judged(Entry::Authz, "a"), Err(RequestError::PolicyNotForEntry("a".into())));
    assert_eq!(judged(Entry::Check, "b"), Err(RequestError::UnknownPolicy("b".into())));
}

#[test]
fn words_of_yaml_are_text_only_where_every_reader_agrees() {
    let file = |by| {
        load(&format!(
            "version: 1\npolicies: [{{name: a, by: [identifier], missing: deny, {LIMITS}, overrides: [{{by: {by}, block: true, reason: r}}]}}]"
        ))
    };
    assert!(file("no").is_ok());
    assert!(file("'007'").is_ok());
    assert!(file("007").is_err() && file("true").is_err() && file("1e3").is_err());
}
