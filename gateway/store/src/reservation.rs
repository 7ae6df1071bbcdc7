//! The calls that make and settle reservations, and their answers.

use limiter::{Algorithm, Window};

use crate::{
    check::Check,
    decision::{Decision, Source},
};

/// A request to reserve units of several quotas, all or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReserveRequest {
    /// The name of the reservation, without braces.
    pub reservation: String,
    /// The time after which the reservation cannot be settled.
    pub ttl: Window,
    /// The quotas, each with its estimated cost, which is at least 1. No two have the same identifier
    /// and algorithm.
    pub limits: Vec<Check>,
}

/// The answer to a request for a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReserveDecision {
    /// The part that decided.
    pub source: Source,
    /// True if every quota granted its cost; otherwise none took anything.
    pub allowed: bool,
    /// The decision on each quota, in their order.
    pub limits: Vec<Decision>,
}

/// A request to correct the estimates of a reservation, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettleRequest {
    /// The name of the reservation.
    pub reservation: String,
    /// The quotas of the reservation, in their order.
    pub limits: Vec<SettledLimit>,
    /// The units that were used of each quota; without them the estimates stand.
    pub actual: Option<Vec<u32>>,
}

/// A quota of a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledLimit {
    /// The limited object.
    pub identifier: String,
    /// The algorithm.
    pub algorithm: Algorithm,
}

/// The answer to a request for a settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The part that settled.
    pub source: Source,
    /// For each quota the units that were taken, or given back if negative; `None` if there is no
    /// such reservation.
    pub corrections: Option<Vec<i64>>,
}
