//! Overrides of a file: their subjects, ends and effects.

use crate::attribute::AttributeName;
use crate::digest::is_digest;
use crate::document::{OverrideDocument, UntilDocument};
use crate::end;
use crate::glob::Glob;
use crate::identity::IdentityPart;
use crate::overrides::{ByPatterns, Effect, IdentityPattern, Override, Subject, Until};
use crate::problem::{Place, shorten};
use crate::read::At;

use super::Validator;
use super::traits::Traits;

/// The most bytes of a reason.
const MAX_REASON_BYTES: usize = 1_000;

impl Validator<'_> {
    /// Returns the overrides of a policy, and adds the traits of their limits.
    pub(super) fn overrides(
        &mut self,
        documents: &[At<OverrideDocument>],
        by: &[IdentityPart],
        traits: &mut Traits,
    ) -> Vec<Override> {
        let mut overrides = Vec::with_capacity(documents.len());
        let mut added_plans = hashbrown::HashSet::new();
        for document in documents {
            if self.problems.full() {
                break;
            }
            let (document, place) = (&document.value, document.place);
            let subject = self.subject(document, place, by);
            let until = document.until.as_ref().map(|until| self.until(until));
            let effect = self.effect(document, place, traits);
            let reason = &document.reason;
            if reason.value.trim().is_empty() || reason.value.len() > MAX_REASON_BYTES {
                let problem = format!("a reason of {} bytes", reason.value.trim().len());
                let expected = format!("1 to {MAX_REASON_BYTES} bytes");
                self.problems.expect(reason.place, problem, expected);
            }
            if let Some(Effect::Plan(position)) = effect
                && added_plans.insert(position)
            {
                self.add_plan(position, traits);
            }
            let until = until.map_or(Some(None), |until| until.map(Some));
            if let (Some(subject), Some(until), Some(effect)) = (subject, until, effect) {
                let reason = reason.value.as_str().into();
                overrides.push(Override { subject, reason, until, effect });
            }
        }
        overrides
    }

    fn subject(
        &mut self,
        document: &OverrideDocument,
        place: Place,
        by: &[IdentityPart],
    ) -> Option<Subject> {
        match (&document.by, &document.r#match) {
            (Some(patterns), None) => {
                let list = patterns.value.as_slice();
                if list.len() != by.len() {
                    let problem = format!("{} patterns for the identity", list.len());
                    let expected = match by.len() {
                        0 => "`match`, because the policy has `by: []`".to_owned(),
                        count => format!("{count}, one for each attribute of the policy's `by`"),
                    };
                    self.problems.expect(patterns.place, problem, expected);
                    return None;
                }
                let written = list.iter().map(|pattern| pattern.value.as_str().into()).collect();
                let parsed: Vec<_> =
                    list.iter().zip(by).map(|(text, part)| self.pattern(text, part)).collect();
                let patterns = parsed.into_iter().collect::<Option<_>>()?;
                Some(Subject::By(ByPatterns { written, patterns }))
            }
            (None, Some(clauses)) => {
                if clauses.value.0.is_empty() {
                    self.problems.expect(clauses.place, "the map is empty", "at least one clause");
                }
                Some(Subject::Match(self.clauses(&clauses.value).into()))
            }
            (both, _) => {
                let problem = match both {
                    Some(_) => "the override has both `by` and `match`",
                    None => "the override has neither `by` nor `match`",
                };
                self.problems.expect(place, problem, "one of the two");
                None
            }
        }
    }

    fn pattern(&mut self, text: &At<String>, part: &IdentityPart) -> Option<IdentityPattern> {
        if part.secret {
            if !is_digest(&text.value) && text.value != "*" {
                let problem =
                    format!("`{}` is secret, and stands here in the clear", part.attribute);
                let expected = "`sha256:` and the first 32 hexadecimal digits of the HMAC-SHA-256";
                self.problems.expect(text.place, problem, expected);
                return None;
            }
            return Glob::new(&text.value, None).ok().map(IdentityPattern::Glob);
        }
        let AttributeName::ClientIp(grouping) = &part.attribute else {
            return self.glob(&part.attribute, text).map(IdentityPattern::Glob);
        };
        if text.value == "*" {
            return Some(IdentityPattern::Network(None));
        }
        let network = self.network(text)?;
        let bits = grouping.bits_for(&network);
        if network.bits() > bits {
            let problem =
                format!("`{network}` is a part of one identity: the policy groups by /{bits}");
            let group = grouping.group(network.first());
            self.problems.expect(text.place, problem, format!("`{group}`"));
            return None;
        }
        Some(IdentityPattern::Network(Some(network)))
    }

    fn until(&mut self, until: &At<UntilDocument>) -> Option<Until> {
        let text = &until.value.0;
        let Some(end) = end::parse(text) else {
            let problem = format!("`{}` is no end", shorten(text));
            self.problems.expect(until.place, problem, end::EXPECTED);
            return None;
        };
        let ms = end.millis(&self.zone);
        if i64::try_from(self.now.as_micros() / 1_000).is_ok_and(|now_ms| ms <= now_ms) {
            self.problems.warn(until.place, format!("the override has ended: `{text}` is past"));
        }
        Some(Until { written: text.as_str().into(), ms })
    }

    fn effect(
        &mut self,
        document: &OverrideDocument,
        place: Place,
        traits: &mut Traits,
    ) -> Option<Effect> {
        for flag in [&document.unlimited, &document.block].into_iter().flatten() {
            if !flag.value {
                self.problems.expect(flag.place, "`false` has no effect", "`true`, or no such key");
            }
        }
        if let Some(shadow) = &document.shadow
            && document.block.is_none()
        {
            let problem = "`shadow` without `block`";
            self.problems.expect(shadow.place, problem, "`block: true` with it");
        }
        match (&document.plan, &document.limits, &document.unlimited, &document.block) {
            (Some(plan), None, None, None) => self.plan(plan).map(Effect::Plan),
            (None, Some(limits), None, None) => {
                let (limits, own) = self.limits(limits);
                traits.add(&own);
                Some(Effect::Limits(limits.into()))
            }
            (None, None, Some(_), None) => Some(Effect::Unlimited),
            (None, None, None, Some(_)) => {
                let shadow = document.shadow.as_ref().is_some_and(|shadow| shadow.value);
                Some(Effect::Block { shadow })
            }
            (None, None, None, None) => {
                let expected = "`plan`, `limits`, `unlimited: true` or `block: true`";
                self.problems.expect(place, "the override has no effect", expected);
                None
            }
            _ => {
                let expected = "one of `plan`, `limits`, `unlimited` and `block`";
                self.problems.expect(place, "the override has several effects", expected);
                None
            }
        }
    }
}
