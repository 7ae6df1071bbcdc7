//! The circuit breaker in front of a Redis that does not answer: one check waits for the timeout,
//! and later checks are answered at once.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::harness::{Cluster, Gateway, Proxy, Server, eventually, http_request, timed};

/// `REDIS_TIMEOUT_MS` where answers are late: on a busy machine too, far longer than the duration
/// of a check that does not wait for Redis.
const TIMEOUT: Duration = Duration::from_secs(3);

fn start(url: &str, timeout: Duration) -> Gateway {
    let timeout = timeout.as_millis().to_string();
    let settings = Gateway::builder().env("REDIS_URL", url).env("DENY_CACHE_SIZE", "0");
    settings.env("REDIS_TIMEOUT_MS", &timeout).env("REDIS_MAX_BACKLOG", "4").start()
}

/// Waits until a metric has this value. The metric has no labels, or is the only one of its name.
fn wait_for_metric(gateway: &Gateway, metric: &str, value: &str) {
    eventually(&format!("{metric} is {value}"), || {
        let page = gateway.get("/metrics").body;
        let line = page.lines().find(|line| line.starts_with(metric)).unwrap_or_default();
        line.ends_with(&format!(" {value}")).then_some(())
    });
}

#[test]
fn only_the_first_of_consecutive_checks_waits_for_a_silent_redis() {
    let server = Server::start();
    let gateway = start(&server.url(), TIMEOUT);
    gateway.wait_until_redis_decides("someone");
    wait_for_metric(&gateway, "ratelimit_redis_connections{", "4");
    wait_for_metric(&gateway, "ratelimit_redis_breaker_open{", "0");
    server.freeze();
    assert_eq!(gateway.check("someone").status, 503);
    let ((), waited) = timed(|| {
        for _ in 0..20 {
            assert_eq!(gateway.check("someone").status, 503);
        }
    });
    assert!(waited < TIMEOUT, "the others wait {waited:?}");
    wait_for_metric(&gateway, "ratelimit_redis_connections{", "0");
    wait_for_metric(&gateway, "ratelimit_redis_breaker_open{", "1");
    server.thaw();
    gateway.wait_until_redis_decides("someone");
    wait_for_metric(&gateway, "ratelimit_redis_connections{", "4");
    wait_for_metric(&gateway, "ratelimit_redis_breaker_open{", "0");
    gateway.log_with("circuit breaker open");
    let log = gateway.log_with("circuit breaker closed");
    // The log has a few lines about the outage, not one line for each check or attempt.
    let errors = log.lines().filter(|line| line.contains(r#""ERROR""#)).count();
    assert!(errors <= 10, "{log}");
}

#[test]
fn a_silent_redis_is_detected_although_all_callers_give_up_early() {
    let server = Server::start();
    let gateway = start(&server.url(), TIMEOUT);
    gateway.wait_until_redis_decides("someone");
    server.freeze();
    let request = http_request("POST", "/rate-limit/check", &[], r#"{"identifier": "someone"}"#);
    for _ in 0..20 {
        let mut socket = TcpStream::connect(gateway.address()).unwrap();
        socket.write_all(&request).unwrap();
        // Each client gives up before the timeout of the gateway.
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let _ = socket.read(&mut [0]);
    }
    wait_for_metric(&gateway, "ratelimit_redis_breaker_open{", "1");
    let (answer, waited) = timed(|| gateway.check("someone"));
    assert_eq!(answer.status, 503);
    assert!(waited < TIMEOUT, "the check waits {waited:?}");
    server.thaw();
    gateway.wait_until_redis_decides("someone");
}

#[test]
fn calls_that_do_not_fit_into_the_backlog_are_refused_at_once() {
    let server = Server::start();
    let gateway = start(&server.url(), 10 * TIMEOUT);
    gateway.wait_until_redis_decides("someone");
    server.freeze();
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| gateway.check("someone"))).collect();
        wait_for_metric(&gateway, "ratelimit_redis_backlog", "4");
        let refused = gateway.check("someone");
        assert_eq!((refused.status, refused.header("Retry-After")), (503, Some("1")));
        let batch = r#"{"checks": [{"identifier": "a"}, {"identifier": "b"}]}"#;
        let refused = gateway.post("/rate-limit/check/batch", batch).body;
        assert_eq!(refused.matches(r#""status":503"#).count(), 2, "{refused}");
        assert!(waiting.iter().all(|call| !call.is_finished()), "those before it still wait");
        server.thaw();
        for call in waiting {
            assert_eq!(call.join().unwrap().status, 200);
        }
    });
    gateway.log_with("too many calls wait for Redis");
    assert_eq!(gateway.check("someone").status, 200);
    wait_for_metric(&gateway, "ratelimit_redis_backlog", "0");
}

#[test]
fn a_check_that_timed_out_is_never_sent_again_in_a_cluster() {
    let cluster = Cluster::start();
    let gateway = start(&cluster.url(), Duration::from_millis(300));
    let server = cluster.node(0);
    let mut client = server.client();
    let mut is_here = |name: &String| {
        let peek = format!("RATELIMIT.PEEK token_bucket:{{{name}}} TB 1 1");
        client.try_call(&peek).is_ok()
    };
    let mut names = (0..).map(|number| format!("client-{number}")).filter(|name| is_here(name));
    let [identifier, other] = [(); 2].map(|()| names.next().unwrap());

    gateway.wait_until_redis_decides(&other);
    server.freeze();
    assert_eq!(gateway.check(&identifier).status, 503);
    // The check is still in the socket of the server, and the server runs the check after the thaw.
    server.thaw();
    eventually("the server runs it", || (server.used_units(&identifier) > 0).then_some(()));
    gateway.wait_until_redis_decides(&other);
    assert_eq!(server.used_units(&identifier), 1);
    let stats = server.client().info("commandstats", "cmdstat_ratelimit.tb");
    let calls = stats.split(&['=', ','][..]).nth(1).and_then(|calls| calls.parse().ok());
    assert_eq!(calls, Some(server.used_units(&identifier) + server.used_units(&other)), "{stats}");
}

#[test]
fn a_replica_is_left_for_the_primary_when_its_name_leads_there() {
    let primary = Server::start();
    let replica = Server::builder().replica_of(&primary).start();
    replica.catch_up_with(&primary);
    let proxy = Proxy::to(&replica);
    let gateway = start(&proxy.url(), TIMEOUT);
    assert_eq!(gateway.check("someone").status, 503);
    let opened = proxy.opened();
    proxy.lead_to(&primary);
    eventually("the primary decides", || {
        assert_eq!(gateway.get("/rate-limit/status/someone").status, 200);
        (gateway.check("someone").status == 200).then_some(())
    });
    // The gateway replaces each connection to a replica at most once a second.
    let replaced = proxy.opened() - opened;
    assert!((1..=60).contains(&replaced), "{replaced} connections were opened");
}
