//! The replay of a log: each request is decided by one file of policies, or by two.

use hashbrown::HashSet;
use limiter::Instant;
use policies::Policies;
use policies::attributes::RequestError;
use policies::digest::HashKey;
use policies::judgement::{Judgement, Outcome};
use policies::record::RecordedValue;

use crate::counts::Counts;
use crate::evaluator::Evaluator;
use crate::line;
use crate::order::Order;
use crate::record::{NoRequest, Record};
use crate::report::{Changes, Report, Skipped};
use crate::state::HeldLease;

/// The policies of a replay.
#[derive(Debug)]
pub struct Side {
    policies: Policies,
    /// The same policies for requests of which the log has only some attributes.
    partial: Policies,
    /// The key of the digests in a log, if it is known.
    hash_key: Option<HashKey>,
}

impl Side {
    /// Returns the policies of a file for a replay. `hash_key` is the key of the digests in the log.
    /// Without it, a clause on a secret value of which the log has the digest cannot be judged.
    #[must_use]
    pub fn new(policies: Policies, hash_key: Option<HashKey>) -> Self {
        Self { partial: policies.clone().with_missing_reported(), policies, hash_key }
    }

    /// Returns the policies that judge a request of a log.
    const fn judging(&self, record: &Record) -> &Policies {
        if record.allowed.is_some() { &self.policies } else { &self.partial }
    }
}

/// One side with its states and its counts.
#[derive(Debug)]
struct Run<'p> {
    side: &'p Side,
    evaluator: Evaluator,
    counts: Counts<'p>,
}

/// The reason for which a request has no judgement.
#[derive(Debug)]
enum Unjudged {
    /// The gateway answers the request with an error.
    Refused,
    /// The judgement needs the value of this attribute, of which the log has the digest.
    Secret(String),
}

/// A replay, to which lines of a log are added one after the other.
#[derive(Debug)]
pub struct Replay<'p> {
    new: Run<'p>,
    old: Option<Run<'p>>,
    order: Order,
    tally: Tally,
}

/// The counts that do not depend on the side.
#[derive(Debug, Default)]
struct Tally {
    lines: u64,
    judged: u64,
    first_micros: Option<u64>,
    last_micros: u64,
    skipped: Skipped,
    changes: Changes,
    agreeing: u64,
    differing: u64,
    /// The names of the attributes that a line has.
    seen: HashSet<String>,
}

impl<'p> Run<'p> {
    fn new(side: &'p Side) -> Self {
        Self { side, evaluator: Evaluator::new(), counts: Counts::default() }
    }

    /// Returns the judgement of a request.
    fn judge(&self, record: &Record, now: Instant) -> Result<Judgement<'p>, Unjudged> {
        let policies = self.side.judging(record);
        let attributes = record.attributes(policies, self.side.hash_key.as_ref());
        let attributes = attributes.map_err(|_| Unjudged::Refused)?;
        let mut judgement = policies.judge(&attributes, now).map_err(|error| match error {
            RequestError::Secret(name) => Unjudged::Secret(name.into()),
            _ => Unjudged::Refused,
        })?;
        if record.allowed.is_none() {
            // A trial that lacks an attribute denies without an override.
            judgement.shadows.retain(|trial| !trial.denied || trial.r#override.is_some());
        }
        Ok(judgement)
    }

    /// Decides and counts a request; returns whether the request is allowed.
    fn decide(&mut self, judgement: &Judgement<'p>, record: &Record, now: Instant) -> bool {
        let lease = record.lease.map(|holder| HeldLease { holder, micros: record.duration });
        let decision = self.evaluator.decide(judgement, lease, now);
        self.counts.add(judgement, &decision);
        decision.allowed
    }
}

impl<'p> Replay<'p> {
    /// Returns a replay of which no line is read, by new policies and, to compare, old ones.
    #[must_use]
    pub fn new(new: &'p Side, old: Option<&'p Side>) -> Self {
        Self {
            new: Run::new(new),
            old: old.map(Run::new),
            order: Order::default(),
            tally: Tally::default(),
        }
    }

    /// Adds a line. Empty lines have no effect.
    pub fn add(&mut self, line: &[u8]) {
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        self.tally.lines += 1;
        let text = str::from_utf8(line).map_err(|_| NoRequest::Malformed);
        match text.and_then(line::read) {
            Ok(record) => {
                self.tally.see(&record);
                self.order.add(record);
                self.pass(false);
            }
            Err(NoRequest::Malformed) => self.tally.skipped.malformed += 1,
            Err(NoRequest::OtherEvent) => self.tally.skipped.events += 1,
        }
    }

    /// Returns the report about all lines.
    #[must_use]
    pub fn finish(mut self) -> Report {
        self.pass(true);
        let Self { new, old, order, tally } = self;
        let skipped = Skipped { late: order.late, ..tally.skipped };
        let has_decisions = tally.agreeing + tally.differing > 0;
        Report {
            lines: tally.lines,
            judged: tally.judged,
            from: tally.first_micros.map(crate::report::time),
            until: tally.first_micros.map(|_| crate::report::time(tally.last_micros)),
            skipped,
            absent: absent(&new.side.policies, &tally.seen),
            agreement: has_decisions.then_some([tally.agreeing, tally.differing]),
            changes: old.is_some().then_some(tally.changes),
            new: new.counts.finish(new.side.policies.version()),
            old: old.map(|old| old.counts.finish(old.side.policies.version())),
        }
    }

    fn pass(&mut self, is_end: bool) {
        let Self { new, old, order, tally } = self;
        order.pass(is_end, |record, micros| {
            tally.judge(new, old.as_mut(), &record, Instant::from_micros(micros));
        });
    }
}

impl Tally {
    fn see(&mut self, record: &Record) {
        for (name, value) in &record.attributes {
            // The target of a request has the parameters.
            if name == "path"
                && let RecordedValue::Text(target) = value
                && let Some((_, query)) = target.split_once('?')
            {
                for pair in query.split('&') {
                    let parameter = pair.split('=').next().unwrap_or_default();
                    self.see_name(&format!("query.{parameter}"));
                }
            }
            self.see_name(name);
        }
    }

    fn see_name(&mut self, name: &str) {
        // A log of random names needs no memory.
        if !self.seen.contains(name) && self.seen.len() < 10_000 {
            self.seen.insert(name.to_ascii_lowercase());
        }
    }

    fn skip(&mut self, reason: Unjudged) {
        match reason {
            Unjudged::Refused => self.skipped.refused += 1,
            Unjudged::Secret(name) => *self.skipped.secrets.entry(name).or_default() += 1,
        }
    }

    fn judge<'p>(
        &mut self,
        new: &mut Run<'p>,
        old: Option<&mut Run<'p>>,
        record: &Record,
        now: Instant,
    ) {
        // A lease without an end would stay until it expires.
        if record.lease.is_some() && record.duration.is_none() {
            self.skipped.leases += 1;
            return;
        }
        let judged = new.judge(record, now);
        let compared = old.as_ref().map(|old| old.judge(record, now)).transpose();
        let (judged, compared) = match (judged, compared) {
            (Ok(judged), Ok(compared)) => (judged, compared),
            (Err(reason), _) | (_, Err(reason)) => return self.skip(reason),
        };
        if record.allowed.is_none() {
            let missing = [Some(&judged), compared.as_ref()].into_iter().flatten();
            let mut missing = missing.filter_map(|judgement| match judgement.outcome {
                Outcome::Missing { attribute } => Some(attribute.to_string()),
                _ => None,
            });
            if let Some(attribute) = missing.next() {
                *self.skipped.identities.entry(attribute).or_default() += 1;
                return;
            }
        }
        self.judged += 1;
        self.first_micros.get_or_insert(now.as_micros());
        self.last_micros = now.as_micros();
        let allowed = new.decide(&judged, record, now);
        if let (Some(old), Some(compared)) = (old, compared) {
            match (old.decide(&compared, record, now), allowed) {
                (true, false) => self.changes.newly_denied += 1,
                (false, true) => self.changes.newly_allowed += 1,
                _ => {}
            }
        }
        match record.allowed {
            Some(recorded) if recorded == allowed => self.agreeing += 1,
            Some(_) => self.differing += 1,
            None => {}
        }
    }
}

/// Returns the attributes that the policies read and that no line has, sorted.
fn absent(policies: &Policies, seen: &HashSet<String>) -> Vec<String> {
    let names = policies.reads().map(|name| match name {
        policies::attribute::AttributeName::ClientIp(_) => "client.ip".to_owned(),
        name => name.to_string(),
    });
    let mut absent: Vec<_> =
        names.filter(|name| !seen.contains(&name.to_ascii_lowercase())).collect();
    absent.sort();
    absent.dedup();
    absent
}
