//! Errors of calls to Redis.

use std::io;

use limiter::Instant;
use redis::RedisError;

use crate::{
    error::StoreError,
    redis_error::{RedisErrorKind, explain, server_time},
};

/// The reason why a call has no answer.
#[derive(Debug, Clone)]
pub(super) enum CallError {
    /// There is no connection, the connection broke, or the server was silent; or the answer is an
    /// error.
    Redis(RedisError),
    /// This process was late, so that nothing is known of the server.
    GatewayLate,
}

impl From<io::ErrorKind> for CallError {
    fn from(kind: io::ErrorKind) -> Self {
        Self::Redis(io::Error::from(kind).into())
    }
}

impl CallError {
    /// Logs and counts the error, and returns the error for the caller.
    pub(super) fn report(self) -> StoreError {
        match self {
            Self::Redis(error) => explain(&error),
            Self::GatewayLate => RedisErrorKind::GatewayLate.report(),
        }
    }

    /// Returns the time of the server, if the server refused a window that does not contain it.
    pub(super) fn server_time(&self) -> Option<Instant> {
        match self {
            Self::Redis(error) => server_time(error),
            Self::GatewayLate => None,
        }
    }

    /// Returns the error for the log.
    pub(super) fn into_redis_error(self) -> RedisError {
        match self {
            Self::Redis(error) => error,
            Self::GatewayLate => io::Error::other("this process was late").into(),
        }
    }
}
