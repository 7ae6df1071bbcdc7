//! Settings that are read, refused and documented.

use std::{collections::BTreeSet, ffi::OsString, fs, time::Duration};

use axum::http::{HeaderValue, StatusCode};
use limiter::{Units, Window};
use redis::{ConnectionAddr, ConnectionInfo};
use serde_json::Value;
use store::{FailMode, Location, Thousandths, Topology, pem::CertificateFiles};
use tracing::level_filters::LevelFilter;

use super::{Settings, table, texts};
use crate::{
    callers::options::{JwtOptions, ScopeOptions},
    command_line::Setting,
    head::Origins,
    policy_file::options::TokenOptions,
    request::fields::Defaults,
    server::options::AdminOptions,
    telemetry::LogFormat,
};

fn read(variables: &[(&str, &str)]) -> Result<Settings, String> {
    let value = |name: &str| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| OsString::from(value))
    };
    Settings::read(&texts(value)).map_err(|error| error.to_string())
}

fn connection(variables: &[(&str, &str)]) -> ConnectionInfo {
    match read(variables).unwrap().store.location {
        Location::Redis(Topology::Standalone(connection)) => *connection,
        other => panic!("{other:?} is not one server"),
    }
}

fn address(variables: &[(&str, &str)]) -> String {
    connection(variables).addr().to_string()
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let Settings { listen, store, callers, policies, inline_limits, .. } = read(&[]).unwrap();
    assert_eq!((listen.host.as_str(), listen.port, listen.tls), ("0.0.0.0", 8000, None));
    assert_eq!(listen.admin, None);
    assert_eq!((listen.max_connections, listen.max_connections_is_default), (20_000, true));
    assert_eq!(listen.header_timeout, Duration::from_secs(10));
    assert_eq!(listen.idle_timeout, Duration::from_secs(620));
    assert_eq!(address(&[]), "localhost:6379");
    assert_eq!((store.redis.max_connections, store.redis.max_backlog), (50, 4096));
    assert_eq!(store.redis.timeout, Duration::from_millis(100));
    assert_eq!(store.key_prefix, "");
    assert_eq!(store.fail_mode, FailMode::Closed);
    assert_eq!((store.local.share, store.local.max_keys), (Thousandths(1000), 100_000));
    assert_eq!(store.deny_cache.size, 10_000);
    assert_eq!(store.deny_cache.max_age, Duration::from_secs(1));
    assert_eq!((callers.api_keys_file, callers.jwt, callers.limit), (None, None, None));
    assert!(callers.metrics_open);
    assert!(policies.is_none() && inline_limits);

    let settings = read(&[]).unwrap();
    let (limit, window) = (Units::new(100).unwrap(), Window::from_millis(60_000).unwrap());
    assert_eq!(settings.defaults, Defaults { limit, window });
    assert_eq!(settings.deny_status, StatusCode::OK);
    assert_eq!(settings.allowed_origins, Origins::Any);
    assert_eq!(settings.log_level, LevelFilter::INFO);
    assert_eq!(settings.log_format, LogFormat::Json);
    assert_eq!(settings.traces.endpoint, None);
    assert_eq!(settings.shutdown.delay, Duration::from_secs(1));
    assert_eq!(settings.shutdown.timeout, Duration::from_secs(10));
}

#[test]
fn files_that_belong_together_are_given_together() {
    let both = read(&[("TLS_CERT_FILE", "a.pem"), ("TLS_KEY_FILE", "b.pem")]).unwrap();
    let files = CertificateFiles { certificate: "a.pem".into(), key: "b.pem".into() };
    assert_eq!(both.listen.tls, Some(files));
    for (name, line) in [
        ("TLS_CERT_FILE", "TLS_KEY_FILE: required with TLS_CERT_FILE"),
        ("TLS_KEY_FILE", "TLS_CERT_FILE: required with TLS_KEY_FILE"),
        ("REDIS_TLS_CERT_FILE", "REDIS_TLS_KEY_FILE: required with REDIS_TLS_CERT_FILE"),
        ("JWT_JWKS_FILE", "JWT_AUDIENCE: required with JWT_JWKS_FILE"),
    ] {
        assert_eq!(read(&[(name, "file")]).unwrap_err(), line);
    }
    let parts = [("JWT_JWKS_FILE", "set.json"), ("JWT_AUDIENCE", "me"), ("JWT_ISSUER", "it")];
    let jwt = JwtOptions {
        jwks_file: "set.json".into(),
        audience: "me".to_owned(),
        issuer: "it".to_owned(),
        scopes: ScopeOptions {
            claims: ["scope", "scp", "scopes"].map(str::to_owned).into(),
            prefix: String::new(),
        },
    };
    assert_eq!(read(&parts).unwrap().callers.jwt, Some(jwt));
    for (name, value) in [("JWT_SCOPE_CLAIM", "roles"), ("JWT_SCOPE_PREFIX", "app:")] {
        let line = format!("{name}: takes no effect without JWT_JWKS_FILE");
        assert_eq!(read(&[(name, value)]).unwrap_err(), line);
    }
    let named = [("JWT_SCOPE_CLAIM", "roles, a.b"), ("JWT_SCOPE_PREFIX", "app:")];
    let named = read(&[parts.as_slice(), &named].concat()).unwrap().callers.jwt.unwrap();
    assert_eq!(
        (named.scopes.claims, named.scopes.prefix),
        (vec!["roles".into(), "a.b".into()], "app:".into())
    );
    for (name, value) in [
        ("JWT_SCOPE_CLAIM", "a,,b"),
        ("JWT_SCOPE_CLAIM", "a b"),
        ("JWT_SCOPE_CLAIM", ","),
        ("JWT_SCOPE_PREFIX", "a "),
    ] {
        assert!(read(&[(name, value)]).is_err(), "{name} {value:?}");
    }
}

#[test]
fn operators_have_a_port_of_their_own() {
    let admin = |variables: &[(&str, &str)]| read(variables).map(|settings| settings.listen.admin);
    let at = |host: &str, port| Ok(Some(AdminOptions { host: host.to_owned(), port }));
    assert_eq!(admin(&[("ADMIN_PORT", "0")]), Ok(None));
    assert_eq!(admin(&[("ADMIN_PORT", "8081")]), at("0.0.0.0", 8081));
    assert_eq!(admin(&[("ADMIN_PORT", "8081"), ("HOST", "::1")]), at("::1", 8081));
    assert_eq!(admin(&[("ADMIN_PORT", "8000"), ("ADMIN_HOST", "::1")]), at("::1", 8000));

    assert_eq!(
        admin(&[("ADMIN_PORT", "8000")]).unwrap_err(),
        "ADMIN_PORT: 8000 is PORT, and must be another port"
    );
    assert_eq!(
        admin(&[("ADMIN_HOST", "::1")]).unwrap_err(),
        "ADMIN_HOST: takes no effect without ADMIN_PORT"
    );
}

#[test]
fn policies_come_with_the_tokens_and_the_secret_of_their_identities() {
    let file = ("POLICIES_FILE", "limits.yaml");
    let set = [file, ("IDENTITY_JWKS_FILE", "set.json")];
    let required = "required with IDENTITY_JWKS_FILE";
    assert_eq!(read(&set).unwrap_err(), format!("IDENTITY_AUDIENCE: {required}"));
    let [audience, issuer] = [("IDENTITY_AUDIENCE", "app"), ("IDENTITY_ISSUER", "it")];
    let line = format!("IDENTITY_ISSUER: {required}");
    assert_eq!(read(&[set[0], set[1], audience]).unwrap_err(), line);
    let (cache, hash_key) = (("POLICIES_CACHE_FILE", "last.yaml"), "0123456789abcdef");
    let secret = ("IDENTITY_HASH_KEY", hash_key);
    let settings = read(&[set[0], set[1], audience, issuer, cache, secret]).unwrap();
    let policies = settings.policies.unwrap();
    assert_eq!(
        (policies.file, policies.cache_file),
        ("limits.yaml".into(), Some("last.yaml".into()))
    );
    let tokens = TokenOptions {
        jwks_file: "set.json".into(),
        audience: "app".to_owned(),
        issuer: "it".to_owned(),
    };
    assert_eq!(policies.tokens, Some(tokens));
    assert!(policies.hash_key.is_some());

    let off = ("INLINE_LIMITS", "false");
    assert!(!read(&[file, off]).unwrap().inline_limits);
    assert_eq!(read(&[off]).unwrap_err(), "POLICIES_FILE: required with INLINE_LIMITS=false");
    let error = read(&[file, ("IDENTITY_HASH_KEY", &hash_key[1..])]).unwrap_err();
    assert_eq!(error, "IDENTITY_HASH_KEY: the value is not a text of at least 16 bytes");
}

#[test]
fn proxies_are_addresses_and_networks() {
    let file = ("POLICIES_FILE", "limits.yaml");
    let proxies = |list: &str| {
        let settings = read(&[file, ("TRUSTED_PROXIES", list)]);
        settings.map(|settings| settings.authz.trusted_proxies)
    };
    let listed = proxies("10.0.0.0/8, 2001:db8::1,::ffff:192.0.2.0/120").unwrap();
    for (address, expected) in [
        ("10.1.2.3", true),
        ("::ffff:10.1.2.3", true),
        ("2001:db8::1", true),
        ("192.0.2.9", true),
        ("11.0.0.1", false),
        ("2001:db8::2", false),
    ] {
        assert_eq!(listed.contain(address.parse().unwrap()), expected, "{address}");
    }
    assert!(proxies(" ").unwrap().is_empty());
    let rule = "is not addresses and networks such as 10.0.0.0/8, separated by commas";
    for wrong in ["a", "10.0.0.1,", "10.0.0.0/33", "proxy.example"] {
        assert_eq!(proxies(wrong).unwrap_err(), format!("TRUSTED_PROXIES: {wrong:?} {rule}"));
    }
    let error = proxies("10.0.0.1/8").unwrap_err();
    let line = "TRUSTED_PROXIES: \"10.0.0.1/8\" is not a network; did you mean 10.0.0.0/8?";
    assert_eq!(error, line);
}

#[test]
fn the_port_for_grpc_is_one_of_its_own_and_needs_a_build_with_grpc() {
    let port = |settings: &[(&str, &str)]| {
        let settings = [&[("POLICIES_FILE", "limits.yaml")], settings].concat();
        read(&settings).map(|settings| settings.listen.grpc_port)
    };
    assert_eq!(port(&[("GRPC_PORT", "0")]), Ok(None));
    if !cfg!(feature = "envoy") {
        let line = "GRPC_PORT: this program was built without gRPC (the feature `envoy` of cargo)";
        return assert_eq!(port(&[("GRPC_PORT", "8001")]).unwrap_err(), line);
    }
    assert_eq!(port(&[("GRPC_PORT", "8001")]), Ok(Some(8001)));
    let admin = [("GRPC_PORT", "8001"), ("ADMIN_PORT", "8001")];
    assert_eq!(port(&[admin[0], admin[1], ("ADMIN_HOST", "::1")]), Ok(Some(8001)));
    let line = "GRPC_PORT: 8001 is ADMIN_PORT, and must be another port";
    assert_eq!(port(&admin).unwrap_err(), line);
    let line = "GRPC_PORT: 8000 is PORT, and must be another port";
    assert_eq!(port(&[("GRPC_PORT", "8000")]).unwrap_err(), line);
    let line = "AUTHZ_PORT: 8001 is GRPC_PORT, and must be another port";
    assert_eq!(port(&[("GRPC_PORT", "8001"), ("AUTHZ_PORT", "8001")]).unwrap_err(), line);
    let alone = read(&[("GRPC_PORT", "8001")]).unwrap_err();
    assert_eq!(alone, "GRPC_PORT: takes no effect without POLICIES_FILE");
}

#[test]
fn the_port_for_proxies_is_one_of_its_own() {
    let port = |port: &str, settings: &[(&str, &str)]| {
        let own = [("POLICIES_FILE", "limits.yaml"), ("AUTHZ_PORT", port)];
        read(&[&own, settings].concat()).map(|settings| settings.listen.authz_port)
    };
    assert_eq!(port("0", &[]), Ok(None));
    assert_eq!(port("8002", &[]), Ok(Some(8002)));
    let admin = [("ADMIN_PORT", "8002"), ("ADMIN_HOST", "::1")];
    assert_eq!(port("8002", &admin), Ok(Some(8002)));
    let line = "AUTHZ_PORT: 8002 is ADMIN_PORT, and must be another port";
    assert_eq!(port("8002", &admin[..1]).unwrap_err(), line);
    let line = "AUTHZ_PORT: 8000 is PORT, and must be another port";
    assert_eq!(port("8000", &[]).unwrap_err(), line);
    let alone = read(&[("AUTHZ_PORT", "8002")]).unwrap_err();
    assert_eq!(alone, "AUTHZ_PORT: takes no effect without POLICIES_FILE");
}

#[test]
fn a_prefix_that_separates_the_keys_of_an_identifier_is_refused_for_a_cluster() {
    for prefix in ["{", "a{b:", "{}app:"] {
        let setting = ("KEY_PREFIX", prefix);
        let error = read(&[setting, ("REDIS_URL", "redis+cluster://there")]).unwrap_err();
        assert!(error.starts_with("KEY_PREFIX: the first { needs"), "{error}");
        assert!(read(&[setting, ("REDIS_URL", "redis://there")]).is_ok());
    }
    let together = ("KEY_PREFIX", "{app}:");
    assert!(read(&[together, ("REDIS_URL", "redis+cluster://there")]).is_ok());
}

#[test]
fn a_setting_that_would_take_no_effect_is_refused() {
    let tls = "rediss:// in REDIS_URL, or REDIS_SSL=true";
    let callers = "API_KEYS_FILE or JWT_JWKS_FILE";
    let jwt = [("JWT_AUDIENCE", "me"), ("JWT_ISSUER", "it"), ("JWT_JWKS_FILE", "set.json")];
    let keys = [("API_KEYS_FILE", "keys.json")];
    let key_file = ("REDIS_TLS_KEY_FILE", "b.pem");
    let file = [("POLICIES_FILE", "limits.yaml")];
    let tls_files = [("TLS_CERT_FILE", "a.pem"), ("TLS_KEY_FILE", "b.pem")];
    let [audience, issuer] = [("IDENTITY_AUDIENCE", "app"), ("IDENTITY_ISSUER", "it")];
    let identity = [file[0], ("IDENTITY_JWKS_FILE", "set.json"), audience, issuer];
    for (setting, needed, with) in [
        (("REDIS_TLS_CA_FILE", "a.pem"), tls, &[("REDIS_SSL", "true")][..]),
        (("REDIS_TLS_CA_FILE", "a.pem"), tls, &[("REDIS_URL", "rediss://a")]),
        (("REDIS_TLS_CA_FILE", "a.pem"), tls, &[("REDIS_URL", "valkeys+cluster://a")]),
        (("REDIS_TLS_CERT_FILE", "a.pem"), tls, &[key_file, ("REDIS_SSL", "1")]),
        (("REDIS_USERNAME", "me"), "REDIS_PASSWORD", &[("REDIS_PASSWORD", "secret")]),
        (("LOCAL_SHARE", "0.5"), "FAIL_MODE=local", &[("FAIL_MODE", "local")]),
        (
            ("LOCAL_MAX_KEYS", "5"),
            "FAIL_MODE=local or REDIS_URL=memory://",
            &[("REDIS_URL", "memory://")],
        ),
        (("DENY_CACHE_MAX_MS", "5"), "DENY_CACHE_SIZE", &[("DENY_CACHE_SIZE", "1")]),
        (("POLICIES_CACHE_FILE", "cache.yaml"), "POLICIES_FILE", &file),
        (("IDENTITY_JWKS_FILE", "set.json"), "POLICIES_FILE", &identity),
        (audience, "IDENTITY_JWKS_FILE", &identity),
        (issuer, "IDENTITY_JWKS_FILE", &identity),
        (("IDENTITY_HASH_KEY", "0123456789abcdef"), "POLICIES_FILE", &file),
        (("IDENTITY_COOKIE", "id"), "IDENTITY_JWKS_FILE", &identity),
        (("TRUSTED_PROXIES", "10.0.0.1"), "POLICIES_FILE", &file),
        (("AUTHZ_PEERS", "10.0.0.1"), callers, &keys),
        (("AUTHZ_PEERS", "10.0.0.1"), callers, &jwt),
        (("AUTHZ_CLIENT_CA_FILE", "ca.pem"), callers, &[keys[0], tls_files[0], tls_files[1]]),
        (("LOG_DECISIONS", "true"), "POLICIES_FILE", &file),
        (jwt[0], "JWT_JWKS_FILE", &jwt[1..]),
        (jwt[1], "JWT_JWKS_FILE", &[jwt[0], jwt[2]]),
        (("CALLER_LIMIT", "5"), callers, &jwt),
        (("CALLER_LIMIT", "5"), callers, &keys),
        (("METRICS_OPEN", "false"), callers, &keys),
        (("CALLER_WINDOW_SECONDS", "5"), "CALLER_LIMIT or API_KEYS_FILE", &keys),
    ] {
        let mut without = vec![setting];
        if setting.0 == "REDIS_TLS_CERT_FILE" {
            without.push(key_file);
        }
        if setting.0 == "DENY_CACHE_MAX_MS" {
            without.push(("DENY_CACHE_SIZE", "0"));
        }
        let line = format!("{}: takes no effect without {needed}", setting.0);
        assert_eq!(read(&without).unwrap_err(), line);
        let mut with = with.to_vec();
        with.push(setting);
        assert!(read(&with).is_ok(), "{with:?}: {:?}", read(&with));
    }
    let without_tls = [keys[0], ("AUTHZ_CLIENT_CA_FILE", "ca.pem")];
    assert!(read(&without_tls).unwrap_err().contains("takes no effect without TLS_CERT_FILE"));
    let plain = [("REDIS_URL", "redis://a"), ("REDIS_SSL", "true"), ("REDIS_TLS_CA_FILE", "a.pem")];
    assert!(read(&plain).unwrap_err().contains("takes no effect without rediss://"));
    let limited = [jwt[0], jwt[1], jwt[2], ("CALLER_WINDOW_SECONDS", "5")];
    assert!(read(&limited).unwrap_err().contains("takes no effect without CALLER_LIMIT"));
    // A value that is the default is accepted.
    for (name, value) in [("LOCAL_SHARE", "1.0"), ("CALLER_LIMIT", "0"), ("METRICS_OPEN", "1")] {
        assert!(read(&[(name, value)]).is_ok(), "{name}");
    }
}

#[test]
fn a_host_is_nothing_but_a_host() {
    for host in ["redis", "my_redis.example.com.", "10.0.0.1", "::1", "fe80::1%eth0"] {
        assert_eq!(address(&[("REDIS_HOST", host)]), format!("{host}:6379"));
        assert_eq!(read(&[("HOST", host)]).unwrap().listen.host, host);
    }
    for wrong in [
        "redis://:secret@host",
        "user:secret@host",
        "host:6379",
        "host/secret",
        "[::1]",
        "::1%",
        "a b",
    ] {
        for name in ["HOST", "ADMIN_HOST", "REDIS_HOST"] {
            let rule = "a host name or an IP address without a scheme, a login or a port";
            assert_eq!(
                read(&[(name, wrong)]).unwrap_err(),
                format!("{name}: the value is not {rule}")
            );
        }
    }
}

#[test]
fn a_share_is_a_part_of_the_whole() {
    for (text, share) in [("1", 1000), ("0.25", 250), ("0.001", 1)] {
        let settings = read(&[("FAIL_MODE", "local"), ("LOCAL_SHARE", text)]).unwrap();
        assert_eq!(settings.store.local.share, Thousandths(share));
    }
    for wrong in ["0", "1.001", "0.0001", "-1", "a quarter"] {
        assert!(read(&[("LOCAL_SHARE", wrong)]).is_err(), "{wrong}");
    }
}

#[test]
fn an_empty_value_counts_as_unset() {
    assert_eq!(read(&[("PORT", ""), ("REDIS_URL", "")]).unwrap().listen.port, 8000);
}

#[test]
fn a_bad_value_is_named_with_its_range() {
    for (name, value, line) in [
        ("REDIS_PORT", "abc", r#"REDIS_PORT: "abc" is not an integer between 1 and 65535"#),
        ("PORT", "0", r#"PORT: "0" is not an integer between 1 and 65535"#),
        ("PORT", "1\n2", r#"PORT: "1\n2" is not an integer between 1 and 65535"#),
        (
            "DEFAULT_WINDOW_SECONDS",
            "0.0001",
            "DEFAULT_WINDOW_SECONDS: \"0.0001\" is not a number of seconds between 0.001 and \
             31622400 with at most three decimals",
        ),
        ("REDIS_SSL", "yes", r#"REDIS_SSL: "yes" is not one of true, false, 1, 0"#),
        ("LOG_FORMAT", "xml", r#"LOG_FORMAT: "xml" is not one of json, text"#),
        ("DENY_STATUS", "403", r#"DENY_STATUS: "403" is not one of 200, 429"#),
        ("FAIL_MODE", "ajar", r#"FAIL_MODE: "ajar" is not one of closed, open, local"#),
        (
            "CORS_ALLOW_ORIGINS",
            "example.com",
            "CORS_ALLOW_ORIGINS: \"example.com\" is not * or origins such as \
             https://example.com, separated by commas",
        ),
        (
            "REDIS_URL",
            "http://:secret@host",
            "REDIS_URL: the value is not a URL of redis, rediss, redis+sentinel, rediss+sentinel, \
             redis+cluster or rediss+cluster, each also with valkey for redis, or of unix, or \
             memory://",
        ),
    ] {
        assert_eq!(read(&[(name, value)]).unwrap_err(), line);
    }
}

#[test]
fn words_are_read_in_any_case() {
    for (word, level) in [
        ("debug", LevelFilter::DEBUG),
        ("Warning", LevelFilter::WARN),
        ("WARN", LevelFilter::WARN),
        ("critical", LevelFilter::ERROR),
    ] {
        assert_eq!(read(&[("LOG_LEVEL", word)]).unwrap().log_level, level);
    }
    let connection = connection(&[("REDIS_SSL", "True")]);
    assert!(matches!(connection.addr(), ConnectionAddr::TcpTls { insecure: false, .. }));
}

#[test]
fn a_url_wins_over_the_settings_of_its_parts() {
    let url = ("REDIS_URL", "redis://user:secret@there:1234/5");
    let parts = [("REDIS_HOST", "here"), ("REDIS_PASSWORD", "other"), ("REDIS_DB", "3")];
    assert_eq!(address(&parts), "here:6379");
    assert_eq!(address(&[url, parts[0]]), "there:1234");

    let connection = connection(&[url, parts[1], parts[2]]);
    let login = connection.redis_settings();
    assert_eq!((login.password(), login.db()), (Some("secret"), 5));
    assert_eq!(address(&[("REDIS_URL", "unix:///run/redis.sock")]), "/run/redis.sock");
}

#[test]
fn a_setting_that_a_url_overrides_is_not_read() {
    // Kubernetes sets such a value when a Service is called redis.
    let port = ("REDIS_PORT", "tcp://10.0.0.1:6379");
    let others = ["REDIS_HOST", "REDIS_USERNAME", "REDIS_DB", "REDIS_SSL"];
    for wrong in others.map(|name| (name, "::wrong")).into_iter().chain([port]) {
        for url in ["redis://there", "redis+cluster://there", "memory://"] {
            assert!(read(&[("REDIS_URL", url), wrong]).is_ok(), "{wrong:?} {url}");
        }
        assert!(read(&[wrong]).is_err(), "{wrong:?}");
    }
}

#[test]
fn traces_go_to_a_url() {
    for url in ["http://localhost:4318", "https://collector.example/otlp/", "http://[::1]:4318"] {
        let settings = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", url)]).unwrap();
        let expected = format!("{}/v1/traces", url.trim_end_matches('/'));
        assert_eq!(settings.traces.endpoint, Some(expected));
    }
    let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318");
    let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b/traces/");
    let endpoint = |variables: &[(&str, &str)]| read(variables).unwrap().traces.endpoint;
    for variables in [&[own][..], &[base, own], &[own, ("OTEL_SDK_DISABLED", "False")]] {
        assert_eq!(endpoint(variables).as_deref(), Some("http://b/traces/"));
    }
    for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
        assert_eq!(endpoint(&[base, own, off]), None);
    }
    // By the specification 1 means false, and the operator means true.
    assert!(read(&[("OTEL_SDK_DISABLED", "1")]).is_err());
    assert!(read(&[("OTEL_TRACES_EXPORTER", "console")]).is_err());
    for wrong in ["localhost:4318", "grpc://a:4317", "http://", "http://a?b=c", "http://a b", "/"] {
        assert_eq!(
            read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", wrong)]).unwrap_err(),
            "OTEL_EXPORTER_OTLP_ENDPOINT: the value is not an http:// or https:// URL with a \
             host, and at most a port and a path"
        );
    }
}

#[test]
fn no_output_has_a_secret() {
    for name in ["REDIS_PASSWORD", "REDIS_URL"] {
        let settings = read(&[(name, "redis://:secret@host")]).unwrap();
        assert!(!format!("{settings:?}").contains("secret"));
    }
    let hash_key = [("POLICIES_FILE", "a"), ("IDENTITY_HASH_KEY", "the secret of digests")];
    assert!(!format!("{:?}", read(&hash_key).unwrap()).contains("secret of"));
    let error = read(&[("REDIS_HOST", "redis://:secret@host")]).unwrap_err();
    assert!(!error.contains("secret"), "{error}");
    let error = read(&[("REDIS_URL", "redis://:secret@host:port")]).unwrap_err();
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn origins_are_listed_without_paths() {
    let listed = read(&[("CORS_ALLOW_ORIGINS", "https://a.example, http://b:8080")]).unwrap();
    let expected = ["https://a.example", "http://b:8080"].map(HeaderValue::from_static);
    assert_eq!(listed.allowed_origins, Origins::Only(expected.to_vec()));
    for wrong in ["https://a.example/", "https://", "ftp://a", "https://*", "a,,b"] {
        assert!(read(&[("CORS_ALLOW_ORIGINS", wrong)]).is_err(), "{wrong}");
    }
}

#[test]
fn the_example_file_has_every_setting_and_its_default() {
    let example = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../.env.example"));
    let example = example.unwrap();
    // A comment has a space after its sign.
    let settings = example.lines().filter_map(|line| line.strip_prefix('#')?.split_once('='));
    let settings = settings.filter(|(name, _)| !name.starts_with(' '));
    let expected = table();
    let expected = expected.iter().map(|row| (row.name.as_str(), row.default.as_str()));
    assert_eq!(settings.collect::<BTreeSet<_>>(), expected.collect::<BTreeSet<_>>());
}

#[test]
fn the_page_has_every_setting_with_its_default_and_meaning() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/settings.md"));
    let page = page.unwrap();
    let (_, gateway) = page.split_once("\n## Settings of the gateway\n").unwrap();
    let (_, rows) = gateway.split_once("| setting | default | values | meaning |\n").unwrap();
    let rows = rows.lines().skip(1).take_while(|line| line.starts_with('|')).map(|row| {
        let cells = row.trim_matches('|').split('|').map(|cell| cell.trim_matches([' ', '`']));
        let cells = cells.collect::<Vec<_>>();
        let [name, default, _, meaning] = cells[..] else { panic!("{row} has not four cells") };
        (name, default, meaning)
    });
    let expected = table();
    let expected = expected.iter().map(|Setting { name, default, meaning, .. }| {
        (name.as_str(), default.as_str(), meaning.as_str())
    });
    assert_eq!(rows.collect::<BTreeSet<_>>(), expected.collect::<BTreeSet<_>>());
}

#[test]
fn the_chart_takes_every_setting_and_no_other_name() {
    let schema =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/helm/ratelimit/values.schema.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(schema).unwrap()).unwrap();
    let settings = &schema["properties"]["gateway"]["properties"]["settings"];
    assert_eq!(settings["additionalProperties"], false);
    let names = settings["properties"].as_object().unwrap().keys().map(String::as_str);
    let expected = table();
    let expected = expected.iter().map(|row| row.name.as_str());
    assert_eq!(names.collect::<BTreeSet<_>>(), expected.collect::<BTreeSet<_>>());
}
