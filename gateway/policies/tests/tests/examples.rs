use policies::judgement::{JudgedWindow, Outcome};
use policies::model::{Charge, Entry};
use policies::{Kind, Policies};
use serde_json::{Value, json};

use super::{NOW, applied, judge, keys, policies, request};

const FIRST: &str = include_str!("examples/first.yaml");
const LARGER: &str = include_str!("examples/larger.yaml");

fn larger() -> Policies {
    policies(LARGER)
}

#[test]
fn the_first_example_limits_each_address_by_second_and_hour() {
    let policies = policies(FIRST);
    assert_eq!(policies.warnings(), []);
    let judgement = judge(&policies, &[("client.ip", "203.0.113.7")]);
    assert_eq!(
        keys(&judgement),
        ["policy:rate:tb:{per-address|203.0.113.7}", "policy:hour:sw:{per-address|203.0.113.7}",]
    );
    let judgement = judge(&policies, &[]);
    assert!(matches!(judgement.outcome, Outcome::Missing { .. }));
}

#[test]
fn the_larger_example_has_no_warnings() {
    let warnings: Vec<_> = larger().warnings().iter().map(ToString::to_string).collect();
    assert_eq!(warnings, <[String; 0]>::default());
}

#[test]
fn a_login_is_limited_by_one_policy_and_tried_with_another() {
    let policies = larger();
    let values = [("method", "post"), ("path", "/login/?x"), ("client.ip", "2001:db8::1")];
    let judgement = judge(&policies, &values);
    assert_eq!(applied(&judgement), Some("login"));
    assert!(!judgement.headers());
    assert_eq!(keys(&judgement), ["policy:attempts:sw:{login|2001:db8::/64}"]);
    let [shadow] = judgement.shadows.as_slice() else { panic!("one trial") };
    assert_eq!(shadow.limits[0].key, "policy:attempts:sw:{login-strict|2001:db8::/64}");
    assert_eq!(shadow.limits[0].limit.get(), 3);
}

#[test]
fn a_plan_comes_from_the_token_and_the_month_starts_when_the_file_says() {
    let policies = larger();
    let api = [("path", "/v1/chat"), ("header.x-api-version", "1.5"), ("jwt.sub", "alice")];
    let judgement = judge(&policies, &api);
    assert_eq!((applied(&judgement), judgement.plan), (Some("api"), Some("free")));
    let mut values = api.to_vec();
    values.extend([("jwt.plan", "pro"), ("tokens", "123456789")]);
    let judgement = judge(&policies, &values);
    assert_eq!(judgement.plan, Some("pro"));
    let tokens = &judgement.limits[1];
    assert_eq!(
        (tokens.kind, tokens.cost, tokens.charge),
        (Kind::FixedWindow, 100_000, Charge::Always)
    );
    let JudgedWindow::Calendar(bounds) = tokens.window else { panic!("a calendar window") };
    // 15 June and 15 July in Berlin, in summer.
    assert_eq!(
        (bounds.begin_millis(), bounds.end_millis()),
        (1_781_474_400_000, 1_784_066_400_000)
    );
}

#[test]
fn overrides_apply_in_order() {
    let policies = larger();
    let outcome = |sub| {
        let values = [("path", "/v1"), ("header.x-api-version", "2"), ("jwt.sub", sub)];
        let judgement = judge(&policies, &values);
        (judgement.outcome, judgement.plan, judgement.r#override.map(|entry| entry.info().reason))
    };
    assert_eq!(outcome("acme-7"), (Outcome::Limited, Some("pro"), Some("OPS-123")));
    let blocked = Outcome::Blocked { until_ms: None };
    assert_eq!(outcome("mallory"), (blocked, None, Some("abuse")));
    assert_eq!(outcome("monitor"), (Outcome::Unlimited, None, Some("probes")));
    assert_eq!(outcome("bob"), (Outcome::Limited, Some("free"), None));
}

#[test]
fn a_named_policy_applies_only_to_requests_that_name_it() {
    let policies = larger();
    let mut named = request(&policies, Entry::Check, &[("identifier", "a")]);
    assert_eq!(applied(&policies.judge(&named, NOW).unwrap()), Some("site"));
    named.set_policy("export");
    let judgement = policies.judge(&named, NOW).unwrap();
    assert_eq!(keys(&judgement), ["policy:jobs:tb:{export|a}"]);
}

/// Checks a value against the keywords that the schema uses, and fails on any other keyword.
fn validate(schema: &Value, root: &Value, value: &Value, at: &str) -> Result<(), String> {
    let Some(schema) = schema.as_object() else { return Ok(()) };
    for (keyword, rule) in schema {
        let fault = |text: String| Err(format!("{at}: {keyword}: {text}"));
        match keyword.as_str() {
            "$ref" => {
                let path = rule.as_str().unwrap().strip_prefix('#').unwrap();
                validate(root.pointer(path).unwrap(), root, value, at)?;
            }
            "type" => {
                let is = |kind: &str| match kind {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_u64() || value.is_i64(),
                    "null" => value.is_null(),
                    other => panic!("unknown type {other}"),
                };
                let kinds: Vec<&str> = match rule {
                    Value::Array(kinds) => {
                        kinds.iter().map(|kind| kind.as_str().unwrap()).collect()
                    }
                    kind => vec![kind.as_str().unwrap()],
                };
                if !kinds.into_iter().any(is) {
                    return fault(format!("{value} is not {rule}"));
                }
            }
            "properties" => {
                for (name, rule) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        validate(rule, root, value, &format!("{at}.{name}"))?;
                    }
                }
            }
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Value::as_object);
                for (name, value) in value.as_object().into_iter().flatten() {
                    if known.is_some_and(|known| known.contains_key(name)) {
                        continue;
                    }
                    if *rule == json!(false) {
                        return fault(format!("unknown key {name}"));
                    }
                    validate(rule, root, value, &format!("{at}.{name}"))?;
                }
            }
            "required" => {
                for name in rule.as_array().unwrap() {
                    if value.is_object() && value.get(name.as_str().unwrap()).is_none() {
                        return fault(format!("{name} is missing"));
                    }
                }
            }
            "items" => {
                for value in value.as_array().into_iter().flatten() {
                    validate(rule, root, value, &format!("{at}[]"))?;
                }
            }
            "anyOf" | "oneOf" => {
                let rules = rule.as_array().unwrap();
                if !rules.iter().any(|rule| validate(rule, root, value, at).is_ok()) {
                    return fault(format!("{value} has none of the forms"));
                }
            }
            "enum" if !rule.as_array().unwrap().contains(value) => return fault(value.to_string()),
            "const" if rule != value => return fault(value.to_string()),
            "minimum" if value.as_u64() < rule.as_u64() => return fault(value.to_string()),
            "maximum" if value.as_u64() > rule.as_u64() => return fault(value.to_string()),
            "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties"
            | "maxProperties" => {
                let length = match value {
                    Value::Array(items) => items.len(),
                    Value::String(text) => text.chars().count(),
                    Value::Object(map) => map.len(),
                    _ => continue,
                };
                let bound = usize::try_from(rule.as_u64().unwrap()).unwrap();
                if (keyword.starts_with("min") && length < bound)
                    || (keyword.starts_with("max") && length > bound)
                {
                    return fault(length.to_string());
                }
            }
            "enum" | "const" | "minimum" | "maximum" | "pattern" | "format" | "description"
            | "title" | "$schema" | "$defs" => {}
            other => panic!("{at}: the schema uses {other}, which this test does not check"),
        }
    }
    Ok(())
}

#[test]
fn both_examples_and_no_misspelling_validate_against_the_schema() {
    let schema = serde_json::to_value(policies::schema()).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    for example in [json_of(FIRST), json_of(LARGER)] {
        validate(&schema, &schema, &example, "").unwrap();
    }
    for (pointer, wrong) in [
        ("/version", json!(2)),
        ("/policies/0/by", json!("client.ip")),
        ("/policies/0/limits/0/limit", json!(0)),
        ("/policies/0/limits/0/limit", json!("20")),
        ("/policies/0/limits/0", json!({"name": "rate", "limt": 1, "limit": 1})),
        ("/policies/0/missing", json!("ignore")),
    ] {
        let mut file = json_of(FIRST);
        *file.pointer_mut(pointer).unwrap() = wrong;
        assert!(validate(&schema, &schema, &file, "").is_err(), "{pointer}");
        let loaded = super::load(&file.to_string());
        assert!(loaded.is_err(), "{pointer}");
    }
}

/// Converts the examples to JSON with the parser's own events; both are within JSON's types.
fn json_of(yaml: &str) -> Value {
    use granit_parser::{Event, Parser, ScalarStyle};
    enum Open {
        List(Vec<Value>),
        Map(serde_json::Map<String, Value>, Option<String>),
    }
    let mut open: Vec<Open> = Vec::new();
    let mut root = Value::Null;
    for event in Parser::new_from_str(yaml) {
        let value = match event.unwrap().0 {
            Event::Scalar(text, ScalarStyle::Plain, ..)
                if !matches!(open.last(), Some(Open::Map(_, None))) =>
            {
                serde_json::from_str(&text).unwrap_or_else(|_| Value::from(&*text))
            }
            Event::Scalar(text, ..) => match open.last_mut() {
                Some(Open::Map(_, key @ None)) => {
                    *key = Some(text.into_owned());
                    continue;
                }
                _ => Value::from(&*text),
            },
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(serde_json::Map::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(items)) => Value::Array(items),
                Some(Open::Map(map, _)) => Value::Object(map),
                None => panic!("an end without a start"),
            },
            _ => continue,
        };
        match open.last_mut() {
            Some(Open::List(items)) => items.push(value),
            Some(Open::Map(map, key)) => {
                map.insert(key.take().unwrap(), value);
            }
            None => root = value,
        }
    }
    root
}

#[test]
fn json_is_yaml() {
    let json = policies(&json_of(LARGER).to_string());
    let yaml = larger();
    let values = [("path", "/v1"), ("header.x-api-version", "2"), ("jwt.sub", "acme-1")];
    assert_eq!(keys(&judge(&json, &values)), keys(&judge(&yaml, &values)));
}
