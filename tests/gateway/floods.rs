//! Floods of valid requests for one identifier: the same store as before decides requests for other
//! identifiers, or the gateway refuses them as overload. `FAIL_MODE` decides none of these
//! requests, because Redis runs.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{
    Connection, Gateway, Record, Server, StopOnDrop, Traffic, eventually, kept_request,
};

/// The first value of `REDIS_TIMEOUT_MS`.
const TIMEOUT: Duration = Duration::from_millis(200);

/// Clients that send one request in a loop.
struct Flood {
    name: &'static str,
    connections: usize,
    path: &'static str,
    body: String,
    status: u16,
}

fn batch(name: &'static str, connections: usize, checks: &str, status: u16) -> Flood {
    let body = format!(r#"{{"checks":[{checks}]}}"#);
    assert!(body.len() <= 1024 * 1024, "{name} has {} bytes", body.len());
    Flood { name, connections, path: "/rate-limit/check/batch", body, status }
}

fn single(name: &'static str, path: &'static str) -> Flood {
    let padding = "0,".repeat(8_000);
    let body = format!(r#"{{"identifier":"flood","limit":1000000000,"x":[{padding}0]}}"#);
    assert!((15_000..16 * 1024).contains(&body.len()), "{name} has {} bytes", body.len());
    Flood { name, connections: 32, path, body, status: 200 }
}

fn floods() -> Vec<Flood> {
    let members: Vec<_> = (0..95_000).map(|number| format!(r#""{number}":0"#)).collect();
    let members = members.join(",");
    let valid = r#"{"identifier":"flood","limit":1000000000}"#;
    let invalid = r#"{"algorithm":0,"limit":0,"window_seconds":0,"burst":0,"cost":-1}"#;
    let zeros = "0,".repeat(500_000) + "0";
    vec![
        batch("a large value", 2, &format!(r#"{{"identifier":"x","limit":{{{members}}}}}"#), 200),
        batch(
            "a large field that is skipped",
            2,
            &format!(r#"{{"identifier":"flood","x":[{zeros}]}}"#),
            200,
        ),
        batch("a long list", 2, &zeros, 422),
        batch("full batches", 16, &vec![valid; 1_000].join(","), 200),
        batch("full batches of faults", 16, &vec![invalid; 1_000].join(","), 200),
        single("large checks", "/rate-limit/check"),
        single("large refunds", "/rate-limit/refund"),
    ]
}

impl Flood {
    /// Runs `work` while the flood lasts, from the first answer to the flood on.
    fn during<T>(&self, gateway: &Gateway, work: impl FnOnce() -> T) -> T {
        let (stop, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..self.connections {
                scope.spawn(|| self.send_until(&stop, gateway, &answers));
            }
            let stop = StopOnDrop(&stop);
            eventually("the flood is answered", || {
                (answers.load(Ordering::Relaxed) > 0).then_some(())
            });
            let result = work();
            drop(stop);
            result
        })
    }

    fn send_until(&self, stop: &AtomicBool, gateway: &Gateway, answers: &AtomicUsize) {
        let request = kept_request("POST", self.path, &[], &self.body);
        let mut connection = gateway.connect();
        while !stop.load(Ordering::Relaxed) {
            let answer = connection.exchange(&request).expect("an answer for the flood");
            assert!([self.status, 503].contains(&answer.status), "{}: {answer:?}", self.name);
            answers.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Returns a description of the first error in the answers to other clients, if there is an error.
fn fault(record: &Record, gateway: &Gateway) -> Option<String> {
    let shed = |source: Option<&str>, status: u16| source.is_none() && status == 503;
    let is_right = |source, status| source == Some("redis") || shed(source, status);
    if !record.answers().all(|answer| is_right(answer.source, answer.status)) {
        return Some("others decide".to_owned());
    }
    if record.lost() > 0 || record.with(|answer| answer.source == Some("redis")).len() == 0 {
        return Some("nothing is decided".to_owned());
    }
    for kind in ["timeout", "disconnected"] {
        let name = format!(r#"ratelimit_redis_errors_total{{kind="{kind}"}}"#);
        if gateway.metric(&name) > 0.0 {
            return Some(format!("Redis is blamed: {kind}"));
        }
    }
    let log = gateway.log();
    let blame = ["lost a connection", "circuit breaker open", "FAIL_MODE"];
    blame.into_iter().find(|text| log.contains(text)).map(|text| format!("the log says: {text}"))
}

/// Asserts that Redis decides other requests as before while this flood lasts. Redis itself can be
/// late on a machine that stalls: after a stall, the test repeats the flood with a longer timeout.
fn assert_harms_no_other(flood: Option<&Flood>, server: &Server, fail_mode: &str) {
    const ATTEMPTS: u32 = 5;
    let name = flood.map_or("no flood", |flood| flood.name);
    for attempt in 1..=ATTEMPTS {
        let timeout = TIMEOUT * 2_u32.pow(attempt - 1);
        let gateway = Gateway::builder()
            .redis(server)
            .env("LOG_LEVEL", "WARNING")
            .env("REDIS_TIMEOUT_MS", &timeout.as_millis().to_string())
            .env("FAIL_MODE", fail_mode)
            .start();
        let others = Traffic::on(&[&gateway]).connections(4).pause(Duration::from_millis(5));
        let run = || others.during(|progress| progress.more(200));
        let record = match flood {
            Some(flood) => flood.during(&gateway, run),
            None => run(),
        };
        println!("{fail_mode}, {name}: {record}");
        let Some(fault) = fault(&record, &gateway) else { return };
        let has_stalled = record.stall() > timeout / 4;
        assert!(has_stalled && attempt < ATTEMPTS, "{fail_mode}, {name}: {fault}\n{record}");
    }
}

fn assert_no_flood_changes_the_source(fail_mode: &str) {
    let server = Server::start();
    assert_harms_no_other(None, &server, fail_mode);
    for flood in floods() {
        assert_harms_no_other(Some(&flood), &server, fail_mode);
    }
}

#[test]
fn no_flood_changes_the_source_with_fail_mode_closed() {
    assert_no_flood_changes_the_source("closed");
}

#[test]
fn no_flood_changes_the_source_with_fail_mode_open() {
    assert_no_flood_changes_the_source("open");
}

#[test]
fn no_flood_changes_the_source_with_fail_mode_local() {
    assert_no_flood_changes_the_source("local");
}

#[test]
fn bodies_that_stall_take_bounded_memory_and_no_room_of_others() {
    const BODIES: usize = 600;
    let gateway = Gateway::builder().env("REDIS_URL", "memory://").start();
    let before = gateway.resident_memory();
    let size = 1024 * 1024;
    let length = size.to_string();
    let head = kept_request("POST", "/rate-limit/check/batch", &[("Content-Length", &length)], "");
    let part = vec![b' '; size - 1];
    let mut stalled: Vec<Connection<TcpStream>> = vec![];
    for number in 0..BODIES {
        let mut connection = gateway.connect();
        connection.stream().write_all(&[&head, part.as_slice()].concat()).unwrap();
        stalled.push(connection);
        if number % 50 == 0 {
            let check = gateway.post("/rate-limit/check", r#"{"identifier":"other"}"#);
            assert_eq!(check.status, 200, "{check:?}");
        }
    }
    let growth = gateway.resident_memory().saturating_sub(before);
    println!("{growth} bytes more");
    assert!(growth < 200 * 1024 * 1024, "{growth} bytes more");
    // The newest bodies have found no room. On a slow machine the first bodies reach their deadline
    // before the newest bodies arrive, and some of the newest bodies take the room of the first.
    let mut answers = stalled.iter_mut().rev().map(|connection| connection.receive().unwrap());
    let refused = answers.find(|answer| answer.status != 408).unwrap();
    let body = r#"{"detail":"The service is overloaded","error_code":"OVERLOADED"}"#;
    assert_eq!((refused.status, refused.body.as_str()), (503, body));
    assert_eq!(refused.header("Retry-After"), Some("1"));
    drop(stalled);
    eventually("there is room again", || {
        let checks = r#"{"checks":[{"identifier":"other"}]}"#;
        (gateway.post("/rate-limit/check/batch", checks).status == 200).then_some(())
    });
}
