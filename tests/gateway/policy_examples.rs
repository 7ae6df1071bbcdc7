//! The examples of policies over HTTP: each table of requests gets its decisions from Redis, and
//! from a gateway without Redis.

#[path = "../../gateway/replay/tests/tests/table.rs"]
mod table;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::harness::{Clock, Gateway, NOON, Server, repository};

use table::{BEGIN_MICROS, Expected, Row, Table, tables};

fn directory() -> PathBuf {
    repository().join("examples/policies")
}

/// Starts a gateway with the policies of a table, which caches no denials: a cached denial is as old
/// as the clock of the process, which no test sets.
fn gateway(table: &Table, redis: &str, clock: &Clock) -> Gateway {
    let file = directory().join(&table.file);
    let settings = Gateway::builder().env("REDIS_URL", redis).clock(clock);
    let settings = settings.env("POLICIES_FILE", &file.to_string_lossy());
    settings.env("DENY_CACHE_SIZE", "0").start()
}

#[test]
fn every_example_gets_the_decisions_of_its_table_from_redis() {
    assert_eq!(BEGIN_MICROS, NOON);
    for table in tables(&directory().join("README.md")) {
        let server = Server::at(NOON);
        let gateway = gateway(&table, &server.url(), server.clock());
        let mut requests = 0;
        for (number, row) in table.rows.iter().enumerate() {
            server.clock().advance(Duration::from_micros(row.after_micros));
            for time in 0..row.times {
                if time > 0 {
                    server.clock().advance(Duration::from_micros(row.every_micros));
                }
                let place = format!("{}, row {}, request {}", table.file, number + 1, time + 1);
                check(&gateway, row, &place);
                requests += 1;
            }
        }
        assert!(requests > 7, "{}", table.file);
    }
}

#[test]
fn every_example_gets_the_decisions_of_its_table_without_redis() {
    let clock = Clock::at(NOON);
    for table in tables(&directory().join("README.md")) {
        // Buckets and logs count by a clock that no test sets. Units of this file return so quickly
        // that a slow machine would change its decisions.
        if table.file == "plans.yaml" {
            continue;
        }
        let gateway = gateway(&table, "memory://", &clock);
        let rows = table.rows.iter().enumerate();
        for (number, row) in rows.take_while(|(_, row)| row.after_micros == 0) {
            for _ in 0..row.times {
                check(&gateway, row, &format!("{}, row {}", table.file, number + 1));
            }
        }
    }
}

/// Sends a check and compares the decision with the table.
fn check(gateway: &Gateway, row: &Row, place: &str) {
    let answer = gateway.post("/rate-limit/check", &body(row).to_string());
    assert_eq!(answer.status, 200, "{place}: {answer:?}");
    let answer: Value = serde_json::from_str(&answer.body).unwrap();
    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    let decided = Expected {
        allowed: answer["allowed"] == true,
        policy: text("policy"),
        plan: text("plan"),
        limit: answer["violated"][0].as_str().unwrap_or_default().to_owned(),
        // Answers have no trials of other policies.
        trial: row.expected.trial.clone(),
    };
    assert_eq!(decided, row.expected, "{place}: {answer}");
}

fn body(row: &Row) -> Value {
    let members = row.request.iter();
    let mut attributes: Map<String, Value> =
        members.map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let lease = attributes.remove("lease");
    json!({ "attributes": attributes, "lease": lease })
}
