//! Several limits at once in Redis.
//!
//! Limits that share a slot are taken by one command. If the keys of a check are in several slots of
//! a cluster, all limits are looked at first, and nothing is written if one of them denies.
//! Otherwise the limits of all slots are taken at once, and if one is denied in between, or cannot
//! be decided, the others get their units back.

use std::collections::{BTreeMap, BTreeSet};

use limiter::Instant;
use redis::Value;

use super::{
    CallError, Redis,
    commands::{self, KeyedCommand, append_cost, append_quota},
    dated_call::DatedCall,
    decision, read, read_multi,
    slots::slot,
};
use crate::{
    decision::Decision,
    error::StoreError,
    key::limit_key,
    limit_check::{LimitCheck, LimitRefund, LimitsCheck, is_allowed},
    metrics::count_partial_decision,
    quota_rule::DatedQuota,
    redis_error::RedisErrorKind,
};

/// The answer to a check of several limits.
#[derive(Debug)]
pub(crate) struct LimitsAnswer {
    /// The decision on each limit, in their order.
    pub(crate) decisions: Result<Vec<Decision>, StoreError>,
    /// True if the check took units that it gave back, which others may have lacked meanwhile.
    pub(crate) gave_back: bool,
}

/// The effect of one command on its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Looks at one limit.
    Look,
    /// Takes the required units of all limits, or of none.
    Take,
    /// Takes the rest of the cost of one limit.
    Charge,
}

/// One command over one limit of a check.
#[derive(Debug)]
struct LimitCall<'c> {
    step: Step,
    limit: &'c LimitCheck,
}

/// One command over limits of a check that share a slot.
#[derive(Debug)]
struct LimitsCall<'c> {
    step: Step,
    limits: Vec<&'c LimitCheck>,
}

/// The place of a command among several checks: the check, and the limits in it.
#[derive(Debug)]
struct Part {
    check: usize,
    step: Step,
    limits: Vec<usize>,
}

impl DatedCall for LimitCall<'_> {
    type Answer = Decision;
    type Quotas = DatedQuota;

    fn quotas(&self, now: impl Fn() -> Instant) -> Result<DatedQuota, StoreError> {
        self.limit.quota.at(now)
    }

    fn command(&self, key_prefix: &str, DatedQuota { quota, .. }: &DatedQuota) -> KeyedCommand {
        let limit = self.limit;
        let key = limit_key(key_prefix, &limit.key);
        match self.step {
            Step::Look => commands::look(key, quota, limit.required()),
            Step::Take => commands::take(key, quota, limit.required(), false),
            Step::Charge => commands::take(key, quota, limit.rest(), true),
        }
    }

    fn answer(&self, reply: Value, quota: &DatedQuota) -> Result<Decision, StoreError> {
        let forced_cost = (self.step == Step::Charge).then(|| self.limit.rest());
        decision(reply, quota, forced_cost)
    }
}

impl DatedCall for LimitsCall<'_> {
    type Answer = Vec<Decision>;
    type Quotas = Vec<DatedQuota>;

    fn quotas(&self, now: impl Fn() -> Instant) -> Result<Vec<DatedQuota>, StoreError> {
        self.limits.iter().map(|limit| limit.quota.at(&now)).collect()
    }

    fn command(&self, key_prefix: &str, quotas: &Vec<DatedQuota>) -> KeyedCommand {
        match (&self.limits[..], &quotas[..]) {
            ([limit], [quota]) => LimitCall { step: self.step, limit }.command(key_prefix, quota),
            _ => multi(key_prefix, &self.limits, quotas),
        }
    }

    fn answer(&self, reply: Value, quotas: &Vec<DatedQuota>) -> Result<Vec<Decision>, StoreError> {
        if let ([limit], [quota]) = (&self.limits[..], &quotas[..]) {
            let call = LimitCall { step: self.step, limit };
            return Ok(vec![call.answer(reply, quota)?]);
        }
        let (allowed, decisions) = read_multi(reply, quotas)?;
        if allowed == is_allowed(&decisions) {
            Ok(decisions)
        } else {
            Err(RedisErrorKind::Unexpected.report())
        }
    }
}

/// Returns the command that takes the required units of all limits, or of none.
fn multi(key_prefix: &str, limits: &[&LimitCheck], quotas: &[DatedQuota]) -> KeyedCommand {
    let mut command = redis::cmd("RATELIMIT.MULTI");
    command.arg(limits.len());
    let mut first = String::new();
    for limit in limits {
        let key = limit_key(key_prefix, &limit.key);
        command.arg(&key);
        if first.is_empty() {
            first = key;
        }
    }
    for (limit, DatedQuota { quota, .. }) in limits.iter().zip(quotas) {
        command.arg(quota.algorithm().word());
        append_quota(&mut command, quota);
        append_cost(&mut command, limit.required());
    }
    KeyedCommand { key: first, command }
}

impl Redis {
    /// Returns whether a check takes units in several commands, one after the other.
    pub(crate) fn takes_steps(&self, check: &LimitsCheck) -> bool {
        check.charges() || !self.is_in_one_slot(check)
    }

    /// Decides a check of several limits, all or nothing.
    pub(crate) async fn check_limits(&self, check: &LimitsCheck) -> LimitsAnswer {
        let in_one_command = check.takes() && !self.takes_steps(check);
        if !in_one_command {
            let mut answers = self.check_limits_all(&[check]).await;
            return answers.pop().unwrap_or(LimitsAnswer::of(Err(StoreError::Internal)));
        }
        let step = Step::Take;
        if let [limit] = &check.limits[..] {
            let decided = self.call(&LimitCall { step, limit }).await;
            return LimitsAnswer::of(decided.map(|decision| vec![decision]));
        }
        let call = LimitsCall { step, limits: check.limits.iter().collect() };
        LimitsAnswer::of(self.call(&call).await)
    }

    /// Decides checks, each as if alone, all at once. Answers in their order.
    pub(crate) async fn check_limits_all(&self, checks: &[&LimitsCheck]) -> Vec<LimitsAnswer> {
        let slots: Vec<_> = checks.iter().map(|check| self.slots(check)).collect();
        let mut answers = self.begin(checks, &slots).await;
        self.take_slots(checks, &slots, &mut answers).await;
        self.charge(checks, &mut answers).await;
        answers
    }

    /// Returns the answers to the checks, as if each limit was alone. Takes and writes nothing.
    pub(crate) async fn look_at_limits(
        &self,
        checks: &[&LimitsCheck],
    ) -> Vec<Result<Vec<Decision>, StoreError>> {
        let no_slots = vec![Vec::new(); checks.len()];
        let answers = self.begin(checks, &no_slots).await;
        answers.into_iter().map(|answer| answer.decisions).collect()
    }

    /// Takes the limits of checks in one slot, and looks at all others.
    async fn begin(&self, checks: &[&LimitsCheck], slots: &[Vec<Vec<usize>>]) -> Vec<LimitsAnswer> {
        let mut parts = Vec::new();
        for (place, (check, slots)) in checks.iter().zip(slots).enumerate() {
            let of = |step, limits| Part { check: place, step, limits };
            match &slots[..] {
                [slot] if check.takes() => parts.push(of(Step::Take, slot.clone())),
                _ => parts.extend((0..check.limits.len()).map(|limit| of(Step::Look, vec![limit]))),
            }
        }
        let decided = self.send_parts(checks, &parts).await;
        let none =
            |check: &&LimitsCheck| LimitsAnswer::of(Ok(Vec::with_capacity(check.limits.len())));
        let mut answers: Vec<_> = checks.iter().map(none).collect();
        for (part, decided) in parts.iter().zip(decided) {
            let decisions = &mut answers[part.check].decisions;
            match (decisions.as_mut(), decided) {
                // The parts of a check have its limits in their order.
                (Ok(decisions), Ok(decided)) => decisions.extend(decided),
                (Ok(_), Err(error)) => *decisions = Err(error),
                (Err(_), _) => {}
            }
        }
        answers
    }

    /// Takes the limits of checks in several slots that every limit would allow.
    async fn take_slots(
        &self,
        checks: &[&LimitsCheck],
        slots: &[Vec<Vec<usize>>],
        answers: &mut [LimitsAnswer],
    ) {
        let mut parts = Vec::new();
        for (place, (check, slots)) in checks.iter().zip(slots).enumerate() {
            if slots.len() > 1 && check.takes() && answers[place].is_allowed() {
                let part = |slot: &Vec<usize>| Part {
                    check: place,
                    step: Step::Take,
                    limits: slot.clone(),
                };
                parts.extend(slots.iter().map(part));
            }
        }
        if parts.is_empty() {
            return;
        }
        let decided = self.send_parts(checks, &parts).await;
        let (mut granted, mut partial) = (Vec::new(), BTreeSet::new());
        for (part, decided) in parts.iter().zip(decided) {
            match decided {
                Ok(decisions) if is_allowed(&decisions) => granted.push((part, decisions)),
                Ok(_) => answers[part.check].replace(&part.limits, decided),
                Err(_) => {
                    // The server may have taken the units.
                    partial.insert(part.check);
                    answers[part.check].replace(&part.limits, decided);
                }
            }
        }
        let mut taken = Vec::new();
        for (part, decisions) in granted {
            if answers[part.check].is_allowed() {
                answers[part.check].replace(&part.limits, Ok(decisions));
            } else {
                answers[part.check].gave_back = true;
                partial.insert(part.check);
                taken.push(part);
            }
        }
        partial.iter().for_each(|_| count_partial_decision());
        self.give_back(checks, &taken).await;
    }

    /// Gives back what parts of checks have taken.
    async fn give_back(&self, checks: &[&LimitsCheck], parts: &[&Part]) {
        let mut commands = Vec::new();
        for part in parts {
            for limit in part.limits.iter().map(|place| &checks[part.check].limits[*place]) {
                let key = limit_key(&self.key_prefix, &limit.key);
                commands.push(commands::give_back(key, limit.required()));
            }
        }
        // An error is reported, and the units are lost.
        let _ = self.send_all(commands).await;
    }

    /// Takes the rest of the costs of granted checks. A grant stays one if the rest cannot be taken.
    async fn charge(&self, checks: &[&LimitsCheck], answers: &mut [LimitsAnswer]) {
        let mut parts = Vec::new();
        for (place, check) in checks.iter().enumerate() {
            if check.charges() && answers[place].is_allowed() {
                let limits = check.limits.iter().enumerate().filter(|(_, limit)| limit.rest() > 0);
                let part =
                    |(limit, _)| Part { check: place, step: Step::Charge, limits: vec![limit] };
                parts.extend(limits.map(part));
            }
        }
        let charged = self.send_parts(checks, &parts).await;
        for (part, charged) in parts.iter().zip(charged) {
            let granted = |decision| Decision { allowed: true, ..decision };
            if let Ok(charged) = charged {
                let charged = charged.into_iter().map(granted).collect();
                answers[part.check].replace(&part.limits, Ok(charged));
            }
        }
    }

    async fn send_parts(
        &self,
        checks: &[&LimitsCheck],
        parts: &[Part],
    ) -> Vec<Result<Vec<Decision>, StoreError>> {
        let call = |part: &Part| {
            let limits = part.limits.iter().map(|place| &checks[part.check].limits[*place]);
            LimitsCall { step: part.step, limits: limits.collect() }
        };
        self.call_all(&parts.iter().map(call).collect::<Vec<_>>()).await
    }

    /// Gives units of limits back, at most those that count. Answers in their order.
    pub(crate) async fn refund_limits(
        &self,
        refunds: &[LimitRefund],
    ) -> Vec<Result<u32, StoreError>> {
        let command = |LimitRefund { key, amount, .. }: &LimitRefund| {
            commands::give_back(limit_key(&self.key_prefix, key), amount.get())
        };
        let replies = self.send_all(refunds.iter().map(command).collect()).await;
        replies.into_iter().map(|reply| read(reply?)).collect()
    }

    /// Deletes the states of keys. Returns how many there were.
    pub(crate) async fn reset_limits(&self, keys: &[&str]) -> Result<u64, StoreError> {
        let command = |key: &&str| commands::reset(limit_key(&self.key_prefix, key));
        let replies = self.send_all(keys.iter().map(command).collect()).await;
        let removed = replies.into_iter().map(|reply| read::<u64>(reply?));
        removed.sum()
    }

    /// Sends commands in one pipeline to each server, and reports all errors.
    pub(super) async fn send_all(
        &self,
        commands: Vec<KeyedCommand>,
    ) -> Vec<Result<Value, StoreError>> {
        let count = commands.len();
        if count == 0 {
            return Vec::new();
        }
        match self.connections.call_all(commands).await {
            Ok(replies) => {
                replies.into_iter().map(|reply| reply.map_err(CallError::report)).collect()
            }
            Err(error) => vec![Err(error); count],
        }
    }

    /// Returns whether all limits of a check are in one slot.
    fn is_in_one_slot(&self, check: &LimitsCheck) -> bool {
        check.limits.len() == 1 || !self.connections.is_cluster() || self.slots(check).len() == 1
    }

    /// Returns the limits of a check by the slot of their keys. Outside of a cluster all of them
    /// share one.
    fn slots(&self, check: &LimitsCheck) -> Vec<Vec<usize>> {
        let count = check.limits.len();
        if count < 2 || !self.connections.is_cluster() {
            return vec![(0..count).collect()];
        }
        let mut slots: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (place, limit) in check.limits.iter().enumerate() {
            let slot = slot(limit_key(&self.key_prefix, &limit.key).as_bytes());
            slots.entry(slot).or_default().push(place);
        }
        slots.into_values().collect()
    }
}

impl LimitsAnswer {
    const fn of(decisions: Result<Vec<Decision>, StoreError>) -> Self {
        Self { decisions, gave_back: false }
    }

    fn is_allowed(&self) -> bool {
        self.decisions.as_deref().is_ok_and(is_allowed)
    }

    /// Replaces the decisions on some limits, or all of them by an error.
    fn replace(&mut self, limits: &[usize], decided: Result<Vec<Decision>, StoreError>) {
        let Ok(decisions) = &mut self.decisions else { return };
        match decided {
            Ok(decided) => {
                for (place, decision) in limits.iter().zip(decided) {
                    decisions[*place] = decision;
                }
            }
            Err(error) => self.decisions = Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use limiter::Algorithm;

    use super::{LimitsCall, Step};
    use crate::{
        check::quota,
        clock::system_time,
        limit_check::{Charge, LimitCheck},
        redis::{commands::words, dated_call::DatedCall},
    };

    #[test]
    fn limits_of_a_slot_are_one_command_and_one_limit_is_its_own() {
        let limit = |key: &str, algorithm, cost, charge| LimitCheck {
            key: key.to_owned(),
            quota: quota(algorithm, 100, 1_500).into(),
            cost,
            charge,
        };
        let rate = limit("policy:rate:tb:{p|a}", Algorithm::TokenBucket, 2, Charge::Granted);
        let day = limit("policy:day:fw:{p|a}", Algorithm::FixedWindow, 1, Charge::Granted);
        let tokens = limit("policy:tokens:sw:{p|a}", Algorithm::SlidingWindow, 9, Charge::Always);
        for (step, limits, expected) in [
            (Step::Take, vec![&rate], "RATELIMIT.TB x:policy:rate:tb:{p|a} 100 1.5 COST 2"),
            (Step::Look, vec![&rate], "RATELIMIT.PEEK x:policy:rate:tb:{p|a} TB 100 1.5 COST 2"),
            (Step::Look, vec![&tokens], "RATELIMIT.PEEK x:policy:tokens:sw:{p|a} SW 100 1.5"),
            (
                Step::Charge,
                vec![&tokens],
                "RATELIMIT.SW x:policy:tokens:sw:{p|a} 100 1.5 COST 8 FORCE",
            ),
            (
                Step::Take,
                vec![&rate, &day, &tokens],
                "RATELIMIT.MULTI 3 x:policy:rate:tb:{p|a} x:policy:day:fw:{p|a} \
                 x:policy:tokens:sw:{p|a} TB 100 1.5 COST 2 FW 100 1.5 SW 100 1.5",
            ),
        ] {
            let call = LimitsCall { step, limits };
            let command = call.command("x:", &call.quotas(system_time).unwrap());
            assert_eq!(words(&command), expected);
            assert!(expected.contains(&command.key));
        }
    }
}
