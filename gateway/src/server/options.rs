//! Options of the listeners, and of the shutdown.

use std::{path::PathBuf, time::Duration};

use store::pem::CertificateFiles;

/// The most open connections to the port for gRPC. Envoy has a few for each of its threads.
pub const MAX_GRPC_CONNECTIONS: usize = 1_024;

/// Addresses to listen on, and bounds for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenOptions {
    /// Address to listen on.
    pub host: String,
    /// Port to listen on.
    pub port: u16,
    /// The separate listener for probes and operators, if there is one.
    pub admin: Option<AdminOptions>,
    /// Port for gRPC, if there is one.
    pub grpc_port: Option<u16>,
    /// Port for forward authentication alone, if there is one.
    pub authz_port: Option<u16>,
    /// Files for HTTPS. Without them the service speaks plain HTTP.
    pub tls: Option<CertificateFiles>,
    /// File with the authorities that issue certificates of proxies, if proxies can present one.
    pub client_authorities: Option<PathBuf>,
    /// Maximum number of open connections of clients.
    pub max_connections: usize,
    /// True when no setting gives `max_connections`.
    pub max_connections_is_default: bool,
    /// Timeout for the rest of the head of a request, from its first byte.
    pub header_timeout: Duration,
    /// Timeout for the first byte of a request.
    pub idle_timeout: Duration,
    /// True when heads can be those of forward authentication, which are larger.
    pub serves_authz: bool,
    /// True when log lines about requests include the address of the client.
    pub logs_clients: bool,
}

/// The address of the listener for probes and operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminOptions {
    /// Address to listen on.
    pub host: String,
    /// Port to listen on.
    pub port: u16,
}

/// Times of the shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShutdownOptions {
    /// Time after SIGTERM in which the service still serves, while `/health/ready` is 503.
    pub delay: Duration,
    /// Timeout for running requests after the delay.
    pub timeout: Duration,
}
