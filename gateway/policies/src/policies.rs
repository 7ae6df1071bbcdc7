//! The policies of one file, ready to judge requests.

use hashbrown::{HashMap, HashSet};

use crate::attribute::AttributeName;
use crate::digest::{HashKey, version_of};
use crate::document::FileDocument;
use crate::limit::LimitSpec;
use crate::load_options::LoadOptions;
use crate::model::{Limits, Missing, Plan, Policy};
use crate::overrides::Effect;
use crate::path::PathForm;
use crate::policy_index::PolicyIndex;
use crate::problem::{FileError, Problem, Problems};
use crate::read::Read;
use crate::recorded_attribute::RecordedAttribute;
use crate::{parse, validate};

/// The policies of one file. All requests of a batch are judged by one value of this type.
#[derive(Clone, Debug)]
pub struct Policies {
    pub(crate) version: String,
    /// True if requests that match no policy are denied.
    pub(crate) deny_unmatched: bool,
    pub(crate) form: PathForm,
    pub(crate) policies: Box<[Policy]>,
    pub(crate) plans: Box<[Plan]>,
    pub(crate) plan_names: HashMap<Box<[u8]>, usize>,
    pub(crate) index: PolicyIndex,
    /// The attributes that any policy reads.
    pub(crate) reads: HashSet<AttributeName>,
    /// The attributes of records.
    pub(crate) recorded: Box<[RecordedAttribute]>,
    pub(crate) key_prefix: String,
    pub(crate) hash_key: Option<HashKey>,
    warnings: Vec<Problem>,
}

impl Policies {
    /// Returns the policies of a file.
    ///
    /// # Errors
    ///
    /// A [`FileError`] with the faults of the file.
    pub fn load(file: &[u8], options: &LoadOptions) -> Result<Self, FileError> {
        let mut problems = Problems::default();
        let document = parse::parse(file, &mut problems)
            .and_then(|node| FileDocument::read(&node, &mut problems));
        let valid =
            document.and_then(|document| validate::validate(&document, options, &mut problems));
        let warnings = problems.finish()?;
        let Some(valid) = valid else {
            return Err(FileError::unexplained());
        };
        let recorded = RecordedAttribute::list(valid.reads.iter(), |name| valid.is_secret(name));
        let validate::Valid { deny_unmatched, form, policies, plans, reads, .. } = valid;
        let names = plans.iter().enumerate().map(|(at, plan)| (plan.name.as_bytes().into(), at));
        Ok(Self {
            version: version_of(file),
            deny_unmatched,
            form,
            plan_names: names.collect(),
            index: PolicyIndex::new(&policies),
            policies: policies.into(),
            plans: plans.into(),
            reads,
            recorded,
            key_prefix: options.key_prefix.clone(),
            hash_key: options.hash_key.clone(),
            warnings,
        })
    }

    /// Returns the version: 12 hexadecimal digits of the SHA-256 of the file.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns whether these are the policies of a file with this content.
    #[must_use]
    pub fn are_of(&self, file: &[u8]) -> bool {
        self.version == version_of(file)
    }

    /// Returns the remarks about the file, in the order of their positions.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Returns the policies in the order of the file.
    #[must_use]
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// Returns the plans in the order of the file.
    #[must_use]
    pub fn plans(&self) -> &[Plan] {
        &self.plans
    }

    /// Returns the form of paths, which the attributes of a request need.
    #[must_use]
    pub const fn path_form(&self) -> PathForm {
        self.form
    }

    /// Returns the attributes that any policy reads, in no order.
    pub fn reads(&self) -> impl Iterator<Item = &AttributeName> {
        self.reads.iter()
    }

    /// Returns these policies for requests of which only some attributes are known: a policy that
    /// matches and lacks an attribute of an identity neither skips the request nor shares a quota,
    /// but has the outcome [`Outcome::Missing`](crate::judgement::Outcome::Missing).
    #[must_use]
    pub fn with_missing_reported(mut self) -> Self {
        for policy in &mut self.policies {
            policy.missing = Missing::Deny;
        }
        self
    }

    /// Returns the key of digests and seals.
    #[must_use]
    pub const fn hash_key(&self) -> Option<&HashKey> {
        self.hash_key.as_ref()
    }

    /// Returns the policy with this name.
    #[must_use]
    pub fn policy(&self, name: &str) -> Option<&Policy> {
        self.index.named(name).and_then(|number| self.policies.get(number as usize))
    }

    /// Returns all limits that the policy can apply: its own, those of its plans and those of its
    /// overrides. Limits of one name and kind occur more than once.
    pub fn limits<'p>(&'p self, policy: &'p Policy) -> impl Iterator<Item = &'p LimitSpec> {
        let plan = |position: usize| self.plans.get(position).map_or(&[][..], |plan| &plan.limits);
        let all_plans = matches!(policy.limits, Limits::PlanFrom { .. });
        let own: &[LimitSpec] = match &policy.limits {
            Limits::Own(limits) => limits,
            Limits::Plan(position) => plan(*position),
            Limits::PlanFrom { .. } => &[],
        };
        let plans = self.plans.iter().filter(move |_| all_plans).flat_map(|plan| &plan.limits);
        let overrides =
            policy.overrides.as_slice().iter().flat_map(move |entry| match &entry.effect {
                Effect::Limits(limits) => &**limits,
                Effect::Plan(position) => plan(*position),
                Effect::Unlimited | Effect::Block { .. } => &[],
            });
        own.iter().chain(plans).chain(overrides)
    }
}
