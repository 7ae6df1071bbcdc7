//! Attributes of a file: their names, the secret ones, and identities.

use crate::attribute::{AttributeName, KNOWN_WORDS};
use crate::identity::IdentityPart;
use crate::problem::{Place, shorten};
use crate::read::At;

use super::secrets::is_secret;
use super::{MAX_BY, Validator};

impl Validator<'_> {
    /// Returns the attribute of a name.
    pub(super) fn attribute(&mut self, name: &At<String>) -> Option<AttributeName> {
        match AttributeName::parse(&name.value) {
            Ok(attribute) => {
                if let AttributeName::Word(word) = &attribute {
                    self.warn_near_word(name.place, word);
                }
                self.reads.insert(attribute.clone());
                Some(attribute)
            }
            Err(expected) => {
                let problem = format!("`{}` is no attribute", shorten(&name.value));
                self.problems.expect(name.place, problem, expected);
                None
            }
        }
    }

    /// Warns about a word that is nearly a known word. Any word is an attribute, so a misspelled
    /// word would silently be missing in every request.
    fn warn_near_word(&mut self, place: Place, word: &str) {
        if KNOWN_WORDS.contains(&word) {
            return;
        }
        let lower = word.to_lowercase();
        if let Some(known) =
            KNOWN_WORDS.iter().find(|known| strsim::osa_distance(&lower, known) <= 1)
        {
            let problem = format!("`{word}` is an attribute of its own; did you mean `{known}`?");
            self.problems.warn(place, problem);
        }
    }

    /// Returns whether the value of an attribute is secret, after checking that there is a key.
    pub(super) fn secret(&mut self, place: Place, attribute: &AttributeName) -> bool {
        let secret = is_secret(&self.secrets, attribute);
        if secret && !self.has_hash_key {
            let problem = format!("`{attribute}` is secret");
            self.problems.expect(place, problem, "the setting IDENTITY_HASH_KEY");
        }
        secret
    }

    /// Returns the attribute that names a cost or a plan.
    pub(super) fn read_attribute(&mut self, name: &At<String>) -> Option<AttributeName> {
        let attribute = self.attribute(name)?;
        self.secret(name.place, &attribute);
        Some(attribute)
    }

    /// Returns the parts of an identity.
    pub(super) fn by(&mut self, by: &At<Vec<At<String>>>) -> Vec<IdentityPart> {
        if by.value.len() > MAX_BY {
            let problem = format!("`by` has {} attributes", by.value.len());
            self.problems.expect(by.place, problem, format!("at most {MAX_BY}"));
        }
        let mut parts: Vec<IdentityPart> = Vec::with_capacity(by.value.len());
        for name in by.value.iter().take(MAX_BY) {
            let Some(attribute) = self.attribute(name) else { continue };
            let secret = self.secret(name.place, &attribute);
            if parts.iter().any(|part| part.attribute == attribute) {
                self.problems.add(name.place, format!("`{attribute}` is repeated"));
            }
            parts.push(IdentityPart { attribute, secret });
        }
        parts
    }
}
