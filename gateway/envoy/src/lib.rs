//! The gRPC services that Envoy calls: `envoy.service.ratelimit.v3.RateLimitService`,
//! `envoy.service.auth.v3.Authorization`, health and reflection.
//!
//! Envoy lets a request pass when a call fails, unless its configuration says otherwise. So no value
//! that an end user can write makes a call fail: texts are bytes, numbers are clamped, and a message may
//! be larger than any head that Envoy accepts by default.
//!
//! # Layout
//!
//! * [`call`]: a call of the rate limit service, within its bounds. [`time_unit`]: the units of limits.
//!   [`attributes`]: a descriptor as the attributes of a request.
//! * [`deadline`]: the part of the time of a call that a decision may take.
//! * [`answer`]: the decisions on descriptors. [`status`]: the status that describes one.
//! * [`original_request`]: a request that Envoy asks about, and the answer.
//! * [`gateway`]: the part that judges and decides, and its faults. [`code`]: the codes of calls.
//! * `services`, with the feature of this name: the protocol.
//!
//! # What it does not do
//!
//! It opens no sockets, decides nothing, and reads no settings. The [`Gateway`](gateway::Gateway) judges
//! by policies, calls the store, authenticates callers, and logs, counts and traces calls.

#![forbid(unsafe_code)]

pub mod answer;
pub mod attributes;
pub mod call;
pub mod code;
pub mod deadline;
pub mod gateway;
pub mod original_request;
#[cfg(feature = "services")]
pub mod services;
pub mod status;
pub mod time_unit;
