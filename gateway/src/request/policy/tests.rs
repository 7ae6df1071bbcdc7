use limiter::Instant;
use policies::{LoadOptions, Policies, digest::HashKey};
use serde_json::{Value, json};

use super::{CheckForm, PolicyCheck};
use crate::{error::Error, request::fields::Fields};

const NOW: Instant = Instant::from_micros(1_800_000_000_000_000);

const FILE: &str = "
version: 1
policies:
  - {name: login, match: {path: /login}, by: [client.ip], missing: deny, limits: [{name: a, limit: 5, per: 1m}]}
  - {name: secret, match: {header.cookie: {exists: true}}, by: [header.cookie], missing: deny, limits: [{name: a, limit: 5, per: 1m}]}
  - {name: word, match: {plan: '*'}, by: [plan], missing: deny, limits: [{name: a, limit: 5, per: 1m}]}
  - {name: claim, match: {jwt.sub: '*'}, by: [jwt.sub], missing: deny, limits: [{name: a, limit: 5, per: 1m}]}
  - {name: proxied, entry: [authz], match: {path: /x}, by: [], limits: [{name: a, limit: 5, per: 1m}]}
  - {name: user, by: [identifier], missing: skip, limits: [{name: a, limit: 5, per: 1m}]}
";

fn policies() -> Policies {
    let options = LoadOptions {
        key_prefix: String::new(),
        hash_key: HashKey::new(b"a secret"),
        require_end: false,
        now: NOW,
    };
    Policies::load(FILE.as_bytes(), &options).unwrap()
}

fn read<T>(
    body: &[u8],
    then: impl FnOnce(PolicyCheck<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut fields = Fields::from_body(body)?;
    let check = fields.policy_check();
    then(fields.finish(check)?)
}

/// Returns the key and the cost of the only limit of a check, or the error.
fn judge(body: &[u8]) -> Result<Option<(String, u32)>, (u16, String)> {
    let policies = policies();
    let judged = read(body, |check| {
        let judged = check.judge(&policies, None, NOW)?;
        Ok(judged.limits.first().map(|limit| (limit.key.clone(), limit.cost)))
    });
    judged.map_err(|error| match error {
        Error::Invalid(errors) => (422, json!(errors)[0]["msg"].as_str().unwrap().to_owned()),
        error => (error.status().as_u16(), error.body().detail),
    })
}

fn key(body: &Value) -> Option<String> {
    judge(body.to_string().as_bytes()).unwrap().map(|(key, _)| key)
}

fn attributes(attributes: &Value) -> Value {
    json!({ "attributes": attributes })
}

#[test]
fn a_repeated_attribute_is_an_error_of_the_caller() {
    for (name, value) in [("path", "/login"), ("client.ip", "192.0.2.1"), ("plan", "a")] {
        let body = format!(r#"{{"attributes":{{"{name}":"{value}","x":1,"{name}":null}}}}"#);
        let rule = format!("Value error, the attribute `{name}` occurs more than once");
        assert_eq!(judge(body.as_bytes()), Err((422, rule)));
    }
    // An end user writes this name, which no policy reads here.
    let body = br#"{"attributes":{"query.a":"1","query.a":"2","plan":"x"}}"#;
    assert_eq!(judge(body).unwrap().unwrap().0, "policy:a:tb:{word|x}");
    let body = br#"{"attributes":{"header.cookie":"1","header.cookie":"2"}}"#;
    let rule = "`header.cookie` must occur at most once".to_owned();
    assert_eq!(judge(body), Err((400, rule)));
}

#[test]
fn the_fields_of_a_check_decide_its_form() {
    let form = |body: Value, has_policies| {
        let body = body.to_string();
        let mut fields = Fields::from_body(body.as_bytes()).unwrap();
        let form = fields.check_form(has_policies);
        fields.finish(form).map_err(|error| match error {
            Error::Invalid(errors) => {
                let error = json!(errors)[0].clone();
                (error["loc"][1].clone(), error["msg"].as_str().unwrap().to_owned())
            }
            error => panic!("{error:?}"),
        })
    };
    for name in super::INLINE_FIELDS {
        assert_eq!(form(json!({ name: 1 }), true), Ok(CheckForm::Inline), "{name}");
        assert_eq!(form(json!({ name: null }), true), Ok(CheckForm::Neither), "{name}");
    }
    for (body, expected) in [
        (
            json!({ "identifier": "x", "cost": 2, "token": "a.b.c", "lease": "l" }),
            CheckForm::Neither,
        ),
        (json!({ "policy": "login" }), CheckForm::Policy),
        (json!({ "attributes": {} }), CheckForm::Policy),
        (json!({ "attributes": null, "policy": null }), CheckForm::Neither),
    ] {
        assert_eq!(form(body.clone(), true), Ok(expected), "{body}");
    }
    for (body, has_policies, field, rule) in [
        (json!({ "policy": "a", "limit": 1 }), true, "policy", "is for checks without limit"),
        (
            json!({ "attributes": {}, "burst": 1 }),
            true,
            "attributes",
            "is for checks without burst",
        ),
        (
            json!({ "attributes": {}, "limits": [] }),
            true,
            "attributes",
            "is for checks without limits",
        ),
        (json!({ "policy": "a" }), false, "policy", "needs POLICIES_FILE"),
    ] {
        let expected = (json!(field), format!("Value error, {field} {rule}"));
        assert_eq!(form(body.clone(), has_policies), Err(expected), "{body}");
    }
}

#[test]
fn attributes_are_texts_numbers_and_booleans() {
    for (value, id) in [
        (json!("a b"), "a%20b"),
        (json!("caf\u{e9}"), "caf%C3%A9"),
        (json!(5), "5"),
        (json!(5.0), "5"),
        (json!(-5.5), "-5.5"),
        (json!(1e3), "1000"),
        (json!(true), "true"),
        (json!(false), "false"),
        (json!(""), ""),
    ] {
        let expected = format!("policy:a:tb:{{word|{id}}}");
        assert_eq!(key(&attributes(&json!({ "plan": value }))), Some(expected), "{value}");
    }
    // As they come from clients that write them by themselves.
    for (value, id) in [
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("1E2", "100"),
        (r#""\ud800x""#, "%ED%A0%80x"),
        (r#""\u0000""#, "%00"),
    ] {
        let body = format!(r#"{{"attributes": {{"plan": {value}}}}}"#);
        let expected = format!("policy:a:tb:{{word|{id}}}");
        assert_eq!(judge(body.as_bytes()).unwrap().unwrap().0, expected, "{value}");
    }
    assert_eq!(key(&attributes(&json!({ "plan": null }))), None);
    let rule = "Value error, the attribute `plan` must be text, a number or a boolean";
    for value in [json!([1]), json!({}), json!([])] {
        let body = attributes(&json!({ "plan": value })).to_string();
        assert_eq!(judge(body.as_bytes()), Err((422, rule.to_owned())));
    }
    for value in [json!([]), json!("plan=x"), json!(1)] {
        let (status, message) = judge(attributes(&value).to_string().as_bytes()).unwrap_err();
        assert_eq!((status, &*message), (422, "Input should be a valid dictionary"));
    }
}

#[test]
fn a_value_of_an_end_user_is_never_an_error_of_the_service() {
    let long = "x".repeat(10_000);
    for (name, value, policy) in [
        ("plan", json!(long), Some("word")),
        ("header.cookie", json!(long), Some("secret")),
        (&*format!("query.{}", "n".repeat(300)), json!("x"), None),
        (&*format!("header.{}", "n".repeat(300)), json!("x"), None),
        ("header.a b", json!("x"), None),
        ("query.", json!("x"), None),
    ] {
        let key = key(&attributes(&json!({ name: value })));
        assert_eq!(key.is_some(), policy.is_some(), "{name}");
        if let (Some(key), Some(policy)) = (key, policy) {
            assert!(key.len() < 100 && key.contains(policy), "{key}");
            assert!(!key.contains("xxx"), "{key}");
        }
    }
    // A name that is no UTF-8, and a number that no double is as large as.
    for body in [
        &br#"{"attributes": {"query.\ud800": "x", "header.\udc00": 1}}"#[..],
        br#"{"attributes": {"other": 1e999, "more": -1e999}}"#,
        br#"{"identifier": "", "token": "\ud800"}"#,
    ] {
        assert!(judge(body).is_ok(), "{}", String::from_utf8_lossy(body));
    }
    // A token that is no text is no token.
    for token in [json!(1), json!(true), json!(["t"]), json!({ "a": "t" })] {
        let body = json!({ "identifier": "u", "token": token }).to_string();
        assert!(judge(body.as_bytes()).is_ok(), "{body}");
    }
    let long = json!({ "identifier": long, "policy": "user" });
    assert!(key(&long).unwrap().contains("{user|~"));
    for (name, value, detail) in [
        ("path", json!("/%zz"), "each % in a path must be followed by two hexadecimal digits"),
        ("path", json!("x".repeat(9_000)), "the path must have at most 8192 bytes"),
        (
            "host",
            json!("shop.example:x"),
            "`host` must be a name or an address, IPv6 in brackets, with an optional port",
        ),
        ("client.ip", json!("unknown"), "`client.ip` must be an address"),
    ] {
        let body = attributes(&json!({ name: value })).to_string();
        assert_eq!(judge(body.as_bytes()), Err((400, detail.to_owned())), "{name}");
    }
}

#[test]
fn an_error_of_the_caller_is_one_of_a_field() {
    for (body, rule) in [
        (json!({ "policy": "nowhere" }), "Value error, there is no policy `nowhere`"),
        (
            json!({ "policy": "proxied" }),
            "Value error, the policy `proxied` is not for this entry: see its `entry`",
        ),
        (
            attributes(&json!({ "jwt.sub": "mallory" })),
            "Value error, `jwt.*` must come from a token",
        ),
        (
            attributes(&json!({ "client.address": "x" })),
            "Value error, an attribute must be `client.ip`",
        ),
        (json!({ "policy": 1 }), "Input should be a valid string"),
        (json!({ "identifier": 1 }), "Input should be a valid string"),
        (json!({ "cost": "many" }), "Input should be a valid integer"),
        (json!({ "cost": 1.5 }), "Input should be a valid integer"),
        (json!({ "cost": 2.5e-42 }), "Input should be a valid integer"),
    ] {
        assert_eq!(judge(body.to_string().as_bytes()), Err((422, rule.to_owned())), "{body}");
    }
}

#[test]
fn a_cost_is_clamped() {
    for (cost, expected) in [
        ("3", 3),
        ("\"3\"", 3),
        ("0", 0),
        ("-5", 1),
        ("1000000000", 1_000_000_000),
        ("1000000001", 1_000_000_000),
        ("99999999999999999999", 1_000_000_000),
        ("1e3", 1_000),
        ("1e300", 1_000_000_000),
        ("-1e300", 1),
    ] {
        let body = format!(r#"{{"policy": "user", "identifier": "u", "cost": {cost}}}"#);
        let expected = Ok(Some(("policy:a:tb:{user|u}".to_owned(), expected)));
        assert_eq!(judge(body.as_bytes()), expected, "{cost}");
    }
}

#[test]
fn an_explanation_takes_claims_by_name() {
    let policies = policies();
    let body = attributes(&json!({ "jwt.sub": "alice" })).to_string();
    let explained = read(body.as_bytes(), |check| {
        let claims = super::RequestClaims::new(None, None);
        let attributes = check.attributes(policies.path_form(), &claims, true)?;
        Ok(policies.explain(&attributes, NOW).policy)
    });
    assert_eq!(explained.unwrap(), Some("claim"));
}
