//! The headers of a decision. Only this file has their names and parameters, because their draft
//! (draft-ietf-httpapi-ratelimit-headers-11) can still change.

use std::{array, iter, sync::LazyLock, time::Duration};

use axum::{
    body::Bytes,
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
};
use store::{Check, Decision, Millis, QuotaRule, Source};

use crate::{header_template::HeaderTemplate, next_unit, seconds::push_thousandths};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");
const SOURCE: HeaderName = HeaderName::from_static("x-ratelimit-source");
const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// The id of the request: that of the client, or a new one. Every answer has it.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Milliseconds from the arrival of a request to its answer. Every answer has it.
pub(crate) const PROCESS_TIME: HeaderName = HeaderName::from_static("x-process-time");

/// The headers that scripts of other origins may read.
pub(crate) const EXPOSED: [HeaderName; 10] = [
    SOURCE,
    POLICY,
    STATE,
    X_LIMIT,
    X_REMAINING,
    X_RESET,
    RETRY_AFTER,
    WWW_AUTHENTICATE,
    REQUEST_ID,
    PROCESS_TIME,
];

/// The documentation of the headers of a decision: name, meaning, example.
pub(crate) const DECISION_DOCS: [(HeaderName, &str, &str); 6] = [
    (POLICY, "The quota: q units per w seconds.", "\"default\";q=100;w=60"),
    (
        STATE,
        "The remaining quota: r units. More can be taken in t seconds at the latest.",
        "\"default\";r=99;t=1",
    ),
    (X_LIMIT, "Most units that can be taken at once.", "100"),
    (X_REMAINING, "Remaining units.", "99"),
    (X_RESET, "Seconds until nothing is used.", "1"),
    (CACHE_CONTROL, "No cache may store a decision.", "no-store"),
];

/// The documentation of the header of a decision that Redis did not make.
pub(crate) const SOURCE_DOCS: (HeaderName, &str, &str) = (
    SOURCE,
    "The source of a decision that Redis did not make for this request: local (this process), cache \
     (an earlier denial) or open (everything is allowed while Redis cannot answer).",
    "cache",
);

/// The documentation of the header that only a denial has.
pub(crate) const DENIAL_DOCS: (HeaderName, &str, &str) =
    (RETRY_AFTER, "Seconds until the same call would be allowed; on a denial only.", "1");

/// The documentation of the header of an answer that no cache may store.
pub(crate) const NO_STORE_DOCS: [(HeaderName, &str, &str); 1] =
    [(CACHE_CONTROL, "No cache may store the answer.", "no-store")];

/// The largest integer of a structured field (RFC 9651).
const MAX_FIELD_INTEGER: u64 = 999_999_999_999_999;

/// The name of the limit of a check that has one.
const DEFAULT: &str = "default";

/// A limit in the headers: its name, its quota unless it is one of leases, the cost, and the decision.
pub(crate) type Item<'l, N> = (N, Option<&'l QuotaRule>, u32, &'l Decision);

/// Returns the headers of a decision on a check of this cost.
pub(crate) fn of_decision(
    quota: &QuotaRule,
    cost: u32,
    decision: &Decision,
) -> [(HeaderName, HeaderValue); 6] {
    DecisionHeaders::of_check(quota, cost, decision).into_array()
}

/// Returns the headers of a decision on several limits: one item for each, by its position, and the
/// numbers of the limit that decides when to try again.
pub(crate) fn of_limits(
    checks: &[Check],
    decisions: &[Decision],
    binding: &Decision,
) -> [(HeaderName, HeaderValue); 6] {
    let places = (0..checks.len()).map(|place| place.to_string());
    let items = places.zip(checks).zip(decisions);
    let items =
        items.map(|((name, check), decision)| (name, Some(&check.quota), check.cost, decision));
    of_items(items, binding)
}

/// Returns the parameters of the policy of a limit.
fn policy(decision: &Decision) -> [(&'static str, Option<u64>); 2] {
    let window = decision.window.map(Millis::whole_seconds);
    [(";q=", Some(decision.limit.into())), (";w=", window)]
}

/// Returns the parameters of the state of a limit; `quota` is that of a limit whose units return by
/// themselves.
fn state(
    quota: Option<&QuotaRule>,
    cost: u32,
    decision: &Decision,
) -> [(&'static str, Option<u64>); 2] {
    let next = match quota {
        Some(quota) => next_unit::wait(quota, cost, decision),
        None => next_lease(decision),
    };
    let next = next.map(|wait| wait.whole_seconds().min(MAX_FIELD_INTEGER));
    [(";r=", Some(decision.remaining)), (";t=", next)]
}

/// Returns the headers of a decision on limits with names of visible ASCII characters without quotes:
/// an item for each, and the numbers of the limit that decides when to try again.
pub(crate) fn of_items<'l, N: AsRef<str>>(
    items: impl Iterator<Item = Item<'l, N>> + Clone,
    binding: &Decision,
) -> [(HeaderName, HeaderValue); 6] {
    DecisionHeaders::new(items, binding).into_array()
}

/// Returns the headers with an item for each limit.
#[cfg(feature = "envoy")]
pub(crate) fn lists<'l, N: AsRef<str>>(
    items: impl Iterator<Item = Item<'l, N>> + Clone,
) -> [(HeaderName, HeaderValue); 2] {
    let mut texts = Vec::with_capacity(DecisionHeaders::BYTES);
    let middle = push_lists(&mut texts, items);
    let ends = [middle, texts.len()];
    let [policies, states] = values(texts, ends);
    [(POLICY, policies), (STATE, states)]
}

/// The headers of a decision. Their values are parts of one text, which is moved and not copied.
#[derive(Debug)]
pub(crate) struct DecisionHeaders {
    texts: Vec<u8>,
    /// The end of each value.
    ends: [usize; 5],
}

impl DecisionHeaders {
    /// The size of all values of nearly all decisions.
    const BYTES: usize = 128;

    /// Returns the headers of [`of_items`].
    pub(crate) fn new<'l, N: AsRef<str>>(
        items: impl Iterator<Item = Item<'l, N>> + Clone,
        binding: &Decision,
    ) -> Self {
        let mut texts = Vec::with_capacity(Self::BYTES);
        let policies = push_lists(&mut texts, items);
        let states = texts.len();
        let numbers = [binding.capacity, binding.remaining, binding.reset_after.whole_seconds()];
        let [limit, remaining, reset] = numbers.map(|number| {
            push_integer(&mut texts, number);
            texts.len()
        });
        Self { texts, ends: [policies, states, limit, remaining, reset] }
    }

    /// Returns the headers of a decision on a check of this cost.
    pub(crate) fn of_check(quota: &QuotaRule, cost: u32, decision: &Decision) -> Self {
        Self::new(iter::once((DEFAULT, Some(quota), cost, decision)), decision)
    }

    /// Returns the headers of an answer in JSON: these, and those of the source of the decision and of the
    /// time to wait after a denial. No part is the source of a decision by policy alone. The headers
    /// include the id and the time of the request, without their values.
    pub(crate) fn into_map(self, source: Option<Source>, wait: Option<Millis>) -> HeaderMap {
        /// By source, and by whether the answer is a denial.
        static TEMPLATES: LazyLock<[[HeaderTemplate; 2]; Source::ALL.len()]> =
            LazyLock::new(|| {
                let of = |source| [false, true].map(|is_denial| template(source, is_denial));
                Source::ALL.map(of)
            });
        // Redis is not named in the headers, either.
        let source = source.unwrap_or(Source::Redis);
        let template = &TEMPLATES[source as usize][usize::from(wait.is_some())];
        template.fill(values(self.texts, self.ends).into_iter().chain(wait.map(seconds_to_wait)))
    }

    fn into_array(self) -> [(HeaderName, HeaderValue); 6] {
        let [policies, states, limit, remaining, reset] = values(self.texts, self.ends);
        [
            (POLICY, policies),
            (STATE, states),
            (X_LIMIT, limit),
            (X_REMAINING, remaining),
            (X_RESET, reset),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ]
    }
}

impl IntoIterator for DecisionHeaders {
    type Item = (HeaderName, HeaderValue);
    type IntoIter = array::IntoIter<Self::Item, 6>;

    fn into_iter(self) -> Self::IntoIter {
        self.into_array().into_iter()
    }
}

/// Returns the headers of an answer in JSON to a check that limits have not decided, or whose policy
/// hides them.
pub(crate) fn without_limits(source: Option<Source>, wait: Option<Millis>) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(8);
    map.extend([JSON]);
    map.extend(NO_STORE);
    map.extend(source.and_then(of_source).into_iter().flatten());
    map.extend(wait.into_iter().flat_map(of_wait));
    map
}

/// Returns the headers of all answers to checks from this source that are denials, or are none.
fn template(source: Source, is_denial: bool) -> HeaderTemplate {
    const ANY: HeaderValue = HeaderValue::from_static("");
    let numbers = [POLICY, STATE, X_LIMIT, X_REMAINING, X_RESET];
    let numbers = numbers.into_iter().chain(is_denial.then_some(RETRY_AFTER));
    let mut headers: Vec<_> = numbers.map(|name| (name, ANY)).collect();
    headers.extend(of_source(source).into_iter().flatten());
    headers.extend(NO_STORE);
    headers.push(JSON);
    headers.extend([PROCESS_TIME, REQUEST_ID].map(|name| (name, ANY)));
    HeaderTemplate::new(&headers)
}

/// Adds the structured fields of the policies and of the states of limits. Returns the end of the first.
fn push_lists<'l, N: AsRef<str>>(
    text: &mut Vec<u8>,
    items: impl Iterator<Item = Item<'l, N>> + Clone,
) -> usize {
    for (place, (name, quota, _, decision)) in items.clone().enumerate() {
        push_item(text, place, name.as_ref(), &policy(decision));
        if quota.is_none() {
            text.extend_from_slice(UNIT_OF_LEASES.as_bytes());
        }
    }
    let middle = text.len();
    for (place, (name, quota, cost, decision)) in items.enumerate() {
        push_item(text, place, name.as_ref(), &state(quota, cost, decision));
    }
    middle
}

/// Adds the item at a place of a list, with the parameters that have a value.
fn push_item(text: &mut Vec<u8>, place: usize, name: &str, parameters: &[(&str, Option<u64>)]) {
    for part in [if place > 0 { ", \"" } else { "\"" }, name, "\""] {
        text.extend_from_slice(part.as_bytes());
    }
    for (name, value) in parameters {
        if let Some(value) = value {
            text.extend_from_slice(name.as_bytes());
            push_integer(text, *value);
        }
    }
}

fn push_integer(text: &mut Vec<u8>, value: u64) {
    text.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Returns the values whose texts are behind each other, and end at these places.
fn values<const N: usize>(texts: Vec<u8>, ends: [usize; N]) -> [HeaderValue; N] {
    let texts = Bytes::from(texts);
    let mut begin = 0;
    ends.map(|end| {
        let text = texts.slice(begin..end);
        begin = end;
        // The text is ASCII, so that the fallback is never taken.
        let fallback = |_| HeaderValue::from_static("\"default\"");
        HeaderValue::from_maybe_shared(text).unwrap_or_else(fallback)
    })
}

/// The unit of a limit of leases, which has no window.
const UNIT_OF_LEASES: &str = ";qu=\"concurrent-requests\"";

/// Returns the headers of a decision on a lease.
pub(crate) fn of_lease(decision: &Decision) -> [(HeaderName, HeaderValue); 6] {
    of_items(iter::once((DEFAULT, None, 1, decision)), decision)
}

/// Returns the time until a lease ends, at the latest, unless there is none.
fn next_lease(decision: &Decision) -> Option<Millis> {
    let Millis(wait) = if decision.allowed { decision.reset_after } else { decision.retry_after };
    (decision.remaining < decision.capacity).then_some(Millis(wait.max(1)))
}

/// Returns the value of the header with a time in milliseconds, with at most three decimals.
pub(crate) fn milliseconds(time: Duration) -> HeaderValue {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let mut text = Vec::with_capacity(16);
    push_thousandths(&mut text, micros);
    // The text is ASCII, so that the fallback is never taken.
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static("0"))
}

/// The type of an answer in JSON.
const JSON: (HeaderName, HeaderValue) =
    (CONTENT_TYPE, HeaderValue::from_static("application/json"));

/// The header of an answer that no cache may store.
pub(crate) const NO_STORE: [(HeaderName, HeaderValue); 1] =
    [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];

/// Returns the additional header of a denial: whole seconds, at least 1.
pub(crate) fn of_denial(decision: &Decision) -> [(HeaderName, HeaderValue); 1] {
    of_wait(decision.retry_after)
}

/// Returns the header with the time to wait: whole seconds, at least 1.
pub(crate) fn of_wait(wait: Millis) -> [(HeaderName, HeaderValue); 1] {
    [(RETRY_AFTER, seconds_to_wait(wait))]
}

fn seconds_to_wait(wait: Millis) -> HeaderValue {
    wait.whole_seconds().max(1).into()
}

/// Returns the header of a decision that Redis did not make for this request.
pub(crate) fn of_source(source: Source) -> Option<[(HeaderName, HeaderValue); 1]> {
    (source != Source::Redis).then(|| [(SOURCE, HeaderValue::from_static(source.name()))])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use limiter::{Algorithm, Quota, Units, Window};
    use store::{Decision, Millis, QuotaRule, Source};

    use super::{milliseconds, of_decision, of_denial};

    fn quota(algorithm: Algorithm, limit: u32, window: u64) -> QuotaRule {
        let limit = Units::new(limit.into()).unwrap();
        Quota::new(algorithm, limit, Window::from_millis(window).unwrap()).into()
    }

    fn decision(remaining: u64, retry_after: u64, reset_after: u64) -> Decision {
        Decision {
            source: Source::Redis,
            allowed: retry_after == 0,
            limit: 100,
            window: Some(Millis(60_000)),
            capacity: 100,
            remaining,
            retry_after: Millis(retry_after),
            reset_after: Millis(reset_after),
        }
    }

    #[test]
    fn milliseconds_have_no_needless_zeros() {
        for (micros, text) in [
            (0, "0"),
            (1, "0.001"),
            (120, "0.12"),
            (1_000, "1"),
            (12_300, "12.3"),
            (10_045, "10.045"),
        ] {
            assert_eq!(milliseconds(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn a_decision_has_the_policy_and_the_remaining_units() {
        let quota = quota(Algorithm::TokenBucket, 100, 60_000);
        let headers = of_decision(&quota, 1, &decision(99, 0, 600));
        let headers =
            headers.each_ref().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
        assert_eq!(
            headers,
            [
                ("ratelimit-policy", "\"default\";q=100;w=60"),
                ("ratelimit", "\"default\";r=99;t=1"),
                ("x-ratelimit-limit", "100"),
                ("x-ratelimit-remaining", "99"),
                ("x-ratelimit-reset", "1"),
                ("cache-control", "no-store"),
            ]
        );
    }

    #[test]
    fn a_whole_quota_has_no_time_of_the_next_unit() {
        let quota = quota(Algorithm::TokenBucket, 100, 250);
        let window = Some(Millis(250));
        let headers = of_decision(&quota, 1, &Decision { window, ..decision(100, 0, 0) });
        assert_eq!(headers[0].1, "\"default\";q=100;w=1");
        assert_eq!(headers[1].1, "\"default\";r=100");
    }

    #[test]
    fn the_largest_times_are_valid_structured_fields() {
        let quota = quota(Algorithm::SlidingWindow, 1, 31_622_400_000);
        let headers = of_decision(&quota, 1, &decision(99, 0, u64::MAX));
        assert_eq!(headers[1].1, "\"default\";r=99;t=999999999999999");
    }

    #[test]
    fn a_denial_never_has_a_wait_that_is_too_short() {
        for (wait, seconds) in [(1, "1"), (1_000, "1"), (1_001, "2")] {
            assert_eq!(of_denial(&decision(0, wait, 60_000))[0].1, seconds);
        }
    }
}
