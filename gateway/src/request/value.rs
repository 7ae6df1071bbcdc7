//! Values of fields. A number can be written as `10`, `"10"` or `10.0` in a body, a query or a path.

use std::ops::RangeInclusive;

use calendar::{CalendarUnit, Start, Unit};
use jiff::tz::TimeZone;
use limiter::{Algorithm, Units, Window};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use store::LimitKind;

use crate::{
    request::{
        field_error::BrokenRule,
        input::Input,
        json,
        number::{NumberError, thousandths},
        quota::{COST, DAYS, UNITS},
    },
    seconds::Seconds,
};

/// Maximum size of an identifier in bytes. The minimum is 1.
pub(crate) const MAX_IDENTIFIER_BYTES: usize = 256;

/// The range of the number of identifiers to list.
pub(crate) const TOP_COUNT: RangeInclusive<u32> = 1..=1_000;

const _: () = assert!(*TOP_COUNT.end() as usize <= store::MAX_DENIED_IDENTIFIERS);
const _: () = assert!(MAX_IDENTIFIER_BYTES <= store::MAX_IDENTIFIER_BYTES);

/// Reads a text of 1 to 256 bytes.
pub(crate) fn identifier(value: &Input<'_>) -> Result<String, BrokenRule> {
    text(value, MAX_IDENTIFIER_BYTES)
}

/// Reads a text of 1 to `max_bytes` bytes.
pub(crate) fn text(value: &Input<'_>, max_bytes: usize) -> Result<String, BrokenRule> {
    let Input::Text(text) = value else {
        return Err(BrokenRule::new("string_type", "Input should be a valid string"));
    };
    if text.is_empty() {
        return Err(BrokenRule::with_ctx(
            "string_too_short",
            "String should have at least 1 character".to_owned(),
            json!({ "min_length": 1 }),
        ));
    }
    if text.len() > max_bytes {
        return Err(BrokenRule::with_ctx(
            "string_too_long",
            format!("String should have at most {max_bytes} bytes"),
            json!({ "max_length": max_bytes }),
        ));
    }
    Ok(text.clone().into_owned())
}

/// Reads the name of an algorithm.
pub(crate) fn algorithm(value: &Input<'_>) -> Result<Algorithm, BrokenRule> {
    named(value, Algorithm::from_name, || Algorithm::ALL.map(Algorithm::name).to_vec())
}

/// Reads the name of a kind of limit.
pub(crate) fn limit_kind(value: &Input<'_>) -> Result<LimitKind, BrokenRule> {
    named(value, LimitKind::from_name, || LimitKind::ALL.map(LimitKind::name).to_vec())
}

/// Reads the unit of a calendar window.
pub(crate) fn period(value: &Input<'_>) -> Result<Unit, BrokenRule> {
    named(value, Unit::from_name, || Unit::ALL.map(Unit::name).to_vec())
}

/// Reads one of several names.
pub(crate) fn named<T>(
    value: &Input<'_>,
    from_name: impl FnOnce(&str) -> Option<T>,
    names: impl FnOnce() -> Vec<&'static str>,
) -> Result<T, BrokenRule> {
    let named = match value {
        Input::Text(text) => from_name(text),
        _ => None,
    };
    named.ok_or_else(|| {
        let expected = names().into_iter().map(|name| format!("'{name}'"));
        let expected = expected.collect::<Vec<_>>().join(" or ");
        BrokenRule::with_ctx(
            "enum",
            format!("Input should be {expected}"),
            json!({ "expected": expected }),
        )
    })
}

/// Reads the IANA name of a time zone.
pub(crate) fn time_zone(value: &Input<'_>) -> Result<TimeZone, BrokenRule> {
    let zone = match value {
        Input::Text(name) => calendar::zone(name),
        _ => None,
    };
    let rule = "Value error, a time zone has a name such as Europe/Berlin";
    zone.ok_or_else(|| BrokenRule::new("value_error", rule))
}

/// Reads the start of a calendar window of this unit.
pub(crate) fn calendar_unit(unit: Unit, value: &Input<'_>) -> Result<CalendarUnit, BrokenRule> {
    let start = match (value, unit) {
        (_, Unit::Month) => whole(value, &DAYS).ok().map(|day| Start::Day(day.into())),
        (Input::Text(text), _) => Some(Start::Text(text)),
        _ => None,
    };
    start.and_then(|start| unit.with_start(start)).ok_or_else(|| {
        let rule = format!("Value error, a {} starts at {}", unit.name(), unit.starts());
        BrokenRule::new("value_error", rule)
    })
}

/// Reads a truth value.
pub(crate) fn boolean(value: &Input<'_>) -> Result<bool, BrokenRule> {
    match value {
        Input::Bool(value) => Ok(*value),
        _ => Err(BrokenRule::new("bool_type", "Input should be a valid boolean")),
    }
}

/// Reads a number of units, at least 1.
pub(crate) fn units(value: &Input<'_>) -> Result<Units, BrokenRule> {
    let units = whole(value, &UNITS)?;
    Units::new(units.into()).ok_or_else(|| too_large(&json!(UNITS.end())))
}

/// Reads a cost in units, which can be 0.
pub(crate) fn cost(value: &Input<'_>) -> Result<u32, BrokenRule> {
    whole(value, &COST)
}

/// Reads the number of identifiers to list.
pub(crate) fn top_count(value: &Input<'_>) -> Result<u32, BrokenRule> {
    whole(value, &TOP_COUNT)
}

/// Reads an integer within a range.
pub(crate) fn whole<T>(value: &Input<'_>, range: &RangeInclusive<T>) -> Result<T, BrokenRule>
where
    T: Copy + Into<i128> + TryFrom<i128> + PartialOrd + Serialize,
{
    let number = match (number(value), value) {
        (Some(Ok(number)), _) if number % 1000 == 0 => number / 1000,
        (Some(_), Input::Text(_)) => {
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
    match T::try_from(number) {
        Ok(number) if range.contains(&number) => Ok(number),
        _ if number < (*range.start()).into() => Err(too_small(&json!(range.start()))),
        _ => Err(too_large(&json!(range.end()))),
    }
}

/// Reads a window in seconds with at most three decimals.
pub(crate) fn window(value: &Input<'_>) -> Result<Window, BrokenRule> {
    let number = match number(value) {
        Some(Ok(number)) => number,
        Some(Err(NumberError::NotANumber)) => {
            return Err(BrokenRule::new("decimal_parsing", "Input should be a valid decimal"));
        }
        Some(Err(NumberError::TooFine)) => {
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
    match u64::try_from(number).ok().and_then(Window::from_millis) {
        Some(window) => Ok(window),
        None if number < i128::from(Window::MIN.as_millis()) => {
            Err(too_small(&json!(Seconds(Window::MIN.into()))))
        }
        None => Err(too_large(&json!(Seconds(Window::MAX.into())))),
    }
}

/// Reads the items of a list whose length is within a range.
pub(crate) fn list<'a>(
    value: &Input<'a>,
    length: &RangeInclusive<usize>,
) -> Result<Vec<&'a RawValue>, BrokenRule> {
    let (min, max) = (length.start(), length.end());
    let items = match value {
        Input::List(json) => json::items(json, *max).ok(),
        _ => None,
    };
    let Some((items, actual)) = items else {
        return Err(BrokenRule::new("list_type", "Input should be a valid list"));
    };
    if actual < *min {
        return Err(BrokenRule::with_ctx(
            "too_short",
            format!("List should have at least {min} item after validation, not {actual}"),
            json!({ "field_type": "List", "min_length": min, "actual_length": actual }),
        ));
    }
    if actual > *max {
        return Err(BrokenRule::with_ctx(
            "too_long",
            format!("List should have at most {max} items after validation, not {actual}"),
            json!({ "field_type": "List", "max_length": max, "actual_length": actual }),
        ));
    }
    Ok(items)
}

/// Returns the thousandths of a number or of a text, or `None` for any other value.
fn number(value: &Input<'_>) -> Option<Result<i128, NumberError>> {
    match value {
        Input::Text(text) => Some(thousandths(text)),
        Input::Number(number) if let Some(whole) = number.as_u64() => {
            Some(Ok(i128::from(whole) * 1000))
        }
        // The standard library prints a float without an exponent, unlike serde_json.
        Input::Number(number) => Some(match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => thousandths(&float.to_string()),
            None => thousandths(&number.to_string()),
        }),
        _ => None,
    }
}

/// Returns the error of a cost that no call can be granted.
pub(crate) fn above_capacity(capacity: u32) -> BrokenRule {
    let msg = format!("Input should be less than or equal to the capacity, {capacity}");
    BrokenRule::with_ctx("less_than_equal", msg, json!({ "le": capacity }))
}

fn too_small(min: &Value) -> BrokenRule {
    let msg = format!("Input should be greater than or equal to {min}");
    BrokenRule::with_ctx("greater_than_equal", msg, json!({ "ge": min }))
}

fn too_large(max: &Value) -> BrokenRule {
    let msg = format!("Input should be less than or equal to {max}");
    BrokenRule::with_ctx("less_than_equal", msg, json!({ "le": max }))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use limiter::{Algorithm, Units, Window};
    use serde_json::Value;
    use serde_json::json;

    use super::{Input, algorithm, boolean, cost, identifier, units, window};

    /// Returns the input of a JSON value.
    fn input(value: &Value) -> Input<'_> {
        match value {
            Value::Null => Input::Null,
            Value::Bool(value) => Input::Bool(*value),
            Value::Number(number) => Input::Number(number.clone()),
            Value::String(text) => Input::Text(Cow::Borrowed(text)),
            Value::Array(_) => Input::List("[]"),
            Value::Object(_) => Input::Object("{}"),
        }
    }

    #[test]
    fn units_can_be_written_in_several_ways() {
        for (value, expected) in [
            (json!(1), 1),
            (json!("10"), 10),
            (json!(" 10 "), 10),
            (json!(60.0), 60),
            (json!("60.0"), 60),
            (json!(1e9), 1_000_000_000),
        ] {
            assert_eq!(units(&input(&value)).map(Units::get), Ok(expected), "{value}");
        }
    }

    #[test]
    fn invalid_units_name_their_rule() {
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
            assert_eq!(units(&input(&value)).unwrap_err().kind, kind, "{value}");
        }
    }

    #[test]
    fn a_cost_can_be_0() {
        assert_eq!(cost(&input(&json!(0))), Ok(0));
        assert_eq!(cost(&input(&json!("1"))), Ok(1));
        assert_eq!(cost(&input(&json!(-1))).unwrap_err().ctx, Some(json!({ "ge": 0 })));
        assert_eq!(cost(&input(&json!(1_000_000_001))).unwrap_err().kind, "less_than_equal");
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
            assert_eq!(
                window(&input(&value)),
                Ok(Window::from_millis(expected).unwrap()),
                "{value}"
            );
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
            assert_eq!(window(&input(&value)).unwrap_err().kind, kind, "{value}");
        }
    }

    #[test]
    fn identifiers_are_counted_in_bytes() {
        for text in ["x".to_owned(), "/%\0\u{1f980}".to_owned(), "x".repeat(256)] {
            assert_eq!(identifier(&input(&json!(text))), Ok(text));
        }
        for (value, kind) in [
            (json!(""), "string_too_short"),
            (json!("x".repeat(257)), "string_too_long"),
            (json!("é".repeat(129)), "string_too_long"),
            (json!(1), "string_type"),
            (json!(null), "string_type"),
        ] {
            assert_eq!(identifier(&input(&value)).unwrap_err().kind, kind, "{value}");
        }
    }

    #[test]
    fn algorithms_have_exact_names() {
        assert_eq!(algorithm(&input(&json!("token_bucket"))), Ok(Algorithm::TokenBucket));
        assert_eq!(algorithm(&input(&json!("sliding_window"))), Ok(Algorithm::SlidingWindow));
        for value in [json!("leaky_bucket"), json!("TOKEN_BUCKET"), json!(0), json!(null)] {
            assert_eq!(algorithm(&input(&value)).unwrap_err().kind, "enum");
        }
    }

    #[test]
    fn truth_values_are_not_written_as_texts_or_numbers() {
        assert_eq!(boolean(&input(&json!(true))), Ok(true));
        assert_eq!(boolean(&input(&json!(false))), Ok(false));
        for value in [json!("true"), json!(1), json!(null), json!([])] {
            assert_eq!(boolean(&input(&value)).unwrap_err().kind, "bool_type");
        }
    }
}
