//! The load of the module: a refused load logs its reason and leaves the server unchanged.

use std::fs;

use crate::harness::{Builder, Client, Server, eventually, module_library, repository};

/// Functions of the server that the load calls and that can fail.
const FALLIBLE: [&str; 8] = [
    "RedisModule_CreateDataType",
    "RedisModule_CreateCommand",
    "RedisModule_GetCommand",
    "RedisModule_SetCommandInfo",
    "RedisModule_RegisterInfoFunc",
    "RedisModule_RegisterNumericConfig",
    "RedisModule_LoadConfigs",
    "RedisModule_SubscribeToServerEvent",
];

#[test]
fn a_server_survives_every_fork_after_a_load_that_was_refused_for_its_settings() {
    for (command, rest) in [
        ("MODULE LOAD", "top-keys"),
        ("MODULE LOAD", "top-keys many"),
        ("MODULE LOAD", "top-keys 10001"),
        ("MODULE LOAD", "top-keys 1 top-keys 1"),
        ("MODULE LOAD", "no-such-setting 1"),
        ("MODULE LOADEX", "CONFIG ratelimit.top-keys many"),
        ("MODULE LOADEX", "CONFIG ratelimit.top-keys 10001"),
        ("MODULE LOADEX", "CONFIG ratelimit.top-keys 5 ARGS top-keys"),
    ] {
        let server = without_module().start();
        server.try_to_load_module(command, rest).expect_err(rest);
        assert_eq!(modules(&server), 0, "{rest}");
        assert_is_documented(&server.log());
        assert_survives_forks(&server);
        // Nothing of the refused load prevents another load.
        server.load_module();
        assert_is_whole(&server);
    }
}

#[test]
fn a_server_survives_every_fork_after_a_load_that_it_refused_itself() {
    for function in FALLIBLE {
        let server = without_module().faults(function).start();
        server.try_to_load_module("MODULE LOAD", "").expect_err(function);
        assert_eq!(modules(&server), 0, "{function}");
        assert_is_documented(&server.log());
        assert_survives_forks(&server);
    }
    let server = without_module().faults("-RedisModule_UnlinkKey").start();
    server.try_to_load_module("MODULE LOAD", "").expect_err("a function is missing");
    assert!(server.log().contains("this server has no RedisModule_UnlinkKey"), "{}", server.log());
    assert_is_documented(&server.log());
    assert_survives_forks(&server);
}

#[test]
fn a_setting_that_no_module_has_leaves_a_module_that_works_or_none() {
    // The server detects the setting when the load is complete, and answers an error. Redis 7.0
    // keeps the module, since the module has data types; Redis 8 unloads the module all the same.
    // Redis 7.2, 7.4 and Valkey, which reports 7.2.4, have a defect there that ends the server with
    // any module.
    let server = without_module().start();
    let version = server.client().info("server", "redis_version");
    if version.starts_with("7.2.") || version.starts_with("7.4.") {
        return;
    }
    let rest = "CONFIG ratelimit.no-such-setting 1";
    server.try_to_load_module("MODULE LOADEX", rest).expect_err(rest);
    assert_eq!(modules(&server), usize::from(version.starts_with("7.0.")));
    assert_survives_forks(&server);
    if modules(&server) == 0 {
        server.load_module();
    }
    assert_is_whole(&server);
}

#[test]
fn a_second_load_is_refused_with_the_reason_and_the_remedy() {
    let server = Server::builder().config("enable-module-command", "yes").start();
    for rest in ["", "top-keys 1", "top-keys"] {
        server.try_to_load_module("MODULE LOAD", rest).expect_err("it is loaded");
    }
    assert_eq!(reasons(&server.log()), [ALREADY_LOADED; 3]);
    assert_is_documented(&server.log());
    assert_survives_forks(&server);
    assert_is_whole(&server);

    let mut builder = Server::builder();
    for _ in 0..2 {
        builder = builder.config("loadmodule", module_library().to_str().unwrap());
    }
    let log = builder.without_module().start_in_vain();
    assert_eq!(reasons(&log), [ALREADY_LOADED], "{log}");
}

const ALREADY_LOADED: &str = "ratelimit is loaded already, and a server loads it once: leave \
                              loadmodule out of the configuration file or of the command line \
                              (CONFIG REWRITE writes it into the file)";

/// Returns a builder of servers without a module that permit MODULE LOAD.
fn without_module() -> Builder {
    Server::builder().without_module().config("enable-module-command", "yes")
}

/// Returns the number of loaded modules that are called `ratelimit`.
fn modules(server: &Server) -> usize {
    let list: String = server.client().call("INFO modules");
    list.lines().filter(|line| line.starts_with("module:name=ratelimit,")).count()
}

/// Returns the lines of the log from the module. On a second load the module has no name yet.
fn reasons(log: &str) -> Vec<&str> {
    let text = |line| ["# <ratelimit> ", "# <module> "].iter().find_map(|mark| after(line, mark));
    log.lines().filter_map(text).collect()
}

fn after<'a>(line: &'a str, mark: &str) -> Option<&'a str> {
    line.split_once(mark).map(|(_, rest)| rest)
}

/// Asserts that the log has a reason, and that the page on troubleshooting has a row for each
/// reason.
fn assert_is_documented(log: &str) {
    let page = fs::read_to_string(repository().join("docs/troubleshooting.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let quoted: Vec<&str> = rows.flat_map(|row| row.split('`').skip(1).step_by(2)).collect();
    let is_quoted = |reason: &str| {
        quoted.iter().any(|text| match text.split_once("...") {
            Some((beginning, _)) => !beginning.is_empty() && reason.starts_with(beginning),
            None => reason == *text,
        })
    };
    let reasons = reasons(log);
    assert!(!reasons.is_empty(), "{log}");
    for reason in reasons {
        assert!(is_quoted(reason), "docs/troubleshooting.md has no row for {reason}");
    }
}

/// Asserts that the module decides and replicates, and has all commands and settings.
fn assert_is_whole(server: &Server) {
    let mut client = server.client();
    assert_eq!(client.decide("RATELIMIT.TB bucket 10 60")[..3], [1, 10, 9]);
    assert_eq!(client.decide("RATELIMIT.SW log 10 60")[..3], [1, 10, 9]);
    assert_eq!(client.call::<Vec<String>>("CONFIG GET ratelimit.*").len(), 6);
    assert_eq!(client.call::<i64>("RATELIMIT.RESET bucket log"), 2);
    client.info("ratelimit", "ratelimit_token_bucket_calls");
}

/// Makes the server fork in every possible way, and asserts that the server keeps running.
fn assert_survives_forks(server: &Server) {
    let mut client = server.client();
    client.call::<String>("BGSAVE");
    has_ended(&mut client, "rdb_bgsave_in_progress");

    client.send::<()>(&[b"CONFIG", b"SET", b"save", b"1 1"]);
    client.call::<()>("SET key value");
    eventually("the change is saved", || {
        (client.info("persistence", "rdb_changes_since_last_save") == "0").then_some(())
    });
    has_ended(&mut client, "rdb_bgsave_in_progress");
    client.send::<()>(&[b"CONFIG", b"SET", b"save", b""]);

    for diskless in ["yes", "no"] {
        client.call::<()>(&format!("CONFIG SET repl-diskless-sync {diskless}"));
        let replica = Server::builder().start();
        replica.follow(server);
        assert_eq!(replica.client().call::<String>("GET key"), "value");
    }

    client.call::<String>("BGREWRITEAOF");
    has_ended(&mut client, "aof_rewrite_in_progress");
    client.call::<()>("CONFIG SET appendonly yes");
    has_ended(&mut client, "aof_rewrite_in_progress");
    client.call::<()>("CONFIG SET appendonly no");
    assert_eq!(client.call::<String>("GET key"), "value");
    client.call::<()>("DEL key");
}

/// Waits until a child process of the server has ended.
fn has_ended(client: &mut Client, field: &str) {
    eventually(field, || {
        let scheduled = client.info("persistence", "aof_rewrite_scheduled") == "0";
        (scheduled && client.info("persistence", field) == "0").then_some(())
    });
}
