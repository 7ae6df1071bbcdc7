//! The one implementation of cryptography that TLS uses, on both sides.

use rustls::crypto::aws_lc_rs;

/// Chooses it for the whole process, before the first connection.
pub fn install() {
    // Fails only when there is one already, which does as well.
    let _ = aws_lc_rs::default_provider().install_default();
}
