//! The settings: where they come from, and the struct that they become.
//!
//! Settings come from environment variables, and from `.env` in the working directory for those
//! that the environment does not have. An empty value counts as unset.

mod dependencies;
mod env_file;
mod redis_url;
mod rule;
mod table;
#[cfg(test)]
mod tests;

use std::{ffi::OsString, fmt, path::PathBuf, time::Duration};

use axum::http::StatusCode;
use store::{
    DenyCacheOptions, LocalOptions, Location, Millis, RedisOptions, RedisTls, StoreOptions,
    TlsError, TlsOption, Topology, pem::CertificateFiles,
};
use tracing::level_filters::LevelFilter;

use self::table::{
    ADMIN_HOST, ADMIN_PORT, API_KEYS_FILE, CALLER_LIMIT, CALLER_WINDOW_SECONDS, CORS_ALLOW_ORIGINS,
    DEFAULT_LIMIT, DEFAULT_WINDOW_SECONDS, DENY_CACHE_MAX_MS, DENY_CACHE_SIZE, DENY_STATUS,
    FAIL_MODE, HEADER_TIMEOUT_MS, HOST, IDLE_TIMEOUT_MS, JWT_AUDIENCE, JWT_ISSUER, JWT_JWKS_FILE,
    JWT_SCOPE_CLAIM, JWT_SCOPE_PREFIX, KEY_PREFIX, LOCAL_MAX_KEYS, LOCAL_SHARE, LOG_CLIENT_ADDRESS,
    LOG_FORMAT, LOG_LEVEL, MAX_CONNECTIONS, METRICS_OPEN, OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_SDK_DISABLED, OTEL_SERVICE_NAME, OTEL_TRACES_EXPORTER,
    PORT, REDIS_DB, REDIS_HOST, REDIS_MAX_BACKLOG, REDIS_MAX_CONNECTIONS, REDIS_PASSWORD,
    REDIS_PORT, REDIS_SSL, REDIS_TIMEOUT_MS, REDIS_TLS_CA_FILE, REDIS_TLS_CERT_FILE,
    REDIS_TLS_KEY_FILE, REDIS_URL, REDIS_USERNAME, SHUTDOWN_DELAY_MS, SHUTDOWN_TIMEOUT_MS,
    TLS_CERT_FILE, TLS_KEY_FILE,
};
pub use self::{
    rule::Origins,
    table::{Row, help, table},
};

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object for each line.
    Json,
    /// For people.
    Text,
}

/// What a request gets that leaves out its limit or its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// Units per window.
    pub limit: u32,
    /// The window.
    pub window: Millis,
}

/// Where clients connect, and what they may make the service wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenOptions {
    /// Address to listen on.
    pub host: String,
    /// Port to listen on.
    pub port: u16,
    /// Where probes and operators connect, if not where clients do.
    pub admin: Option<AdminOptions>,
    /// What to serve HTTPS with; plain HTTP without.
    pub tls: Option<CertificateFiles>,
    /// Most open connections of clients.
    pub max_connections: usize,
    /// Whether no setting asks for this many connections.
    pub max_connections_is_default: bool,
    /// Longest wait for the rest of the head of a request that has begun.
    pub header_timeout: Duration,
    /// Longest wait for the beginning of a request.
    pub idle_timeout: Duration,
    /// Whether the log has the addresses of clients.
    pub logs_clients: bool,
}

/// Where probes and operators connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminOptions {
    /// Address to listen on.
    pub host: String,
    /// Port to listen on.
    pub port: u16,
}

/// Who may call, and how often. Everybody may, unless there is a file of keys or of a key set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerOptions {
    /// The hashed keys of callers.
    pub api_keys_file: Option<PathBuf>,
    /// How to verify tokens of callers.
    pub jwt: Option<JwtOptions>,
    /// Requests that each caller may make per window; `None` is any number.
    pub limit: Option<u32>,
    /// The window of `limit`.
    pub window: Millis,
    /// Whether everybody may read the metrics.
    pub metrics_open: bool,
}

/// What a JSON Web Token must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtOptions {
    /// The key set to verify signatures by.
    pub jwks_file: PathBuf,
    /// The audience that it must name.
    pub audience: String,
    /// The issuer that it must name.
    pub issuer: String,
    /// Where it has its scopes.
    pub scopes: ScopeOptions,
}

/// Where a JSON Web Token has the scopes of its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeOptions {
    /// Claims that hold names of scopes: names, or paths of names with dots between them.
    pub claims: Vec<String>,
    /// Text that stands before every name of a scope.
    pub prefix: String,
}

/// Where traces go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceOptions {
    /// A URL that takes traces as OTLP over HTTP; without one there are none.
    pub endpoint: Option<String>,
    /// What the service is called in them.
    pub service_name: String,
}

/// How the service ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShutdownOptions {
    /// How long it goes on after SIGTERM while it says that it is not ready.
    pub delay: Duration,
    /// How long running requests get to finish after that.
    pub timeout: Duration,
}

/// All settings, within their ranges.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where clients connect.
    pub listen: ListenOptions,
    /// Where states are, and what happens when they cannot be reached.
    pub store: StoreOptions,
    /// What a request gets that leaves out its limit or its window.
    pub defaults: Defaults,
    /// Status of a denial.
    pub deny_status: StatusCode,
    /// Who may call.
    pub callers: CallerOptions,
    /// Who may call from a browser.
    pub allowed_origins: Origins,
    /// Least important lines to log.
    pub log_level: LevelFilter,
    /// Form of log lines.
    pub log_format: LogFormat,
    /// Where traces go.
    pub traces: TraceOptions,
    /// How the service ends.
    pub shutdown: ShutdownOptions,
}

/// Why the settings cannot be used: one line that names the variable, the fault and the range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError(String);

impl SettingsError {
    /// What is wrong with what the setting `name` names, such as a file.
    #[must_use]
    pub fn about(name: &str, fault: impl fmt::Display) -> Self {
        Self(format!("{name}: {fault}"))
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SettingsError {}

impl From<TlsError> for SettingsError {
    fn from(error: TlsError) -> Self {
        let names = match error.option {
            TlsOption::Protocol => "REDIS_SSL",
            TlsOption::Authorities => "REDIS_TLS_CA_FILE",
            TlsOption::Certificate => "REDIS_TLS_CERT_FILE",
            TlsOption::Key => "REDIS_TLS_KEY_FILE",
            TlsOption::CertificateAndKey => "REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE",
        };
        Self::about(names, error.detail)
    }
}

impl Settings {
    /// Reads the environment and `.env`.
    ///
    /// # Errors
    ///
    /// When a value is out of its range or `.env` is not a list of `NAME=value`.
    pub fn load() -> Result<Self, SettingsError> {
        let file = env_file::read()?;
        Self::read(|name| {
            let real = std::env::var_os(name).filter(|value| !value.is_empty());
            real.or_else(|| file.get(name).map(OsString::from))
        })
    }

    /// Reads settings from any place that knows values by name.
    fn read(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, SettingsError> {
        let lookup = &lookup;
        let settings = Self {
            listen: listen(lookup)?,
            store: store(lookup)?,
            defaults: Defaults {
                limit: DEFAULT_LIMIT.read(lookup)?,
                window: DEFAULT_WINDOW_SECONDS.read(lookup)?,
            },
            deny_status: DENY_STATUS.read(lookup)?,
            callers: callers(lookup)?,
            allowed_origins: CORS_ALLOW_ORIGINS.read(lookup)?,
            log_level: LOG_LEVEL.read(lookup)?,
            log_format: LOG_FORMAT.read(lookup)?,
            traces: traces(lookup)?,
            shutdown: ShutdownOptions {
                delay: millis(SHUTDOWN_DELAY_MS.read(lookup)?),
                timeout: millis(SHUTDOWN_TIMEOUT_MS.read(lookup)?),
            },
        };
        dependencies::check(lookup, &settings)?;
        Ok(settings)
    }
}

fn listen(lookup: &impl Fn(&str) -> Option<OsString>) -> Result<ListenOptions, SettingsError> {
    let tls = (TLS_CERT_FILE.read(lookup)?, TLS_KEY_FILE.read(lookup)?);
    let (host, port) = (HOST.read(lookup)?, PORT.read(lookup)?);
    Ok(ListenOptions {
        admin: admin(lookup, &host, port)?,
        host,
        port,
        tls: certificate(tls, ["TLS_CERT_FILE", "TLS_KEY_FILE"])?,
        max_connections: MAX_CONNECTIONS.read(lookup)?,
        max_connections_is_default: !MAX_CONNECTIONS.is_set(lookup),
        header_timeout: millis(HEADER_TIMEOUT_MS.read(lookup)?),
        idle_timeout: millis(IDLE_TIMEOUT_MS.read(lookup)?),
        logs_clients: LOG_CLIENT_ADDRESS.read(lookup)?,
    })
}

/// The admin listener, beside the one of clients at `host` and `port`.
fn admin(
    lookup: &impl Fn(&str) -> Option<OsString>,
    host: &str,
    port: u16,
) -> Result<Option<AdminOptions>, SettingsError> {
    let (own_host, admin_port) = (ADMIN_HOST.read(lookup)?, ADMIN_PORT.read(lookup)?);
    // An address alone would seem to keep operators apart from clients, and would do nothing.
    ADMIN_HOST.require(lookup, admin_port > 0, "ADMIN_PORT")?;
    if admin_port == 0 {
        return Ok(None);
    }
    let host_of_admin = if own_host.is_empty() { host } else { &own_host };
    if (host_of_admin, admin_port) == (host, port) {
        let fault = format!("{port} is PORT, and must be another port");
        return Err(SettingsError::about("ADMIN_PORT", fault));
    }
    Ok(Some(AdminOptions { host: host_of_admin.to_owned(), port: admin_port }))
}

fn store(lookup: &impl Fn(&str) -> Option<OsString>) -> Result<StoreOptions, SettingsError> {
    let certificate_files = (REDIS_TLS_CERT_FILE.read(lookup)?, REDIS_TLS_KEY_FILE.read(lookup)?);
    Ok(StoreOptions {
        location: location(lookup)?,
        redis: RedisOptions {
            max_connections: REDIS_MAX_CONNECTIONS.read(lookup)?,
            max_backlog: REDIS_MAX_BACKLOG.read(lookup)?,
            timeout: millis(REDIS_TIMEOUT_MS.read(lookup)?),
            tls: RedisTls {
                authorities: REDIS_TLS_CA_FILE.read(lookup)?,
                certificate: certificate(
                    certificate_files,
                    ["REDIS_TLS_CERT_FILE", "REDIS_TLS_KEY_FILE"],
                )?,
            },
        },
        key_prefix: KEY_PREFIX.read(lookup)?,
        fail_mode: FAIL_MODE.read(lookup)?,
        local: LocalOptions {
            share: LOCAL_SHARE.read(lookup)?,
            max_keys: LOCAL_MAX_KEYS.read(lookup)?,
        },
        deny_cache: DenyCacheOptions {
            size: DENY_CACHE_SIZE.read(lookup)?,
            max_age: millis(DENY_CACHE_MAX_MS.read(lookup)?),
        },
    })
}

fn callers(lookup: &impl Fn(&str) -> Option<OsString>) -> Result<CallerOptions, SettingsError> {
    let (audience, issuer) = (JWT_AUDIENCE.read(lookup)?, JWT_ISSUER.read(lookup)?);
    let (claims, prefix) = (JWT_SCOPE_CLAIM.read(lookup)?, JWT_SCOPE_PREFIX.read(lookup)?);
    let scopes = ScopeOptions { claims, prefix };
    let jwt = match JWT_JWKS_FILE.read(lookup)? {
        Some(_) if audience.is_empty() => {
            return Err(SettingsError::about("JWT_AUDIENCE", "required with JWT_JWKS_FILE"));
        }
        Some(_) if issuer.is_empty() => {
            return Err(SettingsError::about("JWT_ISSUER", "required with JWT_JWKS_FILE"));
        }
        Some(jwks_file) => Some(JwtOptions { jwks_file, audience, issuer, scopes }),
        None => None,
    };
    Ok(CallerOptions {
        api_keys_file: API_KEYS_FILE.read(lookup)?,
        jwt,
        limit: Some(CALLER_LIMIT.read(lookup)?).filter(|limit| *limit > 0),
        window: CALLER_WINDOW_SECONDS.read(lookup)?,
        metrics_open: METRICS_OPEN.read(lookup)?,
    })
}

/// The variables mean what the specification of OpenTelemetry says.
fn traces(lookup: &impl Fn(&str) -> Option<OsString>) -> Result<TraceOptions, SettingsError> {
    let base = OTEL_EXPORTER_OTLP_ENDPOINT.read(lookup)?;
    let of_base = base.map(|url| format!("{}/v1/traces", url.trim_end_matches('/')));
    let own = OTEL_EXPORTER_OTLP_TRACES_ENDPOINT.read(lookup)?;
    let is_on = OTEL_TRACES_EXPORTER.read(lookup)? && !OTEL_SDK_DISABLED.read(lookup)?;
    Ok(TraceOptions {
        endpoint: own.or(of_base).filter(|_| is_on),
        service_name: OTEL_SERVICE_NAME.read(lookup)?,
    })
}

/// The servers of `REDIS_URL`, or of the six settings that it overrides. With a URL these are not
/// even read: Kubernetes sets `REDIS_PORT` to a URL where a Service is called redis.
fn location(lookup: &impl Fn(&str) -> Option<OsString>) -> Result<Location, SettingsError> {
    if let Some(location) = REDIS_URL.read(lookup)? {
        return Ok(location);
    }
    let (user, password) = (REDIS_USERNAME.read(lookup)?, REDIS_PASSWORD.read(lookup)?);
    // Redis takes no user without a password, and would get the default user.
    REDIS_USERNAME.require(lookup, !password.is_empty(), "REDIS_PASSWORD")?;
    let login = redis_url::login(&user, &password).set_db(REDIS_DB.read(lookup)?.into());
    let (host, port) = (REDIS_HOST.read(lookup)?, REDIS_PORT.read(lookup)?);
    let server = redis_url::server(host, port, REDIS_SSL.read(lookup)?, login);
    let server = server.map_err(SettingsError)?;
    Ok(Location::Redis(Topology::Standalone(Box::new(server))))
}

/// Both files of a certificate, or none of them.
fn certificate(
    files: (Option<PathBuf>, Option<PathBuf>),
    names: [&str; 2],
) -> Result<Option<CertificateFiles>, SettingsError> {
    let required = |missing: &str, given: &str| {
        Err(SettingsError::about(missing, format!("required with {given}")))
    };
    let [certificate_name, key_name] = names;
    match files {
        (Some(certificate), Some(key)) => Ok(Some(CertificateFiles { certificate, key })),
        (None, None) => Ok(None),
        (Some(_), None) => required(key_name, certificate_name),
        (None, Some(_)) => required(certificate_name, key_name),
    }
}

fn millis(millis: u32) -> Duration {
    Duration::from_millis(millis.into())
}
