//! The two places in which a gateway can store states: its own memory, and a Redis.

use serde_json::Value;

use super::{Gateway, NOON, Response, Server};

/// A gateway, and its Redis if it has one: the clock of the server stands at [`NOON`].
pub(crate) struct Place {
    pub(crate) name: &'static str,
    pub(crate) gateway: Gateway,
    pub(crate) server: Option<Server>,
}

impl Place {
    /// Starts a gateway that decides itself, and a gateway with Redis, with a deny cache that keeps
    /// denials for longer than any test takes.
    pub(crate) fn both() -> [Self; 2] {
        let server = Server::at(NOON);
        let redis = Gateway::builder().redis(&server).env("DENY_CACHE_MAX_MS", "3600000").start();
        [
            Self { name: "memory", gateway: Self::memory(), server: None },
            Self { name: "redis", gateway: redis, server: Some(server) },
        ]
    }

    /// Starts a gateway that decides itself.
    pub(crate) fn memory() -> Gateway {
        Gateway::builder().env("REDIS_URL", "memory://").start()
    }
}

/// Returns the JSON in the body of a response.
pub(crate) fn json_of(response: &Response) -> Value {
    serde_json::from_str(&response.body).unwrap_or_else(|_| panic!("{}", response.body))
}
