//! Which server of a cluster has which keys.

use std::fmt;

use redis::{FromRedisValue, RedisError, Value};

/// Slots of every cluster.
pub(super) const COUNT: usize = 16_384;

/// Where a server of a cluster is.
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

/// A part of the slots, and who has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) primary: Address,
}

/// The slot of a key: that of what is between its first braces, if there is anything.
pub(super) fn slot(key: &[u8]) -> usize {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let length = rest.iter().position(|byte| *byte == b'}').filter(|length| *length > 0)?;
        rest.get(..length)
    });
    usize::from(crc16::State::<crc16::XMODEM>::calculate(tag.unwrap_or(key))) % COUNT
}

/// The shares in the answer to `CLUSTER SLOTS` of the server at `asked`. Shares whose primary
/// does not say where it is are left out.
pub(super) fn shares(answer: Value, asked: &Address) -> Result<Vec<Share>, RedisError> {
    let shares = Vec::<Vec<Value>>::from_redis_value(answer)?;
    Ok(shares.into_iter().filter_map(|share| self::share(share, asked)).collect())
}

fn share(share: Vec<Value>, asked: &Address) -> Option<Share> {
    let mut parts = share.into_iter();
    let mut number = || usize::from_redis_value(parts.next()?).ok().filter(|slot| *slot < COUNT);
    let (first, last) = (number()?, number()?);
    let mut primary = Vec::<Value>::from_redis_value(parts.next()?).ok()?.into_iter();
    let host = Option::<String>::from_redis_value(primary.next()?).ok()?;
    let port = u16::from_redis_value(primary.next()?).ok()?;
    let host = match host.as_deref() {
        // It does not know its own address, or does not tell: it is the one that was reached.
        None | Some("") => asked.host.clone(),
        Some("?") => return None,
        Some(host) => host.to_owned(),
    };
    Some(Share { first, last, primary: Address { host, port } })
}

/// An answer that says that another server has the slot of a key. The command was not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redirection {
    pub(super) to: Address,
    /// Whether this holds for one command only, which must follow ASKING.
    pub(super) asking: bool,
}

/// Where an answer of the server at `asked` sends its command.
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

    use super::{Address, Redirection, Share, redirection, shares, slot};

    fn address(host: &str, port: u16) -> Address {
        Address { host: host.to_owned(), port }
    }

    fn value(text: &str) -> Value {
        parse_redis_value(text.replace(' ', "\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn keys_have_the_slots_that_redis_says() {
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
    fn shares_are_read_with_and_without_hosts() {
        let node = |host: &str, port| format!("*3 {host} :{port} $1 x ");
        let share = |first, last, node: &str| format!("*3 :{first} :{last} {node}");
        let known = share(0, 99, &node("$9 127.0.0.1", 7000));
        let nameless = share(100, 199, &node("$-1", 7001));
        let unknown = share(200, 299, &node("$1 ?", 7002));
        let beyond = share(300, 16384, &node("$1 a", 7003));
        let answer = value(&format!("*4 {known}{nameless}{unknown}{beyond}"));
        let asked = address("there", 1);
        let expected = [
            Share { first: 0, last: 99, primary: address("127.0.0.1", 7000) },
            Share { first: 100, last: 199, primary: address("there", 7001) },
        ];
        assert_eq!(shares(answer, &asked).unwrap(), expected);
        assert!(shares(value(":1 "), &asked).is_err());
    }

    #[test]
    fn redirections_are_read_and_other_errors_are_none() {
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
