//! Durations as a file writes them: a number and one unit.

use limiter::Window;

/// The accepted form, for messages.
pub(crate) const EXPECTED: &str =
    "a whole number and one unit of ms, s, m, h and d, such as `10s`, from 1ms to 366d";

/// The units, with the milliseconds of each. The longer suffix comes first.
const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Returns the window that `text` describes.
#[must_use]
pub fn parse(text: &str) -> Option<Window> {
    let (digits, millis) = UNITS
        .iter()
        .find_map(|(unit, millis)| text.strip_suffix(unit).map(|digits| (digits, millis)))?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Window::from_millis(digits.parse::<u64>().ok()?.checked_mul(*millis)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_one_unit() {
        for (text, millis) in [
            ("500ms", Some(500)),
            ("10s", Some(10_000)),
            ("5m", Some(300_000)),
            ("1h", Some(3_600_000)),
            ("7d", Some(604_800_000)),
            ("366d", Some(31_622_400_000)),
            ("367d", None),
            ("0s", None),
            ("1h30m", None),
            ("1.5h", None),
            ("1 h", None),
            ("-1s", None),
            ("+1s", None),
            ("s", None),
            ("10", None),
            ("1w", None),
            ("99999999999999999999d", None),
        ] {
            assert_eq!(parse(text).map(Window::as_millis), millis, "{text}");
        }
    }
}
