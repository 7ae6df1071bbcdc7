//! End-to-end tests: real redis-server and gateway processes, spoken to over sockets only.
//!
//! Each theme is a file. The harness starts what a test needs and stops it again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and so does the harness on its behalf"
)]

mod harness;

// The module: what its commands answer, and what they refuse.
mod arguments;
mod info;
mod loading;
mod module_settings;
mod multi;
mod sliding_window_log;
mod token_bucket;
mod top;

// The module: what the server knows of its commands, and whom it lets call them.
mod access;
mod introspection;

// The module: what its calls leave behind, here and elsewhere.
mod audience;
mod cluster;
mod denied;
mod failover;
mod key_events;
mod memory;
mod payloads;
mod persistence;
mod replication;
mod scripts;
mod sentinel;

// The module: what it holds to whatever is thrown at it.
mod agreement;
mod concurrency;
mod corpus;
mod hostile;
mod keyspace;
mod pressure;

// The gateway.
mod gateway;
mod gateway_abandoned_requests;
mod gateway_admin;
mod gateway_batch;
mod gateway_breaker;
mod gateway_caller_limits;
mod gateway_callers;
mod gateway_cluster;
mod gateway_connection_check;
mod gateway_connections;
mod gateway_deny_cache;
mod gateway_errors;
mod gateway_fail_modes;
mod gateway_faults;
mod gateway_figures;
mod gateway_floods;
mod gateway_https;
mod gateway_load;
mod gateway_logins;
mod gateway_memory;
mod gateway_network;
mod gateway_outages;
mod gateway_process;
mod gateway_refund;
mod gateway_refusals;
mod gateway_sentinel;
mod gateway_settings;
mod gateway_telemetry;
mod gateway_top;
mod gateway_traces;
mod gateway_unread_bodies;

// What is shipped, and what is written about it.
mod documentation;
mod images;
mod report;
mod servers;
mod version;

// What needs a browser, Python or Prometheus.
#[cfg(feature = "web")]
mod conformance;
#[cfg(feature = "web")]
mod exporter;
#[cfg(feature = "web")]
mod gateway_alerts;
#[cfg(feature = "web")]
mod gateway_dashboards;
#[cfg(feature = "web")]
mod helm;
#[cfg(feature = "web")]
mod hosting;
#[cfg(feature = "web")]
mod kubernetes;
#[cfg(feature = "web")]
mod languages;
#[cfg(feature = "web")]
mod proxies;
#[cfg(feature = "web")]
mod web;
