//! Why Redis gave no decision, and what its operator can do about it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redis::{ErrorKind, RedisError};

use super::{Argument, StoreError, redis::UNREACHABLE_ADVICE};
use crate::{
    metrics::count_redis_error,
    recurrence::{Recurrence, Sums},
};

/// A reason that is not the caller's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outage {
    Disconnected,
    TimedOut,
    Overloaded,
    GatewayLate,
    Loading,
    Busy,
    ModuleMissing,
    NotAllowed,
    OutOfMemory,
    SavingFails,
    TooFewReplicas,
    ReadOnly,
    PrimaryDown,
    PartOfCluster,
    ClusterDown,
    SlotMoving,
    WrongType,
    Unexpected,
}

/// One for each kind of outage: with thousands of calls in a second, an outage is one line.
static RECURRENCES: [Mutex<Recurrence>; Outage::ALL.len()] =
    [const { Mutex::new(Recurrence::new()) }; Outage::ALL.len()];

/// The last failure, and its time.
static LAST: Mutex<Option<(Outage, Instant)>> = Mutex::new(None);

/// The time for which a call that finds no connection does not replace the last failure: the attempt
/// to connect has failed for a reason that says more, and attempts follow each other in less.
const ATTEMPT_PERIOD: Duration = Duration::from_secs(1);

/// A failure of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastFailure {
    /// Its name in logs and metrics.
    pub kind: &'static str,
    /// The time since then.
    pub age: Duration,
}

/// Returns the last failure since the start of the process, also when it is over.
pub(super) fn last_failure() -> Option<LastFailure> {
    let (outage, time) = (*last())?;
    Some(LastFailure { kind: outage.kind(), age: time.elapsed() })
}

/// Makes the failure of an attempt to connect the last one.
pub(super) fn remember_attempt(error: &RedisError) {
    Outage::from_error(error, error.detail().unwrap_or_default()).remember(Instant::now());
}

fn last() -> MutexGuard<'static, Option<(Outage, Instant)>> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub(super) const ALL: [Self; 18] = [
        Self::Disconnected,
        Self::TimedOut,
        Self::Overloaded,
        Self::GatewayLate,
        Self::Loading,
        Self::Busy,
        Self::ModuleMissing,
        Self::NotAllowed,
        Self::OutOfMemory,
        Self::SavingFails,
        Self::TooFewReplicas,
        Self::ReadOnly,
        Self::PrimaryDown,
        Self::PartOfCluster,
        Self::ClusterDown,
        Self::SlotMoving,
        Self::WrongType,
        Self::Unexpected,
    ];

    pub(super) fn from_error(error: &RedisError, detail: &str) -> Self {
        if error.is_timeout() {
            return Self::TimedOut;
        }
        match error.code() {
            Some("ERR") if detail.starts_with("unknown command") => Self::ModuleMissing,
            Some("LOADING") => Self::Loading,
            Some("BUSY") => Self::Busy,
            Some("NOAUTH" | "NOPERM" | "WRONGPASS") => Self::NotAllowed,
            Some("OOM") => Self::OutOfMemory,
            Some("MISCONF") => Self::SavingFails,
            Some("NOREPLICAS") => Self::TooFewReplicas,
            Some("READONLY") => Self::ReadOnly,
            Some("MASTERDOWN") => Self::PrimaryDown,
            // In a cluster these are followed, and do not get here.
            Some("MOVED" | "ASK") => Self::PartOfCluster,
            Some("CLUSTERDOWN") => Self::ClusterDown,
            Some("TRYAGAIN") => Self::SlotMoving,
            Some("WRONGTYPE") => Self::WrongType,
            None if error.is_io_error() => Self::Disconnected,
            _ if error.kind() == ErrorKind::AuthenticationFailed => Self::NotAllowed,
            _ => Self::Unexpected,
        }
    }

    /// Logs and counts the outage, and makes it an error for the caller.
    pub(super) fn report(self) -> StoreError {
        let (kind, advice) = (self.kind(), self.advice());
        match self {
            // The breaker has said so already, once for all requests that find it open.
            Self::Disconnected => tracing::debug!(kind, advice, "no decision from Redis"),
            _ => {
                if let Some(Sums { count, seconds }) = self.note() {
                    tracing::error!(kind, advice, calls = count, seconds, "no decision from Redis");
                }
            }
        }
        count_redis_error(kind);
        self.remember(Instant::now());
        if matches!(self, Self::Overloaded | Self::GatewayLate) {
            return StoreError::Overloaded;
        }
        StoreError::Unavailable { connected: self.is_answer() }
    }

    /// Counts the outage, and returns the sums if it is to be logged now.
    fn note(self) -> Option<Sums> {
        let recurrence = RECURRENCES.get(self as usize)?;
        recurrence.lock().unwrap_or_else(PoisonError::into_inner).note_unending(Instant::now())
    }

    fn remember(self, now: Instant) {
        let mut last = last();
        let says_more = |(outage, time): (Self, Instant)| {
            outage != Self::Disconnected && now.duration_since(time) < ATTEMPT_PERIOD
        };
        if self != Self::Disconnected || !last.is_some_and(says_more) {
            *last = Some((self, now));
        }
    }

    /// The name in logs and metrics.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::TimedOut => "timeout",
            Self::Overloaded => "overloaded",
            Self::GatewayLate => "gateway_late",
            Self::Loading => "loading",
            Self::Busy => "busy",
            Self::ModuleMissing => "module_missing",
            Self::NotAllowed => "not_allowed",
            Self::OutOfMemory => "out_of_memory",
            Self::SavingFails => "saving_fails",
            Self::TooFewReplicas => "too_few_replicas",
            Self::ReadOnly => "read_only",
            Self::PrimaryDown => "primary_down",
            Self::PartOfCluster => "part_of_cluster",
            Self::ClusterDown => "cluster_down",
            Self::SlotMoving => "slot_moving",
            Self::WrongType => "wrong_type",
            Self::Unexpected => "unexpected",
        }
    }

    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Disconnected => UNREACHABLE_ADVICE,
            Self::TimedOut => "look for slow commands in Redis, or raise REDIS_TIMEOUT_MS",
            Self::Overloaded => {
                "too many calls wait for Redis: find out why it is slow, or raise REDIS_MAX_BACKLOG"
            }
            Self::GatewayLate => {
                "this process had no time to read what Redis answers: give it more processor time, \
                 or run more instances"
            }
            Self::Loading => "Redis is reading its data from disk: wait until it is done",
            Self::Busy => "a script keeps Redis busy: wait for it, or end it with SCRIPT KILL",
            Self::ModuleMissing => "load the ratelimit module into Redis",
            Self::NotAllowed => "give the Redis user the RATELIMIT commands and access to the keys",
            Self::OutOfMemory => "Redis is at maxmemory: raise it, or have it evict keys",
            Self::SavingFails => {
                "Redis cannot write its data to disk: see its log, and whether the disk is full"
            }
            Self::TooFewReplicas => {
                "Redis has fewer replicas in step than min-replicas-to-write: bring them back"
            }
            Self::ReadOnly => {
                "this Redis is a replica: let the REDIS_ settings lead to its primary"
            }
            Self::PrimaryDown => "this Redis is a replica that has lost its primary: bring it back",
            Self::PartOfCluster => {
                "this Redis is part of a cluster: set REDIS_URL to redis+cluster://HOST:PORT"
            }
            Self::ClusterDown => {
                "a part of the cluster has no primary: see CLUSTER NODES, and bring it back"
            }
            Self::SlotMoving => {
                "keys are being moved within the cluster: if this lasts, see \
                                 CLUSTER NODES for slots that are left half moved"
            }
            Self::WrongType => "another program uses this key: set KEY_PREFIX to keep them apart",
            Self::Unexpected => "see the error itself at LOG_LEVEL=DEBUG",
        }
    }

    /// Whether it was Redis itself that said so.
    fn is_answer(self) -> bool {
        !matches!(self, Self::Disconnected | Self::TimedOut | Self::Overloaded | Self::GatewayLate)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

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
            ("BUSY Redis is busy running a script.", Outage::Busy),
            ("MISCONF Redis is configured to save RDB snapshots", Outage::SavingFails),
            ("NOREPLICAS Not enough good replicas to write.", Outage::TooFewReplicas),
            ("MASTERDOWN Link with MASTER is down", Outage::PrimaryDown),
            ("MOVED 3999 127.0.0.1:6381", Outage::PartOfCluster),
            ("ASK 3999 127.0.0.1:6381", Outage::PartOfCluster),
            ("CLUSTERDOWN The cluster is down", Outage::ClusterDown),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Outage::SlotMoving),
            ("WRONGPASS invalid username-password pair", Outage::NotAllowed),
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
    fn outages_are_listed_at_the_places_of_their_recurrences() {
        for (place, outage) in Outage::ALL.into_iter().enumerate() {
            assert_eq!(outage as usize, place);
        }
        assert_eq!(Outage::ALL.last(), Some(&Outage::Unexpected));
    }

    #[test]
    fn a_silent_redis_is_not_connected() {
        for kind in [std::io::ErrorKind::TimedOut, std::io::ErrorKind::ConnectionReset] {
            let error = RedisError::from(std::io::Error::from(kind));
            assert_eq!(explain(&error), StoreError::Unavailable { connected: false });
        }
    }

    #[test]
    fn the_page_on_troubleshooting_has_every_kind_and_its_advice() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/troubleshooting.md");
        let page = fs::read_to_string(path).unwrap();
        for outage in Outage::ALL {
            let row = format!("| `{}` | {} |", outage.kind(), outage.advice());
            assert!(page.contains(&row), "{row}");
        }
    }
}
