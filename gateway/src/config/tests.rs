//! What settings are read, refused and documented.

use std::{cell::RefCell, collections::BTreeSet, ffi::OsString, fs, time::Duration};

use axum::http::{HeaderValue, StatusCode};
use redis::ConnectionAddr;
use tracing::level_filters::LevelFilter;

use super::{LogFormat, Origins, Row, Settings, table};
use crate::millis::Millis;

fn read(variables: &[(&str, &str)]) -> Result<Settings, String> {
    let lookup = |name: &str| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| OsString::from(value))
    };
    Settings::read(lookup).map_err(|error| error.to_string())
}

fn address(variables: &[(&str, &str)]) -> String {
    read(variables).unwrap().redis.connection.addr().to_string()
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let settings = read(&[]).unwrap();
    assert_eq!((settings.host.as_str(), settings.port), ("0.0.0.0", 8000));
    assert_eq!(settings.redis.connection.addr().to_string(), "localhost:6379");
    assert_eq!(settings.redis.max_connections, 50);
    assert_eq!(settings.redis.timeout, Duration::from_millis(100));
    assert_eq!(settings.redis.key_prefix, "");
    assert_eq!((settings.defaults.limit, settings.defaults.window), (100, Millis(60_000)));
    assert_eq!(settings.deny_status, StatusCode::OK);
    assert_eq!(settings.allowed_origins, Origins::Any);
    assert_eq!(settings.log_level, LevelFilter::INFO);
    assert_eq!(settings.log_format, LogFormat::Json);
    assert_eq!(settings.shutdown_timeout, Duration::from_secs(10));
}

#[test]
fn an_empty_value_counts_as_unset() {
    assert_eq!(read(&[("PORT", ""), ("REDIS_URL", "")]).unwrap().port, 8000);
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
        ("FAIL_MODE", "ajar", r#"FAIL_MODE: "ajar" is not closed"#),
        ("FAIL_MODE", "open", "FAIL_MODE: this version does not have \"open\", only closed"),
        (
            "CORS_ALLOW_ORIGINS",
            "example.com",
            "CORS_ALLOW_ORIGINS: \"example.com\" is not * or origins such as \
             https://example.com, separated by commas",
        ),
        (
            "REDIS_URL",
            "http://:secret@host",
            "REDIS_URL: the value is not a redis://, rediss:// or unix:// URL",
        ),
        (
            "REDIS_URL",
            "redis+sentinel://host",
            "REDIS_URL: this version does not have redis+sentinel://, only a redis://, \
             rediss:// or unix:// URL",
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
    let connection = read(&[("REDIS_SSL", "True")]).unwrap().redis.connection;
    assert!(matches!(connection.addr(), ConnectionAddr::TcpTls { insecure: false, .. }));
}

#[test]
fn a_url_wins_over_the_settings_of_its_parts() {
    let url = ("REDIS_URL", "redis://user:secret@there:1234/5");
    let parts = [("REDIS_HOST", "here"), ("REDIS_PASSWORD", "other"), ("REDIS_DB", "3")];
    assert_eq!(address(&parts), "here:6379");
    assert_eq!(address(&[url, parts[0]]), "there:1234");

    let settings = read(&[url, parts[1], parts[2]]).unwrap();
    let login = settings.redis.connection.redis_settings();
    assert_eq!((login.password(), login.db()), (Some("secret"), 5));
    assert_eq!(address(&[("REDIS_URL", "unix:///run/redis.sock")]), "/run/redis.sock");
}

#[test]
fn secrets_are_never_shown() {
    for name in ["REDIS_PASSWORD", "REDIS_URL"] {
        let settings = read(&[(name, "redis://:secret@host")]).unwrap();
        assert!(!format!("{settings:?}").contains("secret"));
    }
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
fn the_table_has_every_setting_that_is_read() {
    let read = RefCell::new(BTreeSet::new());
    Settings::read(|name| {
        read.borrow_mut().insert(name.to_owned());
        None
    })
    .unwrap();
    let listed = table().iter().map(|row| row.name.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(listed, read.into_inner());
}

#[test]
fn the_example_file_has_every_setting_and_its_default() {
    let example = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../.env.example"));
    let example = example.unwrap();
    let settings =
        example.lines().filter_map(|line| line.strip_prefix('#').unwrap_or(line).split_once('='));
    let expected = table();
    let expected = expected.iter().map(|row| (row.name, row.default));
    assert_eq!(settings.collect::<BTreeSet<_>>(), expected.collect::<BTreeSet<_>>());
}

#[test]
fn the_readme_has_every_setting_with_its_default_and_meaning() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"));
    let readme = readme.unwrap();
    // The settings of the module come before the HTTP API.
    let (_, gateway) = readme.split_once("\n## HTTP API\n").unwrap();
    let (_, rows) = gateway.split_once("| setting | default | values | meaning |\n").unwrap();
    let rows = rows.lines().skip(1).take_while(|line| line.starts_with('|')).map(|row| {
        let cells = row.trim_matches('|').split('|').map(|cell| cell.trim_matches([' ', '`']));
        let cells = cells.collect::<Vec<_>>();
        let [name, default, _, meaning] = cells[..] else { panic!("{row} has not four cells") };
        (name, default, meaning)
    });
    let expected = table();
    let expected =
        expected.iter().map(|Row { name, default, meaning, .. }| (*name, *default, *meaning));
    assert_eq!(rows.collect::<BTreeSet<_>>(), expected.collect::<BTreeSet<_>>());
}
