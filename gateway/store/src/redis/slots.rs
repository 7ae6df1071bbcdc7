//! The slots of a cluster, and the answers of its nodes about them.

use std::fmt;

use redis::{FromRedisValue, RedisError, Value};

/// The number of slots of every cluster.
pub(super) const COUNT: usize = 16_384;

/// The address of a server of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Consecutive slots, and the primary that has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SlotRange {
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) primary: Address,
}

/// Returns the slot of a key: that of the text between its first braces, unless the text is empty.
pub(super) fn slot(key: &[u8]) -> usize {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let length = rest.iter().position(|byte| *byte == b'}').filter(|length| *length > 0)?;
        rest.get(..length)
    });
    usize::from(crc16::State::<crc16::XMODEM>::calculate(tag.unwrap_or(key))) % COUNT
}

/// Returns the ranges in the answer to `CLUSTER SLOTS` of the server at `asked`. A range whose
/// primary has an unknown address is left out.
pub(super) fn slot_ranges(answer: Value, asked: &Address) -> Result<Vec<SlotRange>, RedisError> {
    let ranges = Vec::<Vec<Value>>::from_redis_value(answer)?;
    Ok(ranges.into_iter().filter_map(|range| slot_range(range, asked)).collect())
}

fn slot_range(range: Vec<Value>, asked: &Address) -> Option<SlotRange> {
    let mut parts = range.into_iter();
    let mut number = || usize::from_redis_value(parts.next()?).ok().filter(|slot| *slot < COUNT);
    let (first, last) = (number()?, number()?);
    let mut primary = Vec::<Value>::from_redis_value(parts.next()?).ok()?.into_iter();
    let host = Option::<String>::from_redis_value(primary.next()?).ok()?;
    let port = u16::from_redis_value(primary.next()?).ok()?;
    let host = match host.as_deref() {
        // The server does not know its own address, so that the range is its own.
        None | Some("") => asked.host.clone(),
        Some("?") => return None,
        Some(host) => host.to_owned(),
    };
    Some(SlotRange { first, last, primary: Address { host, port } })
}

/// The address in an answer of a server that does not have the slot of a key. The server has not
/// run the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redirection {
    pub(super) to: Address,
    /// True if the redirection is for one command only, which must follow ASKING.
    pub(super) asking: bool,
}

/// Returns the redirection in an answer of the server at `asked`.
pub(super) fn redirection(answer: &Value, asked: &Address) -> Option<Redirection> {
    let Value::ServerError(error) = answer else { return None };
    let asking = match error.code() {
        "MOVED" => false,
        "ASK" => true,
        _ => return None,
    };
    let (_, place) = error.details()?.split_once(' ')?;
    let (host, port) = place.rsplit_once(':')?;
    let host = if host.is_empty() { &asked.host } else { host };
    Some(Redirection { to: Address { host: host.to_owned(), port: port.parse().ok()? }, asking })
}

#[cfg(test)]
mod tests {
    use redis::{Value, parse_redis_value};

    use super::{Address, Redirection, SlotRange, redirection, slot, slot_ranges};

    fn address(host: &str, port: u16) -> Address {
        Address { host: host.to_owned(), port }
    }

    fn value(text: &str) -> Value {
        parse_redis_value(text.replace(' ', "\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn keys_have_the_slots_that_redis_computes() {
        // As CLUSTER KEYSLOT answers.
        for (key, expected) in [
            ("", 0),
            ("123456789", 12739),
            ("user", 5474),
            ("token_bucket:{user}", 5474),
            ("{user}{other}", 5474),
            ("a{}user", slot(b"a{}user")),
        ] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
        assert_ne!(slot(b"{}user"), slot(b""));
        assert_ne!(slot(b"x{user"), slot(b"user"));
    }

    #[test]
    fn ranges_are_read_with_and_without_hosts() {
        let node = |host: &str, port| format!("*3 {host} :{port} $1 x ");
        let range = |first, last, node: &str| format!("*3 :{first} :{last} {node}");
        let known = range(0, 99, &node("$9 127.0.0.1", 7000));
        let nameless = range(100, 199, &node("$-1", 7001));
        let unknown = range(200, 299, &node("$1 ?", 7002));
        let beyond = range(300, 16384, &node("$1 a", 7003));
        let answer = value(&format!("*4 {known}{nameless}{unknown}{beyond}"));
        let asked = address("there", 1);
        let expected = [
            SlotRange { first: 0, last: 99, primary: address("127.0.0.1", 7000) },
            SlotRange { first: 100, last: 199, primary: address("there", 7001) },
        ];
        assert_eq!(slot_ranges(answer, &asked).unwrap(), expected);
        assert!(slot_ranges(value(":1 "), &asked).is_err());
    }

    #[test]
    fn redirections_are_read_and_other_errors_are_not() {
        let asked = address("there", 1);
        let error = |line: &str| parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        for (line, to, asking) in [
            ("MOVED 3999 127.0.0.1:6381", address("127.0.0.1", 6381), false),
            ("ASK 3999 ::1:6381", address("::1", 6381), true),
            ("MOVED 3999 :6381", address("there", 6381), false),
        ] {
            assert_eq!(redirection(&error(line), &asked), Some(Redirection { to, asking }));
        }
        for line in ["ERR 3999 127.0.0.1:6381", "MOVED", "MOVED 1 nowhere", "ASK 1 a:99999"] {
            assert_eq!(redirection(&error(line), &asked), None, "{line}");
        }
        assert_eq!(redirection(&Value::Okay, &asked), None);
    }
}
