//! Every setting, each declared once: name, default, range and meaning.

use std::ffi::OsString;

use axum::http::StatusCode;
use tracing::level_filters::LevelFilter;

use super::{
    LogFormat, SettingsError,
    rule::{FailMode, OneOf, OriginList, RedisUrl, Rule, Text, Whole, Window},
};
use crate::quota::UNITS;

/// A setting: an environment variable and the rule that its value must keep.
pub(super) struct Setting<R> {
    name: &'static str,
    default: &'static str,
    rule: R,
    meaning: &'static str,
}

pub(super) const HOST: Setting<Text> = Setting {
    name: "HOST",
    default: "0.0.0.0",
    rule: Text("a host name or an IP address"),
    meaning: "Address to listen on.",
};

pub(super) const PORT: Setting<Whole<u16>> = Setting {
    name: "PORT",
    default: "8000",
    rule: Whole(1..=u16::MAX),
    meaning: "Port to listen on.",
};

pub(super) const REDIS_HOST: Setting<Text> = Setting {
    name: "REDIS_HOST",
    default: "localhost",
    rule: Text("a host name or an IP address"),
    meaning: "Redis server.",
};

pub(super) const REDIS_PORT: Setting<Whole<u16>> = Setting {
    name: "REDIS_PORT",
    default: "6379",
    rule: Whole(1..=u16::MAX),
    meaning: "Port of the Redis server.",
};

pub(super) const REDIS_PASSWORD: Setting<Text> = Setting {
    name: "REDIS_PASSWORD",
    default: "",
    rule: Text("a text"),
    meaning: "Password of the Redis server, if it has one.",
};

pub(super) const REDIS_DB: Setting<Whole<u16>> = Setting {
    name: "REDIS_DB",
    default: "0",
    rule: Whole(0..=u16::MAX),
    meaning: "Redis database number.",
};

pub(super) const REDIS_SSL: Setting<OneOf<bool>> = Setting {
    name: "REDIS_SSL",
    default: "false",
    rule: OneOf(&[("true", true), ("false", false), ("1", true), ("0", false)]),
    meaning: "Whether to connect to Redis with TLS. Certificates are checked against the system's.",
};

pub(super) const REDIS_URL: Setting<RedisUrl> = Setting {
    name: "REDIS_URL",
    default: "",
    rule: RedisUrl,
    meaning: "Redis server as a URL with user, password and database. Wins over the five above.",
};

pub(super) const REDIS_MAX_CONNECTIONS: Setting<Whole<usize>> = Setting {
    name: "REDIS_MAX_CONNECTIONS",
    default: "50",
    rule: Whole(1..=10_000),
    meaning: "Most connections to Redis. Each carries many calls at once, so more than 4 are never \
              opened.",
};

pub(super) const REDIS_TIMEOUT_MS: Setting<Whole<u32>> = Setting {
    name: "REDIS_TIMEOUT_MS",
    default: "100",
    rule: Whole(1..=60_000),
    meaning: "Milliseconds to wait for an answer of Redis before the call fails.",
};

pub(super) const KEY_PREFIX: Setting<Text> = Setting {
    name: "KEY_PREFIX",
    default: "",
    rule: Text("a text"),
    meaning: "Put before every key, so that applications can share one Redis.",
};

pub(super) const DEFAULT_LIMIT: Setting<Whole<u32>> = Setting {
    name: "DEFAULT_LIMIT",
    default: "100",
    rule: Whole(UNITS),
    meaning: "Limit of a request that names none.",
};

pub(super) const DEFAULT_WINDOW_SECONDS: Setting<Window> = Setting {
    name: "DEFAULT_WINDOW_SECONDS",
    default: "60",
    rule: Window,
    meaning: "Window of a request that names none.",
};

pub(super) const DENY_STATUS: Setting<OneOf<StatusCode>> = Setting {
    name: "DENY_STATUS",
    default: "200",
    rule: OneOf(&[("200", StatusCode::OK), ("429", StatusCode::TOO_MANY_REQUESTS)]),
    meaning: "Status of a denial.",
};

pub(super) const FAIL_MODE: Setting<FailMode> = Setting {
    name: "FAIL_MODE",
    default: "closed",
    rule: FailMode,
    meaning: "What a check gets while Redis cannot answer: closed is status 503.",
};

pub(super) const CORS_ALLOW_ORIGINS: Setting<OriginList> = Setting {
    name: "CORS_ALLOW_ORIGINS",
    default: "*",
    rule: OriginList,
    meaning: "Web pages that may call this service from a browser.",
};

pub(super) const LOG_LEVEL: Setting<OneOf<LevelFilter>> = Setting {
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

pub(super) const LOG_FORMAT: Setting<OneOf<LogFormat>> = Setting {
    name: "LOG_FORMAT",
    default: "json",
    rule: OneOf(&[("json", LogFormat::Json), ("text", LogFormat::Text)]),
    meaning: "Form of a log line.",
};

pub(super) const SHUTDOWN_TIMEOUT_MS: Setting<Whole<u32>> = Setting {
    name: "SHUTDOWN_TIMEOUT_MS",
    default: "10000",
    rule: Whole(0..=600_000),
    meaning: "Milliseconds that running requests get to finish after SIGTERM or SIGINT.",
};

impl<R: Rule> Setting<R> {
    /// The value that `lookup` knows, or the default.
    pub(super) fn read(
        &self,
        lookup: &impl Fn(&str) -> Option<OsString>,
    ) -> Result<R::Value, SettingsError> {
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
