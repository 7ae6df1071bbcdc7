//! The harness: it owns processes, and explains failures with their logs.
//!
//! A [`Server`] is a redis-server process and a [`Gateway`] is a gateway process, both on free
//! loopback ports and in temporary directories. The harness builds the programs before the first
//! process starts, and kills each process when the value that owns the process is dropped. The
//! processes also die with the thread that started them, so that not even an aborted test leaves a
//! process behind: start a process in the test that uses it.
//!
//! ```ignore
//! let server = Server::builder().clock(NOON).start();
//! let mut client = server.client();
//! assert_eq!(client.decide("RATELIMIT.TB user 100 60"), [1, 100, 99, 0, 600]);
//! server.clock().advance(Duration::from_millis(600));
//! ```

mod artifacts;
mod certificates;
mod client;
mod clock;
mod cluster;
mod collector;
mod credentials;
mod document;
mod exchange;
mod gateway;
mod http;
mod https;
mod load;
mod payload;
mod place;
mod port;
mod process;
mod prometheus;
mod proxy;
mod random;
mod sentinel;
mod server;
mod snapshot;
mod traffic;
mod wait;

pub(crate) use artifacts::example as example_program;
pub(crate) use artifacts::gateway as gateway_program;
pub(crate) use artifacts::module as module_library;
pub(crate) use artifacts::program;
pub(crate) use certificates::{Authority, Certificate};
pub(crate) use client::Client;
pub(crate) use clock::{Clock, NOON};
pub(crate) use cluster::Cluster;
pub(crate) use collector::{Collector, attributes, has_failed, id_digits};
pub(crate) use credentials::{ApiKey, Issuer};
pub(crate) use document::{Block, Document, repository};
pub(crate) use exchange::exchange;
pub(crate) use gateway::{Builder as GatewayBuilder, Gateway, UNAVAILABLE, health};
pub(crate) use http::connect_from as http_connect_from;
pub(crate) use http::exchange as http_exchange;
pub(crate) use http::exchange_from as http_exchange_from;
pub(crate) use http::{Connection, Response, kept_request, request as http_request};
pub(crate) use load::{Ledger, Load, is_primary};
pub(crate) use payload::{dumped, effect, log, sealed};
pub(crate) use place::{Place, json_of};
pub(crate) use port::free_port;
pub(crate) use process::{Process, raise_limit_of_open_files};
pub(crate) use prometheus::{Prometheus, promtool};
pub(crate) use proxy::{Network, Proxy};
pub(crate) use random::Random;
pub(crate) use sentinel::Sentinels;
pub(crate) use server::{Builder, Server};
pub(crate) use snapshot::Snapshot;
pub(crate) use traffic::{Answer, Record, Traffic};
pub(crate) use wait::{StopOnDrop, eventually, slowdown, timed, with_stall, within};
