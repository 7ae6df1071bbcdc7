//! Every setting: name, default, range and meaning, and the struct that they become.
//!
//! Settings come from environment variables, and from `.env` in the working directory for those
//! that the environment does not have. An empty value counts as unset.

mod rule;

use std::{collections::HashMap, ffi::OsString, fmt, io, time::Duration};

use axum::http::StatusCode;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};
use tracing::level_filters::LevelFilter;

pub use self::rule::Origins;
use self::rule::{FailMode, OneOf, OriginList, RedisUrl, Rule, Text, Whole, Window};
use crate::{millis::Millis, quota::UNITS, store::RedisOptions};

/// A setting: an environment variable and the rule that its value must keep.
struct Setting<R> {
    name: &'static str,
    default: &'static str,
    rule: R,
    meaning: &'static str,
}

const HOST: Setting<Text> = Setting {
    name: "HOST",
    default: "0.0.0.0",
    rule: Text("a host name or an IP address"),
    meaning: "Address to listen on.",
};

const PORT: Setting<Whole<u16>> = Setting {
    name: "PORT",
    default: "8000",
    rule: Whole(1..=u16::MAX),
    meaning: "Port to listen on.",
};

const REDIS_HOST: Setting<Text> = Setting {
    name: "REDIS_HOST",
    default: "localhost",
    rule: Text("a host name or an IP address"),
    meaning: "Redis server.",
};

const REDIS_PORT: Setting<Whole<u16>> = Setting {
    name: "REDIS_PORT",
    default: "6379",
    rule: Whole(1..=u16::MAX),
    meaning: "Port of the Redis server.",
};

const REDIS_PASSWORD: Setting<Text> = Setting {
    name: "REDIS_PASSWORD",
    default: "",
    rule: Text("a text"),
    meaning: "Password of the Redis server, if it has one.",
};

const REDIS_DB: Setting<Whole<u16>> = Setting {
    name: "REDIS_DB",
    default: "0",
    rule: Whole(0..=u16::MAX),
    meaning: "Redis database number.",
};

const REDIS_SSL: Setting<OneOf<bool>> = Setting {
    name: "REDIS_SSL",
    default: "false",
    rule: OneOf(&[("true", true), ("false", false), ("1", true), ("0", false)]),
    meaning: "Whether to connect to Redis with TLS. Certificates are checked against the system's.",
};

const REDIS_URL: Setting<RedisUrl> = Setting {
    name: "REDIS_URL",
    default: "",
    rule: RedisUrl,
    meaning: "Redis server as a URL with user, password and database. Wins over the five above.",
};

const REDIS_MAX_CONNECTIONS: Setting<Whole<usize>> = Setting {
    name: "REDIS_MAX_CONNECTIONS",
    default: "50",
    rule: Whole(1..=10_000),
    meaning: "Most connections to Redis. Each carries many calls at once, so more than 4 are never \
              opened.",
};

const REDIS_TIMEOUT_MS: Setting<Whole<u32>> = Setting {
    name: "REDIS_TIMEOUT_MS",
    default: "100",
    rule: Whole(1..=60_000),
    meaning: "Milliseconds to wait for an answer of Redis before the call fails.",
};

const KEY_PREFIX: Setting<Text> = Setting {
    name: "KEY_PREFIX",
    default: "",
    rule: Text("a text"),
    meaning: "Put before every key, so that applications can share one Redis.",
};

const DEFAULT_LIMIT: Setting<Whole<u32>> = Setting {
    name: "DEFAULT_LIMIT",
    default: "100",
    rule: Whole(UNITS),
    meaning: "Limit of a request that names none.",
};

const DEFAULT_WINDOW_SECONDS: Setting<Window> = Setting {
    name: "DEFAULT_WINDOW_SECONDS",
    default: "60",
    rule: Window,
    meaning: "Window of a request that names none.",
};

const DENY_STATUS: Setting<OneOf<StatusCode>> = Setting {
    name: "DENY_STATUS",
    default: "200",
    rule: OneOf(&[("200", StatusCode::OK), ("429", StatusCode::TOO_MANY_REQUESTS)]),
    meaning: "Status of a denial.",
};

const FAIL_MODE: Setting<FailMode> = Setting {
    name: "FAIL_MODE",
    default: "closed",
    rule: FailMode,
    meaning: "What a check gets while Redis cannot answer: closed is status 503.",
};

const CORS_ALLOW_ORIGINS: Setting<OriginList> = Setting {
    name: "CORS_ALLOW_ORIGINS",
    default: "*",
    rule: OriginList,
    meaning: "Web pages that may call this service from a browser.",
};

const LOG_LEVEL: Setting<OneOf<LevelFilter>> = Setting {
    name: "LOG_LEVEL",
    default: "INFO",
    rule: OneOf(&[
        ("DEBUG", LevelFilter::DEBUG),
        ("INFO", LevelFilter::INFO),
        ("WARNING", LevelFilter::WARN),
        ("WARN", LevelFilter::WARN),
        ("ERROR", LevelFilter::ERROR),
        ("CRITICAL", LevelFilter::ERROR),
    ]),
    meaning: "Least important lines to log. Identifiers appear at DEBUG only.",
};

const LOG_FORMAT: Setting<OneOf<LogFormat>> = Setting {
    name: "LOG_FORMAT",
    default: "json",
    rule: OneOf(&[("json", LogFormat::Json), ("text", LogFormat::Text)]),
    meaning: "Form of a log line.",
};

const SHUTDOWN_TIMEOUT_MS: Setting<Whole<u32>> = Setting {
    name: "SHUTDOWN_TIMEOUT_MS",
    default: "10000",
    rule: Whole(0..=600_000),
    meaning: "Milliseconds that running requests get to finish after SIGTERM or SIGINT.",
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

impl<R: Rule> Setting<R> {
    fn read(&self, lookup: &impl Fn(&str) -> Option<OsString>) -> Result<R::Value, SettingsError> {
        let text = match lookup(self.name).filter(|value| !value.is_empty()) {
            Some(value) => value
                .into_string()
                .map_err(|_| SettingsError(format!("{}: the value is not UTF-8", self.name)))?,
            None => self.default.to_owned(),
        };
        self.rule.parse(&text).map_err(|fault| SettingsError(format!("{}: {fault}", self.name)))
    }

    fn row(&self) -> Row {
        Row {
            name: self.name,
            default: self.default,
            range: self.rule.range(),
            meaning: self.meaning,
        }
    }
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

/// What a reader needs to know about a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The environment variable.
    pub name: &'static str,
    /// Its value when unset.
    pub default: &'static str,
    /// What values it takes.
    pub range: String,
    /// What it is for.
    pub meaning: &'static str,
}

/// Every setting, in the order of the documentation.
#[must_use]
pub fn table() -> Vec<Row> {
    vec![
        HOST.row(),
        PORT.row(),
        REDIS_HOST.row(),
        REDIS_PORT.row(),
        REDIS_PASSWORD.row(),
        REDIS_DB.row(),
        REDIS_SSL.row(),
        REDIS_URL.row(),
        REDIS_MAX_CONNECTIONS.row(),
        REDIS_TIMEOUT_MS.row(),
        KEY_PREFIX.row(),
        DEFAULT_LIMIT.row(),
        DEFAULT_WINDOW_SECONDS.row(),
        DENY_STATUS.row(),
        FAIL_MODE.row(),
        CORS_ALLOW_ORIGINS.row(),
        LOG_LEVEL.row(),
        LOG_FORMAT.row(),
        SHUTDOWN_TIMEOUT_MS.row(),
    ]
}

/// What `--help` prints.
#[must_use]
pub fn help() -> String {
    let mut text = "HTTP API over the RATELIMIT commands of Redis.\n\n\
                    Usage: ratelimit-gateway [--help | --version]\n\n\
                    Settings are environment variables, or lines of .env in the working \
                    directory:\n\n"
        .to_owned();
    for Row { name, default, range, meaning } in table() {
        let default = if default.is_empty() { "nothing" } else { default };
        text += &format!("  {name}\n      {meaning}\n      {range}; by default {default}\n");
    }
    text
}
