//! Limits of a file: the numbers of each kind, and costs.

use calendar::{Calendar, Start, Unit};
use limiter::{Units, Window};

use crate::attribute::AttributeName;
use crate::document::{
    AlgorithmDocument, ChargeDocument, CostDocument, CostFromDocument, DurationDocument,
    LimitDocument, Limits, StartsDocument,
};
use crate::duration;
use crate::limit::{Charge, Cost, CostFrom, FixedWindow, LimitSpec, Rate};
use crate::problem::{Place, nearest, shorten};
use crate::read::At;

use super::traits::Traits;
use super::{MAX_LIMITS, Validator};

/// The accepted numbers of units, for messages.
const UNITS: &str = "1 to 1000000000";

impl Validator<'_> {
    /// Returns the limits of a list, and the parts with which a policy has to agree.
    pub(super) fn limits(&mut self, list: &Limits) -> (Vec<LimitSpec>, Traits) {
        if list.value.is_empty() || list.value.len() > MAX_LIMITS {
            let problem = format!("a list of {} limits", list.value.len());
            self.problems.expect(list.place, problem, format!("1 to {MAX_LIMITS} limits"));
        }
        let mut traits = Traits::default();
        let mut limits: Vec<LimitSpec> = Vec::with_capacity(list.value.len());
        for document in list.value.iter().take(MAX_LIMITS) {
            let Some(limit) = self.limit(&document.value, document.place) else { continue };
            if limits.iter().any(|known| known.name == limit.name) {
                let problem = format!("the name `{}` is repeated", limit.name);
                self.problems.add(document.value.name.place, problem);
            }
            traits.note(&limit, &document.value, document.place);
            limits.push(limit);
        }
        (limits, traits)
    }

    fn limit(&mut self, document: &LimitDocument, place: Place) -> Option<LimitSpec> {
        self.name(&document.name);
        let rate = self.rate(document, place);
        let by = document.by.as_ref().map(|by| self.by(by).into());
        let charge = match &document.charge {
            Some(At { value: ChargeDocument::Always, .. }) => Charge::Always,
            None => Charge::Granted,
        };
        let rate = rate?;
        let cost = match &document.cost {
            Some(cost) => self.cost(cost, rate.capacity(), charge)?,
            None => Cost::Request,
        };
        Some(LimitSpec {
            name: document.name.value.as_str().into(),
            place,
            rate,
            cost,
            charge,
            by,
            shadow: document.shadow.unwrap_or(false),
        })
    }

    fn rate(&mut self, document: &LimitDocument, place: Place) -> Option<Rate> {
        let algorithm = document.algorithm.unwrap_or(AlgorithmDocument::TokenBucket);
        self.check_members(document, algorithm);
        let limit = self.units(&document.limit);
        match algorithm {
            AlgorithmDocument::TokenBucket => {
                let per = self.per(document, place);
                let burst = document.burst.as_ref().map(|burst| self.units(burst));
                let (limit, per) = (limit?, per?);
                Some(Rate::TokenBucket { limit, per, burst: burst.unwrap_or(Some(limit))? })
            }
            AlgorithmDocument::SlidingWindow => {
                let per = self.per(document, place);
                let resolution = document.resolution.as_ref().map(|text| self.duration(text));
                let (limit, per) = (limit?, per?);
                let resolution = resolution.map_or(Some(None), |found| found.map(Some))?;
                if let (Some(found), Some(text)) = (resolution, &document.resolution)
                    && found > per
                {
                    let problem = format!("the resolution `{}` is longer than `per`", text.value.0);
                    self.problems.expect(text.place, problem, "at most `per`");
                }
                Some(Rate::SlidingWindow { limit, per, resolution })
            }
            AlgorithmDocument::FixedWindow => {
                let per = self.fixed_window(document, place);
                Some(Rate::FixedWindow { limit: limit?, per: per? })
            }
            AlgorithmDocument::Concurrency => {
                let Some(ttl) = &document.ttl else {
                    self.problems
                        .add(place, "the key `ttl` is missing: concurrency limits need it");
                    return None;
                };
                let ttl = self.duration(ttl);
                Some(Rate::Concurrency { limit: limit?, ttl: ttl? })
            }
        }
    }

    /// Checks that each member belongs to the algorithm.
    fn check_members(&mut self, document: &LimitDocument, algorithm: AlgorithmDocument) {
        use AlgorithmDocument::{Concurrency, FixedWindow, SlidingWindow, TokenBucket};
        let members: [(&str, Option<Place>, &[AlgorithmDocument], &str); 7] = [
            (
                "per",
                document.per.as_ref().map(|at| at.place),
                &[TokenBucket, SlidingWindow, FixedWindow],
                "`ttl` for concurrency limits",
            ),
            (
                "burst",
                document.burst.as_ref().map(|at| at.place),
                &[TokenBucket],
                "`algorithm: token_bucket` with it",
            ),
            (
                "resolution",
                document.resolution.as_ref().map(|at| at.place),
                &[SlidingWindow],
                "`algorithm: sliding_window` with it",
            ),
            (
                "starts",
                document.starts.as_ref().map(|at| at.place),
                &[FixedWindow],
                "`algorithm: fixed_window` with it",
            ),
            (
                "timezone",
                document.timezone.as_ref().map(|at| at.place),
                &[FixedWindow],
                "`algorithm: fixed_window` with it",
            ),
            (
                "ttl",
                document.ttl.as_ref().map(|at| at.place),
                &[Concurrency],
                "`algorithm: concurrency` with it",
            ),
            (
                "charge",
                document.charge.as_ref().map(|at| at.place),
                &[TokenBucket, SlidingWindow, FixedWindow],
                "another algorithm than `concurrency`",
            ),
        ];
        for (name, place, algorithms, expected) in members {
            if let Some(place) = place
                && !algorithms.contains(&algorithm)
            {
                self.problems.expect(
                    place,
                    format!("`{name}` does not fit the algorithm"),
                    expected,
                );
            }
        }
    }

    /// Returns the window of a limit without a calendar.
    fn per(&mut self, document: &LimitDocument, place: Place) -> Option<Window> {
        let Some(per) = &document.per else {
            self.problems.add(place, "the key `per` is missing");
            return None;
        };
        if Unit::from_name(&per.value.0).is_some() {
            let problem = format!("`per: {}` does not fit the algorithm", per.value.0);
            self.problems.expect(per.place, problem, "`algorithm: fixed_window` with it");
            return None;
        }
        self.duration(per)
    }

    fn fixed_window(&mut self, document: &LimitDocument, place: Place) -> Option<FixedWindow> {
        let Some(per) = &document.per else {
            self.problems.add(place, "the key `per` is missing");
            return None;
        };
        let zone = document.timezone.as_ref().map(|name| self.zone(name));
        let Some(unit) = Unit::from_name(&per.value.0) else {
            let starts = document.starts.as_ref().map(|at| at.place);
            let zone = document.timezone.as_ref().map(|at| at.place);
            let is_length = duration::parse(&per.value.0).is_some();
            for place in [starts, zone].into_iter().flatten().filter(|_| is_length) {
                let expected = "`per: day`, `week`, `month` or `year` with it";
                self.problems.expect(place, "the window is not one of the calendar", expected);
            }
            self.warn_calendar(per);
            return self.length(per).map(FixedWindow::Length);
        };
        let unit = match &document.starts {
            None => unit.with_usual_start(),
            Some(At { value, place }) => {
                let start = match value {
                    StartsDocument::Text(text) | StartsDocument::Unquoted(text) => {
                        Start::Text(text)
                    }
                    StartsDocument::Day(day) => Start::Day(*day),
                };
                let started = unit.with_start(start);
                if let (StartsDocument::Unquoted(text), Some(_)) = (value, started) {
                    let problem = format!("`{text}` stands without quotes");
                    self.problems.expect(*place, problem, format!("\"{text}\""));
                    return None;
                }
                let Some(started) = started else {
                    let problem = format!("`starts` does not fit `per: {}`", per.value.0);
                    self.problems.expect(*place, problem, unit.starts());
                    return None;
                };
                started
            }
        };
        let zone = zone.unwrap_or_else(|| Some(self.zone.clone()))?;
        Some(FixedWindow::Calendar(Calendar::new(unit, zone)))
    }

    /// Warns about a duration of whole days: a fixed window with a duration starts at multiples of
    /// the duration since a Thursday in 1970 in UTC, which is seldom intended.
    fn warn_calendar(&mut self, per: &At<DurationDocument>) {
        let word = match duration::parse(&per.value.0).map(|window| window.as_millis() / 3_600_000)
        {
            Some(24) => "day",
            Some(168) => "week",
            Some(672 | 696 | 720 | 744) => "month",
            Some(8_760 | 8_784) => "year",
            _ => return,
        };
        let per_value = &per.value.0;
        let problem = format!(
            "`per: {per_value}` starts at multiples of {per_value} since 1970 in UTC; did you mean \
             `per: {word}`?"
        );
        self.problems.warn(per.place, problem);
    }

    fn duration(&mut self, text: &At<DurationDocument>) -> Option<Window> {
        let window = duration::parse(&text.value.0);
        if window.is_none() {
            let problem = format!("`{}` is no duration", shorten(&text.value.0));
            self.problems.expect(text.place, problem, duration::EXPECTED);
        }
        window
    }

    /// Returns the window of a fixed window limit without a calendar, after looking for a word that is
    /// nearly one of the calendar.
    fn length(&mut self, per: &At<DurationDocument>) -> Option<Window> {
        let (text, place) = (&per.value.0, per.place);
        let window = duration::parse(text);
        if window.is_none() {
            let expected = format!("{}, or `day`, `week`, `month` or `year`", duration::EXPECTED);
            let nearest = nearest(text, Unit::ALL.into_iter().map(Unit::name));
            let problem = format!("`{}` is no duration", shorten(text));
            self.problems.expect_or_nearest(place, problem, expected, nearest);
        }
        window
    }

    fn units(&mut self, number: &At<u64>) -> Option<Units> {
        let units = Units::new(number.value);
        if units.is_none() {
            self.problems.expect(number.place, format!("{} units", number.value), UNITS);
        }
        units
    }

    fn cost(&mut self, cost: &At<CostDocument>, capacity: Units, charge: Charge) -> Option<Cost> {
        let granted = |units: Units| charge == Charge::Always || units <= capacity;
        match &cost.value {
            CostDocument::Units(number) => {
                let units = self.units(number)?;
                if !granted(units) {
                    let problem = format!("the cost {} is never granted", units.get());
                    let expected = format!("at most {}, the capacity of the limit", capacity.get());
                    self.problems.expect(number.place, problem, expected);
                }
                Some(Cost::Units(units))
            }
            CostDocument::From(document) => {
                let from = self.cost_from(document, capacity)?;
                if !granted(from.max) {
                    let place = document.max.as_ref().map_or(cost.place, |max| max.place);
                    let problem = format!("the cost {} is never granted", from.max.get());
                    let expected = format!("at most {}, the capacity of the limit", capacity.get());
                    self.problems.expect(place, problem, expected);
                }
                Some(Cost::From(from))
            }
        }
    }

    fn cost_from(&mut self, document: &CostFromDocument, capacity: Units) -> Option<CostFrom> {
        let from = self.read_attribute(&document.from);
        let default = self.units(&document.default);
        let min = document.min.as_ref().map_or(Some(Units::MIN), |min| self.units(min));
        let max = document.max.as_ref().map_or(Some(capacity), |max| self.units(max));
        let (from, default, min, max) = (from?, default?, min?, max?);
        if matches!(from, AttributeName::ClientIp(_)) {
            self.problems.expect(document.from.place, "`client.ip` is no number", "an attribute");
        }
        if min > max {
            let place = document.min.as_ref().map_or(document.from.place, |min| min.place);
            let problem = format!("`min` is {}", min.get());
            self.problems.expect(place, problem, format!("at most `max`, {}", max.get()));
            return None;
        }
        if default < min || max < default {
            let problem = format!("`default` is {}", default.get());
            let expected = format!("`min` to `max`, {} to {}", min.get(), max.get());
            self.problems.expect(document.default.place, problem, expected);
        }
        Some(CostFrom { from, default, min, max })
    }
}
