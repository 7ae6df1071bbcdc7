//! Real proxies in front of a service, with the configurations of `examples`. `make test-proxies` installs
//! them and runs these tests.

// The examples as processes.
mod example;
// What proxies do while the gateway or Redis is away.
mod outages;
// Whose units a request takes.
mod addresses;
// The host that the proxy selects is the host that the policies judge.
mod hosts;
// Heads of requests at the bounds of each proxy.
mod heads;
// Escaped slashes in paths.
mod paths;
// Decisions as clients see them.
mod traffic;
// The service behind the proxies.
mod upstream;
// Envoy: its rate limit service, and its external authorization.
mod envoy;
// What clients of Envoy can write.
mod envoy_clients;
// The gRPC services without a proxy.
#[cfg(feature = "envoy")]
mod grpc;
// Their decisions, which are those of checks.
#[cfg(feature = "envoy")]
mod same_decisions;
// What is recorded about calls of these services.
#[cfg(feature = "envoy")]
mod grpc_records;
