//! Problems and warnings of a file, each with its line and column.

use std::fmt;

/// The number of problems after which reading stops, so that a broken file costs little.
pub(crate) const MAX_PROBLEMS: usize = 100;

/// A position in the file. Lines and columns start at 1; a column counts characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// One fault of a file, or one remark about a file without faults.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The position of the fault.
    pub place: Place,
    /// The fault.
    pub problem: String,
    /// The form that is accepted in this position, where it is not obvious from the fault.
    pub expected: Option<String>,
    /// The known word that is nearest to the word in the file.
    pub nearest: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)?;
        if let Some(expected) = &self.expected {
            write!(f, "; expected {expected}")?;
        }
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean `{nearest}`?")?;
        }
        Ok(())
    }
}

/// The faults of a file that cannot be used, in the order of their positions; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    problems: Vec<Problem>,
}

impl FileError {
    /// Returns the error for a file that could not be used although no fault was found: an error of
    /// this program, which must not pass for a valid file.
    pub(crate) fn unexplained() -> Self {
        let place = Place { line: 1, column: 1 };
        let problem = "internal error: the file was refused without a reason".to_owned();
        Self { problems: vec![Problem { place, problem, expected: None, nearest: None }] }
    }

    /// Returns the faults in the order of their positions.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for FileError {}

/// The list to which reading and validation add problems and warnings.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    found: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Problems {
    /// Adds a fault.
    pub(crate) fn add(&mut self, place: Place, problem: impl Into<String>) {
        self.push(Problem { place, problem: problem.into(), expected: None, nearest: None });
    }

    /// Adds a fault with the form that is accepted.
    pub(crate) fn expect(
        &mut self,
        place: Place,
        problem: impl Into<String>,
        expected: impl Into<String>,
    ) {
        let expected = Some(expected.into());
        self.push(Problem { place, problem: problem.into(), expected, nearest: None });
    }

    /// Adds a fault with the known word that is near, or without one with the form that is accepted.
    pub(crate) fn expect_or_nearest(
        &mut self,
        place: Place,
        problem: String,
        expected: String,
        nearest: Option<String>,
    ) {
        let expected = nearest.is_none().then_some(expected);
        self.push(Problem { place, problem, expected, nearest });
    }

    /// Adds the fault that `word` is not one of `known`.
    pub(crate) fn unknown<'k>(
        &mut self,
        place: Place,
        kind: &str,
        word: &str,
        known: impl Iterator<Item = &'k str> + Clone,
    ) {
        let nearest = nearest(word, known.clone());
        // A list of all words helps only where no word is near and the words are few.
        let few = known.clone().take(24).count() < 24;
        let expected = (nearest.is_none() && few).then(|| {
            let words: Vec<_> = known.map(|word| format!("`{word}`")).collect();
            format!("one of {}", words.join(", "))
        });
        let problem = format!("unknown {kind} `{}`", shorten(word));
        self.push(Problem { place, problem, expected, nearest });
    }

    /// Adds a warning.
    pub(crate) fn warn(&mut self, place: Place, problem: impl Into<String>) {
        let problem = Problem { place, problem: problem.into(), expected: None, nearest: None };
        self.warnings.push(problem);
    }

    fn push(&mut self, problem: Problem) {
        if self.found.len() < MAX_PROBLEMS {
            self.found.push(problem);
        }
    }

    /// Returns whether reading has found enough problems to stop.
    pub(crate) fn full(&self) -> bool {
        self.found.len() >= MAX_PROBLEMS
    }

    /// Returns whether a fault was found.
    pub(crate) fn any(&self) -> bool {
        !self.found.is_empty()
    }

    /// Returns the warnings of a file without faults, or the faults.
    pub(crate) fn finish(mut self) -> Result<Vec<Problem>, FileError> {
        self.found.sort();
        self.warnings.sort();
        if self.found.is_empty() {
            Ok(self.warnings)
        } else {
            Err(FileError { problems: self.found })
        }
    }
}

/// Returns the word of `known` that is nearest to `word`, if one is near.
pub(crate) fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<String> {
    let word = word.to_lowercase();
    if word.len() > 64 {
        return None;
    }
    let allowed = 1 + word.chars().count() / 4;
    known
        .take(1_000)
        .map(|candidate| (strsim::osa_distance(&word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// Returns `text` on one line and at most 80 characters long, for a message.
pub(crate) fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(80).flat_map(printable).collect();
    if text.chars().nth(80).is_some() {
        short.push('…');
    }
    short
}

fn printable(letter: char) -> impl Iterator<Item = char> {
    let escaped = letter.is_control().then(|| letter.escape_default());
    let plain = escaped.is_none().then_some(letter);
    escaped.into_iter().flatten().chain(plain)
}
