//! The fields of a quota, and the conditions between them.

use std::ops::RangeInclusive;

use calendar::Calendar;
use limiter::{Algorithm, FixedLimit, Limit, LogLimit, LogOptions, Period, Quota, Window};
use serde_json::json;
use store::{Millis, QuotaRule};

use crate::{
    request::{
        field_error::BrokenRule,
        fields::{Defaults, Fields, Invalid},
        input::Input,
        quota::default_algorithm,
        value,
    },
    seconds::Seconds,
};

/// The fields of a quota. A request with several limits has them in each limit.
pub(crate) const QUOTA_FIELDS: [&str; 8] = [
    "algorithm",
    "limit",
    "window_seconds",
    "burst",
    "resolution_seconds",
    "period",
    "timezone",
    "starts",
];

/// The number of limits of a request with several limits.
pub(crate) const LIMITS: RangeInclusive<usize> = 1..=16;

impl<'a> Fields<'a> {
    /// Reads a quota, with defaults for fields that are left out.
    pub(crate) fn quota(&mut self, defaults: Defaults) -> Result<QuotaRule, Invalid> {
        let algorithm = self.optional("algorithm", value::algorithm);
        let algorithm = algorithm.map(|given| given.unwrap_or(default_algorithm()));
        let limit = self.optional("limit", value::units);
        let window = self.optional("window_seconds", value::window);
        let window = window.map(|given| given.unwrap_or(defaults.window));
        let burst = self.own("burst", Algorithm::TokenBucket, algorithm, value::units);
        let resolution = self.resolution(algorithm, window);
        let calendar = self.calendar(algorithm);
        let limit = limit?.unwrap_or(defaults.limit);
        let (window, burst, resolution, calendar) = (window?, burst?, resolution?, calendar?);
        Ok(QuotaRule::Constant(match algorithm? {
            Algorithm::TokenBucket => {
                let capacity = burst.unwrap_or(limit);
                Quota::TokenBucket(Limit { limit, window, capacity })
            }
            Algorithm::SlidingWindow => {
                let options = LogOptions { resolution, ..LogOptions::USUAL };
                Quota::SlidingWindow(LogLimit { limit, window, options })
            }
            Algorithm::FixedWindow => match calendar {
                Some(calendar) => return Ok(QuotaRule::Calendar { limit, calendar }),
                None => Quota::FixedWindow(FixedLimit { limit, period: Period::every(window) }),
            },
        }))
    }

    /// Reads the resolution of a sliding window, at most the window.
    fn resolution(
        &mut self,
        algorithm: Result<Algorithm, Invalid>,
        window: Result<Window, Invalid>,
    ) -> Result<Option<Window>, Invalid> {
        let of = Algorithm::SlidingWindow;
        self.own("resolution_seconds", of, algorithm, |input| {
            let resolution = value::window(input)?;
            match window {
                Ok(window) if resolution > window => Err(above_window(window)),
                _ => Ok(resolution),
            }
        })
    }

    /// Reads the windows of the calendar, if the request has a period.
    fn calendar(
        &mut self,
        algorithm: Result<Algorithm, Invalid>,
    ) -> Result<Option<Calendar>, Invalid> {
        let of = Algorithm::FixedWindow;
        let period = self.own("period", of, algorithm, value::period);
        let zone = self.own("timezone", of, algorithm, |input| match period {
            Ok(None) => Err(only("timezone", "windows with a period")),
            _ => value::time_zone(input),
        });
        let unit = self.own("starts", of, algorithm, |input| match period {
            Ok(None) => Err(only("starts", "windows with a period")),
            Ok(Some(period)) => value::calendar_unit(period, input).map(Some),
            Err(Invalid) => Ok(None),
        });
        let Some(period) = period? else { return zone.and(unit).and(Ok(None)) };
        if self.has("window_seconds") {
            let rule = only("window_seconds", "windows without a period");
            return Err(self.add_error("window_seconds", rule));
        }
        let unit = match unit?.flatten() {
            Some(unit) => unit,
            None => period.with_usual_start(),
        };
        Ok(Some(match zone? {
            Some(zone) => Calendar::new(unit, zone),
            None => Calendar::in_utc(unit),
        }))
    }

    /// Reads an optional field that only the algorithm `of` has.
    fn own<T>(
        &mut self,
        name: &'static str,
        of: Algorithm,
        algorithm: Result<Algorithm, Invalid>,
        parse: impl FnOnce(&Input<'a>) -> Result<T, BrokenRule>,
    ) -> Result<Option<T>, Invalid> {
        if self.has(name) && algorithm.is_ok_and(|algorithm| algorithm != of) {
            return Err(self.add_error(name, only(name, of.name())));
        }
        self.optional(name, parse)
    }
}

fn only(name: &str, others: &str) -> BrokenRule {
    BrokenRule::new("value_error", format!("Value error, {name} is for {others} only"))
}

fn above_window(window: Window) -> BrokenRule {
    let window = json!(Seconds(Millis::from(window)));
    let msg = format!("Input should be less than or equal to the window, {window}");
    BrokenRule::with_ctx("less_than_equal", msg, json!({ "le": window }))
}

#[cfg(test)]
mod tests {
    use calendar::{Calendar, CalendarUnit, Start, Unit, zone};
    use limiter::{Algorithm, LogLimit, LogOptions, Quota, Units, Window};
    use serde_json::{Value, json};
    use store::QuotaRule;

    use super::{Defaults, Fields};
    use crate::error::Error;

    const DEFAULTS: Defaults =
        Defaults { limit: Units::new(100).unwrap(), window: Window::from_millis(60_000).unwrap() };

    /// Returns the quota in a body, or the location and the message of each error.
    fn quota(body: &Value) -> Result<QuotaRule, Vec<(Value, String)>> {
        let body = body.to_string();
        let mut fields = Fields::from_body(body.as_bytes()).unwrap();
        let quota = fields.quota(DEFAULTS);
        fields.finish(quota).map_err(|error| {
            let Error::Invalid(errors) = error else { panic!("{error:?} has no errors of fields") };
            let place =
                |error: &crate::request::field_error::FieldError| json!(error.loc)[1].clone();
            errors.iter().map(|error| (place(error), error.msg.to_string())).collect()
        })
    }

    fn errors(body: &Value) -> Vec<String> {
        let errors = quota(body).unwrap_err().into_iter();
        errors.map(|(place, msg)| format!("{}: {msg}", place.as_str().unwrap())).collect()
    }

    fn calendar_quota(unit: CalendarUnit, name: &str) -> QuotaRule {
        let calendar = Calendar::new(unit, zone(name).unwrap());
        QuotaRule::Calendar { limit: DEFAULTS.limit, calendar }
    }

    #[test]
    fn a_missing_field_has_its_default_and_an_unknown_one_is_ignored() {
        for algorithm in Algorithm::ALL {
            let expected = Quota::new(algorithm, DEFAULTS.limit, DEFAULTS.window);
            let expected = Ok(QuotaRule::Constant(expected));
            let name = algorithm.name();
            assert_eq!(quota(&json!({ "algorithm": name })), expected);
            assert_eq!(quota(&json!({ "algorithm": name, "user": 1, "Limit": 2 })), expected);
            let nulls = json!({ "algorithm": name, "limit": null, "window_seconds": null,
                "burst": null, "resolution_seconds": null, "period": null, "timezone": null,
                "starts": null });
            assert_eq!(quota(&nulls), expected);
        }
        let bucket = Quota::new(Algorithm::TokenBucket, DEFAULTS.limit, DEFAULTS.window);
        assert_eq!(quota(&json!({})), Ok(bucket.into()));
        assert_eq!(quota(&json!({ "algorithm": null })), Ok(bucket.into()));
    }

    #[test]
    fn a_resolution_is_at_most_the_window() {
        let body = |window: Value| {
            json!({ "algorithm": "sliding_window", "window_seconds": window,
                "resolution_seconds": 1.5 })
        };
        let resolution = Window::from_millis(1_500);
        let options = LogOptions { resolution, ..LogOptions::USUAL };
        let limit = LogLimit { options, ..LogLimit::new(DEFAULTS.limit, resolution.unwrap()) };
        assert_eq!(quota(&body(json!(1.5))), Ok(Quota::SlidingWindow(limit).into()));
        let expected =
            ["resolution_seconds: Input should be less than or equal to the window, 1.499"];
        assert_eq!(errors(&body(json!(1.499))), expected);
        // The window has an error of its own.
        assert_eq!(errors(&body(json!("x"))), ["window_seconds: Input should be a valid decimal"]);
    }

    #[test]
    fn a_calendar_window_has_a_period_a_time_zone_and_a_start() {
        for (period, starts, expected) in [
            (Unit::Day, None, Some(Unit::Day.with_usual_start())),
            (Unit::Day, Some(json!("06:00")), Unit::Day.with_start(Start::Text("06:00"))),
            (Unit::Week, Some(json!("sunday")), Unit::Week.with_start(Start::Text("sunday"))),
            (Unit::Month, Some(json!(31)), Unit::Month.with_start(Start::Day(31))),
            (Unit::Month, Some(json!("15")), Unit::Month.with_start(Start::Day(15))),
            (Unit::Year, Some(json!("04-01")), Unit::Year.with_start(Start::Text("04-01"))),
        ] {
            let body = json!({ "algorithm": "fixed_window", "period": period.name(),
                "starts": starts, "timezone": "Europe/Berlin" });
            assert_eq!(quota(&body), Ok(calendar_quota(expected.unwrap(), "Europe/Berlin")));
        }
        let utc = json!({ "algorithm": "fixed_window", "period": "month" });
        assert_eq!(quota(&utc), Ok(calendar_quota(CalendarUnit::Month { day: 1 }, "UTC")));
    }

    #[test]
    fn a_field_of_another_algorithm_is_an_error() {
        let body = json!({ "burst": 5, "resolution_seconds": 1, "period": "day",
            "timezone": "UTC", "starts": "06:00" });
        let of = |algorithm: &str| {
            let mut body = body.clone();
            body["algorithm"] = json!(algorithm);
            errors(&body)
        };
        let burst = "burst: Value error, burst is for token_bucket only";
        let resolution =
            "resolution_seconds: Value error, resolution_seconds is for sliding_window only";
        let calendar = ["period", "timezone", "starts"]
            .map(|name| format!("{name}: Value error, {name} is for fixed_window only"));
        let calendar = calendar.each_ref().map(String::as_str);
        assert_eq!(of("token_bucket"), [&[resolution], &calendar[..]].concat());
        assert_eq!(of("sliding_window"), [&[burst], &calendar[..]].concat());
        assert_eq!(of("fixed_window"), [burst, resolution]);
    }

    #[test]
    fn conditions_between_the_fields_of_a_calendar_window_are_errors() {
        for (fields, expected) in [
            (
                json!({ "timezone": "UTC", "starts": 1 }),
                &[
                    "timezone: Value error, timezone is for windows with a period only",
                    "starts: Value error, starts is for windows with a period only",
                ][..],
            ),
            (
                json!({ "period": "day", "window_seconds": 60 }),
                &[
                    "window_seconds: Value error, window_seconds is for windows without a period only",
                ],
            ),
            (
                json!({ "limit": 0, "period": "hour", "timezone": "Berlin" }),
                &[
                    "limit: Input should be greater than or equal to 1",
                    "period: Input should be 'day' or 'week' or 'month' or 'year'",
                    "timezone: Value error, a time zone has a name such as Europe/Berlin",
                ],
            ),
            (
                json!({ "period": "day", "starts": "24:00" }),
                &["starts: Value error, a day starts at a time from \"00:00\" to \"23:59\""],
            ),
            (
                json!({ "period": "month", "starts": 32 }),
                &["starts: Value error, a month starts at a day from 1 to 31"],
            ),
            (
                json!({ "period": "week", "starts": 1 }),
                &["starts: Value error, a week starts at a day from `monday` to `sunday`"],
            ),
            (
                json!({ "period": "year", "starts": true }),
                &["starts: Value error, a year starts at a date from \"01-01\" to \"12-31\""],
            ),
        ] {
            let mut body = fields.clone();
            body["algorithm"] = json!("fixed_window");
            assert_eq!(errors(&body), expected, "{fields}");
        }
    }

    #[test]
    fn an_unknown_algorithm_hides_no_other_error() {
        let body = json!({ "algorithm": "x", "burst": 0, "starts": 1 });
        let expected = [
            "algorithm: Input should be 'token_bucket' or 'sliding_window' or 'fixed_window'",
            "burst: Input should be greater than or equal to 1",
            "starts: Value error, starts is for windows with a period only",
        ];
        assert_eq!(errors(&body), expected);
    }
}
