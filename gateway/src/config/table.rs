//! Every setting, each declared once: name, default, range and meaning.

use std::ffi::OsString;

use axum::http::StatusCode;
use store::FailMode;
use tracing::level_filters::LevelFilter;

use super::{
    LogFormat, SettingsError,
    redis_url::RedisUrl,
    rule::{
        ClaimList, Host, HttpUrl, OneOf, OriginList, Path, Rule, Share, Text, Whole, Window, Word,
    },
};
use crate::quota::UNITS;

const TRUE_OR_FALSE: OneOf<bool> =
    OneOf(&[("true", true), ("false", false), ("1", true), ("0", false)]);

/// A setting: an environment variable and the rule that its value must keep.
pub(super) struct Setting<R> {
    name: &'static str,
    default: &'static str,
    rule: R,
    meaning: &'static str,
}

pub(super) const HOST: Setting<Host> = Setting {
    name: "HOST",
    default: "0.0.0.0",
    rule: Host { optional: false },
    meaning: "Address to listen on.",
};

pub(super) const PORT: Setting<Whole<u16>> = Setting {
    name: "PORT",
    default: "8000",
    rule: Whole(1..=u16::MAX),
    meaning: "Port to listen on.",
};

pub(super) const ADMIN_HOST: Setting<Host> = Setting {
    name: "ADMIN_HOST",
    default: "",
    rule: Host { optional: true },
    meaning: "Address to listen on with ADMIN_PORT; without it that of HOST.",
};

pub(super) const ADMIN_PORT: Setting<Whole<u16>> = Setting {
    name: "ADMIN_PORT",
    default: "0",
    rule: Whole(0..=u16::MAX),
    meaning: "Port for probes and operators, with 64 connections of its own: /health and below, and \
              /metrics, which PORT does not serve then. 0 is none.",
};

pub(super) const TLS_CERT_FILE: Setting<Path> = Setting {
    name: "TLS_CERT_FILE",
    default: "",
    rule: Path,
    meaning: "PEM file with the certificate chain to serve HTTPS with, read again when it changes.",
};

pub(super) const TLS_KEY_FILE: Setting<Path> = Setting {
    name: "TLS_KEY_FILE",
    default: "",
    rule: Path,
    meaning: "PEM file with the key of that certificate.",
};

pub(super) const MAX_CONNECTIONS: Setting<Whole<usize>> = Setting {
    name: "MAX_CONNECTIONS",
    default: "20000",
    rule: Whole(1..=1_000_000),
    meaning: "Most open connections of clients. One more is refused.",
};

pub(super) const HEADER_TIMEOUT_MS: Setting<Whole<u32>> = Setting {
    name: "HEADER_TIMEOUT_MS",
    default: "10000",
    rule: Whole(1..=600_000),
    meaning: "Milliseconds that a client gets to send the head of a request once it has begun.",
};

pub(super) const IDLE_TIMEOUT_MS: Setting<Whole<u32>> = Setting {
    name: "IDLE_TIMEOUT_MS",
    default: "620000",
    rule: Whole(1..=86_400_000),
    meaning: "Milliseconds that a connection is kept without a request. Longer than load balancers \
              and proxies keep theirs.",
};

pub(super) const REDIS_HOST: Setting<Host> = Setting {
    name: "REDIS_HOST",
    default: "localhost",
    rule: Host { optional: false },
    meaning: "Redis server.",
};

pub(super) const REDIS_PORT: Setting<Whole<u16>> = Setting {
    name: "REDIS_PORT",
    default: "6379",
    rule: Whole(1..=u16::MAX),
    meaning: "Port of the Redis server.",
};

pub(super) const REDIS_USERNAME: Setting<Text> = Setting {
    name: "REDIS_USERNAME",
    default: "",
    rule: Text("a text"),
    meaning: "User of the Redis server, if it is not the default one.",
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
    rule: TRUE_OR_FALSE,
    meaning: "Whether to connect to Redis with TLS.",
};

pub(super) const REDIS_URL: Setting<RedisUrl> = Setting {
    name: "REDIS_URL",
    default: "",
    rule: RedisUrl,
    meaning: "Redis as a URL with user, password and database. The six above are not read then. \
              memory:// needs no Redis.",
};

pub(super) const REDIS_TLS_CA_FILE: Setting<Path> = Setting {
    name: "REDIS_TLS_CA_FILE",
    default: "",
    rule: Path,
    meaning: "PEM file with the certificates to trust Redis by, instead of the system's.",
};

pub(super) const REDIS_TLS_CERT_FILE: Setting<Path> = Setting {
    name: "REDIS_TLS_CERT_FILE",
    default: "",
    rule: Path,
    meaning: "PEM file with the certificate to show to Redis.",
};

pub(super) const REDIS_TLS_KEY_FILE: Setting<Path> = Setting {
    name: "REDIS_TLS_KEY_FILE",
    default: "",
    rule: Path,
    meaning: "PEM file with the key of that certificate.",
};

pub(super) const REDIS_MAX_CONNECTIONS: Setting<Whole<usize>> = Setting {
    name: "REDIS_MAX_CONNECTIONS",
    default: "50",
    rule: Whole(1..=10_000),
    meaning: "Most connections to Redis. Each carries many calls at once, so more than 4 to one \
              server are never opened.",
};

pub(super) const REDIS_MAX_BACKLOG: Setting<Whole<usize>> = Setting {
    name: "REDIS_MAX_BACKLOG",
    default: "4096",
    rule: Whole(1..=1_000_000),
    meaning: "Most calls that wait for Redis at once. One more is answered with 503.",
};

pub(super) const REDIS_TIMEOUT_MS: Setting<Whole<u32>> = Setting {
    name: "REDIS_TIMEOUT_MS",
    default: "100",
    rule: Whole(1..=60_000),
    meaning: "Milliseconds to wait for an answer of Redis before FAIL_MODE decides.",
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

pub(super) const FAIL_MODE: Setting<OneOf<FailMode>> = Setting {
    name: "FAIL_MODE",
    default: "closed",
    rule: OneOf(&[
        ("closed", FailMode::Closed),
        ("open", FailMode::Open),
        ("local", FailMode::Local),
    ]),
    meaning: "What a check gets while Redis cannot answer: status 503, a grant, or a decision of \
              this process alone.",
};

pub(super) const LOCAL_SHARE: Setting<Share> = Setting {
    name: "LOCAL_SHARE",
    default: "1",
    rule: Share,
    meaning: "Share of every limit that this process grants by itself with FAIL_MODE=local: 0.25 \
              for one of four instances.",
};

pub(super) const LOCAL_MAX_KEYS: Setting<Whole<usize>> = Setting {
    name: "LOCAL_MAX_KEYS",
    default: "100000",
    rule: Whole(1..=100_000_000),
    meaning: "Most quotas of each algorithm that this process keeps with FAIL_MODE=local or \
              memory://; a long log counts as several. Beyond it quotas that would grant are \
              forgotten, and when all deny, new ones are denied.",
};

pub(super) const DENY_CACHE_SIZE: Setting<Whole<usize>> = Setting {
    name: "DENY_CACHE_SIZE",
    default: "10000",
    rule: Whole(0..=10_000_000),
    meaning: "Most denials that are remembered, so that a repeated one costs no call to Redis. 0 \
              turns it off.",
};

pub(super) const DENY_CACHE_MAX_MS: Setting<Whole<u32>> = Setting {
    name: "DENY_CACHE_MAX_MS",
    default: "1000",
    rule: Whole(1..=3_600_000),
    meaning: "Milliseconds after which a remembered denial is forgotten at the latest.",
};

pub(super) const API_KEYS_FILE: Setting<Path> = Setting {
    name: "API_KEYS_FILE",
    default: "",
    rule: Path,
    meaning: "JSON file with the hashed keys of callers, read again when it changes. Callers \
              without one are refused.",
};

pub(super) const JWT_JWKS_FILE: Setting<Path> = Setting {
    name: "JWT_JWKS_FILE",
    default: "",
    rule: Path,
    meaning: "JSON Web Key Set to verify the tokens of callers by, read again when it changes. \
              Callers without one are refused.",
};

pub(super) const JWT_AUDIENCE: Setting<Text> = Setting {
    name: "JWT_AUDIENCE",
    default: "",
    rule: Text("a text"),
    meaning: "Audience that tokens must name. Required with JWT_JWKS_FILE.",
};

pub(super) const JWT_ISSUER: Setting<Text> = Setting {
    name: "JWT_ISSUER",
    default: "",
    rule: Text("a text"),
    meaning: "Issuer that tokens must name. Required with JWT_JWKS_FILE.",
};

pub(super) const JWT_SCOPE_CLAIM: Setting<ClaimList> = Setting {
    name: "JWT_SCOPE_CLAIM",
    default: "scope,scp,scopes",
    rule: ClaimList,
    meaning: "Claims of a token that hold its scopes, separated by commas. A path such as \
              realm_access.roles leads into objects.",
};

pub(super) const JWT_SCOPE_PREFIX: Setting<Word> = Setting {
    name: "JWT_SCOPE_PREFIX",
    default: "",
    rule: Word,
    meaning: "Text before the name of each scope in a token, such as ratelimit: in \
              ratelimit:check.",
};

pub(super) const CALLER_LIMIT: Setting<Whole<u32>> = Setting {
    name: "CALLER_LIMIT",
    default: "0",
    rule: Whole(0..=*UNITS.end()),
    meaning: "Requests that each caller may make per CALLER_WINDOW_SECONDS; each check of a batch \
              counts as one. 0 is any number.",
};

pub(super) const CALLER_WINDOW_SECONDS: Setting<Window> = Setting {
    name: "CALLER_WINDOW_SECONDS",
    default: "1",
    rule: Window,
    meaning: "Window of CALLER_LIMIT.",
};

pub(super) const METRICS_OPEN: Setting<OneOf<bool>> = Setting {
    name: "METRICS_OPEN",
    default: "true",
    rule: TRUE_OR_FALSE,
    meaning: "Whether /metrics is there for everybody, also when callers need a key or a token.",
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

pub(super) const LOG_CLIENT_ADDRESS: Setting<OneOf<bool>> = Setting {
    name: "LOG_CLIENT_ADDRESS",
    default: "false",
    rule: TRUE_OR_FALSE,
    meaning: "Whether lines about a request have the address that it comes from: that of the last \
              proxy.",
};

pub(super) const OTEL_EXPORTER_OTLP_ENDPOINT: Setting<HttpUrl> = Setting {
    name: "OTEL_EXPORTER_OTLP_ENDPOINT",
    default: "",
    rule: HttpUrl,
    meaning: "Where to send traces with OTLP over HTTP, such as http://localhost:4318.",
};

pub(super) const OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: Setting<HttpUrl> = Setting {
    name: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    default: "",
    rule: HttpUrl,
    meaning: "Whole URL to send traces to, instead of v1/traces below OTEL_EXPORTER_OTLP_ENDPOINT.",
};

pub(super) const OTEL_TRACES_EXPORTER: Setting<OneOf<bool>> = Setting {
    name: "OTEL_TRACES_EXPORTER",
    default: "otlp",
    rule: OneOf(&[("otlp", true), ("none", false)]),
    meaning: "How to send traces; none sends no traces.",
};

pub(super) const OTEL_SDK_DISABLED: Setting<OneOf<bool>> = Setting {
    name: "OTEL_SDK_DISABLED",
    default: "false",
    rule: OneOf(&[("true", true), ("false", false)]),
    meaning: "Whether to send no traces, whatever the other settings are.",
};

pub(super) const OTEL_SERVICE_NAME: Setting<Text> = Setting {
    name: "OTEL_SERVICE_NAME",
    default: "ratelimit-gateway",
    rule: Text("a text"),
    meaning: "Name of this service in traces.",
};

pub(super) const SHUTDOWN_DELAY_MS: Setting<Whole<u32>> = Setting {
    name: "SHUTDOWN_DELAY_MS",
    default: "1000",
    rule: Whole(0..=600_000),
    meaning: "Milliseconds to go on as usual after SIGTERM, except that /health/ready is 503, so \
              that load balancers look elsewhere.",
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

    /// Returns whether there is a value. An empty one counts as none.
    pub(super) fn is_set(&self, lookup: &impl Fn(&str) -> Option<OsString>) -> bool {
        lookup(self.name).is_some_and(|value| !value.is_empty())
    }

    /// Refuses a value other than the default when `takes_effect` is false: the operator relies on
    /// it, and it would do nothing. `needed` names what is missing.
    pub(super) fn require(
        &self,
        lookup: &impl Fn(&str) -> Option<OsString>,
        takes_effect: bool,
        needed: &str,
    ) -> Result<(), SettingsError>
    where
        R::Value: PartialEq,
    {
        if takes_effect || self.read(lookup)? == self.read(&|_: &str| None)? {
            return Ok(());
        }
        Err(SettingsError::about(self.name, format!("takes no effect without {needed}")))
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
        ADMIN_HOST.row(),
        ADMIN_PORT.row(),
        TLS_CERT_FILE.row(),
        TLS_KEY_FILE.row(),
        MAX_CONNECTIONS.row(),
        HEADER_TIMEOUT_MS.row(),
        IDLE_TIMEOUT_MS.row(),
        REDIS_HOST.row(),
        REDIS_PORT.row(),
        REDIS_USERNAME.row(),
        REDIS_PASSWORD.row(),
        REDIS_DB.row(),
        REDIS_SSL.row(),
        REDIS_URL.row(),
        REDIS_TLS_CA_FILE.row(),
        REDIS_TLS_CERT_FILE.row(),
        REDIS_TLS_KEY_FILE.row(),
        REDIS_MAX_CONNECTIONS.row(),
        REDIS_MAX_BACKLOG.row(),
        REDIS_TIMEOUT_MS.row(),
        KEY_PREFIX.row(),
        DEFAULT_LIMIT.row(),
        DEFAULT_WINDOW_SECONDS.row(),
        DENY_STATUS.row(),
        FAIL_MODE.row(),
        LOCAL_SHARE.row(),
        LOCAL_MAX_KEYS.row(),
        DENY_CACHE_SIZE.row(),
        DENY_CACHE_MAX_MS.row(),
        API_KEYS_FILE.row(),
        JWT_JWKS_FILE.row(),
        JWT_AUDIENCE.row(),
        JWT_ISSUER.row(),
        JWT_SCOPE_CLAIM.row(),
        JWT_SCOPE_PREFIX.row(),
        CALLER_LIMIT.row(),
        CALLER_WINDOW_SECONDS.row(),
        METRICS_OPEN.row(),
        CORS_ALLOW_ORIGINS.row(),
        LOG_LEVEL.row(),
        LOG_FORMAT.row(),
        LOG_CLIENT_ADDRESS.row(),
        OTEL_EXPORTER_OTLP_ENDPOINT.row(),
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT.row(),
        OTEL_TRACES_EXPORTER.row(),
        OTEL_SDK_DISABLED.row(),
        OTEL_SERVICE_NAME.row(),
        SHUTDOWN_DELAY_MS.row(),
        SHUTDOWN_TIMEOUT_MS.row(),
    ]
}

/// What `--help` says about every setting.
#[must_use]
pub fn help() -> String {
    let mut text = String::new();
    for Row { name, default, range, meaning } in table() {
        let default = if default.is_empty() { "nothing" } else { default };
        text += &format!("  {name}\n      {meaning}\n      {range}; by default {default}\n");
    }
    text
}
