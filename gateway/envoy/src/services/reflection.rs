//! `ServerReflection` of `grpc.reflection.v1`, and of `grpc.reflection.v1alpha` for older clients, by which
//! a client learns the methods and their messages.

use tonic_reflection::server::{Builder, v1, v1alpha};

/// The descriptions of the services and of all messages that they name, from the descriptions in
/// `envoy-types`:
///
/// ```text
/// protoc --descriptor_set_in=types.bin --include_imports --descriptor_set_out=descriptors.bin \
///     envoy/service/ratelimit/v3/rls.proto envoy/service/auth/v3/external_auth.proto
/// ```
const DESCRIPTORS: &[u8] = include_bytes!("descriptors.bin");

/// Returns the service, or `None` where a description is not valid, which a test excludes.
pub(super) fn service() -> Option<v1::ServerReflectionServer<impl v1::ServerReflection>> {
    builder().build_v1().ok()
}

/// Returns the service for older clients.
pub(super) fn older_service()
-> Option<v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>> {
    builder().build_v1alpha().ok()
}

fn builder<'d>() -> Builder<'d> {
    Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

#[cfg(test)]
mod tests {
    use super::{older_service, service};

    #[test]
    fn the_descriptions_are_valid() {
        assert!(service().is_some() && older_service().is_some());
    }
}
