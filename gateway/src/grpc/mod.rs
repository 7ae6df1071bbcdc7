//! The gRPC services for Envoy, on a port of their own.
//!
//! The crate [`envoy`] speaks the protocol. This part accepts the connections, authenticates callers,
//! judges by policies and decides.

mod authorization;
mod call_record;
mod caller;
mod connection;
mod decision;
mod judged_call;
pub mod listener;
mod rate_limit;
mod services;
