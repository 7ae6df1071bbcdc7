//! Decisions of the gateway: in Redis by the RATELIMIT commands, or in this process.
//!
//! A check is a request for units of a quota. The store sends it to Redis as one command, or decides
//! it in this process where there is no Redis, and while Redis does not answer.
//!
//! # Layout
//!
//! * `check`, `limit_check`, `quota_rule`, `decision`, `error`, `millis`: the vocabulary of requests and answers.
//! * `options`: the options of a store.
//! * `redis`: the commands, the connections and the topologies of Redis; `key`: its keys.
//! * `local`: decisions of this process, by the limiter.
//! * `expiring`: values that end.
//! * `lease`: requests for leases, and their answers; `lease_keys`: the leases of this process.
//! * `reservation`: requests for reservations, and their answers; `reservation_keys`: the reservations
//!   of this process.
//! * `fallback`: decisions while Redis does not answer; `outage_log`: the log of that time.
//! * `deny_cache`: denials that are repeated without a call to Redis.
//! * `top_denied`: the identifiers that were denied most often lately.
//! * `store`: all of these together.
//! * `redis_error`: the kinds of errors of Redis, with advice for operators.
//! * `metrics`, `log_throttle`: counters and gauges, and the times of log lines.
//! * [`local_file`]: reading a file of settings; [`pem`]: certificates and keys in files.
//!
//! # What it does not do
//!
//! It does not depend on HTTP, or on the names and ranges of settings; a setting has its name only
//! in advice for operators. Metrics and logs leave it through the facades `metrics` and `tracing`.

#![forbid(unsafe_code)]

mod check;
mod clock;
mod decision;
mod deny_cache;
mod error;
mod expiring;
mod fallback;
mod key;
mod lease;
mod lease_keys;
mod limit_check;
mod limit_kind;
mod local;
pub mod local_file;
mod log_throttle;
mod metrics;
mod millis;
mod options;
mod outage_log;
pub mod pem;
mod quota_rule;
mod redis;
mod redis_error;
mod reservation;
mod reservation_keys;
mod store;
mod top_denied;

pub use self::{
    check::{Check, Refund},
    decision::{Decision, RefundOutcome, Source},
    error::{Argument, StoreError},
    key::keeps_slots_together,
    lease::{
        HeldLease, LeaseDecision, LeaseKey, LeaseList, LeaseName, LeaseRequest, ListedLease,
        Release, Renewal,
    },
    limit_check::{Charge, LeaseCheck, LimitCheck, LimitRefund, LimitsCheck, LimitsDecision},
    limit_kind::LimitKind,
    log_throttle::{LogThrottle, Sums},
    metrics::{count_decision, count_lease_decision},
    millis::Millis,
    options::{DenyCacheOptions, FailMode, LocalOptions, Location, StoreOptions, Thousandths},
    quota_rule::QuotaRule,
    redis::{
        support::{LimitNeed, Unserved},
        tls::{TlsError, TlsOption},
        topology::{RedisOptions, RedisTls, SentinelTopology, Topology},
    },
    redis_error::{LastFailure, error_kinds},
    reservation::{ReserveDecision, ReserveRequest, SettleRequest, SettledLimit, Settlement},
    store::{Store, check_connection, register_metrics},
    top_denied::{DeniedIdentifier, MAX_DENIED_IDENTIFIERS, MAX_IDENTIFIER_BYTES},
};
