//! Ends of overrides as a file writes them: a day, or an instant.

use calendar::end_of_day;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// The accepted form, for messages.
pub(crate) const EXPECTED: &str =
    "a date such as \"2027-01-31\", or RFC 3339 such as \"2027-01-31T12:00:00Z\"";

/// The end of an override.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The end of a day.
    Day(Date),
    /// An instant.
    Instant(Timestamp),
}

/// Returns the end that `text` describes.
pub(crate) fn parse(text: &str) -> Option<End> {
    if text.len() == 10 {
        return text.parse().ok().map(End::Day);
    }
    // A date with a time in any other form than RFC 3339 could be misread.
    let is_rfc3339 = text.len() >= 20 && text.as_bytes().get(10) == Some(&b'T');
    if !is_rfc3339 || text.contains('[') {
        return None;
    }
    text.parse().ok().map(End::Instant).or_else(|| {
        // The library has no instants of the last two days of the year 9999, which stand for no end.
        let earlier = format!("9998{}", text.strip_prefix("9999")?);
        earlier.parse::<Timestamp>().ok().map(|_| End::Instant(Timestamp::MAX))
    })
}

impl End {
    /// Returns the milliseconds since the epoch; a day is one of this zone. A day whose end is later than
    /// every instant of the library, such as the last one of the year 9999, ends at the last of them.
    pub(crate) fn millis(self, zone: &TimeZone) -> i64 {
        match self {
            Self::Day(day) => {
                end_of_day(zone, day).unwrap_or_else(|| Timestamp::MAX.as_millisecond())
            }
            Self::Instant(instant) => instant.as_millisecond(),
        }
    }
}
