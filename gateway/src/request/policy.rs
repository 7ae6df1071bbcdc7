//! Checks by policy: the attributes of a request of an end user, from the body of a check.
//!
//! The caller writes the names of attributes and the end user their values, so no text,
//! number or boolean is an error that a caller could answer with a grant: long values are hashed later,
//! numbers clamped, and escapes of half a surrogate pair taken as bytes. Only a malformed path or address
//! has status 400. A list or an object is the fault of the caller, which builds the values.

use std::{borrow::Cow, collections::HashSet, fmt};

use limiter::{Holder, Instant, Units};
use policies::{
    Policies,
    attributes::{AttributeError, Attributes, ClaimSource, RequestError},
    judgement::Judgement,
    model::Entry,
    path::PathForm,
};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::{Value, json, value::RawValue};

use crate::{
    error::Error,
    policy_file::end_users::{EndUserTokens, RequestClaims},
    request::{
        field_error::{BrokenRule, Place},
        fields::{Fields, Invalid},
        input::Input,
        lease,
        number::thousandths,
        value,
    },
};

/// The fields of a limit that a caller sends. One of them makes a check inline.
const INLINE_FIELDS: [&str; 9] = [
    "limit",
    "window_seconds",
    "burst",
    "algorithm",
    "limits",
    "resolution_seconds",
    "period",
    "timezone",
    "starts",
];

/// The fields that choose policies. One of them makes a check one by policy.
const POLICY_FIELDS: [&str; 2] = ["policy", "attributes"];

/// The most bytes of the name of an attribute in an error.
const MAX_NAME_BYTES: usize = 64;

/// The prefixes of names that an end user can write, as parameters and headers.
const END_USER_NAMES: [&str; 2] = ["query.", "header."];

/// The form of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckForm {
    /// The check has limits of its own.
    Inline,
    /// The check names a policy, or has attributes.
    Policy,
    /// The check has neither: the policies decide, and without a match the default limit.
    Neither,
}

/// A check that the policies judge.
#[derive(Debug)]
pub(crate) struct PolicyCheck<'a> {
    /// The location of the check, for errors.
    loc: Vec<Place>,
    policy: Option<Cow<'a, str>>,
    identifier: Option<Cow<'a, [u8]>>,
    attributes: Vec<Attribute<'a>>,
    token: Option<Cow<'a, str>>,
    cost: Option<u64>,
    /// The holder of the leases that the check takes.
    pub(crate) lease: Option<Holder>,
}

/// The name and the value of an attribute. `None` is null: the request has no such attribute.
type Attribute<'a> = (Cow<'a, str>, Option<Cow<'a, [u8]>>);

impl<'a> Fields<'a> {
    /// Returns the form of a check. `has_policies` is true if there is a file of policies.
    pub(crate) fn check_form(&mut self, has_policies: bool) -> Result<CheckForm, Invalid> {
        let inline = self.first_of(&INLINE_FIELDS);
        let by_policy = self.first_of(&POLICY_FIELDS);
        let rule = match (inline, by_policy) {
            (None, None) => return Ok(CheckForm::Neither),
            (Some(_), None) => return Ok(CheckForm::Inline),
            (None, Some(_)) if has_policies => return Ok(CheckForm::Policy),
            (None, Some(field)) => (field, format!("{field} needs POLICIES_FILE")),
            (Some(inline), Some(field)) => {
                (field, format!("{field} is for checks without {inline}"))
            }
        };
        let (field, rule) = rule;
        let rule = BrokenRule::new("value_error", format!("Value error, {rule}"));
        Err(self.add_error(field, rule))
    }

    /// Returns true when a check takes its cost in every case, whatever its limit is.
    pub(crate) fn is_forced(&self) -> bool {
        self.value("force").is_some_and(|force| value::boolean(force) == Ok(true))
    }

    /// Reads a check by policy.
    pub(crate) fn policy_check(&mut self) -> Result<PolicyCheck<'a>, Invalid> {
        let policy = self.optional("policy", text);
        let identifier = self.value_or_null("identifier", bytes);
        let attributes = self.optional("attributes", attributes);
        // A token that is no text is no token: the end user has written the token.
        let token = match self.value("token") {
            Some(Input::Text(token)) => Some(token.clone()),
            _ => None,
        };
        let cost = self.optional("cost", cost);
        let lease = self.optional("lease", lease::lease);
        Ok(PolicyCheck {
            loc: self.location().to_vec(),
            policy: policy?,
            identifier: identifier?,
            attributes: attributes?.unwrap_or_default(),
            token,
            cost: cost?,
            lease: lease?,
        })
    }

    /// Reads a check that must be one by policy.
    pub(crate) fn only_policy_check(&mut self) -> Result<PolicyCheck<'a>, Invalid> {
        let inline = INLINE_FIELDS.into_iter().find(|name| self.has(name));
        let inline = inline.map_or(Ok(()), |name| {
            let rule = format!("Value error, {name} is for checks without policies");
            Err(self.add_error(name, BrokenRule::new("value_error", rule)))
        });
        let check = self.policy_check();
        inline.and(check)
    }

    /// Reads an optional field that can be null, and whose text need not be UTF-8.
    fn value_or_null<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&Input<'a>) -> Result<T, BrokenRule>,
    ) -> Result<Option<T>, Invalid> {
        match self.value(name) {
            None | Some(Input::Null) => Ok(None),
            Some(value) => parse(value).map(Some).map_err(|rule| self.add_error(name, rule)),
        }
    }
}

impl PolicyCheck<'_> {
    /// Returns the token of the end user.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Judges the check by one version of the policies.
    ///
    /// # Errors
    ///
    /// When the check names no policy that it can name, and when its attributes are malformed.
    pub(crate) fn judge<'p>(
        &self,
        policies: &'p Policies,
        end_users: Option<&EndUserTokens>,
        now: Instant,
    ) -> Result<Judgement<'p>, Error> {
        let claims = RequestClaims::new(end_users, self.token());
        let attributes = self.attributes(policies.path_form(), &claims, false)?;
        policies.judge(&attributes, now).map_err(|error| self.error(&error))
    }

    /// Returns the attributes of the check for policies with this form of paths. With `writes_claims`
    /// the check may write `jwt.*` itself, for an explanation.
    ///
    /// # Errors
    ///
    /// When a name is none of an attribute, or a path or an address is malformed.
    pub(crate) fn attributes<'r>(
        &'r self,
        form: PathForm,
        claims: &'r dyn ClaimSource,
        writes_claims: bool,
    ) -> Result<Attributes<'r>, Error> {
        let mut attributes = Attributes::new(Entry::Check, form);
        attributes.set_claims(claims);
        if let Some(policy) = &self.policy {
            attributes.set_policy(&**policy);
        }
        if let Some(cost) = self.cost {
            attributes.set_cost(cost);
        }
        // A check without a holder is refused where a limit needs one, rather than decided without the
        // limit; the other requests take no lease.
        attributes.set_lease();
        if let Some(identifier) = &self.identifier {
            self.set(&mut attributes, "identifier", identifier)?;
        }
        for (name, value) in &self.attributes {
            let Some(value) = value else { continue };
            if writes_claims && name.starts_with("jwt.") {
                let value = String::from_utf8_lossy(value);
                attributes.set_claim(name, &value).map_err(|error| self.invalid(name, &error))?;
            } else {
                self.set(&mut attributes, name, value)?;
            }
        }
        Ok(attributes)
    }

    fn set<'r>(
        &self,
        attributes: &mut Attributes<'r>,
        name: &str,
        value: &'r [u8],
    ) -> Result<(), Error> {
        match attributes.set_bytes(name, value) {
            Ok(()) => Ok(()),
            // No policy can read such a name, and the end user can have written it.
            Err(AttributeError::Name(_))
                if END_USER_NAMES.iter().any(|prefix| name.starts_with(prefix)) =>
            {
                Ok(())
            }
            Err(error @ (AttributeError::Path(_) | AttributeError::Address)) => {
                Err(Error::AttributeMalformed(error.to_string()))
            }
            Err(error) => Err(self.invalid(name, &error)),
        }
    }

    /// Returns the error of a check without a holder by a policy that has this limit of what happens at
    /// the same time.
    pub(crate) fn without_holder(&self, limit: &str) -> Error {
        let mut loc = self.loc.clone();
        loc.push(Place::Name("lease"));
        let rule =
            format!("Value error, the limit `{limit}` needs a lease: the name of its holder");
        Error::Invalid(vec![BrokenRule::new("value_error", rule).at(loc, Value::Null)])
    }

    /// Returns the error of an attribute that the caller wrote.
    fn invalid(&self, name: &str, error: &AttributeError) -> Error {
        let mut loc = self.loc.clone();
        loc.push(Place::Name("attributes"));
        let name = Input::Text(name.into()).echo();
        let rule = BrokenRule::new("value_error", format!("Value error, {error}"));
        Error::Invalid(vec![rule.at(loc, name)])
    }

    /// Returns the error of a check that the policies cannot judge.
    pub(crate) fn error(&self, error: &RequestError) -> Error {
        match error {
            RequestError::UnknownPolicy(name) | RequestError::PolicyNotForEntry(name) => {
                let mut loc = self.loc.clone();
                loc.push(Place::Name("policy"));
                let rule = BrokenRule::new("value_error", format!("Value error, {error}"));
                Error::Invalid(vec![rule.at(loc, json!(name))])
            }
            RequestError::Repeated(_) | RequestError::ClientAddressMalformed => {
                Error::AttributeMalformed(error.to_string())
            }
            // A check has no proxy, and its time is that of the gateway.
            RequestError::ClientAddressUnknown | RequestError::Time => Error::Internal,
        }
    }
}

fn not_text() -> BrokenRule {
    BrokenRule::new("string_type", "Input should be a valid string")
}

fn text<'a>(value: &Input<'a>) -> Result<Cow<'a, str>, BrokenRule> {
    match value {
        Input::Text(text) => Ok(text.clone()),
        _ => Err(not_text()),
    }
}

/// Reads a text as bytes. Half of a surrogate pair has three bytes.
fn bytes<'a>(value: &Input<'a>) -> Result<Cow<'a, [u8]>, BrokenRule> {
    match value {
        Input::Text(Cow::Borrowed(text)) => Ok(Cow::Borrowed(text.as_bytes())),
        Input::Text(Cow::Owned(text)) => Ok(Cow::Owned(text.clone().into_bytes())),
        Input::Unreadable(json, _) => string_bytes(json).ok_or_else(not_text),
        _ => Err(not_text()),
    }
}

/// Reads the units that a check asks for. A whole number outside the bounds is clamped: 0 takes nothing,
/// so a negative number is 1.
fn cost(value: &Input<'_>) -> Result<u64, BrokenRule> {
    let number = match value {
        Input::Number(number) => {
            let text = number.to_string();
            thousandths(&text).ok().or_else(|| with_exponent(&text))
        }
        Input::Text(text) => thousandths(text).ok(),
        _ => None,
    };
    match number {
        Some(number) if number % 1000 == 0 => {
            let most = i128::from(Units::MAX.get());
            let units = number / 1000;
            let units = if units < 0 { 1 } else { units.min(most) };
            Ok(u64::try_from(units).unwrap_or(1))
        }
        _ => Err(BrokenRule::new("int_type", "Input should be a valid integer")),
    }
}

/// Reads a whole number with an exponent, such as `1e9`, as thousandths. The number is cut where every
/// range has ended.
fn with_exponent(text: &str) -> Option<i128> {
    let number = text.parse::<f64>().ok()?.clamp(-1.0, 1e15);
    (number.fract() == 0.0).then(|| format!("{number:.0}")).and_then(|text| thousandths(&text).ok())
}

/// Reads the attributes of a check: an object of texts, numbers and booleans.
fn attributes<'a>(value: &Input<'a>) -> Result<Vec<Attribute<'a>>, BrokenRule> {
    let json = match value {
        Input::Object(json) => *json,
        _ => return Err(BrokenRule::new("dict_type", "Input should be a valid dictionary")),
    };
    let read = serde_json::Deserializer::from_str(json).deserialize_map(AttributesVisitor);
    // The grammar was checked when the whole body was read.
    let read =
        read.map_err(|_| BrokenRule::new("dict_type", "Input should be a valid dictionary"))?;
    if let Some(name) = repeated(&read) {
        return Err(broken_attribute(name, "occurs more than once"));
    }
    read.into_iter()
        .map(|(name, value)| match scalar(value) {
            Some(value) => Ok((name, value)),
            None => Err(broken_attribute(&name, "must be text, a number or a boolean")),
        })
        .collect()
}

/// Returns the first name that occurs more than once, unless an end user can have written it: the
/// policies refuse such a name where they read it.
fn repeated<'r>(attributes: &'r [(Cow<'_, str>, &RawValue)]) -> Option<&'r str> {
    let mut known = HashSet::with_capacity(attributes.len());
    let names = attributes.iter().map(|(name, _)| &**name);
    let by_caller = |name: &&str| !END_USER_NAMES.iter().any(|prefix| name.starts_with(prefix));
    names.filter(by_caller).find(|name| !known.insert(*name))
}

/// Returns the error of an attribute. The answer does not repeat the value, which can be a secret.
fn broken_attribute(name: &str, rule: &str) -> BrokenRule {
    let name = &name[..name.floor_char_boundary(MAX_NAME_BYTES)];
    BrokenRule::new("value_error", format!("Value error, the attribute `{name}` {rule}"))
}

/// Returns the value of an attribute; `None` for a list or an object.
fn scalar(value: &RawValue) -> Option<Option<Cow<'_, [u8]>>> {
    let json = value.get();
    Some(match json.as_bytes().first()? {
        b'{' | b'[' => return None,
        b'n' => None,
        b'"' => Some(string_bytes(json)?),
        b't' | b'f' => Some(Cow::Borrowed(json.as_bytes())),
        _ => Some(number_text(json)),
    })
}

/// Returns the bytes of a JSON string.
fn string_bytes(json: &str) -> Option<Cow<'_, [u8]>> {
    let plain = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match plain.filter(|plain| !plain.contains('\\')) {
        Some(plain) => Some(Cow::Borrowed(plain.as_bytes())),
        None => {
            let bytes = serde_json::Deserializer::from_str(json).deserialize_bytes(BytesVisitor);
            bytes.ok().map(Cow::Owned)
        }
    }
}

/// Returns a JSON number without an exponent.
fn number_text(json: &str) -> Cow<'_, [u8]> {
    if json.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return Cow::Borrowed(json.as_bytes());
    }
    // A number that is too large for a double is the largest one.
    let number = json.parse::<f64>().unwrap_or(0.0).clamp(f64::MIN, f64::MAX);
    Cow::Owned(number.to_string().into_bytes())
}

struct AttributesVisitor;

impl<'de> Visitor<'de> for AttributesVisitor {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut attributes = Vec::new();
        while let Some(name) = map.next_key_seed(NameSeed)? {
            attributes.push((name, map.next_value()?));
        }
        Ok(attributes)
    }
}

/// Reads the name of an attribute. A name that is no UTF-8 becomes one that no policy reads.
struct NameSeed;

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl<'de> Visitor<'de> for NameSeed {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of an attribute")
    }

    fn visit_borrowed_bytes<E>(self, name: &'de [u8]) -> Result<Self::Value, E> {
        Ok(String::from_utf8_lossy(name))
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(String::from_utf8_lossy(name).into_owned()))
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(bytes.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use limiter::Instant;
    use policies::{LoadOptions, Policies, identity::HashKey};
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
}
