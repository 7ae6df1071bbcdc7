use std::path::{Path, PathBuf};

use limiter::{Holder, Instant};
use policies::attributes::Attributes;
use policies::judgement::{Judgement, Outcome};
use policies::model::Entry;
use policies::{LoadOptions, Policies};
use replay::{Decision, Evaluator, HeldLease};

use super::table::{BEGIN_MICROS, Expected, Row, tables};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/policies")
}

fn load(file: &str) -> Policies {
    let bytes = std::fs::read(directory().join(file)).unwrap();
    let options = LoadOptions {
        key_prefix: String::new(),
        hash_key: None,
        require_end: false,
        now: Instant::from_micros(BEGIN_MICROS),
    };
    Policies::load(&bytes, &options).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn every_example_decides_as_its_table_says() {
    let tables = tables(&directory().join("README.md"));
    assert_eq!(tables.len(), 5);
    for table in tables {
        let policies = load(&table.file);
        let mut evaluator = Evaluator::new();
        let mut now = BEGIN_MICROS;
        for (number, row) in table.rows.iter().enumerate() {
            now += row.after_micros;
            for time in 0..row.times {
                if time > 0 {
                    now += row.every_micros;
                }
                let decided = decide(&policies, &mut evaluator, row, Instant::from_micros(now));
                assert_eq!(
                    decided,
                    row.expected,
                    "{}, row {}, request {}",
                    table.file,
                    number + 1,
                    time + 1
                );
            }
        }
    }
}

fn decide(policies: &Policies, evaluator: &mut Evaluator, row: &Row, now: Instant) -> Expected {
    let mut attributes = Attributes::new(Entry::Check, policies.path_form());
    let mut lease = None;
    for (name, value) in &row.request {
        if name == "lease" {
            attributes.set_lease();
            lease = Some(HeldLease { holder: Holder::new(value).unwrap(), micros: None });
        } else {
            attributes.set(name, value).unwrap();
        }
    }
    let judgement = policies.judge(&attributes, now).unwrap();
    let decision = evaluator.decide(&judgement, lease, now);
    summary(&judgement, &decision)
}

fn summary(judgement: &Judgement<'_>, decision: &Decision) -> Expected {
    let violated = judgement.limits.iter().zip(&decision.limits);
    let mut violated = violated.filter(|(_, decision)| decision.violated);
    let trials = judgement.shadows.iter().zip(&decision.trials);
    let mut trials = trials.filter(|(_, decision)| decision.denied);
    Expected {
        allowed: decision.allowed,
        policy: judgement.policy.map_or("", |policy| &policy.name).to_owned(),
        plan: judgement.plan.unwrap_or_default().to_owned(),
        limit: match judgement.outcome {
            Outcome::Blocked { .. } => "override".to_owned(),
            Outcome::Missing { attribute } => format!("missing:{attribute}"),
            _ => violated.next().map_or("", |(limit, _)| limit.name).to_owned(),
        },
        trial: trials.next().map_or("", |(shadow, _)| &shadow.policy.name).to_owned(),
    }
}
