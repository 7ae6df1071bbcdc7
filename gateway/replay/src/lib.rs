//! Recorded requests, judged by policies with states in memory.
//!
//! * [`Evaluator`] decides about a judgement of the `policies` crate as the gateway does over
//!   `memory://`.
//! * [`Replay`] reads the lines of a log, sorts them, decides each request by one file of policies
//!   or by two, and returns a [`Report`].
//!
//! The crate is pure: lines and times are arguments.

#![forbid(unsafe_code)]

mod combined;
mod counts;
mod evaluator;
mod json_line;
mod line;
mod order;
mod record;
mod replay;
mod report;
mod state;

pub use counts::{KeyReport, LimitReport, Outcomes, SideReport};
pub use evaluator::{Decision, Evaluator, TrialDecision};
pub use replay::{Replay, Side};
pub use report::{Changes, Report, Skipped};
pub use state::{HeldLease, LimitDecision};
