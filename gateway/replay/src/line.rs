//! One line of a log, in any of the forms.

use crate::record::{NoRequest, Record};
use crate::{combined, json_line};

/// Reads a line of the combined log format, or a line that is a JSON object.
pub(crate) fn read(line: &str) -> Result<Record, NoRequest> {
    if line.starts_with('{') { json_line::read(line) } else { Ok(combined::read(line)?) }
}
