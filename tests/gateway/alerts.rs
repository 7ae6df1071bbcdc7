//! Every alert: real gateways cause the alert, and a real Prometheus fires it.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::harness::{
    Gateway, GatewayBuilder, Prometheus, Sentinels, Server, eventually, free_port, kept_request,
    within,
};

/// A name of the job that differs from the name in the files.
const JOB: &str = "limits";

const CHECK: &str = r#"{"identifier": "user"}"#;

const START_TIME: &str = "process_start_time_seconds";

/// Longest time until alerts fire, on a machine that other tests keep busy.
const TIMEOUT: Duration = Duration::from_secs(60);

const FAIL_MODES: [&str; 3] = ["closed", "open", "local"];

fn check(gateway: &Gateway) -> u16 {
    gateway.post("/rate-limit/check", CHECK).status
}

/// Returns the alerts that fire while Redis is down.
fn alerts_of_an_outage(fail_mode: &str) -> [&'static str; 2] {
    match fail_mode {
        "closed" => ["RatelimitRedisUnavailable", "RatelimitHighErrorRate"],
        _ => ["RatelimitRedisUnavailable", "RatelimitFailModeActive"],
    }
}

/// Starts one gateway for each topology and fail mode. Returns the URL, the fail mode and the
/// gateway.
fn gateways(urls: &[String]) -> Vec<(String, &'static str, Gateway)> {
    let pairs = urls.iter().flat_map(|url| FAIL_MODES.map(|mode| (url, mode)));
    let start = |(url, mode): (&String, &'static str)| {
        let settings = Gateway::builder().env("REDIS_URL", url).env("FAIL_MODE", mode);
        (url.clone(), mode, settings.env("REDIS_TIMEOUT_MS", "1000").start())
    };
    pairs.map(start).collect()
}

fn assert_an_outage_is_reported(
    prometheus: &Prometheus,
    gateways: &[(String, &'static str, Gateway)],
) {
    let mut missing = vec![];
    let all_fire = within(TIMEOUT, || {
        for (_, _, gateway) in gateways {
            for _ in 0..5 {
                check(gateway);
            }
        }
        let firing = prometheus.firing();
        let alerts = gateways.iter().flat_map(|(url, mode, gateway)| {
            let instance = gateway.admin_address().to_string();
            alerts_of_an_outage(mode).map(|alert| (url, mode, (alert.to_owned(), instance.clone())))
        });
        let silent = alerts.filter(|(_, _, alert)| !firing.contains(alert));
        missing = silent.map(|alert| format!("{alert:?}")).collect();
        missing.is_empty().then_some(())
    });
    assert!(all_fire.is_some(), "these do not fire: {missing:#?}");
}

#[test]
#[ignore = "make test-web"]
fn a_redis_that_was_never_reached_is_reported_for_each_topology_and_fail_mode() {
    let [standalone, sentinel, cluster] = [(); 3].map(|()| free_port());
    let gateways = gateways(&[
        format!("redis://127.0.0.1:{standalone}"),
        format!("redis+sentinel://127.0.0.1:{sentinel}/primary"),
        format!("redis+cluster://127.0.0.1:{cluster}"),
    ]);
    for (url, mode, gateway) in &gateways {
        let page = gateway.get("/metrics").body;
        for series in ["ratelimit_redis_breaker_open{node=", "ratelimit_redis_connections{node="] {
            assert!(page.contains(&format!("\n{series}")), "{url} {mode} has no {series}");
        }
    }
    let prometheus = Prometheus::watch(gateways.iter().map(|(_, _, gateway)| gateway), JOB);
    assert_an_outage_is_reported(&prometheus, &gateways);
}

#[test]
#[ignore = "make test-web"]
fn a_redis_that_is_lost_is_reported_for_each_topology_and_fail_mode() {
    let (mut standalone, mut primary) = (Server::start(), Server::start());
    let sentinels = Sentinels::watch(&primary, 0);
    let mut node = Server::builder().cluster().start();
    node.client().call::<()>("CLUSTER ADDSLOTSRANGE 0 16383");
    let cluster = format!("redis+cluster://{}", node.address());
    let gateways = gateways(&[standalone.url(), sentinels.url(), cluster]);
    let prometheus = Prometheus::watch(gateways.iter().map(|(_, _, gateway)| gateway), JOB);
    eventually("all decide and are read", || {
        let all_decide = gateways.iter().all(|(_, _, gateway)| check(gateway) == 200);
        let query = "sum(ratelimit_redis_breaker_open) == 0 and count(up == 1) == 9";
        (all_decide && !prometheus.query(query).unwrap().is_empty()).then_some(())
    });
    let unavailable = |firing: &(String, String)| firing.0 == "RatelimitRedisUnavailable";
    assert!(!prometheus.firing().iter().any(unavailable), "{:?}", prometheus.firing());

    standalone.stop();
    primary.stop();
    node.stop();
    assert_an_outage_is_reported(&prometheus, &gateways);
}

fn memory() -> GatewayBuilder {
    Gateway::builder().env("REDIS_URL", "memory://").admin()
}

/// Sends a check whose body arrives late.
fn check_slowly(gateway: &Gateway) {
    let request = kept_request("POST", "/rate-limit/check", &[], CHECK);
    let (head, body) = request.split_at(request.len() - CHECK.len());
    let mut connection = gateway.connect();
    connection.stream().write_all(head).unwrap();
    thread::sleep(Duration::from_millis(150));
    connection.stream().write_all(body).unwrap();
    assert_eq!(connection.receive().unwrap().status, 200);
}

#[test]
#[ignore = "make test-web"]
fn gateways_that_are_full_slow_or_gone_are_reported() {
    let full = memory().env("MAX_CONNECTIONS", "10").start();
    let (slow, gone) = (memory().start(), memory().start());
    let prometheus = Prometheus::watch([&full, &slow, &gone], JOB);
    let connections: Vec<TcpStream> =
        (0..10).map(|_| TcpStream::connect(full.address()).unwrap()).collect();
    eventually("the connections of clients are reported", || {
        check_slowly(&slow);
        let are_reported = prometheus.fires("RatelimitConnectionsNearLimit", &full)
            && prometheus.fires("RatelimitHighLatency", &slow);
        are_reported.then_some(())
    });
    drop(connections);
    let instance = gone.admin_address().to_string();
    drop(gone);
    eventually("a gateway that has gone is reported", || {
        prometheus
            .firing()
            .contains(&("RatelimitGatewayDown".to_owned(), instance.clone()))
            .then_some(())
    });
}

#[test]
#[ignore = "make test-web"]
fn a_redis_that_is_slow_or_lacks_the_module_is_reported() {
    let (server, plain) = (Server::start(), Server::builder().without_module().start());
    let slow = Gateway::builder().redis(&server).env("REDIS_MAX_BACKLOG", "4");
    // The highest value of the setting.
    let slow = slow.env("REDIS_TIMEOUT_MS", "60000").start();
    let wrong = Gateway::builder().redis(&plain).start();
    let prometheus = Prometheus::watch([&slow, &wrong], JOB);
    eventually("Redis decides", || (check(&slow) == 200).then_some(()));
    server.freeze();
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let mut connection = slow.connect();
            let check = kept_request("POST", "/rate-limit/check", &[], CHECK);
            connection.stream().write_all(&check).unwrap();
            connection
        })
        .collect();
    let both_fire = within(TIMEOUT, || {
        (0..20).for_each(|_| assert_eq!(check(&wrong), 503));
        let both_fire = prometheus.fires("RatelimitBacklogNearLimit", &slow)
            && prometheus.fires("RatelimitRedisErrors", &wrong);
        both_fire.then_some(())
    });
    assert!(both_fire.is_some(), "{:?} fire", prometheus.firing());
    drop(waiting);
    server.thaw();
}

/// Starts a gateway again, in another second, because the metric of the start time has whole
/// seconds.
fn start_again(old: Gateway, start: impl Fn() -> Gateway) -> Gateway {
    let begun = old.metric(START_TIME);
    drop(old);
    eventually("it starts in another second", || {
        Some(start()).filter(|new| new.metric(START_TIME) > begun)
    })
}

#[test]
#[ignore = "make test-web"]
fn a_gateway_that_starts_again_and_again_is_reported() {
    let port = free_port();
    let start = || Gateway::builder().env("REDIS_URL", "memory://").port(port).start();
    let mut gateway = start();
    let prometheus = Prometheus::watch([&gateway], JOB);
    for starts in 1..=4 {
        eventually("each start is read", || {
            let query = format!("changes({START_TIME}[15m]) == {}", starts - 1);
            (!prometheus.query(&query).unwrap().is_empty()).then_some(())
        });
        if starts < 4 {
            gateway = start_again(gateway, start);
        }
    }
    eventually("the restarts are reported", || {
        prometheus.fires("RatelimitGatewayRestarts", &gateway).then_some(())
    });
}
