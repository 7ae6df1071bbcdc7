//! HTTP over the RATELIMIT commands of Redis.
//!
//! A request becomes one command, and its reply becomes JSON and headers. All state is in Redis,
//! so any number of gateways can serve the same callers, and `redis-cli` sees what they see. What
//! is decided in this process, because Redis is away or nobody wants one, is marked as such. The
//! crate [`store`] makes all decisions.
//!
//! # Layout
//!
//! * [`command_line`], [`config`]: every command and every setting.
//! * [`callers`]: who may call.
//! * `routes`: the sitemap, then one file for each resource.
//! * `fields`, `json`, `input`, `value`, `number`: reading requests.
//! * [`fault`]: what can be wrong with them.
//! * `quota`, `seconds`: ranges and schemas of what requests and answers have.
//! * `head`: rules for every request.
//! * `headers`, [`error`]: what answers look like.
//! * `access`, [`telemetry`]: what every answer gets; log, metrics and traces.
//! * [`server`]: connections and their end. [`crypto`]: what TLS uses, there and towards Redis.
//! * [`health_check`]: asks a running service how it is.
//! * [`watched_files`]: files that are read again when they change.
//!
//! # What it does not do
//!
//! While Redis decides it keeps no count of its own and reads no clock for a decision, and it never
//! repeats a check that may have counted. It issues no tokens, and asks nobody else about the
//! callers that it knows.

#![forbid(unsafe_code)]

use std::sync::Arc;

pub mod callers;
pub mod command_line;
pub mod crypto;
pub mod error;
pub mod head;
mod headers;
pub mod health_check;
mod openapi;
pub mod request;
mod request_log;
mod routes;
mod seconds;
pub mod server;
pub mod settings;
pub mod startup_error;
pub mod state;
pub mod telemetry;
pub mod watched_files;

use crate::{routes::listener_kind::ListenerKind, server::Apps, state::AppState};

/// Returns the whole service, which needs no socket. With an admin listener, clients do not get the
/// routes of operators.
#[must_use]
pub fn apps(state: AppState, has_admin_listener: bool) -> Apps {
    let state = Arc::new(state);
    let clients = if has_admin_listener { ListenerKind::Clients } else { ListenerKind::Shared };
    Apps {
        clients: routes::router(&state, clients),
        admin: routes::router(&state, ListenerKind::Admin),
        refusal: routes::refusal(),
    }
}

/// The OpenAPI document of the service, as JSON.
#[must_use]
pub fn openapi_document() -> String {
    serde_json::to_string_pretty(&routes::document()).unwrap_or_default()
}
