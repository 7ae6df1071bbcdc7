//! The kinds of errors of Redis, with advice for the operator.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redis::{ErrorKind, RedisError};

use crate::{
    error::{Argument, StoreError},
    log_throttle::{LogThrottle, Sums},
    metrics::count_redis_error,
    redis::advice::UNREACHABLE_ADVICE,
};

/// The reason why Redis made no decision, apart from the arguments of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RedisErrorKind {
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

/// The error of a lease that fits a limit above the number of leases that a key can have.
pub(crate) const TOO_MANY_LEASES: &str =
    "the key has as many leases as the setting ratelimit.leases-max allows";

/// The errors about a reservation that exists with other limits, and about a settlement of others.
pub(crate) const OTHER_LIMITS: &str = "reservation exists with other keys or limits";
pub(crate) const OTHER_KEYS: &str = "keys must be those of the reservation, in the same order";

/// One throttle for each kind: thousands of calls in a second that fail alike are one line.
static THROTTLES: [Mutex<LogThrottle>; RedisErrorKind::ALL.len()] =
    [const { Mutex::new(LogThrottle::new()) }; RedisErrorKind::ALL.len()];

/// The last failure, and its time.
static LAST: Mutex<Option<(RedisErrorKind, Instant)>> = Mutex::new(None);

/// The time for which a call that finds no connection does not replace the last failure. The failed
/// attempt to connect has a more precise reason, and attempts follow each other in less time.
const ATTEMPT_PERIOD: Duration = Duration::from_secs(1);

/// A failure of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastFailure {
    /// The name of its kind in logs and metrics.
    pub kind: &'static str,
    /// The time since the failure.
    pub age: Duration,
}

/// Returns the last failure since the start of the process, also when Redis works again.
pub(crate) fn last_failure() -> Option<LastFailure> {
    let (kind, time) = (*last())?;
    Some(LastFailure { kind: kind.name(), age: time.elapsed() })
}

/// Makes the error of an attempt to connect the last failure.
pub(crate) fn remember_attempt(error: &RedisError) {
    RedisErrorKind::from_error(error).remember(Instant::now());
}

/// Returns the names in logs and metrics of the kinds of errors of Redis.
pub fn error_kinds() -> impl Iterator<Item = &'static str> {
    RedisErrorKind::ALL.into_iter().map(RedisErrorKind::name)
}

/// Reports a pipeline with fewer answers than commands, which the client library rules out.
pub(crate) fn missing_answer() -> StoreError {
    RedisErrorKind::Unexpected.report()
}

fn last() -> MutexGuard<'static, Option<(RedisErrorKind, Instant)>> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Turns an error of the client library into the error for the caller: a rule of the module that an
/// argument breaks, or a failure of Redis, which is logged and counted.
pub(crate) fn explain(error: &RedisError) -> StoreError {
    let detail = error.detail().unwrap_or_default();
    // The text of the server can repeat the key, and with it the identifier.
    tracing::debug!(code = error.code(), detail, "Redis error");
    match refused_argument(error) {
        Some(argument) => StoreError::Refused { argument, rule: detail.to_owned() },
        None => RedisErrorKind::from_error(error).report(),
    }
}

/// Returns the argument that the module refuses. The reply of the module has no other form of it
/// than the sentence `ARGUMENT must be ...`, and a few sentences about leases and reservations.
/// Documentation and tests hold them constant.
fn refused_argument(error: &RedisError) -> Option<Argument> {
    let sentence = error.detail().filter(|_| error.code() == Some("ERR"))?;
    match sentence {
        TOO_MANY_LEASES => return Some(Argument::Leases),
        OTHER_LIMITS | OTHER_KEYS => return Some(Argument::Reservation),
        _ => {}
    }
    let (name, _) = sentence.split_once(" must be ")?;
    Argument::from_name(name)
}

/// Returns the time of the server in the error about a window that does not contain this time.
pub(crate) fn server_time(error: &RedisError) -> Option<limiter::Instant> {
    const RULE: &str = "FROM and UNTIL must contain the server's time, ";
    let sentence = error.detail().filter(|_| error.code() == Some("ERR"))?;
    let (seconds, millis) = sentence.strip_prefix(RULE)?.split_once('.')?;
    let millis = millis.parse::<u64>().ok().filter(|_| millis.len() == 3)?;
    let micros = seconds.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(millis)?;
    Some(limiter::Instant::from_micros(micros.checked_mul(1_000)?))
}

impl RedisErrorKind {
    /// Every kind, in the order of the variants.
    pub(crate) const ALL: [Self; 18] = [
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

    /// Returns the kind of an error of the client library.
    pub(crate) fn from_error(error: &RedisError) -> Self {
        let detail = error.detail().unwrap_or_default();
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
            // A cluster client follows these two, so that none of them gets here.
            Some("MOVED" | "ASK") => Self::PartOfCluster,
            Some("CLUSTERDOWN") => Self::ClusterDown,
            Some("TRYAGAIN") => Self::SlotMoving,
            Some("WRONGTYPE") => Self::WrongType,
            None if error.is_io_error() => Self::Disconnected,
            _ if error.kind() == ErrorKind::AuthenticationFailed => Self::NotAllowed,
            _ => Self::Unexpected,
        }
    }

    /// Logs and counts the error, and returns the error for the caller.
    pub(crate) fn report(self) -> StoreError {
        let (kind, advice, now) = (self.name(), self.advice(), Instant::now());
        match self {
            // The circuit breaker logs once for all requests that find it open.
            Self::Disconnected => tracing::debug!(kind, advice, "no decision from Redis"),
            _ => {
                if let Some(Sums { count, seconds }) = self.note(now) {
                    tracing::error!(kind, advice, calls = count, seconds, "no decision from Redis");
                }
            }
        }
        count_redis_error(kind);
        self.remember(now);
        if matches!(self, Self::Overloaded | Self::GatewayLate) {
            return StoreError::Overloaded;
        }
        StoreError::Unavailable { connected: self.is_answer() }
    }

    /// Counts the error, and returns the sums if a line is due.
    fn note(self, now: Instant) -> Option<Sums> {
        let throttle = &THROTTLES[self as usize];
        throttle.lock().unwrap_or_else(PoisonError::into_inner).record_without_end(now)
    }

    /// Makes the error the last failure, unless a recent one is more precise.
    fn remember(self, now: Instant) {
        let mut last = last();
        let is_more_precise = |(kind, time): (Self, Instant)| {
            kind != Self::Disconnected && now.duration_since(time) < ATTEMPT_PERIOD
        };
        if self != Self::Disconnected || !last.is_some_and(is_more_precise) {
            *last = Some((self, now));
        }
    }

    /// Returns the name in logs and metrics.
    pub(crate) fn name(self) -> &'static str {
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

    /// Returns one sentence for the operator.
    pub(crate) fn advice(self) -> &'static str {
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
            Self::ModuleMissing => {
                "load the ratelimit module into Redis, in a version as new as this gateway"
            }
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
                "keys are being moved within the cluster: if this lasts, see CLUSTER NODES for slots \
                 that are left half moved"
            }
            Self::WrongType => "another program uses this key: set KEY_PREFIX to keep them apart",
            Self::Unexpected => "see the error itself at LOG_LEVEL=DEBUG",
        }
    }

    /// Returns whether the error is an answer of Redis.
    fn is_answer(self) -> bool {
        !matches!(self, Self::Disconnected | Self::TimedOut | Self::Overloaded | Self::GatewayLate)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use redis::{RedisError, parse_redis_value};

    use super::{OTHER_KEYS, OTHER_LIMITS, RedisErrorKind, TOO_MANY_LEASES, explain, server_time};
    use crate::error::{Argument, StoreError};

    fn server_error(line: &str) -> RedisError {
        let reply = parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        reply.extract_error().unwrap_err()
    }

    #[test]
    fn a_rule_of_the_module_is_an_error_of_the_caller() {
        let rule = "limit must be an integer between 1 and 1000000";
        assert_eq!(
            explain(&server_error(&format!("ERR {rule}"))),
            StoreError::Refused { argument: Argument::Limit, rule: rule.to_owned() }
        );
        for (sentence, argument) in [
            (TOO_MANY_LEASES, Argument::Leases),
            (OTHER_LIMITS, Argument::Reservation),
            (OTHER_KEYS, Argument::Reservation),
        ] {
            let error = explain(&server_error(&format!("ERR {sentence}")));
            assert_eq!(error, StoreError::Refused { argument, rule: sentence.to_owned() });
        }
    }

    #[test]
    fn an_error_about_a_window_has_the_time_of_the_server() {
        let time = |text: &str| server_time(&server_error(text)).map(limiter::Instant::as_micros);
        let rule = "FROM and UNTIL must contain the server's time";
        assert_eq!(time(&format!("ERR {rule}, 1800014400.025")), Some(1_800_014_400_025_000));
        for other in [
            format!("ERR {rule}"),
            format!("ERR {rule}, 1800014400"),
            format!("ERR {rule}, 1800014400.25"),
            format!("ERR {rule}, 99999999999999999999.025"),
            format!("WRONGTYPE {rule}, 1800014400.025"),
            "ERR limit must be an integer between 1 and 1000000000".to_owned(),
        ] {
            assert_eq!(time(&other), None, "{other}");
        }
    }

    #[test]
    fn every_other_error_is_a_failure_of_redis() {
        for (line, kind) in [
            (
                "ERR unknown command 'RATELIMIT.TB', with args beginning with: ",
                RedisErrorKind::ModuleMissing,
            ),
            // An older module.
            (
                "ERR unknown command 'RATELIMIT.ACQUIRE', with args beginning with: 'key' ",
                RedisErrorKind::ModuleMissing,
            ),
            ("ERR key must be shorter", RedisErrorKind::Unexpected),
            ("LOADING Redis is loading the dataset in memory", RedisErrorKind::Loading),
            ("BUSY Redis is busy running a script.", RedisErrorKind::Busy),
            ("MISCONF Redis is configured to save RDB snapshots", RedisErrorKind::SavingFails),
            ("NOREPLICAS Not enough good replicas to write.", RedisErrorKind::TooFewReplicas),
            ("MASTERDOWN Link with MASTER is down", RedisErrorKind::PrimaryDown),
            ("MOVED 3999 127.0.0.1:6381", RedisErrorKind::PartOfCluster),
            ("ASK 3999 127.0.0.1:6381", RedisErrorKind::PartOfCluster),
            ("CLUSTERDOWN The cluster is down", RedisErrorKind::ClusterDown),
            ("TRYAGAIN Multiple keys request during rehashing of slot", RedisErrorKind::SlotMoving),
            ("WRONGPASS invalid username-password pair", RedisErrorKind::NotAllowed),
            ("NOAUTH Authentication required.", RedisErrorKind::NotAllowed),
            ("NOPERM this user has no permissions", RedisErrorKind::NotAllowed),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                RedisErrorKind::OutOfMemory,
            ),
            ("READONLY You can't write against a read only replica.", RedisErrorKind::ReadOnly),
            ("WRONGTYPE Operation against a key", RedisErrorKind::WrongType),
        ] {
            let error = server_error(line);
            assert_eq!(RedisErrorKind::from_error(&error), kind, "{line}");
            assert_eq!(explain(&error), StoreError::Unavailable { connected: true }, "{line}");
        }
    }

    #[test]
    fn kinds_are_listed_at_the_places_of_their_throttles() {
        for (place, kind) in RedisErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
        }
        assert_eq!(RedisErrorKind::ALL.last(), Some(&RedisErrorKind::Unexpected));
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
        for kind in RedisErrorKind::ALL {
            let row = format!("| `{}` | {} |", kind.name(), kind.advice());
            assert!(page.contains(&row), "{row}");
        }
    }
}
