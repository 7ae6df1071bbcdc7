//! What the gateway promises under load while Redis goes and comes back: every request is
//! answered, none later than twice the timeout, and a second after Redis is back it is used again.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{
    Answer, Gateway, Network, Proxy, Record, Server, Traffic, eventually, free_port, watched,
};

/// As `REDIS_TIMEOUT_MS`: long enough for a healthy Redis on a busy machine.
const TIMEOUT_MS: u32 = 500;

/// How Redis goes.
#[derive(Clone, Copy, Debug)]
enum Outage {
    /// Its process ends, and its connections with it.
    Killed,
    /// Its process stands still, and its connections live on.
    Frozen,
    /// Nothing reaches it, and nobody is told.
    Unreachable,
}

/// What two gateways answered before, during and after an outage.
struct Story {
    all: Record,
    before: Record,
    /// Without the time that it may take to be noticed.
    during: Record,
    /// From a second after Redis is back.
    after: Record,
    gateways: [Gateway; 2],
}

impl Story {
    fn of(outage: Outage, fail_mode: &str) -> Self {
        let mut server = Server::start();
        let proxy = Proxy::to(&server);
        let timeout_ms = TIMEOUT_MS * watched().unwrap_or(1);
        let gateway = || {
            let builder = Gateway::builder().env("REDIS_URL", &proxy.url());
            let builder = builder.env("REDIS_TIMEOUT_MS", &timeout_ms.to_string());
            builder.env("FAIL_MODE", fail_mode).env("LOG_LEVEL", "WARNING").start()
        };
        let gateways = [gateway(), gateway()];
        let [mut gone, mut back] = [Instant::now(); 2];
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
            progress.more(5_000);
            match outage {
                Outage::Killed => server.resume(),
                Outage::Frozen => server.thaw(),
                Outage::Unreachable => proxy.set(Network::Sound),
            }
            back = Instant::now();
            progress.until("Redis decides again", 2, redis);
            while back.elapsed() < second() {
                progress.more(10);
            }
            progress.more(500);
        });
        let noticed = gone + 2 * timeout();
        let before = all.between(gone - Duration::from_secs(3600), gone);
        let during = all.between(noticed, back);
        let after = all.between(back + second(), Instant::now());
        Self { all, before, during, after, gateways }
    }

    /// Asserts what holds whatever `FAIL_MODE` says.
    fn assert_promises(&self) {
        let Self { all, before, during, after, .. } = self;
        println!("before: {before}\nduring: {during}\nafter:  {after}");
        assert_eq!(all.lost(), 0, "{all}");
        assert!(all.longest() <= 2 * timeout(), "{all}");
        for (record, count) in [(before, 500), (during, 1_000), (after, 500)] {
            assert!(record.0.len() >= count, "too few to tell: {record}");
        }
        for record in [before, after] {
            assert!(record.answers().all(|answer| answer.source == Some("redis")), "{record}");
            assert!(record.answers().all(|answer| answer.allowed), "{record}");
        }
    }

    /// Asserts that the logs tell of the outage, but not once for each request.
    fn assert_short_logs(&self) {
        for gateway in &self.gateways {
            let log = gateway.log();
            assert!(log.contains("Redis") && log.lines().count() < 50, "{log}");
            assert!(!log.contains("client-"), "{log}");
        }
    }
}

fn timeout() -> Duration {
    Duration::from_millis(TIMEOUT_MS.into()) * watched().unwrap_or(1)
}

fn second() -> Duration {
    Duration::from_secs(1) * watched().unwrap_or(1)
}

const FAIL_MODES: [&str; 1] = ["closed"];

const OUTAGES: [Outage; 3] = [Outage::Killed, Outage::Frozen, Outage::Unreachable];

#[test]
fn with_fail_mode_closed_an_outage_is_503_at_once() {
    for outage in OUTAGES {
        let story = Story::of(outage, "closed");
        story.assert_promises();
        story.assert_short_logs();
        let closed =
            |answer: &Answer| answer.status == 503 && answer.source.is_none() && answer.retry_after;
        assert!(story.during.answers().all(closed), "{outage:?}: {}", story.during);
    }
}

/// How many calls may wait for Redis, where a test wants that to be few.
const BACKLOG: usize = 8;

/// A gateway that lets few calls wait for Redis, and those for long.
fn with_small_backlog(proxy: &Proxy) -> Gateway {
    let builder = Gateway::builder().env("REDIS_URL", &proxy.url());
    let builder = builder.env("REDIS_TIMEOUT_MS", "10000").env("LOG_LEVEL", "WARNING");
    builder.env("REDIS_MAX_BACKLOG", &BACKLOG.to_string()).start()
}

/// Asserts that as many calls as may can wait for Redis at once.
fn assert_whole_backlog(gateway: &Gateway) {
    let clients = Traffic::on(&[gateway]).connections(BACKLOG);
    let record = clients.during(|progress| progress.more(200));
    assert!(record.answers().all(|answer| answer.status == 200), "{record}");
}

#[test]
fn what_redis_has_no_time_for_is_shed_at_once() {
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
    assert_eq!(decided.0.len() + shed.0.len(), record.0.len(), "{record}");
    assert!(decided.0.len() >= BACKLOG && decided.time(0) >= 2 * delay, "{decided}");
    // Shed without waiting for Redis, and decided without waiting for others.
    assert!(shed.time(990) < 2 * delay, "{shed}");
    assert!(decided.time(990) < 4 * delay, "{decided}");

    proxy.set(Network::Sound);
    assert_whole_backlog(&gateway);
}

#[test]
fn callers_that_go_away_leave_no_place_in_the_backlog_taken() {
    let server = Server::start();
    let proxy = Proxy::to(&server);
    let gateway = with_small_backlog(&proxy);
    assert_whole_backlog(&gateway);

    proxy.set(Network::Held);
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

/// Sends a check whose answer nobody will read.
fn ask_and_leave(gateway: &Gateway) -> TcpStream {
    let mut socket = TcpStream::connect(gateway.address()).unwrap();
    let body = r#"{"identifier": "somebody"}"#;
    let length = body.len();
    let head = format!("POST /rate-limit/check HTTP/1.1\r\nHost: x\r\nContent-Length: {length}");
    socket.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
    socket
}

#[test]
fn an_outage_takes_no_memory_however_many_are_asking() {
    for fail_mode in FAIL_MODES {
        let gateway = Gateway::builder()
            .env("REDIS_URL", &format!("redis://127.0.0.1:{}/", free_port()))
            .env("FAIL_MODE", fail_mode)
            .env("LOCAL_MAX_KEYS", "1000")
            .env("LOG_LEVEL", "WARNING")
            .start();
        let next = AtomicUsize::new(0);
        let traffic = Traffic::on(&[&gateway]).body(move |_| {
            let identifier = format!("{:0>200}", next.fetch_add(1, Ordering::Relaxed));
            format!(r#"{{"identifier": "{identifier}"}}"#)
        });
        traffic.during(|progress| progress.more(5_000));
        let before = gateway.resident_memory();
        let record = traffic.during(|progress| progress.more(30_000));
        let growth = gateway.resident_memory().saturating_sub(before);
        println!("{fail_mode}: {before} bytes, and {growth} more; {record}");
        // The identifiers alone are six million bytes.
        assert!(growth < 3_000_000, "{fail_mode}: {growth} bytes more");
        assert_eq!(record.lost(), 0, "{record}");
    }
}
