//! Names of policies and limits.

use std::collections::HashSet;

/// The most bytes of a name, with room for a number behind it.
const MAX_BYTES: usize = 56;

/// The names that were given, so that no name is given twice.
#[derive(Debug, Default)]
pub(crate) struct Names(HashSet<String>);

impl Names {
    /// Returns a name made of `text` that was not given before.
    pub(crate) fn give(&mut self, text: &str) -> String {
        let name = name_of(text);
        let mut given = name.clone();
        let mut number = 2_u32;
        while !self.0.insert(given.clone()) {
            given = format!("{name}-{number}");
            number += 1;
        }
        given
    }
}

/// Returns the text in the form of names: lower case, with `-` for other characters.
fn name_of(text: &str) -> String {
    let mut name = String::new();
    for letter in text.chars() {
        let letter = letter.to_ascii_lowercase();
        let fits = letter.is_ascii_alphanumeric() || "_.-".contains(letter);
        if letter == '.' && name.ends_with('-') {
            name.pop();
        }
        // One `-` stands for any number of other characters.
        if fits || !name.ends_with('-') {
            name.push(if fits { letter } else { '-' });
        }
    }
    let trimmed = name.trim_matches(|letter| "_.-".contains(letter));
    // The name is ASCII.
    let short = trimmed.get(..MAX_BYTES).unwrap_or(trimmed);
    if short.is_empty() { "policy".to_owned() } else { short.to_owned() }
}
