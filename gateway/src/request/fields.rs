//! The named values of a request.
//!
//! An invalid field adds a [`FieldError`], and reading continues, so that one answer has all errors.

use std::{borrow::Cow, ops::RangeInclusive};

use limiter::{Units, Window};
use serde_json::{Value, json, value::RawValue};

use crate::{
    error::Error,
    request::{
        field_error::{BrokenRule, FieldError, Place},
        input::{Input, cut_object, echo_of},
        json, value,
    },
};

/// The location of the fields in a body.
const BODY: &[Place] = &[Place::Name("body")];

/// The limit and the window of a request that leaves them out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// Units per window.
    pub limit: Units,
    /// The window.
    pub window: Window,
}

/// The fields of one part of a request, and the errors of the fields that were read.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    /// The location of the fields.
    loc: Cow<'static, [Place]>,
    /// The whole part.
    part: Input<'a>,
    /// The fields in their order. Of several fields with one name the last one counts.
    values: Vec<(&'static str, Input<'a>)>,
    errors: Vec<FieldError>,
}

/// Marker error: a field is invalid, and its error is in the list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Invalid;

impl<'a> Fields<'a> {
    /// Reads the fields of a JSON body.
    pub(crate) fn from_body(body: &'a [u8]) -> Result<Self, Error> {
        if body.is_empty() {
            return Err(Error::Invalid(vec![missing().at(BODY.to_vec(), Value::Null)]));
        }
        let text = str::from_utf8(body)
            .map_err(|error| broken_json(error.valid_up_to(), "invalid unicode code point"))?;
        let members = json::members(text)
            .map_err(|error| broken_json(offset(body, &error), &error.to_string()))?;
        Self::from_members(members, text, BODY.into()).map_err(Error::Invalid)
    }

    /// Reads the fields of a JSON value at `loc`.
    pub(crate) fn from_json(value: &'a RawValue, loc: Vec<Place>) -> Result<Self, Error> {
        Self::from_item(value, loc).map_err(Error::Invalid)
    }

    fn from_item(value: &'a RawValue, loc: Vec<Place>) -> Result<Self, Vec<FieldError>> {
        let json = value.get();
        match json::members(json) {
            Ok(members) => Self::from_members(members, json, loc.into()),
            // The grammar of the whole body is valid. A name can still be no text, such as half of
            // a surrogate pair.
            Err(error) => Err(vec![not_json(&error.to_string()).at(loc, cut_object())]),
        }
    }

    /// Reads an item of a list, whose errors become errors of this part.
    pub(crate) fn item<T>(
        &mut self,
        list: &'static str,
        position: usize,
        value: &'a RawValue,
        read: impl FnOnce(&mut Self) -> Result<T, Invalid>,
    ) -> Result<T, Invalid> {
        let mut loc = self.loc.to_vec();
        loc.extend([Place::Name(list), Place::Position(position)]);
        match Self::from_item(value, loc) {
            Ok(mut fields) => {
                let item = read(&mut fields);
                self.errors.append(&mut fields.errors);
                item
            }
            Err(mut errors) => {
                self.errors.append(&mut errors);
                Err(Invalid)
            }
        }
    }

    fn from_members(
        members: Option<Vec<json::Member<'a>>>,
        text: &'a str,
        loc: Cow<'static, [Place]>,
    ) -> Result<Self, Vec<FieldError>> {
        let text = text.trim_matches([' ', '\t', '\r', '\n']);
        let Some(members) = members else {
            let rule = BrokenRule::new(
                "model_attributes_type",
                "Input should be a valid dictionary or object to extract fields from",
            );
            return Err(vec![rule.at(loc.into_owned(), Input::from_text(text).echo())]);
        };
        Ok(Self { loc, part: Input::Object(text), values: members, errors: Vec::new() })
    }

    /// Returns the parameters in the path of a request as fields.
    pub(crate) fn from_path(parameters: Vec<(&'static str, String)>) -> Self {
        let loc = (&[Place::Name("path")]).into();
        let field = |(name, value)| (name, Input::Text(Cow::Owned(value)));
        let values = parameters.into_iter().map(field).collect();
        Self { loc, part: Input::Null, values, errors: Vec::new() }
    }

    /// Replaces the fields with those in the JSON body of the same request, and keeps the errors.
    pub(crate) fn continue_with_body(&mut self, body: &'a [u8]) -> Result<(), Error> {
        let Self { loc, part, values, errors: _ } = Self::from_body(body)?;
        (self.loc, self.part, self.values) = (loc, part, values);
        Ok(())
    }

    /// Reads the fields in the query of a request.
    pub(crate) fn from_query(query: Option<&'a str>) -> Self {
        let mut fields =
            Self { loc: (&[]).into(), part: Input::Null, values: Vec::new(), errors: Vec::new() };
        fields.continue_with_query(query);
        fields
    }

    /// Replaces the fields with those in the query of the same request, and keeps the errors.
    pub(crate) fn continue_with_query(&mut self, query: Option<&'a str>) {
        self.loc = (&[Place::Name("query")]).into();
        self.values = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
            .filter_map(|(name, value)| Some((json::known_name(&name)?, Input::Text(value))))
            .collect();
    }

    /// Reads a required field. Null is a value that breaks its rule.
    pub(crate) fn required<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&Input<'a>) -> Result<T, BrokenRule>,
    ) -> Result<T, Invalid> {
        match self.read(name, parse)? {
            Some(value) => Ok(value),
            None => Err(self.add_missing(name)),
        }
    }

    /// Adds the error of a required field that is missing.
    pub(crate) fn add_missing(&mut self, name: &'static str) -> Invalid {
        let input = self.part.echo();
        self.add_error_of(name, missing(), input)
    }

    /// Reads an optional field. Null is a field that is left out.
    pub(crate) fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&Input<'a>) -> Result<T, BrokenRule>,
    ) -> Result<Option<T>, Invalid> {
        if self.has(name) { self.read(name, parse) } else { Ok(None) }
    }

    /// Adds an error for each of these fields that the request has. They belong to other requests,
    /// and would change the meaning of this one: `rule` has the right place of their values.
    pub(crate) fn refuse(&mut self, names: &[&'static str], rule: &str) -> Result<(), Invalid> {
        let mut result = Ok(());
        for name in names {
            if self.has(name) {
                let msg = format!("Value error, {name} does not belong here: {rule}");
                result = Err(self.add_error(name, BrokenRule::new("value_error", msg)));
            }
        }
        result
    }

    /// Adds an error for each parameter of a query that is none of these. A request whose meaning
    /// depends on an optional parameter must not lose it by a misspelled name.
    pub(crate) fn refuse_other_parameters(
        &mut self,
        query: Option<&str>,
        names: &[&'static str],
    ) -> Result<(), Invalid> {
        let mut result = Ok(());
        for (name, _) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if !names.contains(&&*name) {
                let known = if names.is_empty() { "none" } else { &names.join(", ") };
                let msg = format!("Value error, unknown parameter: this request has {known}");
                let input = Input::Text(name).echo();
                let loc = vec![Place::Name("query")];
                self.errors.push(BrokenRule::new("value_error", msg).at(loc, input));
                result = Err(Invalid);
            }
        }
        result
    }

    /// Returns true when the request has a value for this field that is not null.
    pub(crate) fn has(&self, name: &'static str) -> bool {
        self.value(name).is_some_and(|value| *value != Input::Null)
    }

    fn read<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&Input<'a>) -> Result<T, BrokenRule>,
    ) -> Result<Option<T>, Invalid> {
        let value = match self.value(name) {
            None => return Ok(None),
            Some(Input::Unreadable(_, reason)) => Err(not_json(reason)),
            Some(value) => parse(value),
        };
        value.map(Some).map_err(|rule| self.add_error(name, rule))
    }

    /// Reads a required list of any values, with a bound for its length.
    pub(crate) fn list(
        &mut self,
        name: &'static str,
        length: &RangeInclusive<usize>,
    ) -> Result<Vec<&'a RawValue>, Invalid> {
        self.required(name, |value| value::list(value, length))
    }

    /// Returns the location of the fields.
    pub(super) fn location(&self) -> &[Place] {
        &self.loc
    }

    /// Returns the first field among these that the request has a value for.
    pub(super) fn first_of(&self, names: &[&'static str]) -> Option<&'static str> {
        let mut given = self.values.iter().map(|(name, _)| *name);
        given.find(|name| names.contains(name) && self.has(name))
    }

    /// Returns the value of a field, as it came.
    pub(super) fn value(&self, name: &'static str) -> Option<&Input<'a>> {
        debug_assert!(json::known_name(name).is_some(), "{name} is skipped");
        self.values.iter().rfind(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// Adds an error of a field.
    pub(crate) fn add_error(&mut self, name: &'static str, rule: BrokenRule) -> Invalid {
        let input = self.value(name).map_or(Value::Null, |value| echo_of(name, value));
        self.add_error_of(name, rule, input)
    }

    fn add_error_of(&mut self, name: &'static str, rule: BrokenRule, input: Value) -> Invalid {
        let mut loc = self.loc.to_vec();
        loc.push(Place::Name(name));
        self.errors.push(rule.at(loc, input));
        Invalid
    }

    /// Returns the value that was read, if there is no error.
    pub(crate) fn finish<T>(self, read: Result<T, Invalid>) -> Result<T, Error> {
        match read {
            Ok(value) if self.errors.is_empty() => Ok(value),
            _ => Err(Error::Invalid(self.errors)),
        }
    }
}

fn missing() -> BrokenRule {
    BrokenRule::new("missing", "Field required")
}

fn not_json(reason: &str) -> BrokenRule {
    BrokenRule::with_ctx("json_invalid", "JSON decode error".to_owned(), json!({ "error": reason }))
}

/// Returns the error of a body that stops being JSON at a position.
fn broken_json(offset: usize, reason: &str) -> Error {
    let loc = vec![Place::Name("body"), Place::Position(offset)];
    Error::Invalid(vec![not_json(reason).at(loc, json!({}))])
}

/// Returns the position in bytes at which a body stops being JSON.
fn offset(body: &[u8], error: &serde_json::Error) -> usize {
    let lines_before =
        body.split_inclusive(|&byte| byte == b'\n').take(error.line().saturating_sub(1));
    lines_before.map(<[u8]>::len).sum::<usize>() + error.column().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use limiter::{Limit, Quota, Units, Window};
    use serde_json::{Value, json};
    use store::QuotaRule;

    use super::{Defaults, Fields};
    use crate::{error::Error, request::value};

    const DEFAULTS: Defaults =
        Defaults { limit: Units::new(100).unwrap(), window: Window::from_millis(60_000).unwrap() };

    fn field_errors(error: Error) -> Value {
        let Error::Invalid(errors) = error else { panic!("{error:?} has no errors of fields") };
        json!(errors)
    }

    /// Returns the quota in a body, or all errors of the body.
    fn quota(body: &Value) -> Result<QuotaRule, Value> {
        let body = body.to_string();
        let mut fields = Fields::from_body(body.as_bytes()).map_err(field_errors)?;
        let quota = fields.quota(DEFAULTS);
        fields.finish(quota).map_err(field_errors)
    }

    #[test]
    fn a_sliding_window_has_no_burst() {
        let body = json!({ "algorithm": "sliding_window", "burst": 5 });
        let error = json!({
            "type": "value_error",
            "loc": ["body", "burst"],
            "msg": "Value error, burst is for token_bucket only",
            "input": 5,
        });
        assert_eq!(quota(&body), Err(json!([error])));
    }

    #[test]
    fn all_errors_are_listed_at_once() {
        let listed = quota(&json!({ "limit": 0, "window_seconds": "soon" })).unwrap_err();
        let expected = json!([
            {
                "type": "greater_than_equal",
                "loc": ["body", "limit"],
                "msg": "Input should be greater than or equal to 1",
                "input": 0,
                "ctx": { "ge": 1 },
            },
            {
                "type": "decimal_parsing",
                "loc": ["body", "window_seconds"],
                "msg": "Input should be a valid decimal",
                "input": "soon",
            },
        ]);
        assert_eq!(listed, expected);
    }

    #[test]
    fn the_last_of_equal_names_in_a_query_counts() {
        let mut fields = Fields::from_path(vec![("identifier", "x".to_owned())]);
        fields.continue_with_query(Some("limit=1&limit=%32&window_seconds=0.5"));
        let quota = fields.quota(DEFAULTS).unwrap();
        let expected = Limit::new(Units::new(2).unwrap(), Window::from_millis(500).unwrap());
        assert_eq!(quota, Quota::TokenBucket(expected).into());
    }

    #[test]
    fn malformed_json_is_located_by_its_bytes() {
        for (body, offset) in
            [("{", 0), ("{\"identifier\": x}", 15), ("{\n  \"limit\": ,\n}", 13), ("\u{feff}{}", 0)]
        {
            let listed = field_errors(Fields::from_body(body.as_bytes()).unwrap_err());
            assert_eq!(listed[0]["type"], "json_invalid", "{body}");
            assert_eq!(listed[0]["loc"], json!(["body", offset]), "{body}");
        }
    }

    #[test]
    fn invalid_utf_8_is_located() {
        let listed = field_errors(Fields::from_body(b"{\"limit\": \"\xff\"}").unwrap_err());
        assert_eq!(listed[0]["loc"], json!(["body", 11]));
    }

    #[test]
    fn a_value_that_json_cannot_express_is_an_error_of_its_field() {
        let body = br#"{"identifier": "\ud800", "limit": 1e400}"#;
        let mut fields = Fields::from_body(body).unwrap();
        let identifier = fields.required("identifier", value::identifier);
        let quota = fields.quota(DEFAULTS);
        let listed = field_errors(fields.finish(identifier.and(quota)).unwrap_err());
        for (error, name) in [(&listed[0], "identifier"), (&listed[1], "limit")] {
            assert_eq!((&error["type"], &error["loc"][1]), (&json!("json_invalid"), &json!(name)));
        }
    }

    #[test]
    fn an_item_with_a_name_that_is_no_text_is_no_json() {
        let body = br#"{"limits": [{"\ud800": 1}]}"#;
        let mut fields = Fields::from_body(body).unwrap();
        let [item] = fields.list("limits", &(1..=1)).unwrap()[..] else { panic!("one item") };
        let read = fields.item("limits", 0, item, |_| Ok(()));
        let listed = field_errors(fields.finish(read).unwrap_err());
        assert_eq!(listed[0]["type"], "json_invalid");
        assert_eq!(listed[0]["loc"], json!(["body", "limits", 0]));
    }

    #[test]
    fn a_field_of_another_request_is_refused_unless_it_is_null() {
        let body = br#"{"cost": 1, "force": null, "identifier": null}"#;
        let mut fields = Fields::from_body(body).unwrap();
        assert_eq!(fields.optional("identifier", value::identifier), Ok(None));
        let read = fields.refuse(&["cost", "force", "amount"], "it is actual");
        let required = fields.required("identifier", value::identifier).map(drop);
        let listed = field_errors(fields.finish(read.and(required)).unwrap_err());
        let refusal = json!({ "type": "value_error", "loc": ["body", "cost"], "input": 1,
            "msg": "Value error, cost does not belong here: it is actual" });
        assert_eq!(listed[0], refusal);
        assert_eq!(listed[1]["type"], "string_type");
    }

    #[test]
    fn an_error_repeats_no_large_value() {
        let members: Vec<_> = (0..95_000).map(|name| format!("\"{name}\":0")).collect();
        let large = format!("{{{}}}", members.join(","));
        let body = format!("{{\"limit\":{large},\"other\":{large}}}");
        let mut fields = Fields::from_body(body.as_bytes()).unwrap();
        let identifier = fields.required("identifier", value::identifier);
        let quota = fields.quota(DEFAULTS);
        let listed = field_errors(fields.finish(identifier.and(quota)).unwrap_err());
        let short = json!({ "…": "…" });
        let inputs = listed.as_array().unwrap().iter().map(|error| &error["input"]);
        assert_eq!(inputs.collect::<Vec<_>>(), [&short, &short]);
    }

    #[test]
    fn a_body_that_is_no_object_is_refused() {
        for body in ["[]", "1", "null", "\"text\""] {
            let listed = field_errors(Fields::from_body(body.as_bytes()).unwrap_err());
            assert_eq!(listed[0]["type"], "model_attributes_type", "{body}");
        }
        let listed = field_errors(Fields::from_body(b"").unwrap_err());
        assert_eq!(listed[0]["type"], "missing");
        let deep = "[".repeat(10_000);
        assert_eq!(
            field_errors(Fields::from_body(deep.as_bytes()).unwrap_err())[0]["type"],
            "json_invalid"
        );
    }
}
