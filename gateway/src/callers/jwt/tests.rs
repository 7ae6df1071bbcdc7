//! Valid tokens, and the reasons to refuse others.

use std::sync::LazyLock;

use jsonwebtoken::get_current_timestamp;
use limiter::{Units, Window};
use ratelimit_test_tokens::{Algorithm, SigningKey};
use serde_json::{Value, json};

use super::{CallerTokens, MAX_SUBJECT_BYTES, key_set::LEEWAY_SECONDS};
use crate::callers::{
    caller::CallerLimit,
    options::{JwtOptions, ScopeOptions},
    refusal::Refusal,
    scope::Scope,
};

const LIMIT: CallerLimit =
    CallerLimit { requests: Units::new(7), window: Window::from_millis(1_000).unwrap() };

const HOUR: u64 = 3_600;

static SECRET: LazyLock<SigningKey> = LazyLock::new(|| secret(7));
static RSA: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::rsa(0));
static ELLIPTIC: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::new(Algorithm::ES256));

fn secret(byte: u8) -> SigningKey {
    SigningKey::Secret(vec![byte; 32])
}

/// The part of a key that verifies, as an issuer publishes it.
fn public(key: &SigningKey, id: Option<&str>) -> Value {
    let mut jwk = key.jwk();
    if let Some(id) = id {
        jwk["kid"] = json!(id);
    }
    jwk
}

fn set(keys: &[Value]) -> CallerTokens {
    set_with(keys, &["scope", "scp", "scopes"], "")
}

/// A set that looks for scopes with a prefix in these claims.
fn set_with(keys: &[Value], claims: &[&str], prefix: &str) -> CallerTokens {
    let claims = claims.iter().map(|&claim| claim.to_owned()).collect();
    let options = JwtOptions {
        jwks_file: "set.json".into(),
        audience: "gateway".to_owned(),
        issuer: "https://issuer".to_owned(),
        scopes: ScopeOptions { claims, prefix: prefix.to_owned() },
    };
    CallerTokens::parse(json!({ "keys": keys }).to_string().as_bytes(), &options, LIMIT).unwrap()
}

/// The claims of a valid token.
fn claims() -> Value {
    json!({
        "sub": "alice",
        "aud": "gateway",
        "iss": "https://issuer",
        "exp": get_current_timestamp() + HOUR,
        "scope": "check",
    })
}

/// A good token's claims in which one is another; without it when that is null.
fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => claims.as_object_mut().unwrap().remove(name),
        value => claims.as_object_mut().unwrap().insert(name.to_owned(), value),
    };
    claims
}

fn header(key: &SigningKey, id: Option<&str>) -> Value {
    let alg = format!("{:?}", key.algorithm());
    id.map_or(json!({ "alg": alg }), |id| json!({ "alg": alg, "kid": id }))
}

/// Returns a token with these claims and the id of a key.
fn token(key: &SigningKey, id: Option<&str>, claims: &Value) -> String {
    key.token(&header(key, id), claims)
}

fn signed(claims: &Value) -> String {
    token(&SECRET, None, claims)
}

fn secret_set() -> CallerTokens {
    set(&[public(&SECRET, None)])
}

fn outcome(set: &CallerTokens, token: &str) -> Result<String, Refusal> {
    set.verify(token).map(|caller| caller.to_string())
}

fn accepted() -> Result<String, Refusal> {
    Ok("token:alice".to_owned())
}

#[test]
fn each_algorithm_is_verified_by_the_key_for_it() {
    let keys = [(&*SECRET, "secret"), (&*RSA, "rsa"), (&*ELLIPTIC, "elliptic")];
    let all = set(&keys.map(|(key, id)| public(key, Some(id))));
    for (key, id) in keys {
        for id in [None, Some(id)] {
            let token = token(key, id, &claims());
            assert_eq!(outcome(&all, &token), accepted());
            let caller = all.verify(&token).unwrap();
            assert_eq!(caller.limit, LIMIT);
        }
        // Each set accepts the tokens of its own key only.
        let own = set(&[public(key, None)]);
        for (other, _) in keys {
            let is_own = other.algorithm() == key.algorithm();
            let expected = if is_own { accepted() } else { Err(Refusal::UnknownSigner) };
            assert_eq!(outcome(&own, &token(other, None, &claims())), expected);
        }
    }
}

#[test]
fn an_rsa_modulus_may_begin_with_zero_bytes() {
    let mut key = public(&RSA, None);
    // Three zero bytes, so that the digits after them stay the same.
    key["n"] = json!(format!("AAAA{}", key["n"].as_str().unwrap()));
    assert_eq!(outcome(&set(&[key]), &token(&RSA, None, &claims())), accepted());
}

#[test]
fn a_key_of_another_issuer_verifies_nothing() {
    for (key, other) in [
        (&*SECRET, secret(8)),
        (&*RSA, SigningKey::rsa(1)),
        (&*ELLIPTIC, SigningKey::new(Algorithm::ES256)),
    ] {
        let own = set(&[public(key, None)]);
        assert_eq!(outcome(&own, &token(&other, None, &claims())), Err(Refusal::Signature));
    }
}

#[test]
fn the_id_of_a_key_leads_to_it() {
    let named = set(&[public(&secret(8), Some("old")), public(&SECRET, Some("new"))]);
    let token = |id| token(&SECRET, id, &claims());
    assert_eq!(outcome(&named, &token(Some("new"))), accepted());
    assert_eq!(outcome(&named, &token(Some("old"))), Err(Refusal::Signature));
    assert_eq!(outcome(&named, &token(Some("lost"))), Err(Refusal::UnknownSigner));
    // Without an id all of them are tried, and a key without one always is.
    assert_eq!(outcome(&named, &token(None)), accepted());
    assert_eq!(outcome(&secret_set(), &token(Some("lost"))), accepted());
}

#[test]
fn a_public_key_is_no_secret() {
    let public_key = public(&RSA, Some("rsa"));
    let modulus = public_key["n"].as_str().unwrap();
    let rsa_set = set(std::slice::from_ref(&public_key));
    for guess in [modulus.as_bytes(), public_key.to_string().as_bytes()] {
        let forged = SigningKey::Secret(guess.to_vec());
        for id in [None, Some("rsa")] {
            let token = token(&forged, id, &claims());
            assert_eq!(outcome(&rsa_set, &token), Err(Refusal::UnknownSigner));
        }
    }
}

#[test]
fn a_token_without_a_signature_is_worth_nothing() {
    let good = signed(&claims());
    let [_, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("{good}") };
    // {"alg":"none"}, {"alg":"None"}, {"alg":"none","typ":"JWT"}
    for head in
        ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJOb25lIn0", "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"]
    {
        for end in ["", signature] {
            let token = format!("{head}.{payload}.{end}");
            assert_eq!(outcome(&secret_set(), &token), Err(Refusal::Malformed));
        }
    }
    let (unsigned, _) = good.rsplit_once('.').unwrap();
    assert_eq!(outcome(&secret_set(), &format!("{unsigned}.")), Err(Refusal::Signature));
}

#[test]
fn what_was_signed_cannot_be_changed() {
    let (mine, other) = (signed(&claims()), signed(&with("sub", json!("bob"))));
    let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (mine, other) = (parts(&mine), parts(&other));
    let mixed = format!("{}.{}.{}", mine[0], other[1], mine[2]);
    assert_eq!(outcome(&secret_set(), &mixed), Err(Refusal::Signature));
}

#[test]
fn what_is_no_token_is_refused() {
    let good = signed(&claims());
    for token in ["", ".", "..", "a.b", "a.b.c", "e30.e30.e30", "null", "\u{1f980}.x.y"] {
        assert_eq!(outcome(&secret_set(), token), Err(Refusal::Malformed), "{token}");
    }
    for token in [format!("{good}.x"), format!("x.{good}"), format!("{good}="), format!(" {good}")]
    {
        assert_eq!(outcome(&secret_set(), &token), Err(Refusal::Malformed), "{token}");
    }
    let critical = json!({ "alg": "HS256", "crit": ["b64"] });
    let token = SECRET.token(&critical, &claims());
    assert_eq!(outcome(&secret_set(), &token), Err(Refusal::Malformed));
}

#[test]
fn every_claim_is_checked() {
    let now = get_current_timestamp();
    let (early, late) = (now - LEEWAY_SECONDS - HOUR, now + LEEWAY_SECONDS + HOUR);
    for (name, value, expected) in [
        ("exp", json!(early), Err(Refusal::Expired)),
        ("exp", json!(now - LEEWAY_SECONDS / 2), accepted()),
        ("exp", json!(0), Err(Refusal::Expired)),
        ("exp", json!(null), Err(Refusal::Claims)),
        ("exp", json!(late.to_string()), Err(Refusal::Claims)),
        ("exp", json!(-1), Err(Refusal::Claims)),
        ("exp", json!(1e300), Err(Refusal::Claims)),
        ("exp", json!(u64::MAX), accepted()),
        ("nbf", json!(late), Err(Refusal::NotYetValid)),
        ("nbf", json!(u64::MAX), Err(Refusal::NotYetValid)),
        ("nbf", json!(now + LEEWAY_SECONDS / 2), accepted()),
        ("nbf", json!(early), accepted()),
        ("nbf", json!("soon"), Err(Refusal::Claims)),
        ("aud", json!("other"), Err(Refusal::Audience)),
        ("aud", json!("gateway/"), Err(Refusal::Audience)),
        ("aud", json!([]), Err(Refusal::Audience)),
        ("aud", json!(["other", "gateway"]), accepted()),
        ("aud", json!(null), Err(Refusal::Claims)),
        ("aud", json!(1), Err(Refusal::Claims)),
        ("iss", json!("https://other"), Err(Refusal::Issuer)),
        ("iss", json!("https://issuer/"), Err(Refusal::Issuer)),
        ("iss", json!(null), Err(Refusal::Claims)),
        ("iss", json!(1), Err(Refusal::Claims)),
        ("iss", json!(["https://issuer"]), Err(Refusal::Claims)),
        ("iss", json!(["https://issuer", "https://other"]), Err(Refusal::Claims)),
        ("sub", json!(null), Err(Refusal::Claims)),
        ("sub", json!(1), Err(Refusal::Claims)),
        ("sub", json!(""), Err(Refusal::Claims)),
        ("sub", json!("x".repeat(MAX_SUBJECT_BYTES + 1)), Err(Refusal::Claims)),
        ("scope", json!(1), Err(Refusal::Claims)),
        ("scp", json!([1]), Err(Refusal::Claims)),
    ] {
        let token = signed(&with(name, value.clone()));
        assert_eq!(outcome(&secret_set(), &token), expected, "{name} {value}");
    }
    let token = signed(&json!([claims()]));
    assert_eq!(outcome(&secret_set(), &token), Err(Refusal::Claims));
}

#[test]
fn scopes_are_read_in_every_way_that_issuers_write_them() {
    for (name, value, expected) in [
        ("scope", json!("check read"), [true, true, false, false]),
        ("scope", json!("check force"), [true, false, false, true]),
        ("scope", json!("openid  reset"), [false, false, true, false]),
        ("scope", json!(["check"]), [true, false, false, false]),
        ("scope", json!(""), [false; 4]),
        ("scope", json!(null), [false; 4]),
        ("scope", json!("Check,read"), [false; 4]),
        ("scp", json!(["read", "other"]), [true, true, false, false]),
        ("scp", json!("read reset"), [true, true, true, false]),
        ("scopes", json!(["reset"]), [true, false, true, false]),
    ] {
        let caller = secret_set().verify(&signed(&with(name, value.clone()))).unwrap();
        let scopes = Scope::ALL.map(|scope| caller.has(scope));
        assert_eq!(scopes, expected, "{name} {value}");
    }
}

#[test]
fn scopes_are_read_from_the_claims_and_with_the_prefix_of_the_settings() {
    let keys = [public(&SECRET, None)];
    let claims = with("realm_access", json!({ "roles": ["rl:check", "read", "rl:reset "] }));
    let mut claims = claims.as_object().unwrap().clone();
    claims.insert("permissions".to_owned(), json!(["rl:read", "rl:check:all", "rl:"]));
    claims.insert("https://example.com/roles".to_owned(), json!("rl:reset"));
    claims.insert("https://example.com/app".to_owned(), json!({ "a.b": { "c": "rl:reset" } }));
    let token = signed(&json!(claims));
    for (names, prefix, expected) in [
        (&["permissions"][..], "rl:", [false, true, false, false]),
        (&["realm_access.roles"], "rl:", [true, false, false, false]),
        (&["realm_access.roles"], "", [false, true, false, false]),
        (&["permissions", "realm_access.roles"], "rl:", [true, true, false, false]),
        (&["https://example.com/roles"], "rl:", [false, false, true, false]),
        (&["https://example.com/app.a.b.c"], "rl:", [false, false, true, false]),
        (&["realm_access.missing", "missing.roles", "sub.scope"], "", [false; 4]),
        (&["scope"], "", [true, false, false, false]),
    ] {
        let caller = set_with(&keys, names, prefix).verify(&token).unwrap();
        assert_eq!(Scope::ALL.map(|scope| caller.has(scope)), expected, "{names:?} {prefix}");
    }
    for wrong in [json!(1), json!({ "check": true }), json!([["check"]])] {
        let token = signed(&with("roles", wrong.clone()));
        let outcome = outcome(&set_with(&keys, &["roles"], ""), &token);
        assert_eq!(outcome, Err(Refusal::Claims), "{wrong}");
    }
}
