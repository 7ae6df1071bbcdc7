//! The command `hash`: prints the digest that stands for a secret value in keys and in overrides.

use std::io::Read;

use policies::digest::HashKey;

use crate::startup_error::StartupError;

/// The setting of the key, for messages.
const SETTING: &str = "IDENTITY_HASH_KEY";

/// Maximum size of a value, far above that of any header.
const MAX_VALUE_BYTES: u64 = 1024 * 1024;

/// Returns the digest of the value that is the whole input, except for the end of its only line.
///
/// # Errors
///
/// Without a key of digests, and for an input that is no value.
pub fn run(input: impl Read, hash_key: Option<&HashKey>) -> Result<String, StartupError> {
    let Some(key) = hash_key else {
        return Err(StartupError::about(SETTING, "required by hash: it is the key of the digest"));
    };
    let mut value = Vec::new();
    let read = input.take(MAX_VALUE_BYTES + 1).read_to_end(&mut value);
    read.map_err(|error| StartupError::about("hash", error))?;
    let line = value.strip_suffix(b"\n").unwrap_or(&value);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let rule = match line {
        [] => "the input is empty, and must be the value of an attribute".to_owned(),
        _ if value.len() as u64 > MAX_VALUE_BYTES => {
            format!("the input must have at most {MAX_VALUE_BYTES} bytes")
        }
        // Each value has a digest of its own, so that a list would have one that matches nothing.
        _ if line.contains(&b'\n') => "the input must be one line, which is the value".to_owned(),
        _ => return Ok(format!("{}\n", key.digest(line))),
    };
    Err(StartupError::about("hash", rule))
}

#[cfg(test)]
mod tests {
    use policies::digest::HashKey;

    use super::{MAX_VALUE_BYTES, run};

    fn digest(value: &[u8]) -> Result<String, String> {
        let key = HashKey::new(b"Jefe");
        run(value, key.as_ref()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_end_of_the_line_is_no_part_of_the_value() {
        // RFC 4231, test case 2.
        let value = "what do ya want for nothing?";
        for end in ["", "\n", "\r\n"] {
            let digest = digest(format!("{value}{end}").as_bytes());
            assert_eq!(digest.as_deref(), Ok("sha256:5bdcc146bf60754e6a042426089575c7\n"));
        }
        assert_ne!(digest(b" a"), digest(b"a"));
        assert!(digest(b"\xff").is_ok());
    }

    #[test]
    fn an_input_that_is_no_value_is_an_error() {
        for input in ["", "\n", "\r\n"] {
            let error = digest(input.as_bytes()).unwrap_err();
            assert_eq!(error, "hash: the input is empty, and must be the value of an attribute");
        }
        assert!(digest(b"a\nb\n").unwrap_err().contains("one line"));
        let long = vec![b'a'; MAX_VALUE_BYTES as usize + 1];
        assert!(digest(&long).unwrap_err().contains("at most 1048576 bytes"));
        let error = run(&b"a"[..], None).unwrap_err().to_string();
        assert!(error.starts_with("IDENTITY_HASH_KEY: required by hash"), "{error}");
    }
}
