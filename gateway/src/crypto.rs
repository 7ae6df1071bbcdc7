//! The implementation of cryptography for TLS.

use rustls::crypto::ring;

/// Installs the implementation for the whole process. Call it before the first connection.
pub fn install() {
    // Fails only when an implementation is installed already.
    let _ = ring::default_provider().install_default();
}
