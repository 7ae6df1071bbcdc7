//! The part of the time of a call that a decision may take.

use std::time::Duration;

/// The share of the time of a call that a decision may take, in percent. The rest is for the way of the
/// answer.
const SHARE: u32 = 80;

/// The most digits of a timeout.
const MAX_DIGITS: usize = 8;

/// Returns the longest time that a decision may take for a call with this value of `grpc-timeout`, or
/// `None` for a value that is no timeout.
#[must_use]
pub fn max_wait(timeout: &[u8]) -> Option<Duration> {
    let (unit, digits) = timeout.split_last()?;
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = str::from_utf8(digits).ok()?.parse().ok()?;
    let time = match unit {
        b'H' => Duration::from_secs(number * 3_600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    };
    Some(time * SHARE / 100)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::max_wait;

    #[test]
    fn a_decision_has_four_fifths_of_the_time_of_its_call() {
        for (text, expected) in [
            ("20m", Some(Duration::from_millis(16))),
            ("1S", Some(Duration::from_millis(800))),
            ("100u", Some(Duration::from_micros(80))),
            ("10n", Some(Duration::from_nanos(8))),
            ("1M", Some(Duration::from_secs(48))),
            ("99999999H", Some(Duration::from_secs(79_999_999_200 * 3_600 / 1_000))),
            ("0m", Some(Duration::ZERO)),
            ("", None),
            ("m", None),
            ("20", None),
            ("+20m", None),
            ("20 m", None),
            ("123456789m", None),
            ("20x", None),
        ] {
            assert_eq!(max_wait(text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(text: Vec<u8>) {
            let _ = max_wait(&text);
        }
    }
}
