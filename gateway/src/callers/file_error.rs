//! Errors in files of keys.

/// Returns the error of a file on one line. The text of a value is not repeated: it could be a key
/// in the wrong place.
pub(super) fn file_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("invalid ") {
        format!("a value of the wrong type at line {} column {}", error.line(), error.column())
    } else {
        text
    }
}
