//! Sentinels: the gateway follows the primary that they name.

use std::time::{Duration, Instant};

use crate::harness::{
    Answer, Gateway, GatewayBuilder, Record, Sentinels, Server, Traffic, eventually, free_port,
    is_primary,
};

/// Starts a primary, a replica that follows the primary, and Sentinels that watch both.
fn pair() -> (Server, Server, Sentinels) {
    let (primary, replica) = (Server::start(), Server::start());
    replica.follow(&primary);
    let sentinels = Sentinels::watch(&primary, 1);
    (primary, replica, sentinels)
}

fn gateway(url: &str) -> GatewayBuilder {
    Gateway::builder().env("REDIS_URL", url).env("REDIS_TIMEOUT_MS", "5000")
}

/// Returns clients that take units which do not come back while a test runs.
fn traffic(gateway: &Gateway) -> Traffic {
    let traffic = Traffic::on(&[gateway]).pause(Duration::from_millis(5));
    traffic.body(|client| {
        let quota = r#""limit": 1000, "burst": 1000000, "window_seconds": 31622400"#;
        format!(r#"{{"identifier": "client-{client}", {quota}}}"#)
    })
}

/// Returns the number of used units of all clients.
fn used(server: &Server) -> usize {
    let mut client = server.client();
    let used = (0..8).map(|number| {
        let key = format!("token_bucket:{{client-{number}}}");
        let limit = "TB 1000 31622400 BURST 1000000";
        1_000_000 - client.decide(&format!("RATELIMIT.PEEK {key} {limit}"))[2]
    });
    usize::try_from(used.sum::<i64>()).unwrap()
}

/// Asserts that every check was answered, and that no unit is used without a check.
fn assert_accounted(record: &Record, primary: &Server) {
    assert_eq!(record.lost(), 0, "{record}");
    assert!(record.answers().all(|answer| [200, 503].contains(&answer.status)), "{record}");
    let used = used(primary);
    assert!(used > 0 && used <= record.len(), "{used} units are used after {record}");
}

fn decided(answer: &Answer) -> bool {
    answer.source == Some("redis") && answer.allowed
}

#[test]
fn decisions_go_on_at_the_replica_that_takes_over_from_a_dead_primary() {
    let (mut primary, replica, sentinels) = pair();
    let gateway = gateway(&sentinels.url()).start();
    let mut over = Instant::now();
    let record = traffic(&gateway).during(|progress| {
        progress.until("the primary decides", 1, decided);
        progress.more(200);
        primary.kill();
        progress.until("nobody decides", 1, |answer| answer.status == 503);
        eventually("the replica is promoted", || is_primary(replica.port()).then_some(()));
        progress.until("the replica decides", 1, decided);
        let taken = used(&replica);
        progress.more(100);
        assert!(used(&replica) > taken, "the new primary has the units");

        // The old primary acts as a primary until Sentinels demote it.
        primary.resume();
        progress.more(100);
        eventually("the former primary follows", || (!is_primary(primary.port())).then_some(()));
        over = Instant::now();
        progress.more(100);
    });
    assert_accounted(&record, &replica);
    let after = record.begun_between(over, Instant::now());
    assert_eq!(after.with(decided).len(), after.len(), "{after}");
    primary.catch_up_with(&replica);
    assert_eq!(used(&replica), used(&primary));
}

#[test]
fn a_primary_that_is_replaced_in_good_health_is_left() {
    let (_primary, replica, sentinels) = pair();
    let gateway = gateway(&sentinels.url()).start();
    let record = traffic(&gateway).during(|progress| {
        progress.until("the primary decides", 1, decided);
        sentinels.fail_over();
        eventually("the replica is promoted", || is_primary(replica.port()).then_some(()));
        let before = used(&replica);
        eventually("the new primary decides", || (used(&replica) > before + 50).then_some(()));
        progress.until("decisions go on", 1, decided);
    });
    assert_accounted(&record, &replica);
    gateway.log_with("Sentinels name another primary");
}

#[test]
fn an_idle_gateway_leaves_a_primary_that_sentinels_have_given_up() {
    let (primary, replica, sentinels) = pair();
    let gateway = gateway(&sentinels.url()).start();
    assert_eq!(gateway.check("someone").status, 200);
    // The connections to the primary stay open, and the gateway sends it no call.
    primary.freeze();
    eventually("the replica is promoted", || is_primary(replica.port()).then_some(()));
    let moved = "the primary is another server";
    gateway.log_with(moved);
    let body = r#"{"identifier": "newcomer"}"#;
    eventually("the new primary decides", || {
        (gateway.post("/rate-limit/check", body).status == 200).then_some(())
    });
    assert_eq!(replica.client().call::<i64>("EXISTS token_bucket:{newcomer}"), 1);
    primary.thaw();
}

#[test]
fn the_gateway_starts_before_sentinels_and_primary_do() {
    let ports = [(); 3].map(|()| free_port());
    let gateway = gateway(&Sentinels::url_at(&ports)).start();
    assert_eq!(gateway.check("someone").status, 503);
    let advice = "check that it runs and that REDIS_URL names it";
    gateway.log_with(advice);

    let (primary, replica) = (Server::start(), Server::start());
    replica.follow(&primary);
    let _sentinels = Sentinels::builder().ports(ports).watch(&primary, 1);
    gateway.wait_until_redis_decides("someone");
    assert_eq!(gateway.get("/health/ready").status, 200);
}

#[test]
fn one_sentinel_of_three_is_enough() {
    let (_primary, _replica, sentinels) = pair();
    let url = sentinels.url().replace("://", &format!("://127.0.0.1:{},", free_port()));
    gateway(&url).start().wait_until_redis_decides("someone");
}

#[test]
fn sentinels_and_servers_have_passwords_of_their_own() {
    let primary = Server::builder().password("right").start();
    let sentinels = Sentinels::builder().password("entry").watch(&primary, 0);
    let url = sentinels.url().replace("://", "://:right@");
    let entered = gateway(&format!("{url}?sentinel_password=entry")).start();
    entered.wait_until_redis_decides("someone");

    for (url, fault) in [
        (
            format!("{url}?sentinel_password=other"),
            "a Sentinel does not answer, or does not know the primary",
        ),
        (url.clone(), "a Sentinel does not answer, or does not know the primary"),
        (format!("{}?sentinel_password=entry", sentinels.url()), "cannot connect to Redis"),
    ] {
        let gateway = gateway(&url).start();
        assert_eq!(gateway.check("someone").status, 503);
        gateway.log_with(fault);
        let log = gateway.log_with("check REDIS_USERNAME and REDIS_PASSWORD");
        assert!(!log.contains("entry") && !log.contains("other\"") && !log.contains("right"));
    }
}

#[test]
fn a_name_that_sentinels_do_not_know_is_reported() {
    let (_primary, _replica, sentinels) = pair();
    let gateway = gateway(&sentinels.url().replace("/primary", "/secondary")).start();
    assert_eq!(gateway.check("someone").status, 503);
    let fault = "it watches no primary that is called secondary";
    gateway.log_with(fault);
}
