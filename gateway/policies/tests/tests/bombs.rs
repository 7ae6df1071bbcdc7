use std::time::{Duration, Instant};

use super::bomb_files::{Bomb, bombs};
use super::load;

/// Returns the message of a file that is refused, and the time that this took. The time of this
/// process would be too coarse a measure on a busy machine, so that the least of some runs counts.
fn refuse(file: &str) -> (String, Duration) {
    let mut least = Duration::MAX;
    let mut message = String::new();
    for _ in 0..5 {
        let start = Instant::now();
        message = load(file).unwrap_err().to_string();
        least = least.min(start.elapsed());
    }
    (message, least)
}

/// The bound on time. Tests optimise neither the parser, which costs about ten times as much, nor this
/// crate, which costs nearly four times as much again.
const BOUND: Duration = Duration::from_millis(if cfg!(debug_assertions) { 2_000 } else { 50 });

#[test]
fn bombs_are_refused_before_they_cost_anything() {
    let mut wrong = Vec::new();
    for Bomb { name, file, refusal } in bombs() {
        let (message, time) = refuse(&file);
        if message != refusal {
            wrong.push(format!("{name}: {message}"));
        }
        assert!(time < BOUND, "{name}: {time:?}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_alias_may_stand_for_a_few_values() {
    let file = "version: 1\nplans: {a: &l [{name: rate, limit: 1, per: 1s}], b: *l}\n\
                policies: [{name: p, by: [], plan: a}, {name: q, match: named, by: [], plan: b}]";
    assert!(load(file).is_ok());
    let message = load("a: &a [*a]").unwrap_err().to_string();
    assert_eq!(message, "line 1, column 8: an alias stands inside the value that it names");
}
