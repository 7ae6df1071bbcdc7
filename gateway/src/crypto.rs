//! The one implementation of cryptography that TLS uses, on both sides, and the files in PEM that it
//! is given.

use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// Chooses it for the whole process, before the first connection.
pub fn install() {
    // Fails only when there is one already, which does as well.
    let _ = aws_lc_rs::default_provider().install_default();
}

/// The certificates in PEM, at least one; `None` when there are none or one is malformed.
pub(crate) fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    found.ok().filter(|found| !found.is_empty())
}

/// The first private key in PEM. Why there is none is not told: the parser's own message could
/// repeat a part of the key.
pub(crate) fn private_key(pem: &[u8]) -> Option<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem).ok()
}
