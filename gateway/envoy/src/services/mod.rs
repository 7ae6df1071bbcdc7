//! The services as tonic serves them.

mod authorization;
mod authorization_request;
mod health;
mod method;
mod rate_limit;
mod rate_limit_request;
mod recorder;
mod reflection;
mod server;

pub use self::{method::MAX_MESSAGE_BYTES, server::Server};
pub use tonic::transport::server::Connected;

/// Clients of the services, for tests.
pub mod client {
    pub use ::{envoy_types, tonic, tonic_health, tonic_prost, tonic_reflection};
}
