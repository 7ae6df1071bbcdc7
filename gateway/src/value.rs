//! What values fields take. Numbers may be written as `10`, `"10"` or `10.0`, wherever they come
//! from; nothing else is guessed.

use std::ops::RangeInclusive;

use serde_json::{Value, json};

use crate::{
    fault::BrokenRule,
    millis::Millis,
    number::{NumberFault, thousandths},
    quota::{Algorithm, COST, UNITS, WINDOW},
};

/// Most bytes of an identifier; the least is 1.
pub(crate) const MAX_IDENTIFIER_BYTES: usize = 256;

/// The number of most denied identifiers that can be asked for.
pub(crate) const TOP_COUNT: RangeInclusive<u32> = 1..=1_000;

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

/// A number of units, at least 1.
pub(crate) fn units(value: &Value) -> Result<u32, BrokenRule> {
    whole(value, &UNITS)
}

/// A number of units to ask for, which may be 0.
pub(crate) fn cost(value: &Value) -> Result<u32, BrokenRule> {
    whole(value, &COST)
}

/// A number of most denied identifiers.
pub(crate) fn top_count(value: &Value) -> Result<u32, BrokenRule> {
    whole(value, &TOP_COUNT)
}

/// An integer within a range.
fn whole(value: &Value, range: &RangeInclusive<u32>) -> Result<u32, BrokenRule> {
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
        Ok(number) if range.contains(&number) => Ok(number),
        _ if number < i128::from(*range.start()) => Err(too_small(&json!(range.start()))),
        _ => Err(too_large(&json!(range.end()))),
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

/// A list whose length is within a range.
pub(crate) fn list(value: &Value, length: &RangeInclusive<usize>) -> Result<(), BrokenRule> {
    let Value::Array(list) = value else {
        return Err(BrokenRule::new("list_type", "Input should be a valid list"));
    };
    let (min, max, actual) = (length.start(), length.end(), list.len());
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
    Ok(())
}

/// The thousandths of a JSON number or of a text; nothing for any other value.
fn number(value: &Value) -> Option<Result<i128, NumberFault>> {
    match value {
        Value::String(text) => Some(thousandths(text)),
        Value::Number(number) if let Some(whole) = number.as_u64() => {
            Some(Ok(i128::from(whole) * 1000))
        }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{algorithm, cost, identifier, units, units_or_null, window};
    use crate::{millis::Millis, quota::Algorithm};

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
    fn a_cost_may_be_nothing_and_no_less() {
        assert_eq!(cost(&json!(0)), Ok(0));
        assert_eq!(cost(&json!("1")), Ok(1));
        assert_eq!(cost(&json!(-1)).unwrap_err().ctx, Some(json!({ "ge": 0 })));
        assert_eq!(cost(&json!(1_000_000_001)).unwrap_err().kind, "less_than_equal");
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
}
