//! Documents to policies: every value is checked once, here, and all faults are found.

mod attributes;
mod clauses;
mod limits;
mod overrides;
mod policy;
mod secrets;
mod traits;

use hashbrown::{HashMap, HashSet};
use jiff::tz::TimeZone;
use limiter::Instant;

use crate::attribute::AttributeName;
use crate::document::{FileDocument, UnmatchedDocument};
use crate::load_options::LoadOptions;
use crate::model::{Plan, Policy};
use crate::name::is_name;
use crate::parse::MAX_POLICIES;
use crate::path::PathForm;
use crate::problem::{Place, Problems, nearest, shorten};
use crate::read::At;

use traits::Traits;

/// The most values of an identity.
const MAX_BY: usize = 16;
/// The most limits of a policy.
const MAX_LIMITS: usize = 16;

/// The accepted form of a name, for messages.
const NAME: &str = "1 to 63 of a-z, 0-9, `_`, `.` and `-`, beginning with a letter or digit";

/// The values of a valid file.
pub(crate) struct Valid {
    pub(crate) deny_unmatched: bool,
    pub(crate) form: PathForm,
    pub(crate) policies: Vec<Policy>,
    pub(crate) plans: Vec<Plan>,
    /// The attributes that any policy reads.
    pub(crate) reads: HashSet<AttributeName>,
    secrets: HashSet<AttributeName>,
}

impl Valid {
    /// Returns whether the value of an attribute is secret.
    pub(crate) fn is_secret(&self, attribute: &AttributeName) -> bool {
        secrets::is_secret(&self.secrets, attribute)
    }
}

/// The state of the validation of one file.
struct Validator<'v> {
    problems: &'v mut Problems,
    now: Instant,
    has_hash_key: bool,
    zone: TimeZone,
    form: PathForm,
    secrets: HashSet<AttributeName>,
    plan_names: HashMap<String, usize>,
    /// The traits of each plan, and of all plans together.
    plan_traits: Vec<Traits>,
    all_plans: Traits,
    used_plans: HashSet<usize>,
    reads: HashSet<AttributeName>,
    /// The positions of `from` for which a fault was added, so that it is added once.
    untrusted: HashSet<Place>,
}

/// Returns the values of a file, or `None` after adding at least one fault.
pub(crate) fn validate(
    document: &FileDocument,
    options: &LoadOptions,
    problems: &mut Problems,
) -> Option<Valid> {
    check_version(document, options, problems);
    let path = document.path.as_ref();
    let mut validator = Validator {
        problems,
        now: options.now,
        has_hash_key: options.hash_key.is_some(),
        zone: TimeZone::UTC,
        form: PathForm {
            ignore_case: path.and_then(|path| path.ignore_case).unwrap_or(false),
            strip_parameters: path.and_then(|path| path.strip_parameters).unwrap_or(false),
        },
        secrets: HashSet::new(),
        plan_names: HashMap::new(),
        plan_traits: Vec::new(),
        all_plans: Traits::default(),
        used_plans: HashSet::new(),
        reads: HashSet::new(),
        untrusted: HashSet::new(),
    };
    if let Some(zone) = document.timezone.as_ref().and_then(|name| validator.zone(name)) {
        validator.zone = zone;
    }
    validator.secrets(document);
    let plans = validator.plans(document);
    let deny_unmatched = document.unmatched == Some(UnmatchedDocument::Deny);
    let policies = validator.policies(&document.policies, deny_unmatched);
    validator.warn_unused_plans(document);
    let Validator { form, reads, secrets, .. } = validator;
    (!problems.any()).then_some(Valid { deny_unmatched, form, policies, plans, reads, secrets })
}

fn check_version(document: &FileDocument, options: &LoadOptions, problems: &mut Problems) {
    if document.version.value != 1 {
        let problem = format!("version {}", document.version.value);
        problems.expect(document.version.place, problem, "`version: 1`");
    }
    match &document.end {
        Some(end) if !end.value => problems.expect(end.place, "`end: false`", "`end: true`"),
        None if options.require_end => {
            let place = Place { line: 1, column: 1 };
            problems.expect(place, "the file is not complete", "`end: true` at its end");
        }
        _ => {}
    }
    let policies = &document.policies;
    if policies.value.is_empty() {
        problems.expect(policies.place, "there are no policies", "at least one policy");
    } else if policies.value.len() > MAX_POLICIES {
        let expected = format!("at most {MAX_POLICIES} policies");
        problems.expect(policies.place, "too many policies", expected);
    }
}

impl Validator<'_> {
    /// Checks the name of a policy, plan or limit.
    fn name(&mut self, name: &At<String>) {
        if !is_name(&name.value) {
            let problem = format!("the name `{}`", shorten(&name.value));
            self.problems.expect(name.place, problem, NAME);
        }
    }

    fn zone(&mut self, name: &At<String>) -> Option<TimeZone> {
        let zone = calendar::zone(&name.value);
        if zone.is_none() {
            let names = calendar::zone_names();
            let lower: Vec<_> = names.iter().map(|name| name.to_lowercase()).collect();
            let near = nearest(&name.value, lower.iter().map(String::as_str));
            let known = near.and_then(|near| {
                let at = lower.iter().position(|name| *name == near)?;
                names.get(at).cloned()
            });
            let problem = format!("unknown time zone `{}`", shorten(&name.value));
            match known {
                Some(known) => self.problems.expect(name.place, problem, format!("`{known}`")),
                None => self.problems.expect(name.place, problem, "a name such as `Europe/Berlin`"),
            }
        }
        zone
    }

    fn secrets(&mut self, document: &FileDocument) {
        for name in document.secret.iter().flatten() {
            if let Some(attribute) = self.attribute(name) {
                self.secrets.insert(attribute);
            }
        }
    }

    fn plans(&mut self, document: &FileDocument) -> Vec<Plan> {
        let Some(documents) = &document.plans else { return Vec::new() };
        let mut plans = Vec::new();
        for (name, limits) in &documents.0 {
            self.name(name);
            self.plan_names.insert(name.value.clone(), plans.len());
            let (limits, traits) = self.limits(limits);
            self.all_plans.add(&traits);
            self.plan_traits.push(traits);
            plans.push(Plan { name: name.value.as_str().into(), limits: limits.into() });
        }
        plans
    }

    /// Returns the position of a plan.
    fn plan(&mut self, name: &At<String>) -> Option<usize> {
        let position = self.plan_names.get(&name.value).copied();
        match position {
            Some(position) => {
                self.used_plans.insert(position);
            }
            None if self.plan_names.is_empty() => {
                let problem = format!("unknown plan `{}`", shorten(&name.value));
                self.problems.expect(name.place, problem, "a plan of `plans`, which is empty");
            }
            None => {
                let known: Vec<_> = self.plan_names.keys().map(String::as_str).collect();
                self.problems.unknown(name.place, "plan", &name.value, known.into_iter());
            }
        }
        position
    }

    fn warn_unused_plans(&mut self, document: &FileDocument) {
        let plans = document.plans.iter().flat_map(|plans| &plans.0);
        for (position, (name, _)) in plans.enumerate() {
            if !self.used_plans.contains(&position) {
                let problem = format!("no policy uses the plan `{}`", name.value);
                self.problems.warn(name.place, problem);
            }
        }
    }
}
