//! The settings: their sources, and the options of every part that they become.
//!
//! A setting is an environment variable, or a line of `.env` in the working directory when the
//! environment does not have it. An empty value counts as unset.

mod dependencies;
mod env_file;
mod redis_url;
mod rule;
mod table;
#[cfg(test)]
mod tests;

use std::{env, ffi::OsString, path::PathBuf, time::Duration};

use axum::http::StatusCode;
use limiter::Units;
use policies::digest::HashKey;
use store::{
    DenyCacheOptions, LocalOptions, Location, RedisOptions, RedisTls, StoreOptions, TlsError,
    TlsOption, Topology, pem::CertificateFiles,
};
use tracing::level_filters::LevelFilter;

pub use self::table::table;
use self::table::{
    CallerValues, ListenValues, OtelValues, PolicyValues, RedisServerValues, Texts, Values,
};
use crate::{
    authz::options::AuthzOptions,
    callers::options::{CallerOptions, JwtOptions, ScopeOptions},
    command_line::Setting,
    head::Origins,
    policy_file::options::{PolicyOptions, TokenOptions},
    request::fields::Defaults,
    server::options::{AdminOptions, ListenOptions, ShutdownOptions},
    startup_error::StartupError,
    telemetry::{LogFormat, TraceOptions},
};

/// The key of the digests of secret values.
const HASH_KEY: &str = "IDENTITY_HASH_KEY";

/// The text before every key in Redis.
const KEY_PREFIX: &str = "KEY_PREFIX";

/// All settings, within their ranges.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The listeners.
    pub listen: ListenOptions,
    /// The place of decisions, and the fail mode.
    pub store: StoreOptions,
    /// The quota of a request that leaves it out.
    pub defaults: Defaults,
    /// The status of a denial.
    pub deny_status: StatusCode,
    /// The files that identify callers.
    pub callers: CallerOptions,
    /// The file of policies, if there is one.
    pub policies: Option<PolicyOptions>,
    /// The options of forward authentication.
    pub authz: AuthzOptions,
    /// True if callers may send limits of their own.
    pub inline_limits: bool,
    /// The origins whose pages may call from a browser.
    pub allowed_origins: Origins,
    /// The least important lines to log.
    pub log_level: LevelFilter,
    /// The form of log lines.
    pub log_format: LogFormat,
    /// The receiver of traces.
    pub traces: TraceOptions,
    /// The times of the shutdown.
    pub shutdown: ShutdownOptions,
}

impl Settings {
    /// Reads the environment and `.env`.
    ///
    /// # Errors
    ///
    /// When a value is out of its range, when a setting takes no effect because of another one, or
    /// when `.env` is not a list of `NAME=value`.
    pub fn load() -> Result<Self, StartupError> {
        Self::read(&texts(source()?))
    }

    /// Reads the settings from their texts.
    fn read(texts: &Texts) -> Result<Self, StartupError> {
        let values = Values::parse(texts)?;
        let settings = Self {
            listen: listen(&values, texts.contains_key("MAX_CONNECTIONS"))?,
            store: store(&values)?,
            defaults: Defaults {
                limit: values.default_limit,
                window: values.default_window_seconds,
            },
            deny_status: values.deny_status,
            callers: callers(&values.callers)?,
            policies: policies(&values.policies)?,
            authz: AuthzOptions {
                trusted_proxies: values.policies.trusted_proxies.clone(),
                peers: values.callers.authz_peers.clone(),
                cookie: values.policies.identity_cookie.clone(),
            },
            inline_limits: values.policies.inline_limits,
            allowed_origins: values.cors_allow_origins.clone(),
            log_level: values.log_level,
            log_format: values.log_format,
            traces: traces(&values.otel),
            shutdown: ShutdownOptions {
                delay: millis(values.shutdown_delay_ms),
                timeout: millis(values.shutdown_timeout_ms),
            },
        };
        dependencies::check(&values, &settings.store, &settings.callers)?;
        Ok(settings)
    }
}

/// Reads the environment and `.env` for the key of the digests of secret values alone, as the gateway
/// does.
///
/// # Errors
///
/// As [`Settings::load`].
pub fn hash_key() -> Result<Option<HashKey>, StartupError> {
    Ok(HashKey::new(values_with(HASH_KEY)?.policies.identity_hash_key.as_bytes()))
}

/// Reads the environment and `.env` for the text before the keys in Redis alone, as the gateway does.
///
/// # Errors
///
/// As [`Settings::load`].
pub fn key_prefix() -> Result<String, StartupError> {
    Ok(values_with(KEY_PREFIX)?.key_prefix)
}

/// Returns the values of all settings, of which only this one is read.
fn values_with(name: &str) -> Result<Values, StartupError> {
    let text = source()?(name).map(|text| (name.to_owned(), text));
    Values::parse(&text.into_iter().collect())
}

/// Returns the part that returns the text of a setting: from the environment, or from `.env`.
fn source() -> Result<impl FnMut(&str) -> Option<OsString>, StartupError> {
    let mut file = env_file::read()?;
    Ok(move |name: &str| {
        let value = env::var_os(name).filter(|value| !value.is_empty());
        value.or_else(|| file.remove(name).map(OsString::from)).filter(|value| !value.is_empty())
    })
}

/// Returns the error of the settings for TLS towards Redis.
#[must_use]
pub fn redis_tls_error(error: TlsError) -> StartupError {
    let names = match error.option {
        TlsOption::Protocol => "REDIS_SSL",
        TlsOption::Authorities => "REDIS_TLS_CA_FILE",
        TlsOption::Certificate => "REDIS_TLS_CERT_FILE",
        TlsOption::Key => "REDIS_TLS_KEY_FILE",
        TlsOption::CertificateAndKey => "REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE",
    };
    StartupError::about(names, error.detail)
}

/// Asks `value` for every setting. Settings that `REDIS_URL` overrides are left out when it is set:
/// Kubernetes sets `REDIS_PORT` to a URL where a Service is called redis.
fn texts(mut value: impl FnMut(&str) -> Option<OsString>) -> Texts {
    let mut texts = Texts::new();
    for Setting { name, .. } in table() {
        if let Some(text) = value(&name).filter(|text| !text.is_empty()) {
            texts.insert(name, text);
        }
    }
    if texts.contains_key("REDIS_URL") {
        for name in RedisServerValues::names() {
            texts.remove(&name);
        }
    }
    texts
}

fn listen(values: &Values, sets_connections: bool) -> Result<ListenOptions, StartupError> {
    let serves_authz = values.policies.policies_file.is_some();
    let client_authorities = values.callers.authz_client_ca_file.clone();
    let (logs_clients, values) = (values.log_client_address, &values.listen);
    check_ports(values)?;
    Ok(ListenOptions {
        host: values.host.clone(),
        port: values.port,
        admin: admin(values)?,
        grpc_port: grpc_port(values)?,
        authz_port: optional_port(values.authz_port),
        tls: certificate(
            (&values.tls_cert_file, "TLS_CERT_FILE"),
            (&values.tls_key_file, "TLS_KEY_FILE"),
        )?,
        client_authorities,
        max_connections: values.max_connections,
        max_connections_is_default: !sets_connections,
        header_timeout: millis(values.header_timeout_ms),
        idle_timeout: millis(values.idle_timeout_ms),
        serves_authz,
        logs_clients,
    })
}

/// Returns the options of the admin listener, if `ADMIN_PORT` is set.
fn admin(values: &ListenValues) -> Result<Option<AdminOptions>, StartupError> {
    let ListenValues { host, admin_host, admin_port, .. } = values;
    if *admin_port == 0 {
        // Operators would seem to be separate from clients, and would not be.
        return match admin_host {
            Some(_) => Err(StartupError::without_effect("ADMIN_HOST", "ADMIN_PORT")),
            None => Ok(None),
        };
    }
    let admin_host = admin_host.as_ref().unwrap_or(host);
    Ok(Some(AdminOptions { host: admin_host.clone(), port: *admin_port }))
}

/// Returns the port for gRPC, if `GRPC_PORT` is set.
fn grpc_port(values: &ListenValues) -> Result<Option<u16>, StartupError> {
    if values.grpc_port != 0 && !cfg!(feature = "envoy") {
        let error = "this program was built without gRPC (the feature `envoy` of cargo)";
        return Err(StartupError::about("GRPC_PORT", error));
    }
    Ok(optional_port(values.grpc_port))
}

/// Returns a port unless it is 0, which turns its listener off.
fn optional_port(port: u16) -> Option<u16> {
    Some(port).filter(|port| *port != 0)
}

/// Refuses a port that another setting has at the same address.
fn check_ports(values: &ListenValues) -> Result<(), StartupError> {
    let ListenValues { host, port, admin_host, admin_port, grpc_port, authz_port, .. } = values;
    let ports = [
        ("PORT", host, *port),
        ("ADMIN_PORT", admin_host.as_ref().unwrap_or(host), *admin_port),
        ("GRPC_PORT", host, *grpc_port),
        ("AUTHZ_PORT", host, *authz_port),
    ];
    for (at, (name, host, port)) in ports.iter().enumerate().filter(|(_, (.., port))| *port != 0) {
        let mut before = ports.iter().take(at);
        if let Some((other, ..)) = before.find(|(_, at, taken)| (at, taken) == (host, port)) {
            let error = format!("{port} is {other}, and must be another port");
            return Err(StartupError::about(name, error));
        }
    }
    Ok(())
}

fn store(values: &Values) -> Result<StoreOptions, StartupError> {
    let redis = &values.redis;
    let location = match &redis.redis_url {
        Some(location) => location.clone(),
        None => Location::Redis(server(&redis.server)?),
    };
    let is_cluster = matches!(location, Location::Redis(Topology::Cluster(_)));
    if is_cluster && !store::keeps_slots_together(&values.key_prefix) {
        let error = "the first { needs a text and a } after it, as in {app}: otherwise the keys of an \
                     identifier are in different slots of the cluster";
        return Err(StartupError::about(KEY_PREFIX, error));
    }
    Ok(StoreOptions {
        location,
        redis: RedisOptions {
            max_connections: redis.redis_max_connections,
            max_backlog: redis.redis_max_backlog,
            timeout: millis(redis.redis_timeout_ms),
            tls: RedisTls {
                authorities: redis.redis_tls_ca_file.clone(),
                certificate: certificate(
                    (&redis.redis_tls_cert_file, "REDIS_TLS_CERT_FILE"),
                    (&redis.redis_tls_key_file, "REDIS_TLS_KEY_FILE"),
                )?,
            },
        },
        key_prefix: values.key_prefix.clone(),
        fail_mode: values.fail_mode,
        local: LocalOptions { share: values.local_share, max_keys: values.local_max_keys },
        deny_cache: DenyCacheOptions {
            size: values.deny_cache_size,
            max_age: millis(values.deny_cache_max_ms),
        },
    })
}

/// Returns the server of the settings that `REDIS_URL` overrides.
fn server(values: &RedisServerValues) -> Result<Topology, StartupError> {
    let RedisServerValues { redis_username: user, redis_password: password, .. } = values;
    // Redis takes no user without a password: the login would be that of the default user.
    if !user.is_empty() && password.is_empty() {
        return Err(StartupError::without_effect("REDIS_USERNAME", "REDIS_PASSWORD"));
    }
    let login = redis_url::login(user, password).set_db(values.redis_db.into());
    let host = values.redis_host.clone();
    let server = redis_url::server(host, values.redis_port, values.redis_ssl, login);
    let server = server.map_err(|error| StartupError::about("REDIS_HOST", error))?;
    Ok(Topology::Standalone(Box::new(server)))
}

fn callers(values: &CallerValues) -> Result<CallerOptions, StartupError> {
    let required = |name, value| required_with(name, value, "JWT_JWKS_FILE");
    let jwt = match &values.jwt_jwks_file {
        None => None,
        Some(jwks_file) => Some(JwtOptions {
            jwks_file: jwks_file.clone(),
            audience: required("JWT_AUDIENCE", &values.jwt_audience)?,
            issuer: required("JWT_ISSUER", &values.jwt_issuer)?,
            scopes: ScopeOptions {
                claims: values.jwt_scope_claim.0.clone(),
                prefix: values.jwt_scope_prefix.clone(),
            },
        }),
    };
    Ok(CallerOptions {
        api_keys_file: values.api_keys_file.clone(),
        jwt,
        limit: Units::new(values.caller_limit.into()),
        window: values.caller_window_seconds,
        metrics_open: values.metrics_open,
    })
}

/// Returns the options of the policies, if there is a file of policies.
fn policies(values: &PolicyValues) -> Result<Option<PolicyOptions>, StartupError> {
    let Some(file) = &values.policies_file else {
        // Every caller would get the default limit, which no operator can mean.
        return match values.inline_limits {
            true => Ok(None),
            false => Err(StartupError::about("POLICIES_FILE", "required with INLINE_LIMITS=false")),
        };
    };
    let required = |name, value| required_with(name, value, "IDENTITY_JWKS_FILE");
    let tokens = match &values.identity_jwks_file {
        None => None,
        Some(jwks_file) => Some(TokenOptions {
            jwks_file: jwks_file.clone(),
            audience: required("IDENTITY_AUDIENCE", &values.identity_audience)?,
            issuer: required("IDENTITY_ISSUER", &values.identity_issuer)?,
        }),
    };
    Ok(Some(PolicyOptions {
        file: file.clone(),
        cache_file: values.policies_cache_file.clone(),
        hash_key: HashKey::new(values.identity_hash_key.as_bytes()),
        tokens,
        logs_decisions: values.log_decisions,
    }))
}

/// Returns the value of the setting `name`, which the setting `needed_by` needs.
fn required_with(name: &str, value: &str, needed_by: &str) -> Result<String, StartupError> {
    match value {
        "" => Err(StartupError::about(name, format!("required with {needed_by}"))),
        value => Ok(value.to_owned()),
    }
}

/// Reads the settings of traces by the specification of OpenTelemetry.
fn traces(values: &OtelValues) -> TraceOptions {
    let base = values.otel_exporter_otlp_endpoint.as_ref();
    let base = base.map(|url| format!("{}/v1/traces", url.trim_end_matches('/')));
    let endpoint = values.otel_exporter_otlp_traces_endpoint.clone().or(base);
    let is_on = values.otel_traces_exporter && !values.otel_sdk_disabled;
    TraceOptions {
        endpoint: endpoint.filter(|_| is_on),
        service_name: values.otel_service_name.clone(),
    }
}

/// Returns both files of a certificate, or none. Each file comes with the name of its setting.
fn certificate(
    (certificate, certificate_name): (&Option<PathBuf>, &str),
    (key, key_name): (&Option<PathBuf>, &str),
) -> Result<Option<CertificateFiles>, StartupError> {
    let required = |missing: &str, given: &str| {
        Err(StartupError::about(missing, format!("required with {given}")))
    };
    match (certificate.clone(), key.clone()) {
        (Some(certificate), Some(key)) => Ok(Some(CertificateFiles { certificate, key })),
        (None, None) => Ok(None),
        (Some(_), None) => required(key_name, certificate_name),
        (None, Some(_)) => required(certificate_name, key_name),
    }
}

fn millis(millis: u32) -> Duration {
    Duration::from_millis(millis.into())
}
