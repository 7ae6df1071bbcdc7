//! The circuit breaker in front of a Redis that does not answer: one check waits for the timeout,
//! and later checks are answered at once.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::harness::{Cluster, Gateway, Proxy, Server, eventually, http_request, timed};

/// As `REDIS_TIMEOUT_MS` where answers are late: far longer than what is not to wait for it takes,
/// on a busy machine too.
const TIMEOUT: Duration = Duration::from_secs(3);

fn start(url: &str, timeout: Duration) -> Gateway {
    let timeout = timeout.as_millis().to_string();
    let settings = Gateway::builder().env("REDIS_URL", url).env("DENY_CACHE_SIZE", "0");
    settings.env("REDIS_TIMEOUT_MS", &timeout).env("REDIS_MAX_BACKLOG", "4").start()
}

/// Waits until a metric without labels, or the only one of its name, has this value.
fn shows(gateway: &Gateway, metric: &str, value: &str) {
    eventually(&format!("{metric} is {value}"), || {
        let page = gateway.get("/metrics").body;
        let line = page.lines().find(|line| line.starts_with(metric)).unwrap_or_default();
        line.ends_with(&format!(" {value}")).then_some(())
    });
}

#[test]
fn only_the_first_of_those_who_come_one_by_one_waits_for_a_silent_redis() {
    let server = Server::start();
    let gateway = start(&server.url(), TIMEOUT);
    gateway.wait_until_redis_decides("someone");
    shows(&gateway, "ratelimit_redis_connections{", "4");
    shows(&gateway, "ratelimit_redis_breaker_open{", "0");
    server.freeze();
    assert_eq!(gateway.check("someone").status, 503);
    let ((), waited) = timed(|| {
        for _ in 0..20 {
            assert_eq!(gateway.check("someone").status, 503);
        }
    });
    assert!(waited < TIMEOUT, "the others wait {waited:?}");
    shows(&gateway, "ratelimit_redis_connections{", "0");
    shows(&gateway, "ratelimit_redis_breaker_open{", "1");
    server.thaw();
    gateway.wait_until_redis_decides("someone");
    shows(&gateway, "ratelimit_redis_connections{", "4");
    shows(&gateway, "ratelimit_redis_breaker_open{", "0");
    gateway.log_with("circuit breaker open");
    let log = gateway.log_with("circuit breaker closed");
    // The outage is a few lines, not one for each check or attempt.
    let errors = log.lines().filter(|line| line.contains(r#""ERROR""#)).count();
    assert!(errors <= 10, "{log}");
}

#[test]
fn a_silent_redis_is_noticed_though_all_callers_are_too_impatient() {
    let server = Server::start();
    let gateway = start(&server.url(), TIMEOUT);
    gateway.wait_until_redis_decides("someone");
    server.freeze();
    let request = http_request("POST", "/rate-limit/check", &[], r#"{"identifier": "someone"}"#);
    for _ in 0..20 {
        let mut socket = TcpStream::connect(gateway.address()).unwrap();
        socket.write_all(&request).unwrap();
        // None waits for as long as the gateway would.
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let _ = socket.read(&mut [0]);
    }
    shows(&gateway, "ratelimit_redis_breaker_open{", "1");
    let (answer, waited) = timed(|| gateway.check("someone"));
    assert_eq!(answer.status, 503);
    assert!(waited < TIMEOUT, "the check waits {waited:?}");
    server.thaw();
    gateway.wait_until_redis_decides("someone");
}

#[test]
fn what_does_not_fit_into_the_backlog_is_refused_at_once() {
    let server = Server::start();
    let gateway = start(&server.url(), 10 * TIMEOUT);
    gateway.wait_until_redis_decides("someone");
    server.freeze();
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| gateway.check("someone"))).collect();
        shows(&gateway, "ratelimit_redis_backlog", "4");
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
    shows(&gateway, "ratelimit_redis_backlog", "0");
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
    // It is still in the socket of the server, which runs it now.
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
    // Each connection is replaced once a second at most while it leads to a replica.
    let replaced = proxy.opened() - opened;
    assert!((1..=60).contains(&replaced), "{replaced} connections were opened");
}
