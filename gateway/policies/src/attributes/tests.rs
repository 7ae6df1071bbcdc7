use super::{AttributeError, Attributes, Claims, RequestError, Value};
use crate::attribute::AttributeName;
use crate::entry::Entry;
use crate::path::{PathError, PathForm};

fn value(attributes: &Attributes<'_>, name: &str) -> Result<Option<String>, RequestError> {
    let name = AttributeName::parse(name).unwrap();
    Ok(match attributes.value(&name)? {
        Value::Missing => None,
        Value::Text(text) => Some(String::from_utf8_lossy(&text).into_owned()),
        Value::List(items) => Some(format!("{} items", items.len())),
        Value::Address(address) => Some(address.to_string()),
        Value::Secret(secret) => secret.identity().map(str::to_owned),
    })
}

fn authz<'r>() -> Attributes<'r> {
    Attributes::new(Entry::Authz, PathForm::default())
}

#[test]
fn a_parameter_that_comes_twice_is_a_fault_and_is_found_under_every_spelling() {
    let mut attributes = authz();
    attributes.set_target(b"/x?tenant=a&ten%61nt=b&x=1+2%21&y&=z#f?q=1").unwrap();
    assert_eq!(
        value(&attributes, "query.tenant"),
        Err(RequestError::Repeated("query.tenant".into()))
    );
    assert_eq!(value(&attributes, "query.x"), Ok(Some("1 2!".to_owned())));
    assert_eq!(value(&attributes, "query.y"), Ok(Some(String::new())));
    assert_eq!(value(&attributes, "query.q"), Ok(None));
}

#[test]
fn a_header_that_comes_twice_is_a_fault_in_either_case() {
    let mut attributes = authz();
    attributes.add_header("X-Tenant", b"a".as_slice());
    assert_eq!(value(&attributes, "header.x-TENANT"), Ok(Some("a".to_owned())));
    attributes.add_header("x-tenant", b"b".as_slice());
    assert!(value(&attributes, "header.x-tenant").is_err());
    assert_eq!(value(&attributes, "header.x_tenant"), Ok(None));
}

#[test]
fn no_claim_has_a_value_where_the_request_has_several_tokens() {
    let claims: Claims = serde_json::from_str(r#"{"sub": "alice"}"#).unwrap();
    let mut attributes = authz();
    attributes.set_claims(&claims);
    attributes.set_tokens_repeated();
    assert_eq!(value(&attributes, "jwt.sub"), Err(RequestError::Repeated("jwt.sub".into())));
    assert_eq!(value(&attributes, "header.x"), Ok(None));
}

#[test]
fn claims_are_paths_and_a_name_with_dots_is_one_name() {
    let claims: Claims = serde_json::from_str(
        r#"{"a":{"b":5.5},"https://acme.com/plan":"pro","l":["x",1],"n":null,"e":[],"t":1e21}"#,
    )
    .unwrap();
    let mut attributes = authz();
    attributes.set_claims(&claims);
    for (name, expected) in [
        ("jwt.a.b", Some("5.5")),
        ("jwt.\"https://acme.com/plan\"", Some("pro")),
        ("jwt.l", Some("2 items")),
        ("jwt.n", None),
        ("jwt.e", None),
        ("jwt.a", None),
        ("jwt.a.b.c", None),
        ("jwt.t", Some("1000000000000000000000")),
    ] {
        assert_eq!(value(&attributes, name), Ok(expected.map(str::to_owned)), "{name}");
    }
}

#[test]
fn entries_of_a_descriptor_are_joined_and_never_set_claims() {
    let mut attributes = Attributes::new(Entry::Rls, PathForm::default());
    for (key, value) in [
        ("generic_key", "a"),
        ("generic_key", "b"),
        ("jwt.sub", "mallory"),
        ("remote_address", "::ffff:192.0.2.1"),
        ("path", "/a/%zz/../b"),
        ("host", "a.example:x"),
    ] {
        attributes.add_descriptor_entry(key, value.as_bytes());
    }
    for (name, expected) in [
        ("generic_key", Some("a/b")),
        ("jwt.sub", None),
        ("client.ip", Some("192.0.2.1")),
        ("path", Some("/a/b")),
        ("host", Some("a.example")),
    ] {
        assert_eq!(value(&attributes, name), Ok(expected.map(str::to_owned)), "{name}");
    }
    attributes.add_descriptor_entry("remote_address", b"unix");
    assert_eq!(value(&attributes, "client.ip"), Ok(None));
}

#[test]
fn a_caller_writes_attributes_by_their_names_but_no_claims() {
    let (number, list) = (serde_json::json!(5), serde_json::json!([5]));
    let mut attributes = Attributes::new(Entry::Check, PathForm::default());
    assert_eq!(attributes.set("path", "/%zz"), Err(AttributeError::Path(PathError::Escape)));
    for host in ["a.example:x", "[a.example]", "::1", "a,b"] {
        assert_eq!(attributes.set("host", host), Err(AttributeError::Host), "{host}");
    }
    assert_eq!(attributes.set("client.ip", "unknown"), Err(AttributeError::Address));
    assert_eq!(attributes.set("jwt.sub", "a"), Err(AttributeError::Claim));
    assert!(matches!(attributes.set("header", "a"), Err(AttributeError::Name(_))));
    assert_eq!(attributes.set_json("tokens", &list), Err(AttributeError::Shape));
    attributes.set_json("tokens", &number).unwrap();
    attributes.set("query.a", "b").unwrap();
    assert_eq!(value(&attributes, "tokens"), Ok(Some("5".to_owned())));
    assert_eq!(value(&attributes, "query.a"), Ok(Some("b".to_owned())));
}
