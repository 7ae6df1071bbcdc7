//! Decisions about judged requests, with the states of all limits in memory.
//!
//! The rules are those of the gateway over `memory://`: all limits of a request are taken or none,
//! `charge: always` takes the whole cost when one unit is free, and trials are decided after a
//! grant.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashMap;
use limiter::{Fences, Holder, Instant};
use policies::judgement::{JudgedLimit, Judgement, Outcome};

use crate::state::{HeldLease, LimitDecision, State};

/// The number of states from which on ended states are removed.
const FEW_STATES: usize = 1_024;

/// The decision about one request.
#[derive(Clone, Debug)]
pub struct Decision {
    /// True if the request is allowed.
    pub allowed: bool,
    /// The decision of each enforced limit, in the order of the judgement.
    pub limits: Vec<LimitDecision>,
    /// The decision of each trial, in the order of the judgement; none of a denied request.
    pub trials: Vec<TrialDecision>,
}

/// The decision about one trial, which prevents nothing.
#[derive(Clone, Debug)]
pub struct TrialDecision {
    /// True if the trial would have denied the request.
    pub denied: bool,
    /// The decision of each limit, in the order of the judgement.
    pub limits: Vec<LimitDecision>,
}

/// The states of all limits by their keys.
#[derive(Debug, Default)]
pub struct Evaluator {
    states: HashMap<String, State>,
    fences: Fences,
    /// Leases with a known end.
    releases: BinaryHeap<Reverse<(Instant, Holder, String)>>,
    /// The number of states at which ended states are removed next.
    full_at: usize,
}

impl Evaluator {
    /// Returns an evaluator in which no unit is used.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides a request at `now`, which must not be earlier than that of an earlier request. A
    /// request with [`Attributes::set_lease`] needs a lease.
    ///
    /// [`Attributes::set_lease`]: policies::attributes::Attributes::set_lease
    pub fn decide(
        &mut self,
        judgement: &Judgement<'_>,
        lease: Option<HeldLease>,
        now: Instant,
    ) -> Decision {
        self.release_until(now);
        self.remove_ended(now);
        let (allowed, limits) = match judgement.outcome {
            Outcome::Limited => self.take_all(&judgement.limits, lease, now),
            Outcome::Unlimited | Outcome::Unmatched { deny: false } => (true, Vec::new()),
            Outcome::Blocked { .. }
            | Outcome::Missing { .. }
            | Outcome::Unmatched { deny: true } => (false, Vec::new()),
        };
        let mut trials = Vec::new();
        if allowed {
            for shadow in &judgement.shadows {
                let (granted, limits) = self.take_all(&shadow.limits, lease, now);
                trials.push(TrialDecision { denied: shadow.denied || !granted, limits });
            }
        }
        Decision { allowed, limits, trials }
    }

    /// Takes the costs of all limits, or of none; returns whether they were taken.
    fn take_all(
        &mut self,
        limits: &[JudgedLimit<'_>],
        lease: Option<HeldLease>,
        now: Instant,
    ) -> (bool, Vec<LimitDecision>) {
        let mut decisions: Vec<_> =
            limits.iter().map(|limit| self.look(limit, lease, now)).collect();
        if decisions.iter().any(|decision| decision.violated) {
            return (false, decisions);
        }
        for (limit, decision) in limits.iter().zip(&mut decisions) {
            let state = self.states.entry_ref(limit.key.as_str());
            let state = state.or_insert_with(|| State::new(limit.kind));
            *decision = state.take(limit, lease, &mut self.fences, now);
            if let (State::Leases(_), Some(HeldLease { holder, micros: Some(micros) })) =
                (state, lease)
            {
                let end = now.plus_micros(micros);
                self.releases.push(Reverse((end, holder, limit.key.clone())));
            }
        }
        (true, decisions)
    }

    fn look(
        &self,
        limit: &JudgedLimit<'_>,
        lease: Option<HeldLease>,
        now: Instant,
    ) -> LimitDecision {
        match self.states.get(&limit.key) {
            Some(state) => state.look(limit, lease, now),
            None => State::new(limit.kind).look(limit, lease, now),
        }
    }

    fn release_until(&mut self, now: Instant) {
        while let Some(Reverse((end, ..))) = self.releases.peek()
            && *end <= now
            && let Some(Reverse((end, holder, key))) = self.releases.pop()
        {
            if let Some(State::Leases(leases)) = self.states.get_mut(&key) {
                leases.release(&holder, None, end);
            }
        }
    }

    /// Removes the states that count no more, so that a long log needs little memory.
    fn remove_ended(&mut self, now: Instant) {
        if self.states.len() >= self.full_at.max(FEW_STATES) {
            self.states.retain(|_, state| !state.has_ended(now));
            self.full_at = self.states.len().saturating_mul(2);
        }
    }
}
