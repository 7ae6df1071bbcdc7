//! `--check-config --connect`: the checks of the connection to Redis, and their output.

use std::time::Duration;

use crate::harness::{
    ApiKey, Cluster, Gateway, GatewayBuilder, Sentinels, Server, eventually, free_port, timed,
};

const RIGHTS: &str = "give the Redis user the RATELIMIT commands and access to the keys";

/// Returns the exit status and the line of a check with these settings.
fn check(settings: GatewayBuilder) -> (Option<i32>, String) {
    let (status, output) = settings.answers(&["--check-config", "--connect"]);
    assert_eq!(output.lines().count(), 1, "{output}");
    (status.code(), output.trim_end().to_owned())
}

/// Returns settings for a busy machine.
fn at(url: &str) -> GatewayBuilder {
    Gateway::builder().env("REDIS_URL", url)
}

fn assert_fails(settings: GatewayBuilder, parts: &[&str]) {
    let (status, line) = check(settings);
    assert_eq!(status, Some(1), "{line}");
    for part in parts {
        assert!(line.contains(part), "{part}\n{line}");
    }
    assert!(!line.contains("pass-word"), "{line}");
}

#[test]
fn a_server_that_serves_every_command_is_well_and_keeps_its_keys() {
    let server = Server::builder().password("pass-word").start();
    server.client().call::<()>("RATELIMIT.TB token_bucket:{user} 5 60");
    let well = (Some(0), "settings ok; Redis ok: 1 server".to_owned());
    assert_eq!(check(at(&server.url())), well);
    assert_eq!(server.client().call::<i64>("DBSIZE"), 1);
    let line = "settings ok; memory:// needs no Redis".to_owned();
    assert_eq!(check(at("memory://")), (Some(0), line));
    // The gateway checks the settings before it connects to Redis.
    let (status, line) = check(at("redis://host?db=3"));
    assert!(status == Some(2) && line.starts_with("REDIS_URL: "), "{line}");
}

#[test]
fn a_server_that_cannot_be_reached_is_named() {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    assert_fails(at(&format!("redis://{address}")), &[&address, "check that Redis runs"]);

    let server = Server::start();
    server.freeze();
    let quick = Gateway::builder().env("REDIS_URL", &server.url()).env("REDIS_TIMEOUT_MS", "50");
    let fault = ["timed out", "check that Redis runs and is not stuck"];
    let ((), time) = timed(|| assert_fails(quick, &fault));
    assert!(time < Duration::from_secs(10), "{time:?}");
    server.thaw();
}

#[test]
fn a_login_that_is_refused_is_reported() {
    let server = Server::builder().password("right-one").start();
    let advice = "check REDIS_USERNAME and REDIS_PASSWORD";
    for login in ["", ":pass-word@", "nobody:pass-word@"] {
        assert_fails(at(&format!("redis://{login}127.0.0.1:{}", server.port())), &[advice]);
    }
}

#[test]
fn a_server_without_the_module_is_reported() {
    let server = Server::builder().without_module().start();
    assert_fails(at(&server.url()), &["RATELIMIT.PEEK", "load the ratelimit module into Redis"]);
}

#[test]
fn rights_that_the_user_does_not_have_are_listed() {
    let server = Server::start();
    let all = "+ratelimit.tb +ratelimit.sw +ratelimit.fw +ratelimit.peek +ratelimit.refund \
        +ratelimit.reset +ratelimit.acquire +ratelimit.renew +ratelimit.release +ratelimit.holders \
        +ratelimit.reserve +ratelimit.settle +ratelimit.multi";
    let url = format!("redis://app:pass-word@127.0.0.1:{}/", server.port());
    let as_user = |rights: &str| {
        let rights = format!("ACL SETUSER app RESET ON >pass-word {rights}");
        server.client().call::<()>(&rights);
        at(&url).env("KEY_PREFIX", "app:")
    };
    let well = (Some(0), "settings ok; Redis ok: 1 server".to_owned());
    assert_eq!(check(as_user(&format!("~app:* -@all {all}"))), well);

    let settings = as_user("~app:* -@all +ratelimit.tb +ratelimit.peek");
    let refused = "refuses the user RATELIMIT.ACQUIRE, RATELIMIT.FW, RATELIMIT.HOLDERS, \
        RATELIMIT.MULTI, RATELIMIT.REFUND, RATELIMIT.RELEASE, RATELIMIT.RENEW, RATELIMIT.RESERVE, \
        RATELIMIT.RESET, RATELIMIT.SETTLE, RATELIMIT.SW: ";
    assert_fails(settings, &[refused, RIGHTS]);
    let settings = as_user(&format!("~app:health ~app:token_bucket:* -@all {all}"));
    let refused = "refuses the user RATELIMIT.ACQUIRE, RATELIMIT.FW, RATELIMIT.HOLDERS, \
        RATELIMIT.MULTI, RATELIMIT.PEEK, RATELIMIT.REFUND, RATELIMIT.RELEASE, RATELIMIT.RENEW, \
        RATELIMIT.RESERVE, RATELIMIT.RESET, RATELIMIT.SETTLE, RATELIMIT.SW: ";
    assert_fails(settings, &[refused, RIGHTS]);

    let with_database = as_user(&format!("~app:* -@all {all}"));
    let with_database = with_database.env("REDIS_URL", &format!("{url}1"));
    assert_fails(with_database, &["give the user of Redis the right +select"]);

    // The gateway counts the requests of callers in separate keys.
    let keys = "~app:health ~app:token_bucket:* ~app:sliding_window:* ~app:fixed_window:* \
        ~app:concurrency:* ~app:reservation:* ~app:inline:* ~app:policy:*";
    assert_eq!(check(as_user(&format!("{keys} -@all {all}"))), well);
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("keys.json");
    ApiKey::write(&file, &[&ApiKey::new("shop", &["check"])]);
    let with_callers = |rights: &str| {
        as_user(rights).env("API_KEYS_FILE", file.to_str().unwrap()).env("CALLER_LIMIT", "5")
    };
    let settings = with_callers(&format!("{keys} -@all {all}"));
    assert_fails(settings, &["refuses the user RATELIMIT.REFUND, RATELIMIT.TB: ", RIGHTS]);
    assert_eq!(check(with_callers(&format!("{keys} ~app:caller:* -@all {all}"))), well);
}

#[test]
fn a_database_that_the_server_does_not_have_is_reported() {
    let server = Server::builder().config("databases", "2").start();
    let url = |database| format!("redis://127.0.0.1:{}/{database}", server.port());
    assert_eq!(check(at(&url(1))).0, Some(0));
    assert_fails(at(&url(2)), &["choose a database that Redis has"]);
}

#[test]
fn a_server_that_does_not_match_the_url_is_reported() {
    let primary = Server::start();
    let replica = Server::builder().replica_of(&primary).start();
    assert_fails(at(&replica.url()), &["this Redis is a replica"]);
    let cluster_url = primary.url().replace("redis://", "redis+cluster://");
    assert_fails(at(&cluster_url), &["this Redis is not part of a cluster"]);
}

#[test]
fn the_primary_that_sentinels_name_is_tested() {
    let primary = Server::start();
    let sentinels = Sentinels::watch(&primary, 0);
    let well = (Some(0), "settings ok; Redis ok: 1 server".to_owned());
    assert_eq!(check(at(&sentinels.url())), well);
    let misnamed = format!("{}x", sentinels.url());
    assert_fails(at(&misnamed), &["watches no primary", "correct the name"]);
    let nowhere = format!("redis+sentinel://127.0.0.1:{}/primary", free_port());
    assert_fails(at(&nowhere), &["check that Redis runs"]);
    primary.client().call::<()>("ACL SETUSER default -ratelimit.reset");
    assert_fails(at(&sentinels.url()), &["refuses the user RATELIMIT.RESET: "]);
}

#[test]
fn every_primary_of_a_cluster_is_tested() {
    let cluster = Cluster::start();
    let well = (Some(0), "settings ok; Redis ok: 3 servers".to_owned());
    assert_eq!(check(at(&cluster.url())), well);
    let node = cluster.node(2);
    node.client().call::<()>("ACL SETUSER default -ratelimit.refund -asking");
    let refused = "refuses the user ASKING, RATELIMIT.REFUND: ";
    assert_fails(at(&cluster.url()), &[&node.port().to_string(), refused]);
    let advice = "this Redis is part of a cluster: set REDIS_URL to redis+cluster://HOST:PORT";
    node.client().call::<()>("ACL SETUSER default +@all");
    // A node has some of the slots: a check of few keys could find all of its keys on that node.
    for index in [0, 1, 2, 0, 1, 2] {
        assert_fails(at(&cluster.node(index).url()), &[advice]);
    }
}

#[test]
fn connections_have_the_name_of_the_gateway() {
    let server = Server::start();
    let _gateway = Gateway::start(&server);
    eventually("there is a name in the list of clients", || {
        let clients = server.client().call::<String>("CLIENT LIST");
        clients.contains(" name=ratelimit-gateway ").then_some(())
    });
}
