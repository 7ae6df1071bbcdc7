//! `grpc.reflection.v1.ServerReflection`, by which a client learns the methods and their messages.

use tonic_reflection::server::{
    Builder,
    v1::{ServerReflection, ServerReflectionServer},
};

/// The descriptions of the services and of all messages that they name, from the descriptions in
/// `envoy-types`:
///
/// ```text
/// protoc --descriptor_set_in=types.bin --include_imports --descriptor_set_out=descriptors.bin \
///     envoy/service/ratelimit/v3/rls.proto envoy/service/auth/v3/external_auth.proto
/// ```
const DESCRIPTORS: &[u8] = include_bytes!("descriptors.bin");

/// Returns the service, or `None` where a description is not valid, which a test excludes.
pub(super) fn service() -> Option<ServerReflectionServer<impl ServerReflection>> {
    let builder = Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    builder.build_v1().ok()
}

#[cfg(test)]
mod tests {
    use super::service;

    #[test]
    fn the_descriptions_are_valid() {
        assert!(service().is_some());
    }
}
