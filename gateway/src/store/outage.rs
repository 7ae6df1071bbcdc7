//! Why Redis gave no decision, and what its operator can do about it.

use redis::RedisError;

use super::{Argument, StoreError, redis::LINK_ADVICE};
use crate::telemetry;

/// A reason that is not the caller's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outage {
    Disconnected,
    TimedOut,
    Overloaded,
    Loading,
    ModuleMissing,
    NotAllowed,
    OutOfMemory,
    ReadOnly,
    WrongType,
    Unexpected,
}

/// Sorts an error of the client library: a rule that the caller broke, or an outage.
pub(super) fn explain(error: &RedisError) -> StoreError {
    let detail = error.detail().unwrap_or_default();
    // The server's text can repeat the key, and with it the identifier.
    tracing::debug!(code = error.code(), detail, "Redis error");
    if error.code() == Some("ERR")
        && let Some((name, _)) = detail.split_once(" must be ")
        && let Some(argument) = Argument::from_name(name)
    {
        return StoreError::Refused { argument, rule: detail.to_owned() };
    }
    Outage::from_error(error, detail).report()
}

impl Outage {
    /// Every reason.
    pub(super) const ALL: [Self; 10] = [
        Self::Disconnected,
        Self::TimedOut,
        Self::Overloaded,
        Self::Loading,
        Self::ModuleMissing,
        Self::NotAllowed,
        Self::OutOfMemory,
        Self::ReadOnly,
        Self::WrongType,
        Self::Unexpected,
    ];

    fn from_error(error: &RedisError, detail: &str) -> Self {
        if error.is_timeout() {
            return Self::TimedOut;
        }
        match error.code() {
            Some("ERR") if detail.starts_with("unknown command") => Self::ModuleMissing,
            Some("LOADING") => Self::Loading,
            Some("NOAUTH" | "NOPERM") => Self::NotAllowed,
            Some("OOM") => Self::OutOfMemory,
            Some("READONLY") => Self::ReadOnly,
            Some("WRONGTYPE") => Self::WrongType,
            None if error.is_io_error() => Self::Disconnected,
            _ => Self::Unexpected,
        }
    }

    /// Logs and counts the outage, and makes it an error for the caller.
    pub(super) fn report(self) -> StoreError {
        let (kind, advice) = (self.kind(), self.advice());
        match self {
            // The link has said so already, once for all requests that find it down.
            Self::Disconnected => tracing::debug!(kind, advice, "no decision from Redis"),
            _ => tracing::error!(kind, advice, "no decision from Redis"),
        }
        telemetry::count_redis_error(kind);
        if self == Self::Overloaded {
            return StoreError::Overloaded;
        }
        StoreError::Unavailable { connected: self.is_answer() }
    }

    /// The name in logs and metrics.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::TimedOut => "timeout",
            Self::Overloaded => "overloaded",
            Self::Loading => "loading",
            Self::ModuleMissing => "module_missing",
            Self::NotAllowed => "not_allowed",
            Self::OutOfMemory => "out_of_memory",
            Self::ReadOnly => "read_only",
            Self::WrongType => "wrong_type",
            Self::Unexpected => "unexpected",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Disconnected => LINK_ADVICE,
            Self::TimedOut => "look for slow commands in Redis, or raise REDIS_TIMEOUT_MS",
            Self::Overloaded => "too many calls wait for Redis: find out why it is slow",
            Self::Loading => "Redis is reading its data from disk: wait until it is done",
            Self::ModuleMissing => "load the ratelimit module into Redis",
            Self::NotAllowed => "give the Redis user the RATELIMIT commands and access to the keys",
            Self::OutOfMemory => "Redis is at maxmemory: raise it, or have it evict keys",
            Self::ReadOnly => {
                "this Redis is a replica: let the REDIS_ settings lead to its primary"
            }
            Self::WrongType => "another program uses this key: set KEY_PREFIX to keep them apart",
            Self::Unexpected => "see the error itself at LOG_LEVEL=DEBUG",
        }
    }

    /// Whether it was Redis itself that said so.
    fn is_answer(self) -> bool {
        !matches!(self, Self::Disconnected | Self::TimedOut | Self::Overloaded)
    }
}

#[cfg(test)]
mod tests {
    use redis::{RedisError, parse_redis_value};

    use super::{Argument, Outage, StoreError, explain};

    fn server_error(line: &str) -> RedisError {
        let reply = parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        reply.extract_error().unwrap_err()
    }

    #[test]
    fn a_rule_of_the_module_is_told_to_the_caller() {
        let rule = "limit must be an integer between 1 and 1000000";
        assert_eq!(
            explain(&server_error(&format!("ERR {rule}"))),
            StoreError::Refused { argument: Argument::Limit, rule: rule.to_owned() }
        );
    }

    #[test]
    fn every_other_error_is_an_outage() {
        for (line, outage) in [
            (
                "ERR unknown command 'RATELIMIT.TB', with args beginning with: ",
                Outage::ModuleMissing,
            ),
            ("ERR key must be shorter", Outage::Unexpected),
            ("LOADING Redis is loading the dataset in memory", Outage::Loading),
            ("MISCONF Redis is configured to save RDB snapshots", Outage::Unexpected),
            ("NOAUTH Authentication required.", Outage::NotAllowed),
            ("NOPERM this user has no permissions", Outage::NotAllowed),
            ("OOM command not allowed when used memory > 'maxmemory'.", Outage::OutOfMemory),
            ("READONLY You can't write against a read only replica.", Outage::ReadOnly),
            ("WRONGTYPE Operation against a key", Outage::WrongType),
        ] {
            let error = server_error(line);
            assert_eq!(Outage::from_error(&error, error.detail().unwrap()), outage, "{line}");
            assert_eq!(explain(&error), StoreError::Unavailable { connected: true }, "{line}");
        }
    }

    #[test]
    fn a_silent_redis_is_not_connected() {
        for kind in [std::io::ErrorKind::TimedOut, std::io::ErrorKind::ConnectionReset] {
            let error = RedisError::from(std::io::Error::from(kind));
            assert_eq!(explain(&error), StoreError::Unavailable { connected: false });
        }
    }
}
