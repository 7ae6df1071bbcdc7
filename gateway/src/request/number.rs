//! Decimal numbers, without floating point.

/// The reason why a text is not a number in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberError {
    /// The text is no decimal number.
    NotANumber,
    /// The number has more than three decimals that are not 0.
    TooFine,
}

/// Reads `60`, `-1`, `60.0` or `0.25` as thousandths (60000, -1000, 60000, 250).
///
/// Numbers too large for any range saturate, so that they fail a range check and nothing else.
pub(crate) fn thousandths(text: &str) -> Result<i128, NumberError> {
    let text = text.trim_ascii();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    if !is_digits(whole) || !is_digits(fraction) {
        return Err(NumberError::NotANumber);
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 3 {
        return Err(NumberError::TooFine);
    }
    // These are digits, so parsing can fail only for a number that is too large.
    let whole = whole.parse::<u64>().unwrap_or(u64::MAX);
    let digit = |place: usize| fraction.as_bytes().get(place).map_or(0, |digit| digit - b'0');
    let fraction = [digit(0), digit(1), digit(2)].map(i128::from);
    let [tenths, hundredths, thousandths] = fraction;
    Ok(sign * (i128::from(whole) * 1000 + tenths * 100 + hundredths * 10 + thousandths))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::{NumberError, thousandths};

    #[test]
    fn reads_decimals_exactly() {
        for (text, expected) in [
            ("60", 60_000),
            (" 60 ", 60_000),
            ("+60.0", 60_000),
            ("-1", -1_000),
            ("0.001", 1),
            ("0.25", 250),
            ("1.5000000", 1_500),
            ("0060", 60_000),
        ] {
            assert_eq!(thousandths(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn saturates_numbers_too_large_for_any_range() {
        let huge = thousandths(&"9".repeat(400)).unwrap();
        assert!(huge > i128::from(u64::MAX));
        assert_eq!(thousandths(&format!("-{}", "9".repeat(400))), Ok(-huge));
    }

    #[test]
    fn refuses_everything_else() {
        for text in ["", ".", "1.", ".5", "1e3", "0x10", "1_000", "--1", "١", "NaN", "1,5"] {
            assert_eq!(thousandths(text), Err(NumberError::NotANumber), "{text}");
        }
        assert_eq!(thousandths("0.0001"), Err(NumberError::TooFine));
    }
}
