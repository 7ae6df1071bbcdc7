//! The promises of the replay crate.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets what it does not expect has to fail"
)]

/// The examples of policies, with their tables of decisions.
mod examples;
/// Logs, their order, and the reports about them.
mod logs;
/// The tables of decisions.
mod table;
