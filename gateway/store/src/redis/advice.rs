//! Advice for the operator about connections that cannot be made.

/// The advice about a server that cannot be reached. The gateway continues to try.
pub(crate) const UNREACHABLE_ADVICE: &str =
    "check that Redis runs and that the REDIS_ settings lead to it";

/// Parts of an error, and the advice about errors with one of them. The texts are those of the
/// servers and of rustls.
const ADVICE: [(&[&str], &str); 15] = [
    (
        &["WRONGPASS", "NOAUTH", "AuthenticationFailed"],
        "check REDIS_USERNAME and REDIS_PASSWORD, or the user and password in REDIS_URL",
    ),
    (
        &["no permissions to run the 'select' command"],
        "give the user of Redis the right +select, or set no database in REDIS_DB and REDIS_URL",
    ),
    (
        &["no permissions to run the"],
        "give the user of Redis the right to the command that the error names",
    ),
    (
        &["DB index is out of range"],
        "choose a database that Redis has: lower REDIS_DB, or raise databases of Redis",
    ),
    (
        &["SELECT is not allowed in cluster mode"],
        "this Redis is part of a cluster: set REDIS_URL to redis+cluster://HOST:PORT",
    ),
    (
        &["UnknownIssuer", "BadSignature"],
        "set REDIS_TLS_CA_FILE to the authority that issued the certificate of Redis",
    ),
    (
        &["NotValidForName", "not valid for name"],
        "the REDIS_ settings must name Redis as its certificate does",
    ),
    (&["Expired", "expired", "NotValidYet"], "renew the certificate of Redis, or set the clock"),
    (
        &["CertificateRequired"],
        "Redis asks for a certificate: set REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE",
    ),
    (
        &["UnknownCA", "BadCertificate", "DecryptError", "CertificateUnknown"],
        "have Redis trust the authority that issued the certificate in REDIS_TLS_CERT_FILE",
    ),
    (
        &["InvalidContentType", "corrupt message"],
        "this port speaks no TLS: use redis:// instead of rediss://, or REDIS_SSL=false",
    ),
    (
        &["cluster support disabled"],
        "this Redis is not part of a cluster: use redis:// instead of redis+cluster://",
    ),
    (&["max number of clients"], "raise maxclients of Redis, or lower REDIS_MAX_CONNECTIONS"),
    (
        &["timed out"],
        "check that Redis runs and is not stuck; a port without TLS does not answer rediss://",
    ),
    (
        &["broken pipe", "reset by peer"],
        "check that Redis runs; if its port speaks TLS, use rediss:// or REDIS_SSL=true",
    ),
];

/// Returns the advice about the error of an attempt to connect.
pub(super) fn advice(error: &str) -> &'static str {
    let known = ADVICE.iter().find(|(texts, _)| texts.iter().any(|text| error.contains(text)));
    known.map_or(UNREACHABLE_ADVICE, |(_, advice)| advice)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{ADVICE, advice};

    #[test]
    fn the_page_on_troubleshooting_has_every_error_and_its_advice() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/troubleshooting.md");
        let page = fs::read_to_string(path).unwrap();
        let (_, rows) = page.split_once("| error | advice |\n|---|---|\n").unwrap();
        let rows: Vec<_> = rows.lines().take_while(|line| line.starts_with("| `")).collect();
        assert_eq!(rows.len(), ADVICE.len());
        for row in rows {
            let (errors, expected) = row.trim_matches(['|', ' ']).split_once(" | ").unwrap();
            for error in errors.split(", ") {
                assert_eq!(advice(error.trim_matches('`')), expected, "{row}");
            }
        }
    }
}
