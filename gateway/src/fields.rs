//! Named values of a request, read leniently and checked strictly.
//!
//! Reading a field that is wrong adds a [`Fault`] and goes on, so that a caller learns of all
//! faults at once. Numbers may be written as `10`, `"10"` or `10.0`, wherever they come from.

use serde_json::{Map, Value, json};

use crate::{
    config::Defaults,
    error::Error,
    fault::{BrokenRule, Fault, Place},
    millis::Millis,
    number::{NumberFault, thousandths},
    quota::{Algorithm, Quota, UNITS, WINDOW},
    store::{Argument, StoreError},
};

/// Most bytes of an identifier; the least is 1.
pub(crate) const MAX_IDENTIFIER_BYTES: usize = 256;

/// The fields of one part of a request, and the faults found up to now.
#[derive(Debug)]
pub(crate) struct Fields {
    part: &'static str,
    values: Map<String, Value>,
    faults: Vec<Fault>,
}

/// Says that a value is missing because it is wrong, which is on the list of faults.
#[derive(Debug, PartialEq)]
pub(crate) struct Noted;

impl Fields {
    /// The fields of a JSON body.
    pub(crate) fn from_body(body: &[u8]) -> Result<Self, Error> {
        let broken = |rule: BrokenRule, loc, input| Err(Error::Invalid(vec![rule.at(loc, input)]));
        let loc = vec![Place::Name("body")];
        if body.is_empty() {
            return broken(BrokenRule::new("missing", "Field required"), loc, Value::Null);
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(values)) => Ok(Self::from_part("body", values)),
            Ok(other) => broken(
                BrokenRule::new(
                    "model_attributes_type",
                    "Input should be a valid dictionary or object to extract fields from",
                ),
                loc,
                other,
            ),
            Err(error) => broken(
                BrokenRule::with_ctx(
                    "json_invalid",
                    "JSON decode error".to_owned(),
                    json!({ "error": error.to_string() }),
                ),
                vec![Place::Name("body"), Place::Offset(offset(body, &error))],
                json!({}),
            ),
        }
    }

    /// The fields in the path of a request.
    pub(crate) fn from_path(values: Map<String, Value>) -> Self {
        Self::from_part("path", values)
    }

    fn from_part(part: &'static str, values: Map<String, Value>) -> Self {
        Self { part, values, faults: Vec::new() }
    }

    /// Goes on with the query of the same request. Of equal names the last one counts.
    pub(crate) fn go_on_with_query(&mut self, query: Option<&str>) {
        self.part = "query";
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

    /// Reads what a caller may take, with defaults for what is left out.
    pub(crate) fn quota(&mut self, defaults: Defaults) -> Result<Quota, Noted> {
        let algorithm = self.optional("algorithm", algorithm);
        let limit = self.optional("limit", units);
        let window = self.optional("window_seconds", window);
        let burst = self.optional("burst", units_or_null);
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
        self.faults.push(rule.at(vec![Place::Name(self.part), Place::Name(name)], input));
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

/// What a caller learns when the store has no decision on its `quota` and `cost`, which were read
/// from a `part` of the request.
pub(crate) fn explain(error: StoreError, part: &'static str, quota: &Quota, cost: u32) -> Error {
    let StoreError::Refused { argument, rule } = error else {
        return Error::Unavailable;
    };
    let (name, input) = match argument {
        Argument::Limit => ("limit", json!(quota.limit)),
        Argument::Window => ("window_seconds", json!(quota.window)),
        Argument::Capacity => ("burst", json!(quota.capacity())),
        Argument::Cost => ("cost", json!(cost)),
    };
    let rule = BrokenRule::new("value_error", format!("Value error, {rule}"));
    Error::Invalid(vec![rule.at(vec![Place::Name(part), Place::Name(name)], input)])
}

/// A text of 1 to 256 bytes.
pub(crate) fn identifier(value: &Value) -> Result<String, BrokenRule> {
    let Value::String(text) = value else {
        return Err(BrokenRule::new("string_type", "Input should be a valid string"));
    };
    if text.is_empty() {
        return Err(BrokenRule::with_ctx(
            "string_too_short",
            "String should have at least 1 character".to_owned(),
            json!({ "min_length": 1 }),
        ));
    }
    if text.len() > MAX_IDENTIFIER_BYTES {
        return Err(BrokenRule::with_ctx(
            "string_too_long",
            format!("String should have at most {MAX_IDENTIFIER_BYTES} bytes"),
            json!({ "max_length": MAX_IDENTIFIER_BYTES }),
        ));
    }
    Ok(text.clone())
}

/// The name of an algorithm.
pub(crate) fn algorithm(value: &Value) -> Result<Algorithm, BrokenRule> {
    Algorithm::ALL.into_iter().find(|algorithm| value == algorithm.name()).ok_or_else(|| {
        let expected = Algorithm::ALL.map(|algorithm| format!("'{}'", algorithm.name()));
        let expected = expected.join(" or ");
        BrokenRule::with_ctx(
            "enum",
            format!("Input should be {expected}"),
            json!({ "expected": expected }),
        )
    })
}

/// A number of units.
pub(crate) fn units(value: &Value) -> Result<u32, BrokenRule> {
    let number = match (number(value), value) {
        (Some(Ok(number)), _) if number % 1000 == 0 => number / 1000,
        (Some(_), Value::String(_)) => {
            return Err(BrokenRule::new(
                "int_parsing",
                "Input should be a valid integer, unable to parse string as an integer",
            ));
        }
        (Some(_), _) => {
            return Err(BrokenRule::new(
                "int_from_float",
                "Input should be a valid integer, got a number with a fractional part",
            ));
        }
        (None, _) => {
            return Err(BrokenRule::new("int_type", "Input should be a valid integer"));
        }
    };
    match u32::try_from(number) {
        Ok(units) if UNITS.contains(&units) => Ok(units),
        _ if number < i128::from(*UNITS.start()) => Err(too_small(&json!(UNITS.start()))),
        _ => Err(too_large(&json!(UNITS.end()))),
    }
}

/// A number of units, or null for none.
pub(crate) fn units_or_null(value: &Value) -> Result<Option<u32>, BrokenRule> {
    if value.is_null() { Ok(None) } else { units(value).map(Some) }
}

/// A window in seconds with at most three decimals.
pub(crate) fn window(value: &Value) -> Result<Millis, BrokenRule> {
    let number = match number(value) {
        Some(Ok(number)) => number,
        Some(Err(NumberFault::NotANumber)) => {
            return Err(BrokenRule::new("decimal_parsing", "Input should be a valid decimal"));
        }
        Some(Err(NumberFault::TooFine)) => {
            return Err(BrokenRule::with_ctx(
                "decimal_max_places",
                "Decimal input should have no more than 3 decimal places".to_owned(),
                json!({ "decimal_places": 3 }),
            ));
        }
        None => {
            return Err(BrokenRule::new(
                "decimal_type",
                "Decimal input should be an integer, float, string or Decimal object",
            ));
        }
    };
    match u64::try_from(number).map(Millis) {
        Ok(window) if WINDOW.contains(&window) => Ok(window),
        _ if number < i128::from(WINDOW.start().0) => Err(too_small(&json!(WINDOW.start()))),
        _ => Err(too_large(&json!(WINDOW.end()))),
    }
}

/// The thousandths of a JSON number or of a text; nothing for any other value.
fn number(value: &Value) -> Option<Result<i128, NumberFault>> {
    match value {
        Value::String(text) => Some(thousandths(text)),
        // A float of the standard library prints without an exponent, unlike one of serde_json.
        Value::Number(number) => Some(match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => thousandths(&float.to_string()),
            None => thousandths(&number.to_string()),
        }),
        _ => None,
    }
}

fn too_small(min: &Value) -> BrokenRule {
    let msg = format!("Input should be greater than or equal to {min}");
    BrokenRule::with_ctx("greater_than_equal", msg, json!({ "ge": min }))
}

fn too_large(max: &Value) -> BrokenRule {
    let msg = format!("Input should be less than or equal to {max}");
    BrokenRule::with_ctx("less_than_equal", msg, json!({ "le": max }))
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

    use super::{Fields, algorithm, identifier, units, units_or_null, window};
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
    fn numbers_of_units_are_read_from_every_way_to_write_them() {
        for (value, expected) in [
            (json!(1), 1),
            (json!("10"), 10),
            (json!(" 10 "), 10),
            (json!(60.0), 60),
            (json!("60.0"), 60),
            (json!(1e9), 1_000_000_000),
        ] {
            assert_eq!(units(&value), Ok(expected), "{value}");
        }
    }

    #[test]
    fn numbers_of_units_that_are_wrong_name_their_rule() {
        for (value, kind) in [
            (json!(0), "greater_than_equal"),
            (json!(-5), "greater_than_equal"),
            (json!("-5"), "greater_than_equal"),
            (json!(1_000_000_001), "less_than_equal"),
            (json!(u64::MAX), "less_than_equal"),
            (json!(1e300), "less_than_equal"),
            (json!("9".repeat(500)), "less_than_equal"),
            (json!(1.5), "int_from_float"),
            (json!(1e-7), "int_from_float"),
            (json!("1.5"), "int_parsing"),
            (json!(""), "int_parsing"),
            (json!("ten"), "int_parsing"),
            (json!(true), "int_type"),
            (json!(null), "int_type"),
            (json!([1]), "int_type"),
            (json!({}), "int_type"),
        ] {
            assert_eq!(units(&value).unwrap_err().kind, kind, "{value}");
        }
    }

    #[test]
    fn windows_have_at_most_three_decimals() {
        for (value, expected) in [
            (json!(60), 60_000),
            (json!("60"), 60_000),
            (json!(60.0), 60_000),
            (json!(0.001), 1),
            (json!("0.25"), 250),
            (json!(0.1), 100),
            (json!(31_622_400), 31_622_400_000),
        ] {
            assert_eq!(window(&value), Ok(Millis(expected)), "{value}");
        }
        for (value, kind) in [
            (json!(0), "greater_than_equal"),
            (json!(-1), "greater_than_equal"),
            (json!(31_622_400.001), "less_than_equal"),
            (json!(1e300), "less_than_equal"),
            (json!(0.0001), "decimal_max_places"),
            (json!("1e3"), "decimal_parsing"),
            (json!("NaN"), "decimal_parsing"),
            (json!(false), "decimal_type"),
            (json!(null), "decimal_type"),
        ] {
            assert_eq!(window(&value).unwrap_err().kind, kind, "{value}");
        }
    }

    #[test]
    fn identifiers_are_counted_in_bytes() {
        for text in ["x".to_owned(), "/%\0\u{1f980}".to_owned(), "x".repeat(256)] {
            assert_eq!(identifier(&json!(text)), Ok(text));
        }
        for (value, kind) in [
            (json!(""), "string_too_short"),
            (json!("x".repeat(257)), "string_too_long"),
            (json!("é".repeat(129)), "string_too_long"),
            (json!(1), "string_type"),
            (json!(null), "string_type"),
        ] {
            assert_eq!(identifier(&value).unwrap_err().kind, kind, "{value}");
        }
    }

    #[test]
    fn algorithms_go_by_their_names() {
        assert_eq!(algorithm(&json!("token_bucket")), Ok(Algorithm::TokenBucket));
        assert_eq!(algorithm(&json!("sliding_window")), Ok(Algorithm::SlidingWindow));
        for value in [json!("leaky_bucket"), json!("TOKEN_BUCKET"), json!(0), json!(null)] {
            assert_eq!(algorithm(&value).unwrap_err().kind, "enum");
        }
    }

    #[test]
    fn a_burst_can_be_null() {
        assert_eq!(units_or_null(&json!(null)), Ok(None));
        assert_eq!(units_or_null(&json!(5)), Ok(Some(5)));
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
