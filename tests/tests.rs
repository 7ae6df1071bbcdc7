//! End-to-end tests: real redis-server and gateway processes, and clients that use sockets only.
//!
//! Each theme is a file. The harness starts the processes of a test and stops them again. Themes
//! with the feature `web` need further programs: browsers, interpreters, Prometheus, nginx, kubectl.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test and its harness fail by panicking"
)]

mod harness;

mod gateway;
mod module;
mod proxies;
mod shipping;
