//! Clauses of a file: globs in the form of the values that they meet, and networks.

use hashbrown::HashSet;

use crate::address::{Grouping, Network, NetworkError};
use crate::attribute::AttributeName;
use crate::clause::{Clause, Condition};
use crate::document::{ClauseDocument, ConditionDocument};
use crate::glob::Glob;
use crate::host;
use crate::path::PathForm;
use crate::problem::{Place, shorten};
use crate::read::{At, Entries};

use super::Validator;

/// The accepted form of a network, for messages.
const NETWORK: &str = "an address or a network such as `10.0.0.0/8`";

impl Validator<'_> {
    /// Returns the clauses of a policy or an override.
    pub(super) fn clauses(&mut self, clauses: &Entries<ClauseDocument>) -> Vec<Clause> {
        let clause =
            |(name, clause): &(At<String>, _)| Some((name.place, self.clause(name, clause)?));
        let valid: Vec<_> = clauses.0.iter().filter_map(clause).collect();
        self.check_repeated(&valid);
        valid.into_iter().map(|(_, clause)| clause).collect()
    }

    /// Checks that each clause has an attribute of its own. Names of headers ignore case, so that two
    /// keys can be one attribute.
    fn check_repeated(&mut self, clauses: &[(Place, Clause)]) {
        let mut seen = HashSet::with_capacity(clauses.len());
        for (place, Clause { attribute, .. }) in clauses {
            if !seen.insert(attribute) {
                self.problems.add(*place, format!("`{attribute}` is repeated"));
            }
        }
    }

    fn clause(&mut self, name: &At<String>, document: &ClauseDocument) -> Option<Clause> {
        let attribute = self.attribute(name)?;
        let secret = self.secret(name.place, &attribute);
        if let AttributeName::ClientIp(grouping) = &attribute
            && *grouping != Grouping::default()
        {
            let problem = format!("`{attribute}` stands in a match");
            self.problems.expect(name.place, problem, "`client.ip` with networks");
            return None;
        }
        let (globs, not) = match document {
            ClauseDocument::Any(globs) => (globs, false),
            ClauseDocument::Condition(ConditionDocument { not: Some(globs), .. }) => (globs, true),
            ClauseDocument::Condition(ConditionDocument { exists, .. }) => {
                let exists = exists.unwrap_or(true);
                let written = format!("exists: {exists}").into();
                return Some(Clause {
                    attribute,
                    secret,
                    condition: Condition::Exists(exists),
                    written,
                });
            }
        };
        let globs = globs.as_slice();
        let written: Vec<_> = globs.iter().map(|glob| glob.value.as_str()).collect();
        let written = format!("{}{}", if not { "not: " } else { "" }, written.join(", "));
        let condition = if matches!(attribute, AttributeName::ClientIp(_)) {
            let networks: Vec<_> = globs.iter().map(|network| self.network(network)).collect();
            let networks = networks.into_iter().collect::<Option<Box<[_]>>>()?;
            if not { Condition::NotIn(networks) } else { Condition::In(networks) }
        } else {
            let globs: Vec<_> = globs.iter().map(|glob| self.glob(&attribute, glob)).collect();
            let globs = globs.into_iter().collect::<Option<Box<[_]>>>()?;
            if not { Condition::NotAny(globs) } else { Condition::Any(globs) }
        };
        Some(Clause { attribute, secret, condition, written: written.into() })
    }

    /// Returns the network of a clause or an override.
    pub(super) fn network(&mut self, text: &At<String>) -> Option<Network> {
        match Network::parse(&text.value) {
            Ok(network) => Some(network),
            Err(NetworkError::Malformed) => {
                let problem = format!("`{}` is no network", shorten(&text.value));
                self.problems.expect(text.place, problem, NETWORK);
                None
            }
            Err(NetworkError::HostBits(network)) => {
                let problem = format!("`{}` has bits behind those of its network", text.value);
                self.problems.expect(text.place, problem, format!("`{network}`"));
                None
            }
        }
    }

    /// Returns the pattern of a glob for values of an attribute.
    pub(super) fn glob(&mut self, attribute: &AttributeName, glob: &At<String>) -> Option<Glob> {
        let text = match attribute {
            AttributeName::Method => glob.value.to_ascii_uppercase(),
            AttributeName::Host => {
                let lower = glob.value.to_ascii_lowercase();
                let form = String::from_utf8_lossy(&host::normalize(lower.as_bytes())).into_owned();
                self.check_form(glob, &lower, &form, "a host has neither port nor trailing dot")?;
                form
            }
            AttributeName::Path => self.path_glob(glob)?,
            _ => glob.value.clone(),
        };
        match Glob::new(&text, attribute.separator()) {
            Ok(glob) => Some(glob),
            Err(error) => {
                let (problem, expected) = error.describe();
                self.problems.expect(glob.place, problem, expected);
                None
            }
        }
    }

    /// Returns a glob for paths after checking that it has the one form of paths: another form
    /// would silently match nothing.
    fn path_glob(&mut self, glob: &At<String>) -> Option<String> {
        if glob.value == "*" {
            self.check_form(glob, "*", "/**", "a path begins with `/`")?;
        }
        // `\*` is a star, which a path may contain; any other `\` is not in the form of paths.
        let plain = glob.value.replace("\\*", "*");
        let case_kept = PathForm { ignore_case: false, ..self.form };
        let form = case_kept.normalize_leniently(plain.as_bytes());
        self.check_form(glob, &plain, &form, "no path has this form")?;
        if self.form.ignore_case {
            let lower = self.form.normalize_leniently(plain.as_bytes());
            // The forms have the same length; only the escapes of stars are written again.
            let mut letters = lower.chars();
            let mut text = String::with_capacity(glob.value.len());
            let mut rest = glob.value.as_str();
            while let Some(letter) = rest.chars().next() {
                if let Some(after) = rest.strip_prefix("\\*") {
                    letters.next();
                    text.push_str("\\*");
                    rest = after;
                } else {
                    text.extend(letters.next());
                    rest = rest.get(letter.len_utf8()..).unwrap_or_default();
                }
            }
            return Some(text);
        }
        Some(glob.value.clone())
    }

    fn check_form(&mut self, glob: &At<String>, text: &str, form: &str, rule: &str) -> Option<()> {
        if text == form {
            return Some(());
        }
        let problem = format!("`{}` never matches: {rule}", shorten(&glob.value));
        self.problems.expect(glob.place, problem, format!("`{}`", shorten(form)));
        None
    }
}
