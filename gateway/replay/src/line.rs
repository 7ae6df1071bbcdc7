//! One line of a log, in any of the forms.

use crate::record::{Malformed, Record};
use crate::{combined, json_line};

/// Reads a line of the combined log format, or a line that is a JSON object.
pub(crate) fn read(line: &str) -> Result<Record, Malformed> {
    if line.starts_with('{') { json_line::read(line) } else { combined::read(line) }
}
