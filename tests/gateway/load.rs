//! Load while Redis stops and starts again: every request has an answer within twice the timeout,
//! and Redis decides again within a second of its return.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{
    Answer, Gateway, Network, Proxy, Record, Server, Traffic, eventually, free_port,
};

/// The first value of `REDIS_TIMEOUT_MS`: long enough for a healthy Redis on a machine that does
/// not stall.
const TIMEOUT: Duration = Duration::from_millis(500);

/// The cause of an outage.
#[derive(Clone, Copy, Debug)]
enum Outage {
    /// The process of Redis ends, and its connections end with the process.
    Killed,
    /// The process of Redis is stopped, and its connections stay open.
    Frozen,
    /// The network drops all packets to Redis, and sends no error.
    Unreachable,
}

/// The answers of two gateways before, during and after an outage.
struct Story {
    timeout: Duration,
    all: Record,
    before: Record,
    /// Excludes the time in which a gateway detects the outage.
    during: Record,
    /// Begins a second after Redis is back.
    after: Record,
    gateways: [Gateway; 2],
}

impl Story {
    fn of(outage: Outage, fail_mode: &str, timeout: Duration) -> Self {
        let mut server = Server::start();
        let proxy = Proxy::to(&server);
        let gateways = [(); 2].map(|()| start(&proxy, fail_mode, timeout));
        let [mut gone, mut repair, mut back] = [Instant::now(); 3];
        let redis = |answer: &Answer| answer.source == Some("redis");

        let traffic = Traffic::on(&gateways.each_ref()).pause(Duration::from_millis(2));
        let all = traffic.during(|progress| {
            progress.until("Redis decides", 2, redis);
            progress.more(500);
            gone = Instant::now();
            match outage {
                Outage::Killed => server.kill(),
                Outage::Frozen => server.freeze(),
                Outage::Unreachable => proxy.set(Network::Silent),
            }
            progress.until("Redis does not decide", 2, |answer| !redis(answer));
            for gateway in &gateways {
                eventually("the breaker opens", || (breaker(gateway) == "1").then_some(()));
            }
            // The loop takes longer than a gateway may need to detect the outage on a machine that
            // stalls.
            while gone.elapsed() < 6 * timeout {
                progress.more(10);
            }
            progress.more(500);
            repair = Instant::now();
            match outage {
                Outage::Killed => server.resume(),
                Outage::Frozen => server.thaw(),
                Outage::Unreachable => proxy.set(Network::Sound),
            }
            back = Instant::now();
            progress.until("Redis decides again", 2, redis);
            while back.elapsed() < 2 * SECOND {
                progress.more(10);
            }
            progress.more(500);
            for gateway in &gateways {
                eventually("the breaker closes", || (breaker(gateway) == "0").then_some(()));
            }
        });
        let slack = all.slack();
        let before = all.between(gone - Duration::from_secs(3600), gone);
        let during = all.between(gone + 2 * timeout + slack, repair);
        let after = all.begun_between(back + SECOND + slack, Instant::now());
        println!("{fail_mode}, {outage:?}\nbefore: {before}\nduring: {during}\nafter:  {after}");
        Self { timeout, all, before, during, after, gateways }
    }

    /// Returns whether the machine stalled for so long that Redis may have been late.
    fn has_stalled(&self) -> bool {
        self.all.stall() > self.timeout / 4
    }

    /// Returns whether Redis decided every check before the outage and after it.
    fn is_decided_by_redis(&self) -> bool {
        let decided = |answer: &Answer| answer.source == Some("redis") && answer.allowed;
        [&self.before, &self.after].iter().all(|record| record.answers().all(decided))
    }

    /// Asserts the promises that hold with every `FAIL_MODE`, and that `is` returns true for every
    /// answer during the outage.
    fn assert_promises(&self, is: impl Fn(&Answer) -> bool) {
        let Self { timeout, all, before, during, after, gateways } = self;
        assert_eq!(all.lost(), 0, "{all}");
        assert!(all.longest() <= 2 * *timeout + all.slack(), "{all}");
        for record in [before, during, after] {
            assert!(record.len() >= 100, "too few to tell: {record}");
        }
        assert!(self.is_decided_by_redis(), "before: {before}\nafter: {after}");
        assert!(during.answers().all(is), "{during}");
        for source in ["redis", "local", "cache", "open"] {
            let answers = all.with(|answer| answer.source == Some(source)).len();
            let label = format!("source=\"{source}\"");
            let counted = gateways.each_ref().map(|gateway| decisions(gateway, &label));
            assert_eq!(counted.iter().sum::<usize>(), answers, "metrics of {source}");
        }
        // The log reports the outage, but not once for each check.
        for gateway in gateways {
            let log = gateway.log_with("circuit breaker open");
            assert!(log.lines().count() < 50, "{log}");
            assert!(!log.contains("client-"), "{log}");
        }
    }
}

/// Starts a gateway whose log has warnings and errors only.
fn start(proxy: &Proxy, fail_mode: &str, timeout: Duration) -> Gateway {
    let timeout = timeout.as_millis().to_string();
    let builder = Gateway::builder().env("REDIS_URL", &proxy.url());
    let share = if fail_mode == "local" { "0.5" } else { "" };
    let builder = builder.env("REDIS_TIMEOUT_MS", &timeout).env("LOCAL_SHARE", share);
    builder.env("FAIL_MODE", fail_mode).env("LOG_LEVEL", "WARNING").start()
}

/// Returns the number of decisions with this label that the gateway has counted.
fn decisions(gateway: &Gateway, label: &str) -> usize {
    let metrics = gateway.get("/metrics").body;
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("ratelimit_decisions_total{") && line.contains(label));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok()).sum()
}

/// Returns 1 while the breaker in front of the one server is open.
fn breaker(gateway: &Gateway) -> String {
    let metrics = gateway.get("/metrics").body;
    let mut lines = metrics.lines();
    let line = lines.find(|line| line.starts_with("ratelimit_redis_breaker_open{"));
    let value = line.and_then(|line| Some(line.rsplit_once(' ')?.1.to_owned()));
    value.unwrap_or_else(|| panic!("no breaker\n{metrics}"))
}

/// Asserts the promises for each outage. A stall of the machine can invalidate an outage, and the
/// test then repeats this outage with a longer timeout.
fn assert_promises(fail_mode: &str, is: impl Fn(&Answer) -> bool) {
    const ATTEMPTS: u32 = 4;
    for outage in OUTAGES {
        for attempt in 0..ATTEMPTS {
            let story = Story::of(outage, fail_mode, TIMEOUT * 2_u32.pow(attempt));
            let is_last = attempt + 1 == ATTEMPTS;
            if is_last || story.is_decided_by_redis() || !story.has_stalled() {
                story.assert_promises(&is);
                break;
            }
        }
    }
}

/// Longest time after the return of Redis until Redis decides again.
const SECOND: Duration = Duration::from_secs(1);

const FAIL_MODES: [&str; 3] = ["closed", "open", "local"];

const OUTAGES: [Outage; 3] = [Outage::Killed, Outage::Frozen, Outage::Unreachable];

#[test]
fn with_fail_mode_closed_checks_in_an_outage_are_503_at_once() {
    assert_promises("closed", |answer| {
        answer.status == 503 && answer.source.is_none() && answer.retry_after
    });
}

#[test]
fn with_fail_mode_open_checks_in_an_outage_are_allowed_and_marked() {
    assert_promises("open", |answer| {
        answer.status == 200 && answer.source == Some("open") && answer.allowed
    });
}

#[test]
fn with_fail_mode_local_each_gateway_decides_checks_in_an_outage_and_marks_them() {
    assert_promises("local", |answer| {
        answer.status == 200 && answer.source == Some("local") && answer.allowed
    });
}

#[test]
fn two_gateways_with_half_a_share_each_grant_no_more_than_the_limit() {
    for algorithm in ["token_bucket", "sliding_window"] {
        let mut server = Server::start();
        let proxy = Proxy::to(&server);
        let gateways = [(); 2].map(|()| start(&proxy, "local", TIMEOUT));
        let body = format!(
            r#"{{"identifier": "all", "algorithm": "{algorithm}", "limit": 100,
                "window_seconds": 31622400}}"#
        );
        let traffic = Traffic::on(&gateways.each_ref()).body(move |_| body.clone());
        server.kill();
        let record = traffic.during(|progress| {
            progress.until("neither grants", 2, |answer| answer.status == 200 && !answer.allowed);
            progress.more(500);
            server.resume();
            progress.until("Redis decides", 2, |answer| answer.source == Some("redis"));
            progress.until("Redis denies", 2, |answer| {
                answer.source == Some("redis") && !answer.allowed
            });
        });
        for source in ["local", "redis"] {
            let granted = record.with(|answer| answer.source == Some(source) && answer.allowed);
            assert_eq!(granted.len(), 100, "{algorithm}, {source}: {record}");
        }
    }
}

/// Number of calls that may wait for Redis, in tests that need a small backlog.
const BACKLOG: usize = 8;

/// Starts a gateway with a small backlog and a long timeout.
fn with_small_backlog(proxy: &Proxy) -> Gateway {
    let builder = Gateway::builder().env("REDIS_URL", &proxy.url());
    let builder = builder.env("LOG_LEVEL", "WARNING");
    builder.env("REDIS_MAX_BACKLOG", &BACKLOG.to_string()).start()
}

/// Asserts that the backlog takes as many calls as its setting allows.
fn assert_whole_backlog(gateway: &Gateway) {
    let clients = Traffic::on(&[gateway]).connections(BACKLOG);
    let record = clients.during(|progress| progress.more(200));
    assert!(record.answers().all(|answer| answer.status == 200), "{record}");
}

#[test]
fn checks_beyond_the_backlog_are_shed_at_once() {
    let server = Server::start();
    let proxy = Proxy::to(&server);
    let gateway = with_small_backlog(&proxy);
    assert_whole_backlog(&gateway);

    let delay = Duration::from_millis(300);
    proxy.set(Network::Delayed(delay));
    let clients = Traffic::on(&[&gateway]).connections(5 * BACKLOG);
    let record = clients.pause(Duration::from_millis(10)).during(|progress| progress.more(2_000));
    let decided = record.with(|answer| answer.status == 200);
    let shed = record.with(|answer| answer.status == 503 && answer.retry_after);
    println!("decided: {decided}\nshed: {shed}");
    assert_eq!(decided.len() + shed.len(), record.len(), "{record}");
    assert!(decided.len() >= BACKLOG && decided.time(0) >= 2 * delay, "{decided}");
    // The gateway sheds a check without waiting for Redis, and a decided check does not wait for
    // other checks.
    assert!(shed.time(990) < 2 * delay + record.slack(), "{shed}");
    assert!(decided.time(990) < 4 * delay + record.slack(), "{decided}");

    let log = gateway.log_with("raise REDIS_MAX_BACKLOG");
    assert!(log.lines().count() < 100, "{log}");

    proxy.set(Network::Sound);
    assert_whole_backlog(&gateway);
}

#[test]
fn a_batch_that_is_larger_than_the_backlog_is_decided() {
    let server = Server::start();
    let proxy = Proxy::to(&server);
    let gateway = with_small_backlog(&proxy);
    let checks = [r#"{"identifier": "somebody"}"#; 3 * BACKLOG].join(",");
    for _ in 0..3 {
        let body = format!(r#"{{"checks": [{checks}]}}"#);
        let answer = gateway.post("/rate-limit/check/batch", &body).body;
        assert_eq!(answer.matches(r#""allowed":true"#).count(), 3 * BACKLOG, "{answer}");
    }
    assert_whole_backlog(&gateway);
}

#[test]
fn callers_that_disconnect_leave_no_place_in_the_backlog_taken() {
    let server = Server::start();
    let proxy = Proxy::to(&server);
    let gateway = with_small_backlog(&proxy);
    assert_whole_backlog(&gateway);

    proxy.set(Network::Paused);
    for _ in 0..10 {
        let sockets: Vec<_> = (0..BACKLOG).map(|_| ask_and_leave(&gateway)).collect();
        drop(sockets);
    }
    proxy.set(Network::Sound);
    eventually("every place is free", || {
        let clients = Traffic::on(&[&gateway]).connections(BACKLOG);
        let record = clients.during(|progress| progress.more(100));
        record.answers().all(|answer| answer.status == 200).then_some(())
    });
}

/// Sends a check, and returns the socket with the answer unread.
fn ask_and_leave(gateway: &Gateway) -> TcpStream {
    let mut socket = TcpStream::connect(gateway.address()).unwrap();
    let body = r#"{"identifier": "somebody"}"#;
    let length = body.len();
    let head = format!("POST /rate-limit/check HTTP/1.1\r\nHost: x\r\nContent-Length: {length}");
    socket.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
    socket
}

#[test]
fn an_outage_takes_no_memory_however_many_clients_check() {
    for fail_mode in FAIL_MODES {
        let max_keys = if fail_mode == "local" { "1000" } else { "" };
        let gateway = Gateway::builder()
            .env("REDIS_URL", &format!("redis://127.0.0.1:{}/", free_port()))
            .env("FAIL_MODE", fail_mode)
            .env("LOCAL_MAX_KEYS", max_keys)
            .env("LOG_LEVEL", "WARNING")
            .start();
        let next = AtomicUsize::new(0);
        let traffic = Traffic::on(&[&gateway]).body(move |_| {
            let identifier = format!("{:0>256}", next.fetch_add(1, Ordering::Relaxed));
            format!(r#"{{"identifier": "{identifier}"}}"#)
        });
        traffic.during(|progress| (0..4).for_each(|_| progress.more(1_000)));
        let before = gateway.resident_memory();
        let record = traffic.during(|progress| (0..12).for_each(|_| progress.more(1_000)));
        let growth = gateway.resident_memory().saturating_sub(before);
        println!("{fail_mode}: {before} bytes, and {growth} more; {record}");
        // The identifiers alone take three million bytes.
        assert!(growth < 2_000_000, "{fail_mode}: {growth} bytes more");
        assert_eq!(record.lost(), 0, "{record}");
    }
}
