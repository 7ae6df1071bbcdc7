//! The JSON of answers to checks, as text.
//!
//! The serializer of `serde` escapes the name of each field, which takes as long as the whole decision.
//! The text is the same; `serde` writes it in batches.

use super::{
    check_answer::{CheckAnswer, LimitDecision},
    limits_answer::{LimitAnswer, LimitsAnswer},
};
use crate::{
    policy_file::policy_names::PolicyNames,
    seconds::{Seconds, push_thousandths},
};

/// The size of nearly all answers without limits, and what each limit adds.
const ANSWER_BYTES: usize = 256;
const LIMIT_BYTES: usize = 160;

/// The size of nearly all answers of one quota.
const CHECK_BYTES: usize = 96;

/// A text of JSON that is not complete.
struct Text(Vec<u8>);

impl CheckAnswer {
    /// Returns the answer as JSON.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut text = Text(Vec::with_capacity(CHECK_BYTES));
        text.push("{");
        text.decision(self.into());
        text.push("}");
        text.0
    }
}

impl LimitsAnswer {
    /// Returns the answer as JSON.
    ///
    /// # Errors
    ///
    /// As those of `serde`, for values that JSON cannot represent.
    pub(super) fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut text = Text(Vec::with_capacity(ANSWER_BYTES + self.limits.len() * LIMIT_BYTES));
        text.push("{");
        text.decision((&self.answer).into());
        if let Some(PolicyNames { policy, plan, r#override }) = &self.names {
            text.push(",\"policy\":");
            text.optional(policy.as_deref())?;
            text.push(",\"plan\":");
            text.optional(plan.as_deref())?;
            text.push(",\"override\":");
            match r#override {
                Some(applied) => serde_json::to_writer(&mut text.0, applied)?,
                None => text.push("null"),
            }
        }
        text.push(",\"violated\":[");
        for (place, name) in self.violated.iter().enumerate() {
            text.push(if place > 0 { "," } else { "" });
            text.string(name)?;
        }
        text.push("],\"limits\":[");
        for (place, limit) in self.limits.iter().enumerate() {
            text.push(if place > 0 { "," } else { "" });
            text.limit(limit)?;
        }
        text.push("]");
        if let Some(held) = &self.held {
            // The members of an object, with a comma in place of its first brace.
            let begin = text.0.len();
            serde_json::to_writer(&mut text.0, held)?;
            text.0[begin] = b',';
            text.0.pop();
        }
        text.push("}");
        Ok(text.0)
    }
}

impl Text {
    fn push(&mut self, part: &str) {
        self.0.extend_from_slice(part.as_bytes());
    }

    fn limit(&mut self, limit: &LimitAnswer) -> serde_json::Result<()> {
        self.push("{\"name\":");
        self.string(&limit.name)?;
        self.push(",\"algorithm\":\"");
        self.push(limit.algorithm.name());
        self.push("\",");
        self.decision(limit.decision);
        self.push("}");
        Ok(())
    }

    fn decision(&mut self, decision: LimitDecision) {
        let LimitDecision { allowed, remaining, reset_in_seconds, retry_after } = decision;
        self.push(if allowed { "\"allowed\":true" } else { "\"allowed\":false" });
        self.push(",\"remaining\":");
        self.push(itoa::Buffer::new().format(remaining));
        self.push(",\"reset_in_seconds\":");
        self.seconds(reset_in_seconds);
        self.push(",\"retry_after\":");
        match retry_after {
            Some(wait) => self.seconds(wait),
            None => self.push("null"),
        }
    }

    fn seconds(&mut self, Seconds(time): Seconds) {
        push_thousandths(&mut self.0, time.0);
    }

    fn optional(&mut self, text: Option<&str>) -> serde_json::Result<()> {
        match text {
            Some(text) => self.string(text),
            None => {
                self.push("null");
                Ok(())
            }
        }
    }

    /// Adds a string. Names of policies and limits have nothing to escape.
    fn string(&mut self, text: &str) -> serde_json::Result<()> {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        if !text.bytes().all(is_plain) {
            return serde_json::to_writer(&mut self.0, text);
        }
        for part in ["\"", text, "\""] {
            self.push(part);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use limiter::Algorithm;
    use proptest::{collection::vec, option, prelude::*};
    use store::{LimitKind, Millis};

    use super::{CheckAnswer, LimitAnswer, LimitDecision, LimitsAnswer, PolicyNames, Seconds};

    fn decision() -> impl Strategy<Value = LimitDecision> {
        // Times for which the numbers of `serde` are exact.
        let time = || prop_oneof![0..100_000_u64, 0..1_u64 << 51];
        (any::<bool>(), any::<u64>(), time(), option::of(time())).prop_map(
            |(allowed, remaining, reset, wait)| LimitDecision {
                allowed,
                remaining,
                reset_in_seconds: Seconds(Millis(reset)),
                retry_after: wait.map(|wait| Seconds(Millis(wait))),
            },
        )
    }

    fn limit() -> impl Strategy<Value = LimitAnswer> {
        let kinds = [
            LimitKind::Quota(Algorithm::TokenBucket),
            LimitKind::Quota(Algorithm::SlidingWindow),
            LimitKind::Quota(Algorithm::FixedWindow),
            LimitKind::Concurrency,
        ];
        ("[a-z0-9_.-]{1,9}|.{0,4}", proptest::sample::select(kinds.to_vec()), decision())
            .prop_map(|(name, algorithm, decision)| LimitAnswer { name, algorithm, decision })
    }

    proptest! {
        #[test]
        fn the_text_of_one_quota_is_that_of_serde(answer in decision()) {
            let LimitDecision { allowed, remaining, reset_in_seconds, retry_after } = answer;
            let answer = CheckAnswer { allowed, remaining, reset_in_seconds, retry_after };
            let text = String::from_utf8(answer.to_json()).unwrap();
            prop_assert_eq!(text, serde_json::to_string(&answer).unwrap());
        }

        #[test]
        fn the_text_is_that_of_serde(
            answer in decision(),
            has_names: bool,
            names in (option::of("[a-z-]{1,9}"), option::of("\\PC{0,5}")),
            violated in vec("[a-z]{1,5}|missing:jwt.\"[a-z.]{1,5}\"|.{0,3}", 0..3),
            limits in vec(limit(), 0..4),
        ) {
            let LimitDecision { allowed, remaining, reset_in_seconds, retry_after } = answer;
            let (policy, plan) = names;
            let answer = LimitsAnswer {
                answer: CheckAnswer { allowed, remaining, reset_in_seconds, retry_after },
                names: has_names.then_some(PolicyNames { policy, plan, r#override: None }),
                violated,
                limits,
                held: None,
            };
            let text = String::from_utf8(answer.to_json().unwrap()).unwrap();
            prop_assert_eq!(text, serde_json::to_string(&answer).unwrap());
        }
    }
}
