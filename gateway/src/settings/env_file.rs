//! The file `.env`.
//!
//! The grammar is that of python-dotenv, for which files of the original service were written. The
//! crate dotenvy replaces `$NAME` in values, and treats a backslash outside of quotes as an escape, so
//! that a password can change silently. Its errors do not name the line.
//!
//! ```text
//! # a comment
//! [export] NAME=value # a comment, after a space
//! NAME='value with # and \' over
//! several lines'
//! NAME="value with \n for a new line"
//! ```

use std::{collections::HashMap, fs, io, path::Path};

use strsim::damerau_levenshtein;

use super::table::table;
use crate::startup_error::StartupError;

const PATH: &str = ".env";

/// Prefixes of names that libraries read from the environment. This file does not set the environment.
const ENVIRONMENT_ONLY: [&str; 2] = ["OTEL_", "SSL_CERT_"];

/// Maximum size of a name that resembles a setting only if it differs in one character.
const MAX_SHORT_NAME_BYTES: usize = 7;

/// The number of a line, from 1, and the rule that the line breaks. The rule does not repeat the
/// line, which can hold a password.
type LineError = (usize, String);

/// A name and its value.
type Pair = (String, String);

/// A name with a value, and the line on which it begins.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    line: usize,
    name: String,
    value: String,
}

/// Reads the file in the working directory, if there is one. Of a repeated name, the last value counts.
pub(super) fn read() -> Result<HashMap<String, String>, StartupError> {
    let content = content(Path::new(PATH)).map_err(|error| StartupError::about(PATH, error))?;
    values(&content)
        .map_err(|(line, rule)| StartupError::about(PATH, format!("line {line}: {rule}")))
}

/// Returns nothing for a file that does not exist. A link to a file that does not exist is an error:
/// the settings in that file are wanted.
fn content(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err() =>
        {
            Ok(vec![])
        }
        read => read,
    }
}

fn values(content: &[u8]) -> Result<HashMap<String, String>, LineError> {
    let entries = parse(content)?;
    for Entry { line, name, .. } in &entries {
        check_name(name).map_err(|rule| (*line, rule))?;
    }
    Ok(entries.into_iter().map(|Entry { name, value, .. }| (name, value)).collect())
}

fn parse(content: &[u8]) -> Result<Vec<Entry>, LineError> {
    let text = str::from_utf8(content).map_err(|error| {
        let valid = content.get(..error.valid_up_to()).unwrap_or_default();
        (valid.split(|byte| *byte == b'\n').count(), "a line must be UTF-8".to_owned())
    })?;
    let lines = text.lines().count();
    // Editors on Windows begin a file with a byte order mark.
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut entries = vec![];
    while !rest.is_empty() {
        let line = lines - rest.lines().count() + 1;
        let entry;
        (entry, rest) = read_entry(rest).map_err(|rule| (line, rule.to_owned()))?;
        entries.extend(entry.map(|(name, value)| Entry { line, name, value }));
    }
    Ok(entries)
}

/// Reads the name and the value at the start of `text`, or a line without them. Also returns the rest
/// of the text.
fn read_entry(text: &str) -> Result<(Option<Pair>, &str), &'static str> {
    const RULE: &str = "an entry must be NAME=value";
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    if is_empty(line) {
        return Ok((None, rest));
    }
    let (name, value) = line.split_once('=').ok_or(RULE)?;
    let name = name.trim();
    let exported = name.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t']));
    let name = exported.unwrap_or(name).trim_start();
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(RULE);
    }
    let (value, rest) = match value.trim_start().chars().next() {
        // A value between quotes can have several lines.
        Some(quote @ ('\'' | '"')) => {
            let (_, quoted) = text.split_once(quote).unwrap_or_default();
            read_quoted(quote, quoted)?
        }
        _ => (read_unquoted(value)?, rest),
    };
    Ok((Some((name.to_owned(), value)), rest))
}

/// Reads a value without quotes: without the spaces around it, and without a comment after a space.
fn read_unquoted(text: &str) -> Result<String, &'static str> {
    let before = |index: usize| text.get(..index).unwrap_or_default();
    let mut signs = text.match_indices('#').map(|(index, _)| before(index));
    let value = signs.find(|before| before.ends_with([' ', '\t'])).unwrap_or(text).trim();
    refuse_expansion(value)?;
    Ok(value.to_owned())
}

/// Reads a value up to its closing quote. Also returns the text after its last line.
fn read_quoted(quote: char, text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next().ok_or("a value must end with the quote that it begins with")? {
            end if end == quote => break,
            '\\' => {
                let escaped = characters.next().unwrap_or('\\');
                match unescape(quote, escaped) {
                    Some(character) => value.push(character),
                    None => value.extend(['\\', escaped]),
                }
            }
            character => value.push(character),
        }
    }
    let (end, rest) = characters.as_str().split_once('\n').unwrap_or((characters.as_str(), ""));
    if !is_empty(end) {
        return Err("only a comment may follow the closing quote of a value");
    }
    if quote == '"' {
        refuse_expansion(&value)?;
    }
    Ok((value, rest))
}

/// Returns the meaning of a character after a backslash, if it has one.
fn unescape(quote: char, character: char) -> Option<char> {
    match (quote, character) {
        (_, '\\' | '\'') => Some(character),
        ('"', '"') => Some('"'),
        ('"', 'a') => Some('\u{7}'),
        ('"', 'b') => Some('\u{8}'),
        ('"', 'f') => Some('\u{c}'),
        ('"', 'n') => Some('\n'),
        ('"', 'r') => Some('\r'),
        ('"', 't') => Some('\t'),
        ('"', 'v') => Some('\u{b}'),
        _ => None,
    }
}

/// Refuses `${NAME}`, which other readers of such files replace.
fn refuse_expansion(value: &str) -> Result<(), &'static str> {
    match value.split_once("${") {
        Some((_, rest)) if rest.contains('}') => {
            Err("${NAME} is not replaced: write the value, or '${NAME}' for these characters")
        }
        _ => Ok(()),
    }
}

/// Returns true for a line, or the end of a line, without anything but a comment.
fn is_empty(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// Refuses a name that resembles a setting, or whose value would not be read. Other names are ignored:
/// they belong to other programs that use the same file.
fn check_name(name: &str) -> Result<(), String> {
    let table = table();
    if table.iter().any(|row| row.name == name) {
        return Ok(());
    }
    if ENVIRONMENT_ONLY.iter().any(|beginning| name.starts_with(beginning)) {
        return Err(format!("{name} is read from the environment only"));
    }
    let upper = name.to_uppercase();
    let names = table.iter().map(|row| row.name.as_str());
    let alike = names.filter(|setting| resembles(&upper, setting));
    match alike.min_by_key(|setting| damerau_levenshtein(&upper, setting)) {
        Some(nearest) => Err(format!("{name} is not a setting; the nearest one is {nearest}")),
        None => Ok(()),
    }
}

/// Returns true when one name is a typing error of the other, or its beginning. The beginning must have
/// two words: `PORT` alone begins too many other names.
fn resembles(name: &str, setting: &str) -> bool {
    let errors = if name.len() > MAX_SHORT_NAME_BYTES { 2 } else { 1 };
    let begins = |whole: &str, part: &str| part.contains('_') && whole.starts_with(part);
    begins(name, setting) || begins(setting, name) || damerau_levenshtein(name, setting) <= errors
}

#[cfg(test)]
mod tests {
    use std::{fs, io, os::unix::fs::symlink};

    use super::{ENVIRONMENT_ONLY, Entry, check_name, content, parse, values};
    use crate::settings::table;

    fn value(content: &str) -> String {
        let [Entry { value, .. }] = &parse(content.as_bytes()).unwrap()[..] else {
            panic!("{content:?} is not one entry")
        };
        value.clone()
    }

    #[test]
    fn a_file_that_does_not_exist_is_empty_and_a_link_to_it_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let [file, link] = ["file", "link"].map(|name| directory.path().join(name));
        assert_eq!(content(&file).unwrap(), b"");
        symlink(&file, &link).unwrap();
        assert_eq!(content(&link).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(&file, "PORT=1").unwrap();
        assert_eq!(content(&link).unwrap(), b"PORT=1");
    }

    fn error(content: &[u8]) -> String {
        let (line, rule) = values(content).unwrap_err();
        format!("{line}: {rule}")
    }

    #[test]
    fn a_value_is_read_as_by_the_original_service() {
        for (content, expected) in [
            ("A=b", "b"),
            ("\u{feff}A=b\r\n", "b"),
            (" export\tA = b c \t# d", "b c"),
            ("A=", ""),
            ("A= # b", ""),
            ("A=#b", "#b"),
            ("A=b#c", "b#c"),
            ("A=pa$word$1$", "pa$word$1$"),
            ("A=${", "${"),
            (r"A=a\nb\\", r"a\nb\\"),
            ("A=b=c'd\"", "b=c'd\""),
            ("A='b # c' # d", "b # c"),
            (r#"A='b\'c\\d\n"$e'"#, r#"b'c\d\n"$e"#),
            ("A='${B}'", "${B}"),
            (r#"A="b\"c\\\n\q'$e""#, "b\"c\\\n\\q'$e"),
            ("A='b\nc'", "b\nc"),
            ("# b\n\n  # c\nA=''\n", ""),
        ] {
            assert_eq!(value(content), expected, "{content:?}");
        }
        let entries = values(b"A=1\nB=2\nA=3").unwrap();
        assert_eq!((entries.len(), entries["A"].as_str()), (2, "3"));
    }

    #[test]
    fn an_entry_has_its_line() {
        let entries = parse(b"# a\nB='\n\n'\n\nC=d\r\n\r\nE=\n").unwrap();
        let lines = entries.iter().map(|entry| (entry.line, entry.name.as_str()));
        assert_eq!(lines.collect::<Vec<_>>(), [(2, "B"), (6, "C"), (8, "E")]);
    }

    #[test]
    fn an_error_names_the_line_and_the_rule_and_nothing_else() {
        let unclosed = "a value must end with the quote that it begins with";
        let name = "an entry must be NAME=value";
        let expansion =
            "${NAME} is not replaced: write the value, or '${NAME}' for these characters";
        for (content, expected) in [
            (&b"A=b\nsecret"[..], format!("2: {name}")),
            (b"=secret", format!("1: {name}")),
            (b"export A", format!("1: {name}")),
            (b"a secret=b", format!("1: {name}")),
            (b"A=\n\nB='secret", format!("3: {unclosed}")),
            (b"A=\"secret\nB=c\n", format!("1: {unclosed}")),
            (b"A='secret\\'", format!("1: {unclosed}")),
            (
                b"A='b'secret",
                "1: only a comment may follow the closing quote of a value".to_owned(),
            ),
            (b"A=${secret}", format!("1: {expansion}")),
            (b"A=\"secret${B}\"", format!("1: {expansion}")),
            (b"A=b\nC=\xff", "2: a line must be UTF-8".to_owned()),
            (b"\xff", "1: a line must be UTF-8".to_owned()),
        ] {
            assert_eq!(error(content), expected);
        }
    }

    #[test]
    fn a_name_that_resembles_a_setting_is_refused() {
        for (name, nearest) in [
            ("REDIS_PASSWRD", "REDIS_PASSWORD"),
            ("REIDS_URL", "REDIS_URL"),
            ("REDIS_PASSWORD_FILE", "REDIS_PASSWORD"),
            ("REDIS_USER", "REDIS_USERNAME"),
            ("REDIS_TIMEOUT", "REDIS_TIMEOUT_MS"),
            ("redis_host", "REDIS_HOST"),
            ("JWT_JWKS", "JWT_JWKS_FILE"),
            ("FAILMODE", "FAIL_MODE"),
            ("PROT", "PORT"),
            ("TLS_KEY", "TLS_KEY_FILE"),
        ] {
            let error = format!("{name} is not a setting; the nearest one is {nearest}");
            assert_eq!(check_name(name), Err(error));
        }
        for beginning in ENVIRONMENT_ONLY {
            let name = format!("{beginning}FILE_OR_SO");
            assert_eq!(check_name(&name), Err(format!("{name} is read from the environment only")));
        }
    }

    #[test]
    fn names_of_other_programs_are_ignored() {
        for row in table() {
            assert_eq!(check_name(&row.name), Ok(()));
        }
        // Names of docker-compose.yml, and some names of applications.
        for name in [
            "BIND_ADDRESS",
            "CLUSTER_PORT",
            "GRAFANA_PASSWORD",
            "GRAFANA_PORT",
            "PROMETHEUS_PORT",
            "SENTINEL_PORT",
            "SUBNET",
            "COMPOSE_PROJECT_NAME",
            "DATABASE_URL",
            "DEBUG",
            "HOST_IP",
            "POSTGRES_PASSWORD",
            "SECRET_KEY",
        ] {
            assert_eq!(check_name(name), Ok(()));
        }
    }
}
