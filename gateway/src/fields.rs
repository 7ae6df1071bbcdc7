//! The named values of a request.
//!
//! Reading a field that is wrong adds a [`Fault`] and goes on, so that a caller learns of all
//! faults at once.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

use crate::{
    config::Defaults,
    error::Error,
    fault::{BrokenRule, Fault, Place},
    quota::{Algorithm, Quota},
    value,
};

/// The fields of one part of a request, and the faults found up to now.
#[derive(Debug)]
pub(crate) struct Fields {
    /// The way to the fields.
    loc: Vec<Place>,
    values: Map<String, Value>,
    faults: Vec<Fault>,
}

/// Says that a value is missing because it is wrong, which is on the list of faults.
#[derive(Debug, PartialEq)]
pub(crate) struct Noted;

impl Fields {
    /// The fields of a JSON body.
    pub(crate) fn from_body(body: &[u8]) -> Result<Self, Error> {
        let loc = vec![Place::Name("body")];
        if body.is_empty() {
            let rule = BrokenRule::new("missing", "Field required");
            return Err(Error::Invalid(vec![rule.at(loc, Value::Null)]));
        }
        match serde_json::from_slice(body) {
            Ok(value) => Self::from_value(value, loc),
            Err(error) => {
                let ctx = json!({ "error": error.to_string() });
                let rule =
                    BrokenRule::with_ctx("json_invalid", "JSON decode error".to_owned(), ctx);
                let loc = vec![Place::Name("body"), Place::Position(offset(body, &error))];
                Err(Error::Invalid(vec![rule.at(loc, json!({}))]))
            }
        }
    }

    /// The fields of a JSON object that was found at `loc`.
    pub(crate) fn from_value(value: Value, loc: Vec<Place>) -> Result<Self, Error> {
        if let Value::Object(values) = value {
            return Ok(Self { loc, values, faults: Vec::new() });
        }
        let rule = BrokenRule::new(
            "model_attributes_type",
            "Input should be a valid dictionary or object to extract fields from",
        );
        Err(Error::Invalid(vec![rule.at(loc, value)]))
    }

    /// The fields in the path of a request.
    pub(crate) fn from_path(values: Map<String, Value>) -> Self {
        Self { loc: vec![Place::Name("path")], values, faults: Vec::new() }
    }

    /// Goes on with the query of the same request. Of equal names the last one counts.
    pub(crate) fn go_on_with_query(&mut self, query: Option<&str>) {
        self.loc = vec![Place::Name("query")];
        self.values = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
            .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
            .collect();
    }

    /// Reads a field that must be there.
    pub(crate) fn required<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&Value) -> Result<T, BrokenRule>,
    ) -> Result<T, Noted> {
        match self.optional(name, parse)? {
            Some(value) => Ok(value),
            None => {
                let rule = BrokenRule::new("missing", "Field required");
                let input = Value::Object(self.values.clone());
                Err(self.note_input(name, rule, input))
            }
        }
    }

    /// Reads a field if it is there.
    pub(crate) fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&Value) -> Result<T, BrokenRule>,
    ) -> Result<Option<T>, Noted> {
        match self.values.get(name).map(parse).transpose() {
            Ok(value) => Ok(value),
            Err(rule) => Err(self.note(name, rule)),
        }
    }

    /// Takes a list that must be there, of any values but not of any length.
    pub(crate) fn list(
        &mut self,
        name: &'static str,
        length: &RangeInclusive<usize>,
    ) -> Result<Vec<Value>, Noted> {
        self.required(name, |value| value::list(value, length))?;
        match self.values.remove(name) {
            Some(Value::Array(list)) => Ok(list),
            _ => Ok(Vec::new()),
        }
    }

    /// Reads what a caller may take, with defaults for what is left out.
    pub(crate) fn quota(&mut self, defaults: Defaults) -> Result<Quota, Noted> {
        let algorithm = self.optional("algorithm", value::algorithm);
        let limit = self.optional("limit", value::units);
        let window = self.optional("window_seconds", value::window);
        let burst = self.optional("burst", value::units_or_null);
        let (algorithm, burst) = (algorithm?, burst?.flatten());
        if algorithm == Some(Algorithm::SlidingWindow) && burst.is_some() {
            let rule = "Value error, burst is for token_bucket only";
            return Err(self.note("burst", BrokenRule::new("value_error", rule)));
        }
        Ok(Quota {
            algorithm: algorithm.unwrap_or(Algorithm::TokenBucket),
            limit: limit?.unwrap_or(defaults.limit),
            window: window?.unwrap_or(defaults.window),
            burst,
        })
    }

    /// Adds a fault of a field.
    pub(crate) fn note(&mut self, name: &'static str, rule: BrokenRule) -> Noted {
        let input = self.values.get(name).cloned().unwrap_or(Value::Null);
        self.note_input(name, rule, input)
    }

    fn note_input(&mut self, name: &'static str, rule: BrokenRule, input: Value) -> Noted {
        let mut loc = self.loc.clone();
        loc.push(Place::Name(name));
        self.faults.push(rule.at(loc, input));
        Noted
    }

    /// What was read, if there was no fault at all.
    pub(crate) fn finish<T>(self, read: Result<T, Noted>) -> Result<T, Error> {
        match read {
            Ok(value) if self.faults.is_empty() => Ok(value),
            _ => Err(Error::Invalid(self.faults)),
        }
    }
}

/// The position in bytes at which a body stops being JSON.
fn offset(body: &[u8], error: &serde_json::Error) -> usize {
    let lines_before =
        body.split_inclusive(|&byte| byte == b'\n').take(error.line().saturating_sub(1));
    lines_before.map(<[u8]>::len).sum::<usize>() + error.column().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Fields;
    use crate::{
        config::Defaults,
        error::Error,
        millis::Millis,
        quota::{Algorithm, Quota},
    };

    const DEFAULTS: Defaults = Defaults { limit: 100, window: Millis(60_000) };

    fn faults(error: Error) -> Value {
        let Error::Invalid(faults) = error else { panic!("{error:?} is not a list of faults") };
        json!(faults)
    }

    /// The quota in a body, or all faults of the body.
    fn quota(body: &Value) -> Result<Quota, Value> {
        let mut fields = Fields::from_body(body.to_string().as_bytes()).map_err(faults)?;
        let quota = fields.quota(DEFAULTS);
        fields.finish(quota).map_err(faults)
    }

    #[test]
    fn what_is_left_out_has_defaults_and_what_is_unknown_is_ignored() {
        let expected = Quota {
            algorithm: Algorithm::TokenBucket,
            limit: 100,
            window: Millis(60_000),
            burst: None,
        };
        assert_eq!(quota(&json!({})), Ok(expected.clone()));
        assert_eq!(quota(&json!({ "user": 1, "Limit": 2 })), Ok(expected));
    }

    #[test]
    fn a_sliding_window_has_no_burst() {
        let body = json!({ "algorithm": "sliding_window", "burst": 5 });
        let fault = json!({
            "type": "value_error",
            "loc": ["body", "burst"],
            "msg": "Value error, burst is for token_bucket only",
            "input": 5,
        });
        assert_eq!(quota(&body), Err(json!([fault])));
    }

    #[test]
    fn all_faults_are_listed_at_once() {
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
        let mut fields =
            Fields::from_path([("identifier".to_owned(), json!("x"))].into_iter().collect());
        fields.go_on_with_query(Some("limit=1&limit=%32&window_seconds=0.5"));
        let quota = fields.quota(DEFAULTS).unwrap();
        assert_eq!((quota.limit, quota.window), (2, Millis(500)));
    }

    #[test]
    fn malformed_json_is_located_by_its_bytes() {
        for (body, offset) in
            [("{", 0), ("{\"identifier\": x}", 15), ("{\n  \"limit\": ,\n}", 13), ("\u{feff}{}", 0)]
        {
            let listed = faults(Fields::from_body(body.as_bytes()).unwrap_err());
            assert_eq!(listed[0]["type"], "json_invalid", "{body}");
            assert_eq!(listed[0]["loc"], json!(["body", offset]), "{body}");
        }
    }

    #[test]
    fn a_body_that_is_no_object_is_refused() {
        for body in ["[]", "1", "null", "\"text\""] {
            let listed = faults(Fields::from_body(body.as_bytes()).unwrap_err());
            assert_eq!(listed[0]["type"], "model_attributes_type", "{body}");
        }
        let listed = faults(Fields::from_body(b"").unwrap_err());
        assert_eq!(listed[0]["type"], "missing");
        let deep = "[".repeat(10_000);
        assert_eq!(
            faults(Fields::from_body(deep.as_bytes()).unwrap_err())[0]["type"],
            "json_invalid"
        );
    }
}
