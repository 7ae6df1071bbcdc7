//! Policies of a file: the agreement of their parts, and policies that no request reaches.

use hashbrown::HashSet;

use crate::attribute::{AttributeName, Writer};
use crate::clause::{Clause, Condition};
use crate::document::{
    EntryDocument, MatchDocument, MissingDocument, OnErrorDocument, PlanDocument, PolicyDocument,
};
use crate::identity::IdentityPart;
use crate::model::{Entries, Limits, Matcher, Missing, OnError, Policy};
use crate::overrides::Overrides;
use crate::problem::Place;
use crate::read::At;

use super::Validator;
use super::traits::Traits;

/// The names under which metrics count decisions of no policy: limits of callers, and all limits beyond
/// a number of them.
const METRIC_NAMES: [&str; 2] = ["inline", "other"];

/// The policies before the present one, as far as they make it unreachable.
#[derive(Default)]
struct Before {
    /// The entries whose requests all apply to an earlier policy, and the first such policy.
    taken: Entries,
    taker: Option<String>,
}

impl Validator<'_> {
    /// Returns the policies of a file.
    pub(super) fn policies(
        &mut self,
        documents: &At<Vec<At<PolicyDocument>>>,
        deny_unmatched: bool,
    ) -> Vec<Policy> {
        let mut policies = Vec::with_capacity(documents.value.len());
        let mut names = HashSet::new();
        for document in &documents.value {
            if self.problems.full() {
                break;
            }
            let document = &document.value;
            if !names.insert(&document.name.value) {
                let problem = format!("the name `{}` is repeated", document.name.value);
                self.problems.add(document.name.place, problem);
            }
            if METRIC_NAMES.contains(&&*document.name.value) {
                let name = &document.name.value;
                let problem = format!("metrics count other decisions under the name `{name}` too");
                self.problems.warn(document.name.place, problem);
            }
            policies.extend(self.policy(document));
        }
        // A policy of which a clause has a fault seems to match more requests than the author meant.
        if self.problems.any() {
            return policies;
        }
        let mut before = Before::default();
        for (document, policy) in documents.value.iter().zip(&policies) {
            self.check_reachable(&document.value, policy, &mut before);
        }
        let all_match = before.taken.check && before.taken.authz;
        if !all_match && !deny_unmatched {
            let problem = "no policy matches every request: requests that match none are allowed";
            self.problems.warn(documents.place, problem);
        }
        policies
    }

    fn policy(&mut self, document: &PolicyDocument) -> Option<Policy> {
        self.name(&document.name);
        let matcher = self.matcher(document);
        let entries = self.entries(document, &matcher);
        let by = self.by(&document.by);
        let mut traits = Traits::default();
        let limits = self.policy_limits(document, entries, &mut traits);
        let list = document.overrides.as_deref().unwrap_or_default();
        let overrides = Overrides::new(self.overrides(list, &by, &mut traits));
        if matches!(limits, Some(Limits::PlanFrom { .. })) {
            let all_plans = std::mem::take(&mut self.all_plans);
            traits.add(&all_plans);
            self.all_plans = all_plans;
        }
        let clauses: &[Clause] = match &matcher {
            Matcher::Clauses(clauses) => clauses,
            Matcher::Named => &[],
        };
        self.check_traits(entries, &by, &traits);
        let missing = self.missing(document, entries, clauses, &by, &traits);
        let fallible_reads = fallible_reads(clauses, &by, limits.as_ref(), &overrides, &traits);
        let on_error = document.on_error.map(|on_error| match on_error {
            OnErrorDocument::Closed => OnError::Closed,
            OnErrorDocument::Open => OnError::Open,
            OnErrorDocument::Local => OnError::Local,
        });
        let policy = Policy {
            name: document.name.value.as_str().into(),
            by: by.into(),
            missing,
            limits: limits?,
            overrides,
            entries,
            shadow: document.shadow.unwrap_or(false),
            enforce: document.enforce.unwrap_or(true),
            headers: document.headers.unwrap_or(true),
            on_error,
            fallible_reads,
            matcher,
        };
        self.warn_unverified(document, &policy, &traits);
        Some(policy)
    }

    fn matcher(&mut self, document: &PolicyDocument) -> Matcher {
        match document.r#match.as_ref().map(|at| &at.value) {
            None => Matcher::Clauses(Box::default()),
            Some(MatchDocument::Named(_)) => Matcher::Named,
            Some(MatchDocument::Clauses(clauses)) => {
                if let (true, Some(at)) = (clauses.0.is_empty(), &document.r#match) {
                    let expected = "at least one clause, or no `match`";
                    self.problems.expect(at.place, "the map is empty", expected);
                }
                let mut clauses = self.clauses(clauses);
                // A clause that takes less work decides first; the result is the same.
                clauses.sort_by_key(Clause::work);
                Matcher::Clauses(clauses.into())
            }
        }
    }

    /// Returns the entries of a policy. The rate limit service sends many domains, so that a policy
    /// takes its requests only when the policy names a domain.
    fn entries(&mut self, document: &PolicyDocument, matcher: &Matcher) -> Entries {
        let domain = |clause: &Clause| {
            matches!(&clause.attribute, AttributeName::Word(word) if &**word == "domain")
                && matches!(clause.condition, Condition::Any(_))
        };
        let has_domain = matches!(matcher, Matcher::Clauses(clauses) if clauses.iter().any(domain));
        let Some(list) = &document.entry else {
            return Entries { check: true, authz: true, rls: has_domain };
        };
        let mut entries = Entries::default();
        if list.value.is_empty() {
            let expected = "at least one of `check`, `authz` and `rls`";
            self.problems.expect(list.place, "the list is empty", expected);
        }
        for entry in &list.value {
            let known = match entry.value {
                EntryDocument::Check => &mut entries.check,
                EntryDocument::Authz => &mut entries.authz,
                EntryDocument::Rls => &mut entries.rls,
            };
            if std::mem::replace(known, true) {
                self.problems.add(entry.place, "the entry is repeated");
            }
            if entry.value == EntryDocument::Rls && !has_domain {
                let problem = "the entry `rls` needs a clause for `domain`";
                self.problems.expect(entry.place, problem, "`match: {domain: ...}`");
            }
        }
        entries
    }

    fn policy_limits(
        &mut self,
        document: &PolicyDocument,
        entries: Entries,
        traits: &mut Traits,
    ) -> Option<Limits> {
        match (&document.limits, &document.plan) {
            (Some(limits), None) => {
                let (limits, own) = self.limits(limits);
                traits.add(&own);
                Some(Limits::Own(limits.into()))
            }
            (None, Some(plan)) => match &plan.value {
                PlanDocument::Name(name) => {
                    let position = self.plan(name)?;
                    self.add_plan(position, traits);
                    Some(Limits::Plan(position))
                }
                PlanDocument::From(document) => {
                    let from = self.read_attribute(&document.from);
                    // The attribute can name every plan.
                    self.used_plans.extend(0..self.plan_names.len());
                    let default = self.plan(&document.default);
                    let from = from?;
                    if document.trusted != Some(true)
                        && from.writer() == Writer::EndUser
                        && entries.take_end_users()
                    {
                        self.untrusted(document.from.place, &from, "a plan");
                    }
                    Some(Limits::PlanFrom { from, default: default? })
                }
            },
            (limits, _) => {
                let place = document.name.place;
                let problem = match limits {
                    Some(_) => "the policy has both `limits` and `plan`",
                    None => "the policy has neither `limits` nor `plan`",
                };
                self.problems.expect(place, problem, "one of the two");
                None
            }
        }
    }

    /// Adds the traits of a plan.
    pub(super) fn add_plan(&mut self, position: usize, traits: &mut Traits) {
        if let Some(plan) = self.plan_traits.get(position) {
            traits.add(plan);
        }
    }

    fn untrusted(&mut self, place: Place, attribute: &AttributeName, chosen: &str) {
        if self.untrusted.insert(place) {
            let problem = format!("the end user writes `{attribute}`, and chooses {chosen} by it");
            let expected = "another attribute, or `trusted: true` where a proxy writes it";
            self.problems.expect(place, problem, expected);
        }
    }

    /// Checks the limits of a policy against its entries and its identity.
    fn check_traits(&mut self, entries: Entries, by: &[IdentityPart], traits: &Traits) {
        if entries.take_end_users() {
            for (attribute, places) in &traits.untrusted {
                for place in places {
                    self.untrusted(*place, attribute, "a cost");
                }
            }
        }
        if let Some(place) = traits.concurrency
            && entries != (Entries { check: true, authz: false, rls: false })
        {
            let problem = "only checks can release a concurrency limit";
            self.problems.expect(place, problem, "`entry: [check]` in each policy with the limit");
        }
        for ((name, kind), identities) in &traits.identities {
            let mut different =
                identities.iter().map(|(own, place)| (own.as_deref().unwrap_or(by), *place));
            let Some((first, _)) = different.next() else { continue };
            if let Some((_, place)) = different.find(|(other, _)| *other != first) {
                let kind = kind.name();
                let problem = format!("the limit `{name}` ({kind}) has another `by` elsewhere");
                let expected = "one `by`, because limits of one name and kind share their state";
                self.problems.expect(place, problem, expected);
            }
        }
    }

    fn missing(
        &mut self,
        document: &PolicyDocument,
        entries: Entries,
        clauses: &[Clause],
        by: &[IdentityPart],
        traits: &Traits,
    ) -> Missing {
        let own = traits.identities.values().flatten().filter_map(|(own, _)| own.as_deref());
        let parts = by.iter().chain(own.flatten());
        let mut attributes = parts.map(|part| &part.attribute);
        match &document.missing {
            Some(At { value: MissingDocument::Skip, .. }) => Missing::Skip,
            Some(At { value: MissingDocument::Deny, .. }) => Missing::Deny,
            Some(At { value: MissingDocument::Share, .. }) => Missing::Share,
            None => {
                if let Some(name) = attributes.find(|name| can_be_missing(name, entries, clauses)) {
                    let problem = format!("`{name}` can be missing, and the key `missing` is too");
                    let expected = "`missing: skip`, `deny` or `share`";
                    self.problems.expect(document.by.place, problem, expected);
                }
                // No attribute can be missing, so that the word has no effect.
                Missing::Deny
            }
        }
    }

    fn check_reachable(&mut self, document: &PolicyDocument, policy: &Policy, before: &mut Before) {
        let Matcher::Clauses(clauses) = &policy.matcher else { return };
        if let Some(taker) = &before.taker
            && before.taken.contain_all(policy.entries)
        {
            let problem = format!(
                "the policy `{}` never applies: it stands behind `{taker}`, which matches every \
                 request",
                policy.name
            );
            self.problems.expect(document.name.place, problem, "it before, or `match: named`");
        }
        let skips = policy.missing == Missing::Skip && !policy.by.is_empty();
        if clauses.is_empty() && !policy.shadow && !skips {
            before.taken.check |= policy.entries.check;
            before.taken.authz |= policy.entries.authz;
            before.taken.rls |= policy.entries.rls;
            before.taker.get_or_insert_with(|| policy.name.to_string());
        }
    }

    /// Warns about values that the end user invents: each such value is a fresh quota and a key of
    /// its own.
    fn warn_unverified(&mut self, document: &PolicyDocument, policy: &Policy, traits: &Traits) {
        if !policy.entries.take_end_users() {
            return;
        }
        let unverified = |by: &[IdentityPart]| {
            let written = |part: &IdentityPart| part.attribute.writer() == Writer::EndUser;
            !by.is_empty() && by.iter().all(written)
        };
        let identities = traits.identities.values().flatten();
        let mut identities = identities.map(|(own, _)| own.as_deref().unwrap_or(&policy.by));
        if !policy.by.is_empty() && identities.all(unverified) {
            let problem = "end users write all attributes of the identity, and get a fresh quota \
                           for each value that they invent; add a limit by `client.ip`";
            self.problems.warn(document.by.place, problem);
        }
    }
}

/// Returns whether a request of an entry can lack the attribute. A caller may leave out all, and may
/// name the policy, so that its clauses guarantee nothing; the rate limit service cannot name one.
fn can_be_missing(name: &AttributeName, entries: Entries, clauses: &[Clause]) -> bool {
    let always_sent =
        matches!(name, AttributeName::Method | AttributeName::Path | AttributeName::ClientIp(_));
    let same = |clause: &Clause| match (&clause.attribute, name) {
        (AttributeName::ClientIp(_), AttributeName::ClientIp(_)) => true,
        (clause, name) => clause == name,
    };
    let guaranteed = clauses
        .iter()
        .any(|clause| same(clause) && !matches!(clause.condition, Condition::Exists(false)));
    // A list is no identity, also where a clause holds for it.
    let guaranteed = guaranteed && !matches!(name, AttributeName::Claim(_));
    entries.check || (entries.authz && !always_sent) || (entries.rls && !guaranteed)
}

/// Returns the attributes that a policy reads and whose values can be repeated or unknown.
fn fallible_reads(
    clauses: &[Clause],
    by: &[IdentityPart],
    limits: Option<&Limits>,
    overrides: &Overrides,
    traits: &Traits,
) -> Box<[AttributeName]> {
    let mut reads: Vec<AttributeName> = Vec::new();
    let mut add = |name: &AttributeName| {
        let fallible = matches!(
            name,
            AttributeName::Header(_) | AttributeName::Query(_) | AttributeName::ClientIp(_)
        );
        if fallible && !reads.contains(name) {
            reads.push(name.clone());
        }
    };
    clauses.iter().for_each(|clause| add(&clause.attribute));
    by.iter().for_each(|part| add(&part.attribute));
    if let Some(Limits::PlanFrom { from, .. }) = limits {
        add(from);
    }
    let mut rest: Vec<_> = traits.reads.iter().collect();
    for entry in overrides.as_slice() {
        if let crate::overrides::Subject::Match(clauses) = &entry.subject {
            rest.extend(clauses.iter().map(|clause| &clause.attribute));
        }
    }
    rest.sort_by_cached_key(ToString::to_string);
    rest.into_iter().for_each(add);
    reads.into()
}
