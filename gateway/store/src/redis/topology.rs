//! The servers that make up Redis, and the options of the connections to them.

use std::{path::PathBuf, time::Duration};

use redis::{ConnectionAddr, ConnectionInfo, RedisConnectionInfo};

use crate::pem::CertificateFiles;

/// The servers that make up Redis.
#[derive(Debug, Clone)]
pub enum Topology {
    /// One server.
    Standalone(Box<ConnectionInfo>),
    /// The server that Sentinels name as the primary.
    Sentinel(Box<SentinelTopology>),
    /// Servers that share the keys. The list has some of them, at least one, by TCP; all have the
    /// login of the first.
    Cluster(Vec<ConnectionInfo>),
}

/// A primary, its replicas, and the Sentinels that watch them.
#[derive(Debug, Clone)]
pub struct SentinelTopology {
    /// The Sentinels, by TCP, each with its login. The primary is reached with TLS if they are.
    pub sentinels: Vec<ConnectionInfo>,
    /// The name of the primary in the configuration of the Sentinels.
    pub primary_name: String,
    /// The login of the primary, whichever server that is.
    pub login: RedisConnectionInfo,
}

/// The options of connections to Redis.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// Most connections to open, at least 1.
    pub max_connections: usize,
    /// Most calls that wait for an answer at once, at least 1.
    pub max_backlog: usize,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Certificates, for connections with TLS.
    pub tls: RedisTls,
}

/// Certificates for connections with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisTls {
    /// PEM file with the authorities to trust, instead of those of the system.
    pub authorities: Option<PathBuf>,
    /// The certificate that this service sends to Redis.
    pub certificate: Option<CertificateFiles>,
}

impl Topology {
    /// Returns whether connections are made with TLS.
    #[must_use]
    pub fn uses_tls(&self) -> bool {
        let uses_tls =
            |server: &ConnectionInfo| matches!(server.addr(), ConnectionAddr::TcpTls { .. });
        match self {
            Self::Standalone(server) => uses_tls(server),
            Self::Sentinel(sentinels) => sentinels.sentinels.iter().any(uses_tls),
            Self::Cluster(seeds) => seeds.iter().any(uses_tls),
        }
    }
}

/// Returns the server at another address, with the TLS and the login of `like`.
pub(super) fn server_at(like: &ConnectionInfo, host: String, port: u16) -> ConnectionInfo {
    let address = match like.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: *insecure,
            tls_params: tls_params.clone(),
        },
        _ => ConnectionAddr::Tcp(host, port),
    };
    like.clone().set_addr(address)
}
