//! The version of the policies in force, and the error of a version that is not.

use std::{sync::Arc, time::SystemTime};

use policies::Policies;

use super::load::LoadError;

/// The version in force, and the latest error.
#[derive(Debug, Clone)]
pub(crate) struct FileState {
    /// The policies in force.
    pub(crate) policies: Arc<Policies>,
    /// The time at which they were loaded.
    pub(crate) loaded_at: SystemTime,
    /// The error of the present content of the file, or of the version in force.
    pub(crate) fault: Option<Fault>,
}

/// An error of the file.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// The time at which the file was read.
    pub(crate) at: SystemTime,
    /// The error.
    pub(crate) error: Arc<LoadError>,
    /// True if the version in force has the error: Redis refuses limits that it accepted before.
    pub(crate) is_in_force: bool,
}

impl FileState {
    /// Returns the state after a load.
    pub(super) fn loaded(policies: Policies) -> Self {
        Self { policies: Arc::new(policies), loaded_at: SystemTime::now(), fault: None }
    }
}

impl Fault {
    /// Returns an error that was found now in a content that is not in force.
    pub(super) fn now(error: LoadError) -> Self {
        Self { at: SystemTime::now(), error: Arc::new(error), is_in_force: false }
    }
}
