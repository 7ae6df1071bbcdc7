//! The settings: where they come from, and the struct that they become.
//!
//! Settings come from environment variables, and from `.env` in the working directory for those
//! that the environment does not have. An empty value counts as unset.

mod rule;
mod table;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, ffi::OsString, fmt, io, time::Duration};

use axum::http::StatusCode;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};
use tracing::level_filters::LevelFilter;

use self::table::{
    CORS_ALLOW_ORIGINS, DEFAULT_LIMIT, DEFAULT_WINDOW_SECONDS, DENY_STATUS, FAIL_MODE, HOST,
    KEY_PREFIX, LOG_FORMAT, LOG_LEVEL, PORT, REDIS_DB, REDIS_HOST, REDIS_MAX_CONNECTIONS,
    REDIS_PASSWORD, REDIS_PORT, REDIS_SSL, REDIS_TIMEOUT_MS, REDIS_URL, SHUTDOWN_TIMEOUT_MS,
};
pub use self::{
    rule::Origins,
    table::{Row, help, table},
};
use crate::{millis::Millis, store::RedisOptions};

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

/// All settings, within their ranges.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address to listen on.
    pub host: String,
    /// Port to listen on.
    pub port: u16,
    /// Where Redis is, and how it is used.
    pub redis: RedisOptions,
    /// What a request gets that leaves out its limit or its window.
    pub defaults: Defaults,
    /// Status of a denial.
    pub deny_status: StatusCode,
    /// Who may call from a browser.
    pub allowed_origins: Origins,
    /// Least important lines to log.
    pub log_level: LevelFilter,
    /// Form of log lines.
    pub log_format: LogFormat,
    /// How long running requests get to finish at the end.
    pub shutdown_timeout: Duration,
}

/// Why the settings cannot be used: one line that names the variable, the fault and the range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError(String);

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SettingsError {}

impl Settings {
    /// Reads the environment and `.env`.
    ///
    /// # Errors
    ///
    /// When a value is out of its range or `.env` is not a list of `NAME=value`.
    pub fn load() -> Result<Self, SettingsError> {
        let file = dotenv()?;
        Self::read(|name| {
            let real = std::env::var_os(name).filter(|value| !value.is_empty());
            real.or_else(|| file.get(name).map(OsString::from))
        })
    }

    /// Reads settings from any place that knows values by name.
    fn read(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, SettingsError> {
        FAIL_MODE.read(&lookup)?;
        Ok(Self {
            host: HOST.read(&lookup)?,
            port: PORT.read(&lookup)?,
            redis: RedisOptions {
                connection: connection(&lookup)?,
                max_connections: REDIS_MAX_CONNECTIONS.read(&lookup)?,
                timeout: Duration::from_millis(REDIS_TIMEOUT_MS.read(&lookup)?.into()),
                key_prefix: KEY_PREFIX.read(&lookup)?,
            },
            defaults: Defaults {
                limit: DEFAULT_LIMIT.read(&lookup)?,
                window: DEFAULT_WINDOW_SECONDS.read(&lookup)?,
            },
            deny_status: DENY_STATUS.read(&lookup)?,
            allowed_origins: CORS_ALLOW_ORIGINS.read(&lookup)?,
            log_level: LOG_LEVEL.read(&lookup)?,
            log_format: LOG_FORMAT.read(&lookup)?,
            shutdown_timeout: Duration::from_millis(SHUTDOWN_TIMEOUT_MS.read(&lookup)?.into()),
        })
    }
}

/// The connection that `REDIS_URL` names, or the five settings that it wins over.
fn connection(lookup: &impl Fn(&str) -> Option<OsString>) -> Result<ConnectionInfo, SettingsError> {
    let (host, port) = (REDIS_HOST.read(lookup)?, REDIS_PORT.read(lookup)?);
    let address = if REDIS_SSL.read(lookup)? {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    let mut login = RedisConnectionInfo::default().set_db(REDIS_DB.read(lookup)?.into());
    let password = REDIS_PASSWORD.read(lookup)?;
    if !password.is_empty() {
        login = login.set_password(password);
    }
    if let Some(connection) = REDIS_URL.read(lookup)? {
        return Ok(connection);
    }
    let connection = address.into_connection_info();
    Ok(connection.map_err(|error| SettingsError(error.to_string()))?.set_redis_settings(login))
}

/// The pairs in `.env`; none without such a file.
fn dotenv() -> Result<HashMap<String, String>, SettingsError> {
    let pairs = match dotenvy::from_path_iter(".env") {
        Ok(pairs) => pairs,
        Err(dotenvy::Error::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(HashMap::new());
        }
        Err(_) => return Err(SettingsError(".env: the file cannot be read".to_owned())),
    };
    // The parser's own message repeats the line, which can hold a password.
    pairs
        .enumerate()
        .map(|(index, pair)| {
            let number = index + 1;
            pair.map_err(|_| SettingsError(format!(".env: entry {number} is not NAME=value")))
        })
        .collect()
}
