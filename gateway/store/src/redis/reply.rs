//! Replies of Redis (RESP3) in the bytes of a connection.
//!
//! Nearly all replies are arrays of integers, which are read here: the client library clears eight
//! KiB for each reply that it reads. The library reads all others, once their end is known.

use redis::{RedisResult, Value};

/// The error of bytes that are no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// The levels of arrays that are read here. `RATELIMIT.MULTI` answers with an array of arrays.
const LEVELS: u8 = 2;

/// A value with the fewest bytes.
const SHORTEST: &[u8] = b":0\r\n";

/// Finds the ends of replies. Continues where it stopped, so that a long reply is scanned once.
#[derive(Debug, Default)]
pub(super) struct ReplyScanner {
    /// The bytes of the reply that are scanned.
    scanned: usize,
    /// The values of the reply that begin after these bytes; `None` before the first byte.
    values_left: Option<u64>,
}

impl ReplyScanner {
    /// Returns the length of the reply at the beginning of `bytes`, or `None` until it is whole.
    /// `bytes` begin with those of the last call, if that returned `None`.
    ///
    /// # Errors
    ///
    /// When the bytes are no reply.
    pub(super) fn length(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        loop {
            match self.values_left {
                Some(0) => {
                    let length = self.scanned;
                    *self = Self::default();
                    return Ok(Some(length));
                }
                left => {
                    let Some(rest) = bytes.get(self.scanned..) else { return Err(Malformed) };
                    let Some(value) = FirstLine::read(rest)? else { return Ok(None) };
                    if rest.len() < value.length {
                        return Ok(None);
                    }
                    let left = left.unwrap_or(1) - 1;
                    self.values_left = Some(left.checked_add(value.inside).ok_or(Malformed)?);
                    self.scanned += value.length;
                }
            }
        }
    }
}

/// The first line of a value, or the whole value if there are no values inside.
struct FirstLine {
    length: usize,
    /// The number of values inside.
    inside: u64,
}

impl FirstLine {
    /// Returns `None` until the line is whole.
    fn read(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let line = bytes[..end].strip_suffix(b"\r").ok_or(Malformed)?;
        let (kind, rest) = line.split_first().ok_or(Malformed)?;
        let length = end + 1;
        let count = || -> Result<u64, Malformed> {
            match integer(rest).ok_or(Malformed)? {
                // A missing value.
                -1 => Ok(0),
                count => u64::try_from(count).map_err(|_| Malformed),
            }
        };
        let line = |inside| Ok(Some(Self { length, inside }));
        match kind {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => line(0),
            b'*' | b'~' | b'>' => line(count()?),
            b'%' => line(count()?.checked_mul(2).ok_or(Malformed)?),
            // Attributes come before the value that they describe.
            b'|' => line(count()?.checked_mul(2).and_then(|n| n.checked_add(1)).ok_or(Malformed)?),
            b'$' | b'=' | b'!' if rest == b"-1" => line(0),
            b'$' | b'=' | b'!' => {
                let text = usize::try_from(count()?).map_err(|_| Malformed)?;
                let length = length.checked_add(text).and_then(|sum| sum.checked_add(2));
                Ok(Some(Self { length: length.ok_or(Malformed)?, inside: 0 }))
            }
            _ => Err(Malformed),
        }
    }
}

/// Returns the value of a whole reply. An error of the server is a value.
pub(super) fn value(reply: &[u8]) -> RedisResult<Value> {
    match integers(reply) {
        Some(integers) => Ok(integers),
        None => redis::parse_redis_value(reply),
    }
}

/// Returns arrays of integers, in `LEVELS` levels at most, or `None` for any other reply.
fn integers(reply: &[u8]) -> Option<Value> {
    match array(reply, LEVELS)? {
        (value, []) => Some(value),
        _ => None,
    }
}

/// Reads an array of integers and arrays, and returns it with the bytes behind it.
fn array(bytes: &[u8], levels: u8) -> Option<(Value, &[u8])> {
    let levels = levels.checked_sub(1)?;
    let (count, mut rest) = integer_line(bytes.strip_prefix(b"*")?)?;
    let count = usize::try_from(count).ok()?;
    // Bytes that claim more values than they hold must not take memory for these.
    if count > rest.len() / SHORTEST.len() {
        return None;
    }
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        let value = match rest.strip_prefix(b":") {
            Some(line) => {
                let (value, behind) = integer_line(line)?;
                rest = behind;
                Value::Int(value)
            }
            None => {
                let (value, behind) = array(rest, levels)?;
                rest = behind;
                value
            }
        };
        values.push(value);
    }
    Some((Value::Array(values), rest))
}

/// Reads an integer and the end of its line, and returns it with the bytes behind them.
fn integer_line(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\r')?;
    let (digits, behind) = bytes.split_at(end);
    Some((integer(digits)?, behind.strip_prefix(b"\r\n")?))
}

/// Reads an integer of at most 18 digits, which fit into 64 bits.
fn integer(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    Some(sign * value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redis::Value;

    use super::{Malformed, ReplyScanner, value};

    /// Replies of every type.
    const REPLIES: [&str; 23] = [
        "*5\r\n:1\r\n:100\r\n:99\r\n:0\r\n:600\r\n",
        "*3\r\n:1\r\n*2\r\n:100\r\n:99\r\n*2\r\n:7\r\n:-1\r\n",
        "*2\r\n*1\r\n*1\r\n:1\r\n:2\r\n",
        "*2\r\n*0\r\n+OK\r\n",
        "*5\r\n:0\r\n:100\r\n:-1\r\n:9007199254740991\r\n:9223372036854775807\r\n",
        "*10\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n:6\r\n:7\r\n:8\r\n:9\r\n:10\r\n",
        "+OK\r\n",
        "-ERR limit must be an integer\r\n",
        "-MOVED 1 127.0.0.1:7000\r\n",
        ":7\r\n",
        "_\r\n",
        "#t\r\n",
        ",1.5\r\n",
        "(3492890328409238509324850943850943825024385\r\n",
        "$5\r\nline\n\r\n",
        "$0\r\n\r\n",
        "$-1\r\n",
        "*-1\r\n",
        "*0\r\n",
        "*2\r\n*1\r\n:1\r\n$1\r\nx\r\n",
        "%1\r\n+name\r\n~1\r\n:1\r\n",
        "|1\r\n+ttl\r\n:1\r\n*1\r\n:2\r\n",
        ">2\r\n+invalidate\r\n*1\r\n+key\r\n",
    ];

    /// The bytes that have a meaning in replies, and one that has none.
    const BYTES: [u8; 32] = *b"\r\n\r\n\r\n\r\n*$:+-_#,(~>%|=!?0112390x";

    proptest! {
        #[test]
        fn replies_in_any_pieces_have_their_length_and_value(
            order in proptest::collection::vec(0..REPLIES.len(), 1..8),
            piece in 1..40_usize,
        ) {
            let bytes: Vec<u8> = order.iter().flat_map(|index| REPLIES[*index].bytes()).collect();
            let (mut scanner, mut begin, mut end) = (ReplyScanner::default(), 0, 0);
            let mut found = vec![];
            while begin < bytes.len() {
                end = (end + piece).min(bytes.len());
                while let Some(length) = scanner.length(&bytes[begin..end]).unwrap() {
                    found.push(&bytes[begin..begin + length]);
                    begin += length;
                }
            }
            let expected: Vec<_> = order.iter().map(|index| REPLIES[*index].as_bytes()).collect();
            prop_assert_eq!(&found, &expected);
            for reply in found {
                prop_assert_eq!(value(reply).unwrap(), redis::parse_redis_value(reply).unwrap());
            }
        }

        #[test]
        fn any_bytes_are_a_reply_or_malformed(
            bytes in proptest::collection::vec(proptest::sample::select(&BYTES[..]), 0..64),
        ) {
            if let Ok(Some(length)) = ReplyScanner::default().length(&bytes) {
                prop_assert!(length <= bytes.len());
                let _ = value(&bytes[..length]);
            }
        }
    }

    #[test]
    fn bytes_that_are_no_reply_are_malformed() {
        for text in [
            "HTTP/1.1 400 Bad Request\r\n",
            "\r\n",
            ":1\n",
            "*x\r\n",
            "*-2\r\n",
            "$?\r\n",
            "%9223372036854775807\r\n",
            "$9223372036854775807\r\n",
        ] {
            assert_eq!(ReplyScanner::default().length(text.as_bytes()), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn an_error_of_the_server_is_a_value() {
        assert!(matches!(value(b"-WRONGTYPE x\r\n"), Ok(Value::ServerError(_))));
    }
}
