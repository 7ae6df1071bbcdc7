//! Every setting, each declared once: name, default, values, meaning and field.
//!
//! clap reads the settings as `--NAME=value`, which [`Values::parse`] makes of the texts that it is
//! given. No setting can be given on the command line, where other users of the machine could read a
//! password.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

use axum::http::StatusCode;
use clap::{ArgAction::Set, Args, Command, CommandFactory, Parser};
use limiter::{Units, Window};
use store::{FailMode, Location, Thousandths};
use tracing::level_filters::LevelFilter;

use super::{
    redis_url::RedisUrl,
    rule::{
        ClaimList, ClaimNames, CookieName, Host, HttpUrl, NetworkList, OneOf, OriginList, Path,
        Rule, Secret, Share, Text, UnitCount, Whole, WindowSeconds, Word, name, range,
    },
};
use crate::{
    authz::options::Networks, command_line::Setting, head::Origins, request::quota::UNITS,
    startup_error::StartupError, telemetry::LogFormat,
};

/// The texts of the settings that are set, by name.
pub(super) type Texts = BTreeMap<String, OsString>;

const TRUE_OR_FALSE: OneOf<bool> =
    OneOf(&[("true", true), ("false", false), ("1", true), ("0", false)]);

/// Every setting. The field is the name in lower case, and the comment is the meaning in `--help`.
#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true, rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) struct Values {
    #[command(flatten)]
    pub(super) listen: ListenValues,

    #[command(flatten)]
    pub(super) redis: RedisValues,

    /// Text before every key, so that applications can share one Redis.
    #[arg(long, default_value = "", value_parser = Rule(Text))]
    pub(super) key_prefix: String,

    /// Limit of a request that names none.
    #[arg(long, default_value = "100", value_parser = Rule(UnitCount))]
    pub(super) default_limit: Units,

    /// Window of a request that names none.
    #[arg(long, default_value = "60", value_parser = Rule(WindowSeconds))]
    pub(super) default_window_seconds: Window,

    /// Status of a denial.
    #[arg(
        long,
        default_value = "200",
        value_parser = Rule(OneOf(&[
            ("200", StatusCode::OK),
            ("429", StatusCode::TOO_MANY_REQUESTS),
        ]))
    )]
    pub(super) deny_status: StatusCode,

    /// The answer to a check while Redis cannot answer: status 503, a grant, or a decision of this
    /// process alone.
    #[arg(
        long,
        default_value = "closed",
        value_parser = Rule(OneOf(&[
            ("closed", FailMode::Closed),
            ("open", FailMode::Open),
            ("local", FailMode::Local),
        ]))
    )]
    pub(super) fail_mode: FailMode,

    /// Share of every limit that this process grants by itself with FAIL_MODE=local: 0.25 for one
    /// of four instances.
    #[arg(long, default_value = "1", value_parser = Rule(Share))]
    pub(super) local_share: Thousandths,

    /// The largest number of quotas of each algorithm that this process keeps with FAIL_MODE=local
    /// or memory://; a long log counts as several. Beyond this number the process removes quotas
    /// that would grant, and when all deny, it denies new ones.
    #[arg(long, default_value = "100000", value_parser = Rule(Whole::<usize>(1..=100_000_000)))]
    pub(super) local_max_keys: usize,

    /// The largest number of denials in the deny cache, so that a repeated denial costs no call to
    /// Redis. 0 turns the cache off.
    #[arg(long, default_value = "10000", value_parser = Rule(Whole::<usize>(0..=10_000_000)))]
    pub(super) deny_cache_size: usize,

    /// The largest number of milliseconds for which the deny cache keeps a denial.
    #[arg(long, default_value = "1000", value_parser = Rule(Whole::<u32>(1..=3_600_000)))]
    pub(super) deny_cache_max_ms: u32,

    #[command(flatten)]
    pub(super) policies: PolicyValues,

    #[command(flatten)]
    pub(super) callers: CallerValues,

    /// Web pages that may call this service from a browser.
    #[arg(long, default_value = "*", value_parser = Rule(OriginList))]
    pub(super) cors_allow_origins: Origins,

    /// Lowest level of the lines to log. Identifiers appear at DEBUG only.
    #[arg(
        long,
        default_value = "INFO",
        value_parser = Rule(OneOf(&[
            ("DEBUG", LevelFilter::DEBUG),
            ("INFO", LevelFilter::INFO),
            ("WARNING", LevelFilter::WARN),
            ("WARN", LevelFilter::WARN),
            ("ERROR", LevelFilter::ERROR),
            ("CRITICAL", LevelFilter::ERROR),
        ]))
    )]
    pub(super) log_level: LevelFilter,

    /// Form of a log line.
    #[arg(
        long,
        default_value = "json",
        value_parser = Rule(OneOf(&[("json", LogFormat::Json), ("text", LogFormat::Text)]))
    )]
    pub(super) log_format: LogFormat,

    /// Adds the address that a request comes from, which is that of the last proxy, to its log line.
    #[arg(long, action = Set, default_value = "false", value_parser = Rule(TRUE_OR_FALSE))]
    pub(super) log_client_address: bool,

    #[command(flatten)]
    pub(super) otel: OtelValues,

    /// Milliseconds for which requests are served after SIGTERM, with 503 at /health/ready, so that
    /// load balancers choose another instance.
    #[arg(long, default_value = "1000", value_parser = Rule(Whole::<u32>(0..=600_000)))]
    pub(super) shutdown_delay_ms: u32,

    /// Milliseconds in which running requests must finish after SIGTERM or SIGINT.
    #[arg(long, default_value = "10000", value_parser = Rule(Whole::<u32>(0..=600_000)))]
    pub(super) shutdown_timeout_ms: u32,
}

/// Settings of the listeners.
#[derive(Args)]
#[command(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) struct ListenValues {
    /// Address to listen on.
    #[arg(long, default_value = "0.0.0.0", value_parser = Rule(Host))]
    pub(super) host: String,

    /// Port to listen on.
    #[arg(long, default_value = "8000", value_parser = Rule(Whole::<u16>(1..=u16::MAX)))]
    pub(super) port: u16,

    /// Address to listen on with ADMIN_PORT; the default is HOST.
    #[arg(long, value_parser = Rule(Host))]
    pub(super) admin_host: Option<String>,

    /// A second port for probes and operators. It serves /health, the paths below it, and /metrics;
    /// PORT then no longer serves /metrics. 0 turns it off.
    #[arg(long, default_value = "0", value_parser = Rule(Whole::<u16>(0..=u16::MAX)))]
    pub(super) admin_port: u16,

    /// A port for the gRPC services of Envoy, with the certificate of TLS_CERT_FILE if it is set. 0
    /// turns it off.
    #[arg(long, default_value = "0", value_parser = Rule(Whole::<u16>(0..=u16::MAX)))]
    pub(super) grpc_port: u16,

    /// A port that serves forward authentication and nothing else; PORT then no longer serves it. 0 turns
    /// it off.
    #[arg(long, default_value = "0", value_parser = Rule(Whole::<u16>(0..=u16::MAX)))]
    pub(super) authz_port: u16,

    /// PEM file with the certificate chain for HTTPS, read again when it changes.
    #[arg(long, value_parser = Rule(Path))]
    pub(super) tls_cert_file: Option<PathBuf>,

    /// PEM file with the key of that certificate.
    #[arg(long, value_parser = Rule(Path))]
    pub(super) tls_key_file: Option<PathBuf>,

    /// The largest number of open connections of clients. Further connections are refused.
    #[arg(long, default_value = "20000", value_parser = Rule(Whole::<usize>(1..=1_000_000)))]
    pub(super) max_connections: usize,

    /// Milliseconds in which a client must send the head of a request after its first byte.
    #[arg(long, default_value = "10000", value_parser = Rule(Whole::<u32>(1..=600_000)))]
    pub(super) header_timeout_ms: u32,

    /// Milliseconds for which a connection stays open without a request. Choose a longer time than
    /// that of load balancers and proxies.
    #[arg(long, default_value = "620000", value_parser = Rule(Whole::<u32>(1..=86_400_000)))]
    pub(super) idle_timeout_ms: u32,
}

/// Settings of one server of Redis, which `REDIS_URL` overrides.
#[derive(Args)]
#[command(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) struct RedisServerValues {
    /// Redis server.
    #[arg(long, default_value = "localhost", value_parser = Rule(Host))]
    pub(super) redis_host: String,

    /// Port of the Redis server.
    #[arg(long, default_value = "6379", value_parser = Rule(Whole::<u16>(1..=u16::MAX)))]
    pub(super) redis_port: u16,

    /// User of the Redis server, if it is not the default one.
    #[arg(long, default_value = "", value_parser = Rule(Text))]
    pub(super) redis_username: String,

    /// Password of the Redis server, if it has one.
    #[arg(long, default_value = "", value_parser = Rule(Text))]
    pub(super) redis_password: String,

    /// Redis database number.
    #[arg(long, default_value = "0", value_parser = Rule(Whole::<u16>(0..=u16::MAX)))]
    pub(super) redis_db: u16,

    /// Connects to Redis with TLS.
    #[arg(long, action = Set, default_value = "false", value_parser = Rule(TRUE_OR_FALSE))]
    pub(super) redis_ssl: bool,
}

/// Settings of the connections to Redis.
#[derive(Args)]
#[command(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) struct RedisValues {
    #[command(flatten)]
    pub(super) server: RedisServerValues,

    /// Redis as a URL with user, password and database. If it is set, REDIS_HOST, REDIS_PORT,
    /// REDIS_USERNAME, REDIS_PASSWORD, REDIS_DB and REDIS_SSL are ignored. memory:// needs no
    /// Redis.
    #[arg(long, value_parser = Rule(RedisUrl))]
    pub(super) redis_url: Option<Location>,

    /// PEM file with the authorities that may issue the certificate of Redis, instead of those of
    /// the system.
    #[arg(long, value_parser = Rule(Path))]
    pub(super) redis_tls_ca_file: Option<PathBuf>,

    /// PEM file with the client certificate for Redis.
    #[arg(long, value_parser = Rule(Path))]
    pub(super) redis_tls_cert_file: Option<PathBuf>,

    /// PEM file with the key of that certificate.
    #[arg(long, value_parser = Rule(Path))]
    pub(super) redis_tls_key_file: Option<PathBuf>,

    /// The largest number of connections to Redis. Each carries many calls at once, so more than 4
    /// to one server are never opened.
    #[arg(long, default_value = "50", value_parser = Rule(Whole::<usize>(1..=10_000)))]
    pub(super) redis_max_connections: usize,

    /// The largest number of calls that wait for Redis at once. Further calls are answered with
    /// 503.
    #[arg(long, default_value = "4096", value_parser = Rule(Whole::<usize>(1..=1_000_000)))]
    pub(super) redis_max_backlog: usize,

    /// Milliseconds to wait for an answer of Redis before FAIL_MODE decides.
    #[arg(long, default_value = "100", value_parser = Rule(Whole::<u32>(1..=60_000)))]
    pub(super) redis_timeout_ms: u32,
}

/// Settings of the policies.
#[derive(Args)]
#[command(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) struct PolicyValues {
    /// YAML file with the policies: which requests are limited by which limits. Read again when it
    /// changes.
    #[arg(long, value_parser = Rule(Path))]
    pub(super) policies_file: Option<PathBuf>,

    /// File in which the gateway keeps the last policies that loaded. While POLICIES_FILE has an
    /// error, the gateway starts with these policies.
    #[arg(long, value_parser = Rule(Path))]
    pub(super) policies_cache_file: Option<PathBuf>,

    /// Accepts limits that callers send. With false only the policies decide, and a request with a
    /// limit of its own is answered with 403.
    #[arg(long, action = Set, default_value = "true", value_parser = Rule(TRUE_OR_FALSE))]
    pub(super) inline_limits: bool,

    /// JSON Web Key Set with which the tokens of end users are verified, read again when it changes.
    /// Policies read the claims of these tokens as jwt.NAME.
    #[arg(long, value_parser = Rule(Path))]
    pub(super) identity_jwks_file: Option<PathBuf>,

    /// Audience that tokens of end users must name. Required with IDENTITY_JWKS_FILE.
    #[arg(long, default_value = "", value_parser = Rule(Text))]
    pub(super) identity_audience: String,

    /// Issuer that tokens of end users must name. Required with IDENTITY_JWKS_FILE.
    #[arg(long, default_value = "", value_parser = Rule(Text))]
    pub(super) identity_issuer: String,

    /// Secret of the digests that replace secret attributes in keys, the same for all gateways.
    /// Required when a policy reads a secret attribute.
    #[arg(long, default_value = "", value_parser = Rule(Secret))]
    pub(super) identity_hash_key: String,

    /// Cookie with the token of an end user, for requests without Authorization: Bearer.
    #[arg(long, default_value = "", value_parser = Rule(CookieName))]
    pub(super) identity_cookie: String,

    /// Proxies whose X-Forwarded-For is true, as addresses and networks separated by commas. Required
    /// when a policy reads client.ip in forward authentication.
    #[arg(long, default_value = "", value_parser = Rule(NetworkList))]
    pub(super) trusted_proxies: Networks,

    /// Logs each decision by the policies as a line of JSON, for `ratelimit-gateway replay`. The line
    /// has the attributes that policies read; digests replace secret values.
    #[arg(long, action = Set, default_value = "false", value_parser = Rule(TRUE_OR_FALSE))]
    pub(super) log_decisions: bool,
}

/// Settings of callers.
#[derive(Args)]
#[command(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) struct CallerValues {
    /// JSON file with the hashed keys of callers, read again when it changes. A caller without a
    /// key or a token is refused.
    #[arg(long, value_parser = Rule(Path))]
    pub(super) api_keys_file: Option<PathBuf>,

    /// JSON Web Key Set with which the tokens of callers are verified, read again when it changes.
    /// A caller without a key or a token is refused.
    #[arg(long, value_parser = Rule(Path))]
    pub(super) jwt_jwks_file: Option<PathBuf>,

    /// Audience that tokens must name. Required with JWT_JWKS_FILE.
    #[arg(long, default_value = "", value_parser = Rule(Text))]
    pub(super) jwt_audience: String,

    /// Issuer that tokens must name. Required with JWT_JWKS_FILE.
    #[arg(long, default_value = "", value_parser = Rule(Text))]
    pub(super) jwt_issuer: String,

    /// Claims of a token that hold its scopes, separated by commas. A path such as
    /// realm_access.roles leads into objects.
    #[arg(long, default_value = "scope,scp,scopes", value_parser = Rule(ClaimList))]
    pub(super) jwt_scope_claim: ClaimNames,

    /// Text before the name of each scope in a token, such as ratelimit: in ratelimit:check.
    #[arg(long, default_value = "", value_parser = Rule(Word))]
    pub(super) jwt_scope_prefix: String,

    /// Proxies that need no key for forward authentication, as addresses and networks separated by
    /// commas.
    #[arg(long, default_value = "", value_parser = Rule(NetworkList))]
    pub(super) authz_peers: Networks,

    /// PEM file with the authorities whose certificates authenticate proxies for forward
    /// authentication, read again when it changes.
    #[arg(long, value_parser = Rule(Path))]
    pub(super) authz_client_ca_file: Option<PathBuf>,
    /// Requests that each caller may make per CALLER_WINDOW_SECONDS; a check, also one of a batch, and a
    /// reservation count as many as they have limits. 0 is any number.
    #[arg(long, default_value = "0", value_parser = Rule(Whole::<u32>(0..=*UNITS.end())))]
    pub(super) caller_limit: u32,

    /// Window of CALLER_LIMIT.
    #[arg(long, default_value = "1", value_parser = Rule(WindowSeconds))]
    pub(super) caller_window_seconds: Window,

    /// Serves /metrics without a key or a token, also when callers need one.
    #[arg(long, action = Set, default_value = "true", value_parser = Rule(TRUE_OR_FALSE))]
    pub(super) metrics_open: bool,
}

/// Settings of traces, with the names and meanings of the specification of OpenTelemetry.
#[derive(Args)]
#[command(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) struct OtelValues {
    /// Where to send traces with OTLP over HTTP, such as http://localhost:4318.
    #[arg(long, value_parser = Rule(HttpUrl))]
    pub(super) otel_exporter_otlp_endpoint: Option<String>,

    /// Whole URL to send traces to, instead of v1/traces below OTEL_EXPORTER_OTLP_ENDPOINT.
    #[arg(long, value_parser = Rule(HttpUrl))]
    pub(super) otel_exporter_otlp_traces_endpoint: Option<String>,

    /// The protocol for traces; none sends no traces.
    #[arg(
        long,
        action = Set,
        default_value = "otlp",
        value_parser = Rule(OneOf(&[("otlp", true), ("none", false)]))
    )]
    pub(super) otel_traces_exporter: bool,

    /// Sends no traces, with any values of the other settings.
    #[arg(
        long,
        action = Set,
        default_value = "false",
        value_parser = Rule(OneOf(&[("true", true), ("false", false)]))
    )]
    pub(super) otel_sdk_disabled: bool,

    /// Name of this service in traces.
    #[arg(long, default_value = "ratelimit-gateway", value_parser = Rule(Text))]
    pub(super) otel_service_name: String,
}

impl Values {
    /// Reads the settings from their texts, with defaults for all others.
    pub(super) fn parse(texts: &Texts) -> Result<Self, StartupError> {
        let words = texts.iter().map(|(name, text)| {
            let mut word = OsString::from(format!("--{name}="));
            word.push(text);
            word
        });
        Self::try_parse_from(words).map_err(StartupError::from)
    }
}

impl RedisServerValues {
    /// Returns the names of these settings.
    pub(super) fn names() -> Vec<String> {
        let command = Self::augment_args(Command::new(""));
        command.get_arguments().map(|argument| name(argument).to_owned()).collect()
    }
}

/// Returns every setting, in the order of the documentation.
#[must_use]
pub fn table() -> Vec<Setting> {
    let command = Values::command();
    let rows = command.get_arguments().map(|argument| Setting {
        name: name(argument).to_owned(),
        default: argument
            .get_default_values()
            .first()
            .map_or_else(String::new, |value| value.to_string_lossy().into_owned()),
        range: range(argument),
        // clap takes the full stop from the end of a comment.
        meaning: argument.get_help().map_or_else(String::new, |help| format!("{help}.")),
    });
    rows.collect()
}
