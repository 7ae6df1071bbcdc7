//! Times of the answers of a gateway while Redis is killed and frozen under load.
//! `gateway/benches/outage` runs this program.

#![allow(dead_code, unused_imports, reason = "the harness has more than this program needs")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the harness fails by panicking"
)]

use std::thread;
use std::time::{Duration, Instant};

#[path = "../harness/mod.rs"]
mod harness;

use harness::{Gateway, Record, Server, Traffic};

/// Clients at once, each on a connection of its own and without a pause.
const CONNECTIONS: usize = 50;

/// Duration of each phase: before the outage, during it, and after it.
const PHASE: Duration = Duration::from_secs(5);

/// Ends, interrupts or restores a server.
type Step = fn(&mut Server);

fn main() {
    println!("Checks with {CONNECTIONS} connections, default settings; times in milliseconds.\n");
    println!("| outage | `FAIL_MODE` | | answers/s | p50 | p99 | max | decided by |");
    println!("|---|---|---|---:|---:|---:|---:|---|");
    let outages: [(&str, Step, Step); 2] = [
        ("killed", Server::kill, Server::resume),
        ("frozen", |server| server.freeze(), |server| server.thaw()),
    ];
    let mut notes = vec![];
    for (outage, begin, end) in outages {
        for fail_mode in ["closed", "open", "local"] {
            notes.push(format!("{outage}, {fail_mode}: {}", run(outage, fail_mode, begin, end)));
        }
    }
    println!("\n{}", notes.join("\n"));
}

/// Prints one row for each phase, and returns a line with the lost requests, the time until Redis
/// decides again and the longest stall.
fn run(outage: &str, fail_mode: &str, begin: Step, end: Step) -> String {
    let mut server = Server::start();
    let gateway = Gateway::builder().redis(&server).env("FAIL_MODE", fail_mode);
    // The default timeout, in place of the timeout of the tests.
    let gateway = gateway.env("REDIS_TIMEOUT_MS", "").start();
    let traffic = Traffic::on(&[&gateway]).connections(CONNECTIONS);
    traffic.during(|_| thread::sleep(PHASE / 5));

    let mut times = [Instant::now(); 4];
    let record = traffic.during(|_| {
        times[0] = Instant::now();
        thread::sleep(PHASE);
        times[1] = Instant::now();
        begin(&mut server);
        thread::sleep(PHASE);
        end(&mut server);
        times[2] = Instant::now();
        thread::sleep(PHASE);
        times[3] = Instant::now();
    });
    for (phase, name) in ["before", "during", "after"].into_iter().enumerate() {
        let part = match phase {
            // Requests in flight when the outage begins belong to the outage.
            0 => record.between(times[0], times[1]),
            _ => record.ended_between(times[phase], times[phase + 1]),
        };
        print_row(&[outage, fail_mode, name], &part, times[phase + 1] - times[phase]);
    }
    let again = record.with(|answer| answer.source == Some("redis"));
    let again = again.ended_between(times[2], times[3]).first_end();
    let again = again.map_or("not".to_owned(), |first| format!("after {:.0?}", first - times[2]));
    let (lost, all, stall) = (record.lost(), record.len(), record.stall());
    format!("{lost} of {all} lost; Redis decides again {again}; longest stall {stall:.0?}")
}

fn print_row(names: &[&str; 3], record: &Record, time: Duration) {
    let rate = record.answers().count() as f64 / time.as_secs_f64();
    let [p50, p99, max] = [500, 990, 1000]
        .map(|thousandths| format!("{:.1}", record.time(thousandths).as_secs_f64() * 1000.0));
    let counts = [Some("redis"), Some("local"), Some("open"), None].map(|source| {
        let count = record.with(|answer| answer.source == source).len();
        (count, source.unwrap_or("no source (503)"))
    });
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    let sources: Vec<_> = counts.map(|(count, name)| format!("{name}: {count}")).collect();
    let ([outage, fail_mode, phase], sources) = (names, sources.join(", "));
    println!(
        "| {outage} | {fail_mode} | {phase} | {rate:.0} | {p50} | {p99} | {max} | {sources} |"
    );
}
