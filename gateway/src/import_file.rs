//! The command `import`: converts a configuration of another service into policies.

use std::{fs, path::Path};

use crate::startup_error::StartupError;

/// The policies of a configuration, and the notes about them.
#[derive(Debug)]
pub struct Imported {
    /// The policies file.
    pub file: String,
    /// The differences, and the parts without an equivalent.
    pub notes: String,
}

/// Returns the policies of a configuration.
///
/// # Errors
///
/// A file that cannot be read or converted.
pub fn run(path: &Path) -> Result<Imported, StartupError> {
    let about =
        |error: &dyn std::fmt::Display| StartupError::about(&path.display().to_string(), error);
    let text = fs::read_to_string(path).map_err(|error| about(&error))?;
    let import::Conversion { file, notes } = import::convert(&text).map_err(|e| about(&e))?;
    let notes = notes.iter().map(|note| format!("* {note}\n")).collect();
    Ok(Imported { file, notes })
}
