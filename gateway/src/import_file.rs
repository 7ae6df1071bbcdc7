//! The command `import`: converts a configuration of another service into policies.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::startup_error::StartupError;

/// The policies of a configuration, and the notes about them.
#[derive(Debug)]
pub struct Imported {
    /// The policies file.
    pub file: String,
    /// The differences, and the parts without an equivalent.
    pub notes: String,
}

/// Returns the policies of a configuration: of a file, or of all YAML files of a directory.
///
/// # Errors
///
/// A file that cannot be read or converted.
pub fn run(path: &Path) -> Result<Imported, StartupError> {
    let about =
        |error: &dyn std::fmt::Display| StartupError::about(&path.display().to_string(), error);
    let files = files(path).map_err(|error| about(&error))?;
    if files.is_empty() {
        return Err(about(&"the directory has no file whose name ends with .yaml or .yml"));
    }
    let import::Conversion { file, notes } =
        import::convert_files(&files).map_err(|e| about(&e))?;
    let notes = notes.iter().map(|note| format!("* {note}\n")).collect();
    Ok(Imported { file, notes })
}

/// Returns the names and the texts of the files, in the order of their names.
fn files(path: &Path) -> io::Result<Vec<(String, String)>> {
    let is_yaml = |path: &PathBuf| {
        path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") && path.is_file()
    };
    let paths = if path.is_dir() {
        let entries = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path()));
        let mut paths = entries.collect::<io::Result<Vec<_>>>()?;
        paths.retain(is_yaml);
        paths.sort();
        paths
    } else {
        vec![path.to_owned()]
    };
    let read = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, fs::read_to_string(path)?))
    };
    paths.iter().map(read).collect()
}
