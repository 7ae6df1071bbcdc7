//! Settings that take effect only together with others.

use std::ffi::OsString;

use store::{FailMode, Location};

use super::{
    Settings, SettingsError,
    table::{
        CALLER_LIMIT, CALLER_WINDOW_SECONDS, DENY_CACHE_MAX_MS, JWT_AUDIENCE, JWT_ISSUER,
        JWT_SCOPE_CLAIM, JWT_SCOPE_PREFIX, LOCAL_MAX_KEYS, LOCAL_SHARE, METRICS_OPEN,
        REDIS_TLS_CA_FILE, REDIS_TLS_CERT_FILE, REDIS_TLS_KEY_FILE,
    },
};

/// Refuses settings that would take no effect because of the values of others.
pub(super) fn check(
    lookup: &impl Fn(&str) -> Option<OsString>,
    settings: &Settings,
) -> Result<(), SettingsError> {
    let Settings { store, callers, .. } = settings;
    let uses_tls = matches!(&store.location, Location::Redis(topology) if topology.is_secret());
    for file in [REDIS_TLS_CA_FILE, REDIS_TLS_CERT_FILE, REDIS_TLS_KEY_FILE] {
        file.require(lookup, uses_tls, "rediss:// in REDIS_URL, or REDIS_SSL=true")?;
    }

    let is_local = store.fail_mode == FailMode::Local;
    LOCAL_SHARE.require(lookup, is_local, "FAIL_MODE=local")?;
    let keeps_states = is_local || matches!(store.location, Location::Memory);
    LOCAL_MAX_KEYS.require(lookup, keeps_states, "FAIL_MODE=local or REDIS_URL=memory://")?;
    DENY_CACHE_MAX_MS.require(lookup, store.deny_cache.size > 0, "DENY_CACHE_SIZE")?;

    for claim in [JWT_AUDIENCE, JWT_ISSUER] {
        claim.require(lookup, callers.jwt.is_some(), "JWT_JWKS_FILE")?;
    }
    JWT_SCOPE_CLAIM.require(lookup, callers.jwt.is_some(), "JWT_JWKS_FILE")?;
    JWT_SCOPE_PREFIX.require(lookup, callers.jwt.is_some(), "JWT_JWKS_FILE")?;
    // Requests without a key or a token have no caller.
    let has_keys = callers.api_keys_file.is_some();
    let knows_callers = has_keys || callers.jwt.is_some();
    CALLER_LIMIT.require(lookup, knows_callers, "API_KEYS_FILE or JWT_JWKS_FILE")?;
    METRICS_OPEN.require(lookup, knows_callers, "API_KEYS_FILE or JWT_JWKS_FILE")?;
    // A key of the file can have a limit without a window.
    let has_limits = has_keys || callers.limit.is_some();
    CALLER_WINDOW_SECONDS.require(lookup, has_limits, "CALLER_LIMIT or API_KEYS_FILE")
}
