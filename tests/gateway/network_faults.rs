//! Errors of the network between the gateway and Redis, and the time after these errors.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Gateway, Network, Proxy, Server, Traffic, eventually, timed};

/// `REDIS_TIMEOUT_MS`: long enough for a healthy Redis on a busy machine.
const TIMEOUT_MS: u64 = 800;

/// Starts a gateway behind a proxy.
fn start(server: &Server) -> (Proxy, Gateway) {
    let proxy = Proxy::to(server);
    let builder = Gateway::builder().env("REDIS_URL", &proxy.url());
    let gateway = builder.env("REDIS_TIMEOUT_MS", &TIMEOUT_MS.to_string()).start();
    (proxy, gateway)
}

/// Asserts that a check fails, within twice the timeout.
fn assert_given_up(gateway: &Gateway) {
    let (answer, time) = timed(|| gateway.check("someone"));
    assert_eq!(answer.status, 503);
    assert!(time <= Duration::from_millis(2 * TIMEOUT_MS), "giving up takes {time:?}");
}

#[test]
fn answers_that_come_after_the_timeout_are_not_waited_for() {
    let server = Server::start();
    let (proxy, gateway) = start(&server);
    proxy.set(Network::Delayed(Duration::from_millis(2 * TIMEOUT_MS)));
    assert_given_up(&gateway);
    proxy.set(Network::Sound);
    gateway.wait_until_redis_decides("anyone");
}

#[test]
fn a_network_that_is_slow_and_within_the_timeout_causes_no_error() {
    let server = Server::start();
    let proxy = Proxy::to(&server);
    let gateway = Gateway::builder().env("REDIS_URL", &proxy.url()).start();
    proxy.set(Network::Delayed(Duration::from_millis(20)));
    let begin = Instant::now();
    assert_eq!(gateway.check("someone").status, 200);
    assert!(begin.elapsed() >= Duration::from_millis(40), "the network was not slow");
}

#[test]
fn a_network_that_loses_everything_is_given_up_and_used_again() {
    let server = Server::start();
    let (proxy, gateway) = start(&server);
    proxy.set(Network::Silent);
    assert_given_up(&gateway);
    gateway.log_with("lost a connection to Redis");
    proxy.set(Network::Sound);
    gateway.wait_until_redis_decides("anyone");
}

#[test]
fn connections_that_the_network_dropped_are_replaced() {
    let server = Server::start();
    let (proxy, gateway) = start(&server);
    gateway.wait_until_redis_decides("anyone");
    proxy.forget_all();
    // The gateway receives no error: the first check detects the loss.
    assert_given_up(&gateway);
    gateway.wait_until_redis_decides("anyone");
}

#[test]
fn a_connection_that_is_reset_within_an_answer_is_replaced() {
    let server = Server::start();
    let (proxy, gateway) = start(&server);
    for bytes in [0, 1, 7] {
        gateway.wait_until_redis_decides("anyone");
        proxy.set(Network::ResetAfter(bytes));
        assert_given_up(&gateway);
        proxy.set(Network::Sound);
    }
    gateway.wait_until_redis_decides("anyone");
}

#[test]
fn a_check_whose_answer_was_lost_is_not_sent_again() {
    for fault in [Network::AnswersLost, Network::ResetAfter(0), Network::ResetAfter(3)] {
        let server = Server::start();
        let (proxy, gateway) = start(&server);
        gateway.wait_until_redis_decides("anyone");
        proxy.set(fault);
        assert_eq!(gateway.check("someone").status, 503);
        proxy.set(Network::Sound);
        gateway.wait_until_redis_decides("anyone");
        assert_eq!(server.used_units("someone"), 1, "{fault:?}");
    }
}

#[test]
fn no_check_of_many_is_sent_twice() {
    let server = Server::start();
    let (proxy, gateway) = start(&server);
    gateway.wait_until_redis_decides("anyone");
    let identifiers: Vec<_> = (0..60).map(|number| format!("client-{number}")).collect();
    for fault in [Network::AnswersLost, Network::ResetAfter(11)] {
        let before: Vec<_> = identifiers.iter().map(|each| server.used_units(each)).collect();
        proxy.set(fault);
        thread::scope(|scope| {
            for identifier in &identifiers {
                let gateway = &gateway;
                scope.spawn(move || gateway.check(identifier));
            }
        });
        proxy.set(Network::Sound);
        gateway.wait_until_redis_decides("anyone");
        let after = identifiers.iter().map(|each| server.used_units(each));
        let sent: Vec<_> = after.zip(before).map(|(after, before)| after - before).collect();
        assert!(sent.iter().all(|sent| (0..=1).contains(sent)), "{fault:?}: {sent:?}");
        assert!(sent.contains(&1), "{fault:?}: none arrived");
    }
}

#[test]
fn no_check_of_a_batch_is_sent_twice() {
    let identifiers: Vec<_> = (0..60).map(|number| format!("client-{number}")).collect();
    let check = |identifier: &String| {
        format!(r#"{{"identifier": "{identifier}", "limit": 1000, "window_seconds": 31622400}}"#)
    };
    let checks: Vec<_> = identifiers.iter().map(check).collect();
    let body = format!(r#"{{"checks": [{}]}}"#, checks.join(","));
    for fault in [Network::AnswersLost, Network::ResetAfter(100)] {
        let server = Server::start();
        let (proxy, gateway) = start(&server);
        gateway.wait_until_redis_decides("anyone");
        proxy.set(fault);
        let answer = gateway.post("/rate-limit/check/batch", &body);
        assert_eq!(answer.body.matches(r#""status":503"#).count(), 60, "{}", answer.body);
        proxy.set(Network::Sound);
        gateway.wait_until_redis_decides("anyone");
        let used: Vec<_> = identifiers.iter().map(|each| server.used_units(each)).collect();
        assert_eq!(used, [1; 60], "{fault:?}");
    }
}

#[test]
fn a_refund_whose_answer_was_lost_is_not_sent_again() {
    let server = Server::start();
    let (proxy, gateway) = start(&server);
    let answers = [(); 5].map(|()| gateway.check("someone").status);
    assert_eq!(answers, [200; 5]);
    proxy.set(Network::AnswersLost);
    let body = r#"{"identifier": "someone", "amount": 1}"#;
    assert_eq!(gateway.post("/rate-limit/refund", body).status, 503);
    proxy.set(Network::Sound);
    gateway.wait_until_redis_decides("anyone");
    assert_eq!(server.used_units("someone"), 4);
}

#[test]
fn refused_connections_do_not_affect_open_connections() {
    let server = Server::start();
    let (proxy, gateway) = start(&server);
    gateway.wait_until_redis_decides("anyone");
    proxy.refuse();
    for _ in 0..20 {
        assert_eq!(gateway.check("someone").status, 200);
    }
    proxy.reset_all();
    eventually("the gateway notices", || (gateway.check("someone").status == 503).then_some(()));
    assert_given_up(&gateway);
    proxy.accept();
    gateway.wait_until_redis_decides("anyone");
}

#[test]
fn no_check_waits_for_a_connection_that_no_server_accepts() {
    let server = Server::start();
    let (proxy, gateway) = start(&server);
    gateway.wait_until_redis_decides("anyone");
    let opened = proxy.opened();
    proxy.reset_all();
    proxy.set(Network::Paused);
    proxy.reset_all();
    eventually("the gateway notices", || (gateway.check("someone").status == 503).then_some(()));
    for _ in 0..10 {
        assert_given_up(&gateway);
    }
    proxy.set(Network::Sound);
    gateway.wait_until_redis_decides("anyone");
    assert!(proxy.opened() > opened, "the connections are new");
}

#[test]
fn a_new_primary_at_the_same_address_is_used_with_all_that_was_counted() {
    let mut primary = Server::start();
    let replica = Server::builder().replica_of(&primary).start();
    let (proxy, gateway) = start(&primary);
    gateway.wait_until_redis_decides("anyone");
    assert_eq!(gateway.check("someone").status, 200);
    replica.catch_up_with(&primary);

    primary.kill();
    proxy.lead_to(&replica);
    replica.client().call::<()>("REPLICAOF NO ONE");
    gateway.wait_until_redis_decides("anyone");
    assert_eq!(replica.used_units("someone"), 1);
}

#[test]
fn a_primary_that_was_demoted_is_left_for_the_one_at_its_address() {
    let primary = Server::start();
    let replica = Server::builder().replica_of(&primary).start();
    replica.catch_up_with(&primary);
    let (proxy, gateway) = start(&primary);
    gateway.wait_until_redis_decides("anyone");

    // The connections to the old primary stay open, and the old primary goes on answering.
    proxy.lead_to(&replica);
    replica.client().call::<()>("REPLICAOF NO ONE");
    primary.follow(&replica);
    gateway.wait_until_redis_decides("anyone");
}

#[test]
fn traffic_through_a_network_that_keeps_failing_is_always_answered() {
    let server = Server::start();
    let (proxy, gateway) = start(&server);
    let traffic = Traffic::on(&[&gateway]).pause(Duration::from_millis(2));
    let record = traffic.during(|progress| {
        for fault in [Network::ResetAfter(40), Network::Silent, Network::AnswersLost] {
            progress.until("Redis decides", 1, |answer| answer.source == Some("redis"));
            proxy.set(fault);
            progress.until("it does not", 1, |answer| answer.status == 503);
            proxy.reset_all();
            progress.more(50);
            proxy.set(Network::Sound);
        }
        progress.until("Redis decides", 1, |answer| answer.source == Some("redis"));
    });
    assert_eq!(record.lost(), 0, "{record}");
    assert!(record.answers().all(|answer| [200, 503].contains(&answer.status)), "{record}");
    assert!(record.with(|answer| answer.status == 503 && !answer.retry_after).len() == 0);
}

#[test]
fn a_network_that_resets_every_connection_soon_gets_bounded_attempts() {
    let server = Server::start();
    let (proxy, gateway) = start(&server);
    let (mut opened, mut time) = (0, Duration::ZERO);
    let record = Traffic::on(&[&gateway]).during(|progress| {
        progress.until("Redis decides", 1, |answer| answer.source == Some("redis"));
        // The number is more bytes than a connect takes, and fewer bytes than a few answers have.
        proxy.set(Network::ResetAfter(600));
        let (before, begin) = (proxy.opened(), Instant::now());
        while begin.elapsed() < Duration::from_secs(2) {
            progress.more(100);
        }
        (opened, time) = (proxy.opened() - before, begin.elapsed());
    });
    assert_eq!(record.lost(), 0, "{record}");
    // Each of the four connections makes at most ten attempts a second.
    let most = 4 * (time.as_millis() / 100 + 2);
    assert!((8..=most).contains(&(opened as u128)), "{opened} connections in {time:?}");
    let log = gateway.log_with("lost a connection to Redis");
    let losses = log.matches("lost a connection to Redis").count();
    assert!(losses <= 2 + time.as_secs() as usize, "{losses} lines in {time:?}");
}

#[test]
fn outages_leave_no_connection_open() {
    let server = Server::start();
    let (proxy, gateway) = start(&server);
    gateway.wait_until_redis_decides("anyone");
    let before = gateway.open_files();
    for _ in 0..3 {
        proxy.set(Network::Silent);
        assert_given_up(&gateway);
        let opened = proxy.opened();
        eventually("it tries to connect", || (proxy.opened() >= opened + 8).then_some(()));
        proxy.set(Network::Sound);
        gateway.wait_until_redis_decides("anyone");
    }
    eventually("every lost connection is closed", || {
        (gateway.open_files() <= before).then_some(())
    });
}
