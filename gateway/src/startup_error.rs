//! Errors that stop the start of the service.

use std::fmt;

/// The reason why the settings, or the files that they name, cannot be used: one line that names
/// the setting and the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartupError(String);

impl StartupError {
    /// Returns an error of the setting `name`, or of a file that it names.
    #[must_use]
    pub fn about(name: &str, error: impl fmt::Display) -> Self {
        Self(format!("{name}: {error}"))
    }

    /// Adds what to do about the error.
    pub(crate) fn with_advice(self, advice: &str) -> Self {
        Self(format!("{self}; {advice}"))
    }

    /// Returns the error of the setting `name` that does nothing without the setting `needed`.
    pub(crate) fn without_effect(name: &str, needed: &str) -> Self {
        Self::about(name, format!("takes no effect without {needed}"))
    }
}

impl From<clap::Error> for StartupError {
    /// Keeps the reason on one line, and leaves out the usage that clap prints below the reason.
    fn from(error: clap::Error) -> Self {
        let text = error.to_string();
        let reason = text.strip_prefix("error: ").unwrap_or(&text);
        let lines = reason.lines().take_while(|line| !line.is_empty()).map(str::trim);
        Self(lines.collect::<Vec<_>>().join(" "))
    }
}

impl fmt::Display for StartupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartupError {}
