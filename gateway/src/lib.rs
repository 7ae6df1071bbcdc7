//! HTTP over the RATELIMIT commands of Redis.
//!
//! A request becomes one command, and its reply becomes JSON and headers. All state is in Redis, so any
//! number of gateways can serve the same clients, and `redis-cli` reads the same state. The crate
//! [`store`] makes all decisions; the answer names the source of a decision that Redis did not make.
//!
//! # Layout
//!
//! * [`command_line`], [`settings`], [`startup_error`]: every command and every setting. The settings
//!   import the options of every part; only the program imports the settings.
//! * [`server`]: connections and the shutdown. [`crypto`]: the cryptography of TLS.
//! * `request_log`: the id, the time and the log line of each request. [`head`]: rules for its head.
//! * `routes`: the sitemap, then one file for each resource. [`state`]: the state that they share.
//! * [`callers`]: API keys, tokens, scopes and limits of callers.
//! * [`authz`]: forward authentication, for proxies.
//! * [`policy_file`]: the file of policies, and the tokens of end users.
//! * `limits`: several limits of one check.
//! * [`request`]: fields and values of requests, and their errors.
//! * [`error`], `headers`, `next_unit`, `seconds`, `openapi`: answers, and the description of the API.
//! * `grpc`, with the feature `envoy`: the gRPC services for Envoy.
//! * [`telemetry`]: log, metrics and traces.
//! * [`watched_files`]: files that are read again when they change.
//! * [`health_check`]: the client that tests the health of a running service.
//!
//! # Limits
//!
//! While Redis decides, the gateway keeps no counts and reads no clock for a decision. It never sends a
//! check again that Redis may have counted. It issues no tokens, and asks no other service about
//! callers.

#![forbid(unsafe_code)]

use std::sync::Arc;

pub mod authz;
pub mod callers;
pub mod command_line;
pub mod crypto;
pub mod error;
#[cfg(feature = "envoy")]
pub mod grpc;
pub mod hash_value;
pub mod head;
mod header_template;
mod headers;
pub mod health_check;
pub mod import_file;
mod limits;
mod next_unit;
mod openapi;
pub mod policy_file;
mod release_token;
pub mod replay_log;
pub mod request;
mod request_log;
pub mod routes;
mod seconds;
pub mod server;
pub mod settings;
pub mod startup_error;
pub mod state;
pub mod telemetry;
pub mod watched_files;

use crate::{
    authz::service::AuthzService, routes::listener_kind::ListenerKind, server::Apps,
    state::AppState,
};

/// Returns the whole service, which needs no socket. With an admin listener, clients do not get the
/// routes of operators; with a listener for proxies, they do not get forward authentication.
#[must_use]
pub fn apps(state: &Arc<AppState>, has_admin_listener: bool, has_authz_listener: bool) -> Apps {
    let clients = if has_admin_listener { ListenerKind::Clients } else { ListenerKind::Shared };
    let authz = AuthzService::new(state);
    let of_clients = if has_authz_listener { AuthzService::absent() } else { authz.clone() };
    Apps {
        clients: routes::app(state, clients, of_clients),
        admin: routes::app(state, ListenerKind::Admin, AuthzService::absent()),
        authz: routes::only_authz(authz),
        authz_refusal: routes::only_authz(AuthzService::refusal()),
        refusal: routes::refusal(),
    }
}

/// Returns the OpenAPI document of the service as JSON.
#[must_use]
pub fn openapi_document() -> String {
    serde_json::to_string_pretty(&routes::document()).unwrap_or_default()
}

/// Returns the JSON Schema of a file of policies.
#[must_use]
pub fn policies_schema() -> String {
    serde_json::to_string_pretty(&policies::schema()).unwrap_or_default()
}
