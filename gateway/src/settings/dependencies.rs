//! Settings that take effect only together with others.

use store::{FailMode, Location, StoreOptions};

use super::table::{Texts, Values};
use crate::{callers::options::CallerOptions, startup_error::StartupError};

/// Refuses a value that would take no effect because of other settings: the operator relies on it.
/// The default is taken, as if it was unset.
pub(super) fn check(
    values: &Values,
    store: &StoreOptions,
    callers: &CallerOptions,
) -> Result<(), StartupError> {
    let unset = Values::parse(&Texts::new())?;
    let (given, default) = (&values.callers, &unset.callers);
    let uses_tls = matches!(&store.location, Location::Redis(topology) if topology.uses_tls());
    // A policy can have `on_error: local`.
    let has_policies = values.policies.policies_file.is_some();
    let is_local = store.fail_mode == FailMode::Local || has_policies;
    let keeps_states = is_local || matches!(store.location, Location::Memory);
    let uses_tokens = callers.jwt.is_some();
    // Requests without a key or a token have no caller.
    let has_keys = callers.api_keys_file.is_some();
    let has_callers = has_keys || uses_tokens;
    // A key of the file can have a limit without a window.
    let has_limits = has_keys || callers.limit.is_some();

    let serves_tls = values.listen.tls_cert_file.is_some();
    let policies = &values.policies;
    let reads_tokens = policies.identity_jwks_file.is_some();
    let tls = "rediss:// in REDIS_URL, or REDIS_SSL=true";
    let files = "API_KEYS_FILE or JWT_JWKS_FILE";
    let redis = &values.redis;
    for (name, is_default, takes_effect, needed) in [
        ("REDIS_TLS_CA_FILE", redis.redis_tls_ca_file.is_none(), uses_tls, tls),
        ("REDIS_TLS_CERT_FILE", redis.redis_tls_cert_file.is_none(), uses_tls, tls),
        ("REDIS_TLS_KEY_FILE", redis.redis_tls_key_file.is_none(), uses_tls, tls),
        ("LOCAL_SHARE", values.local_share == unset.local_share, is_local, "FAIL_MODE=local"),
        (
            "LOCAL_MAX_KEYS",
            values.local_max_keys == unset.local_max_keys,
            keeps_states,
            "FAIL_MODE=local or REDIS_URL=memory://",
        ),
        (
            "DENY_CACHE_MAX_MS",
            values.deny_cache_max_ms == unset.deny_cache_max_ms,
            store.deny_cache.size > 0,
            "DENY_CACHE_SIZE",
        ),
        (
            "GRPC_PORT",
            values.listen.grpc_port == unset.listen.grpc_port,
            has_policies,
            "POLICIES_FILE",
        ),
        (
            "AUTHZ_PORT",
            values.listen.authz_port == unset.listen.authz_port,
            has_policies,
            "POLICIES_FILE",
        ),
        (
            "POLICIES_CACHE_FILE",
            policies.policies_cache_file.is_none(),
            has_policies,
            "POLICIES_FILE",
        ),
        (
            "IDENTITY_JWKS_FILE",
            policies.identity_jwks_file.is_none(),
            has_policies,
            "POLICIES_FILE",
        ),
        (
            "IDENTITY_AUDIENCE",
            policies.identity_audience.is_empty(),
            reads_tokens,
            "IDENTITY_JWKS_FILE",
        ),
        (
            "IDENTITY_ISSUER",
            policies.identity_issuer.is_empty(),
            reads_tokens,
            "IDENTITY_JWKS_FILE",
        ),
        ("IDENTITY_HASH_KEY", policies.identity_hash_key.is_empty(), has_policies, "POLICIES_FILE"),
        (
            "IDENTITY_COOKIE",
            policies.identity_cookie.is_empty(),
            reads_tokens,
            "IDENTITY_JWKS_FILE",
        ),
        ("TRUSTED_PROXIES", policies.trusted_proxies.is_empty(), has_policies, "POLICIES_FILE"),
        ("AUTHZ_PEERS", given.authz_peers.is_empty(), has_callers, files),
        ("AUTHZ_CLIENT_CA_FILE", given.authz_client_ca_file.is_none(), has_callers, files),
        ("AUTHZ_CLIENT_CA_FILE", given.authz_client_ca_file.is_none(), serves_tls, "TLS_CERT_FILE"),
        ("LOG_DECISIONS", !policies.log_decisions, has_policies, "POLICIES_FILE"),
        ("JWT_AUDIENCE", given.jwt_audience.is_empty(), uses_tokens, "JWT_JWKS_FILE"),
        ("JWT_ISSUER", given.jwt_issuer.is_empty(), uses_tokens, "JWT_JWKS_FILE"),
        (
            "JWT_SCOPE_CLAIM",
            given.jwt_scope_claim == default.jwt_scope_claim,
            uses_tokens,
            "JWT_JWKS_FILE",
        ),
        ("JWT_SCOPE_PREFIX", given.jwt_scope_prefix.is_empty(), uses_tokens, "JWT_JWKS_FILE"),
        ("CALLER_LIMIT", callers.limit.is_none(), has_callers, files),
        ("METRICS_OPEN", given.metrics_open == default.metrics_open, has_callers, files),
        (
            "CALLER_WINDOW_SECONDS",
            given.caller_window_seconds == default.caller_window_seconds,
            has_limits,
            "CALLER_LIMIT or API_KEYS_FILE",
        ),
    ] {
        if !is_default && !takes_effect {
            return Err(StartupError::without_effect(name, needed));
        }
    }
    Ok(())
}
