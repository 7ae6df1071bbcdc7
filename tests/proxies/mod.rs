//! Real proxies in front of a service, with the configurations of `examples`. `make test-proxies` installs
//! them and runs these tests.

// The examples as processes.
mod example;
// What proxies do while the gateway or Redis is away.
mod outages;
// Whose units a request takes.
mod addresses;
// Decisions as clients see them.
mod traffic;
// The service behind the proxies.
mod upstream;
// Envoy: its rate limit service, and its external authorization.
mod envoy;
// The gRPC services without a proxy.
#[cfg(feature = "envoy")]
mod grpc;
