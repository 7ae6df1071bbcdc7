//! The JSON Schema of a file, generated from the types that are read.

use schemars::{Schema, schema_for};

use crate::document::FileDocument;

/// Returns the JSON Schema (draft 2020-12) of a policies file.
#[must_use]
pub fn schema() -> Schema {
    schema_for!(FileDocument)
}
