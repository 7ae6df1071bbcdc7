//! Tests of the gateway: its HTTP API, its decisions, its connections, and its output for
//! operators.

// The HTTP API.

// The contracts for proxies.
mod authz;
// Proxies that authenticate themselves, and their answers while Redis does not answer.
mod authz_proxies;
// Checks of many identifiers in one request.
mod batch;
// Limits on the requests of callers.
mod caller_limits;
// Authentication and authorization of callers.
mod callers;
// Requests and answers as the OpenAPI document describes them.
mod conformance;
// Fixed windows, of a length and of the calendar.
mod fixed_window;
// Checks that take more than there is.
mod force;
// Every endpoint, its bodies and its headers.
mod http_api;
// Invalid and hostile requests.
mod invalid_requests;
// Leases.
mod leases;
// Several limits in one check.
mod limits;
// Checks by policy.
mod policy_checks;
// Concurrency limits of policies.
mod policy_leases;
// Reservations and settlements.
mod reservations;
// Refunds, peeks and resets.
mod refund;
// The same decisions through each entry.
pub(crate) mod same_decisions;
// The identifiers with the most denied checks.
mod top;
// The pages in a real browser.
mod web;

// The connection to Redis, and the failures of Redis.

// The circuit breaker.
mod breaker;
// Keys in a cluster.
mod cluster;
// `--check-config --connect`.
mod connection_check;
// Denials that the gateway remembers.
mod deny_cache;
// Each FAIL_MODE.
mod fail_modes;
// Load while Redis stops and starts.
mod load;
// Connections to Redis: sockets, TLS and users.
mod logins;
// The gateway without Redis.
mod memory;
// Errors of the network between the gateway and Redis.
mod network_faults;
// Redis that cannot answer.
mod redis_down;
// Redis that answers with errors.
mod redis_errors;
// The primary that Sentinels name.
mod sentinel;

// Connections of clients.

// Requests that end before their answer.
mod abandoned_requests;
// Many, slow, silent and greedy connections.
mod connections;
// Floods of valid requests.
mod floods;
// The gateway with a certificate.
mod https;
// Idle connections, invalid heads, signals, other origins, handshakes.
mod network;
// Answers that are sent before the body of their request has arrived.
mod unread_bodies;

// Operators.

// The listener for probes and operators.
mod admin;
// Every alert, in a real Prometheus.
mod alerts;
// The queries of dashboards and alerts, in a real Prometheus.
mod dashboards;
// The log of decisions, and its replay.
mod decision_log;
// The file of policies, and the pages and commands about it.
mod policies;
// Logs that are replayed, and configurations that are converted.
mod policy_commands;
// The examples of policies, each with its table of decisions.
mod policy_examples;
// The command line, and the end of the process.
mod process;
// The settings, and the log of them.
mod settings;
// Metrics and log.
mod telemetry;
// Traces, and a collector.
mod traces;
