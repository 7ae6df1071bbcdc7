//! Recorded requests, judged by policies with states in memory.
//!
//! [`Evaluator`] decides about a judgement of the `policies` crate as the gateway does over
//! `memory://`. It is pure: the time is an argument.

#![forbid(unsafe_code)]

mod evaluator;
mod state;

pub use evaluator::{Decision, Evaluator, HeldLease, TrialDecision};
pub use state::LimitDecision;
