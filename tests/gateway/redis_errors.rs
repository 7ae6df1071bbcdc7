//! Redis that answers with errors: the answers of the gateway, the advice in its log, and its
//! recovery without a restart.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::thread;

use crate::harness::{Client, Gateway, Server, UNAVAILABLE, eventually};

/// Number of checks, which is greater than the number of lines that the log may have.
const CHECKS: usize = 60;

/// Starts a gateway in front of `server` whose log has warnings and errors only.
fn start(server: &Server) -> Gateway {
    start_at(&server.url())
}

fn start_at(url: &str) -> Gateway {
    let builder = Gateway::builder().env("REDIS_URL", url).env("LOG_LEVEL", "WARNING");
    builder.env("REDIS_TIMEOUT_MS", "1000").start()
}

/// Asserts that every check fails, that the log has this `advice` less often than once for each
/// check, and that the gateway decides again after `repair` has repaired Redis.
fn assert_advice_and_recovery(gateway: &Gateway, advice: &str, repair: impl FnOnce()) {
    eventually("checks fail", || (gateway.check("someone").status == 503).then_some(()));
    for _ in 0..CHECKS {
        let response = gateway.check("someone");
        assert_eq!((response.status, response.body.as_str()), (503, UNAVAILABLE), "{advice}");
        assert_eq!(response.header("Retry-After"), Some("1"));
    }
    let log = gateway.log_with(advice);
    assert!(log.lines().count() < CHECKS / 2, "{} lines\n{log}", log.lines().count());
    assert!(!log.contains("someone"), "{log}");
    repair();
    assert_recovers(gateway);
}

fn assert_recovers(gateway: &Gateway) {
    gateway.wait_until_redis_decides("someone");
    eventually("the gateway is ready again", || {
        (gateway.get("/health/ready").status == 200).then_some(())
    });
}

/// Ends the connections of all other clients to this server, as a restart would.
fn disconnect_others(client: &mut Client) {
    client.call::<i64>("CLIENT KILL TYPE normal SKIPME yes");
}

#[test]
fn a_server_without_the_module_is_connected_and_unhealthy_until_it_is_loaded() {
    let builder = Server::builder().without_module().config("enable-module-command", "yes");
    let server = builder.start();
    let gateway = start(&server);
    for path in ["/health", "/health/ready"] {
        let response = gateway.get(path);
        assert_eq!(response.status, 503);
        assert!(response.body.contains(r#""redis_connected":true"#), "{}", response.body);
        let failure = r#""last_failure":{"kind":"module_missing","seconds_ago":"#;
        assert!(response.body.contains(failure), "{}", response.body);
    }
    let advice = "load the ratelimit module into Redis";
    assert_advice_and_recovery(&gateway, advice, || server.load_module());
}

#[test]
fn a_wrong_password_is_reported_and_not_logged_and_can_be_corrected_in_redis() {
    let server = Server::builder().password("right").start();
    let url = format!("redis://:wrong-one@127.0.0.1:{}/", server.port());
    let gateway = start_at(&url);
    // The kind of the failure is more specific than a missing connection.
    let failure = r#""last_failure":{"kind":"not_allowed","seconds_ago":"#;
    eventually("the health says why", || {
        gateway.get("/health").body.contains(failure).then_some(())
    });
    assert_advice_and_recovery(&gateway, "cannot connect to Redis", || {
        server.client().call::<()>("CONFIG SET requirepass wrong-one");
    });
    assert!(gateway.log().contains("REDIS_"), "{}", gateway.log());
    assert!(!gateway.log().contains("wrong-one"), "{}", gateway.log());
}

#[test]
fn a_password_that_the_gateway_does_not_have_is_reported() {
    let server = Server::start();
    let gateway = start(&server);
    let mut client = server.client();
    client.call::<()>("CONFIG SET requirepass new");
    disconnect_others(&mut client);
    assert_advice_and_recovery(&gateway, "cannot connect to Redis", || {
        client.call::<()>("CONFIG SET requirepass nopass-after-all");
        client.call::<()>("ACL SETUSER default nopass");
    });
}

#[test]
fn a_user_without_the_commands_is_reported_until_the_user_has_them() {
    let server = Server::start();
    let mut client = server.client();
    client.call::<()>("ACL SETUSER gateway on >secret ~* +@connection");
    let url = format!("redis://gateway:secret@127.0.0.1:{}/", server.port());
    let gateway = start_at(&url);
    let advice = "give the Redis user the RATELIMIT commands";
    assert_advice_and_recovery(&gateway, advice, || {
        let names = ["tb", "sw", "peek", "reset", "refund"];
        let allowed = names.map(|name| format!("+ratelimit.{name}")).join(" ");
        client.call::<()>(&format!("ACL SETUSER gateway {allowed}"));
    });
    assert!(!gateway.log().contains("secret"), "{}", gateway.log());
}

#[test]
fn a_redis_without_a_free_connection_is_reported_until_a_connection_is_free() {
    let server = Server::builder().config("maxclients", "1").start();
    let mut client = server.client();
    let gateway = start(&server);
    assert_advice_and_recovery(&gateway, "cannot connect to Redis", || {
        client.call::<()>("CONFIG SET maxclients 100");
    });
}

#[test]
fn a_key_of_another_program_is_reported() {
    let server = Server::start();
    server.client().call::<()>("SET token_bucket:{someone} value");
    let gateway = start(&server);
    let metric = r#"ratelimit_redis_errors_total{kind="wrong_type"} 1"#;
    assert_eq!(gateway.check("someone").status, 503);
    let metrics = gateway.get("/metrics").body;
    assert!(metrics.contains(metric), "{metrics}");
    assert_advice_and_recovery(&gateway, "set KEY_PREFIX", || {
        server.client().call::<()>("DEL token_bucket:{someone}");
    });
}

#[test]
fn a_key_of_another_program_does_not_affect_other_identifiers() {
    let server = Server::start();
    server.client().call::<()>("SET token_bucket:{someone} value");
    let gateway = start(&server);
    for _ in 0..CHECKS {
        assert_eq!(gateway.check("someone").status, 503);
        let other = gateway.post("/rate-limit/check", r#"{"identifier": "other"}"#);
        assert_eq!(other.header("X-RateLimit-Source"), None);
        assert_eq!(other.status, 200);
    }
}

#[test]
fn a_replica_answers_statuses_only_until_it_is_promoted() {
    let primary = Server::start();
    let replica = Server::builder().replica_of(&primary).start();
    replica.catch_up_with(&primary);
    let gateway = start(&replica);
    assert_eq!(gateway.get("/rate-limit/status/someone").status, 200);
    assert_advice_and_recovery(&gateway, "lead to its primary", || {
        replica.client().call::<()>("REPLICAOF NO ONE");
    });
}

#[test]
fn a_primary_without_enough_replicas_is_reported_until_the_replicas_are_there() {
    let server = Server::start();
    server.client().call::<()>("CONFIG SET min-replicas-to-write 1");
    let gateway = start(&server);
    assert_advice_and_recovery(&gateway, "min-replicas-to-write", || {
        server.client().call::<()>("CONFIG SET min-replicas-to-write 0");
    });
}

#[test]
fn a_full_redis_is_reported_until_redis_has_room() {
    let server = Server::builder().config("maxmemory", "1").start();
    let gateway = start(&server);
    assert_advice_and_recovery(&gateway, "Redis is at maxmemory", || {
        server.client().call::<()>("CONFIG SET maxmemory 0");
    });
}

#[test]
fn a_redis_that_cannot_save_is_reported_until_redis_can_save() {
    let settings = Server::builder().config("save", "3600 1000000");
    let server = settings.config("dbfilename", "taken").start();
    let mut client = server.client();
    let [_, directory]: [String; 2] = client.call("CONFIG GET dir");
    let taken = PathBuf::from(directory).join("taken");
    fs::create_dir(&taken).unwrap();
    client.call::<()>("BGSAVE");
    eventually("saving fails", || {
        (client.info("persistence", "rdb_last_bgsave_status") == "err").then_some(())
    });
    let gateway = start(&server);
    assert_advice_and_recovery(&gateway, "Redis cannot write its data to disk", || {
        fs::remove_dir(&taken).unwrap();
        client.call::<()>("BGSAVE");
    });
}

#[test]
fn a_redis_that_loads_its_data_is_reported_until_the_data_is_loaded() {
    let server = Server::start();
    let gateway = start(&server);
    let mut client = server.client();
    client.call::<()>("DEBUG POPULATE 2000");
    // The delay for each key is in microseconds, and the interval between two polls of clients is
    // in bytes.
    client.call::<()>("CONFIG SET key-load-delay 1000 loading-process-events-interval-bytes 1024");
    thread::scope(|scope| {
        let reload = scope.spawn(|| server.client().call::<()>("DEBUG RELOAD"));
        eventually("the log says so", || {
            gateway.check("someone");
            gateway.log().contains("reading its data from disk").then_some(())
        });
        assert!(!reload.is_finished(), "it was read before anybody could notice");
    });
    assert_recovers(&gateway);
}

#[test]
fn a_script_that_does_not_end_is_reported_until_the_script_ends() {
    let server = Server::builder().config("busy-reply-threshold", "50").start();
    let gateway = start(&server);
    let mut endless = server.socket();
    let script = "while true do end";
    endless.write_all(format!("EVAL '{script}' 0\r\n").as_bytes()).unwrap();
    assert_advice_and_recovery(&gateway, "SCRIPT KILL", || {
        server.client().call::<()>("SCRIPT KILL");
    });
}
