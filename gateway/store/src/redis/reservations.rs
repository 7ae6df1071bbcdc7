//! Reservations in Redis.

use limiter::Instant;
use redis::Value;

use super::{
    Redis,
    commands::{KeyedCommand, append_quota},
    dated_call::DatedCall,
    read, read_multi,
    slots::slot,
};
use crate::{
    check::Check,
    decision::Source,
    error::{Argument, StoreError},
    key::{key, reservation_key},
    millis::Millis,
    quota_rule::DatedQuota,
    redis_error::RedisErrorKind,
    reservation::{ReserveDecision, ReserveRequest, SettleRequest, Settlement},
};

impl Redis {
    /// Takes the estimated costs of all quotas, or of none, and stores the reservation.
    pub(crate) async fn reserve(
        &self,
        request: &ReserveRequest,
    ) -> Result<ReserveDecision, StoreError> {
        self.check_slots(&keys_of_reserve(&self.key_prefix, request))?;
        self.call(&request).await
    }

    /// Corrects the estimates of a reservation, and deletes it.
    pub(crate) async fn settle(&self, request: &SettleRequest) -> Result<Settlement, StoreError> {
        let keys = keys_of_settle(&self.key_prefix, request);
        self.check_slots(&keys)?;
        let command = settle(&self.key_prefix, request, &keys);
        let corrections: Option<Vec<i64>> = read(self.connections.send(command).await?)?;
        if corrections.as_ref().is_some_and(|units| units.len() != request.limits.len()) {
            return Err(RedisErrorKind::Unexpected.report());
        }
        Ok(Settlement { source: Source::Redis, corrections })
    }

    /// Refuses keys that no single node of a cluster has. There is at least one key.
    fn check_slots(&self, keys: &[String]) -> Result<(), StoreError> {
        let mut slots = keys.iter().map(|key| slot(key.as_bytes()));
        let first = slots.next().ok_or(StoreError::Internal)?;
        if !self.connections.is_cluster() || slots.all(|slot| slot == first) {
            return Ok(());
        }
        let rule = "identifiers must share a slot of the cluster".to_owned();
        Err(StoreError::Refused { argument: Argument::Identifiers, rule })
    }
}

impl DatedCall for &ReserveRequest {
    type Answer = ReserveDecision;
    type Quotas = Vec<DatedQuota>;

    fn quotas(&self, now: impl Fn() -> Instant) -> Result<Vec<DatedQuota>, StoreError> {
        self.limits.iter().map(|limit| limit.quota.at(&now)).collect()
    }

    fn command(&self, key_prefix: &str, quotas: &Vec<DatedQuota>) -> KeyedCommand {
        reserve(key_prefix, self, quotas)
    }

    fn answer(
        &self,
        reply: Value,
        quotas: &Vec<DatedQuota>,
    ) -> Result<ReserveDecision, StoreError> {
        let (allowed, limits) = read_multi(reply, quotas)?;
        Ok(ReserveDecision { source: Source::Redis, allowed, limits })
    }
}

fn keys_of_reserve(key_prefix: &str, request: &ReserveRequest) -> Vec<String> {
    let key_of = |limit: &Check| key(key_prefix, limit.quota.algorithm(), &limit.identifier);
    request.limits.iter().map(key_of).collect()
}

fn keys_of_settle(key_prefix: &str, request: &SettleRequest) -> Vec<String> {
    let limits = request.limits.iter();
    limits.map(|limit| key(key_prefix, limit.algorithm, &limit.identifier)).collect()
}

fn reserve(key_prefix: &str, request: &ReserveRequest, quotas: &[DatedQuota]) -> KeyedCommand {
    let ReserveRequest { reservation, ttl, limits } = request;
    let identifier = limits.first().map_or("", |limit| &limit.identifier);
    let key = reservation_key(key_prefix, identifier, reservation);
    let keys = keys_of_reserve(key_prefix, request);
    let mut command = redis::cmd("RATELIMIT.RESERVE");
    command.arg(&key).arg(Millis::from(*ttl).to_string()).arg(keys.len()).arg(&keys);
    for (limit, DatedQuota { quota, .. }) in limits.iter().zip(quotas) {
        command.arg(quota.algorithm().word());
        append_quota(&mut command, quota);
        command.arg("COST").arg(limit.cost);
    }
    KeyedCommand { key, command }
}

fn settle(key_prefix: &str, request: &SettleRequest, keys: &[String]) -> KeyedCommand {
    let SettleRequest { reservation, limits, actual } = request;
    let identifier = limits.first().map_or("", |limit| &limit.identifier);
    let key = reservation_key(key_prefix, identifier, reservation);
    let mut command = redis::cmd("RATELIMIT.SETTLE");
    command.arg(&key).arg(keys.len()).arg(keys);
    if let Some(actual) = actual {
        command.arg("ACTUAL").arg(actual);
    }
    KeyedCommand { key, command }
}

#[cfg(test)]
mod tests {
    use limiter::{Algorithm, Window};

    use super::{keys_of_settle, reserve, settle};
    use crate::{
        check::{Check, quota},
        clock::system_time,
        redis::{commands::words, dated_call::DatedCall},
        reservation::{ReserveRequest, SettleRequest, SettledLimit},
    };

    #[test]
    fn each_call_is_one_command_with_its_keys_in_their_order() {
        let limit = |identifier: &str, algorithm, cost| Check {
            identifier: identifier.to_owned(),
            quota: quota(algorithm, 100, 1_500).into(),
            cost,
            force: false,
        };
        let (reservation, ttl) = ("r".to_owned(), Window::from_millis(60_000).unwrap());
        let limits =
            vec![limit("a", Algorithm::TokenBucket, 5), limit("a", Algorithm::FixedWindow, 1)];
        let request = ReserveRequest { reservation: reservation.clone(), ttl, limits };
        let quotas = (&request).quotas(system_time).unwrap();
        let command = reserve("p:", &request, &quotas);
        assert_eq!(
            words(&command),
            "RATELIMIT.RESERVE p:reservation:{a}:r 60 2 p:token_bucket:{a} p:fixed_window:{a} \
             TB 100 1.5 COST 5 FW 100 1.5 COST 1"
        );

        let limits = request.limits.into_iter().map(|limit| SettledLimit {
            identifier: limit.identifier,
            algorithm: limit.quota.algorithm(),
        });
        let limits: Vec<_> = limits.collect();
        for (actual, rest) in [(None, ""), (Some(vec![7, 0]), " ACTUAL 7 0")] {
            let (reservation, limits) = (reservation.clone(), limits.clone());
            let request = SettleRequest { reservation, limits, actual };
            let command = settle("", &request, &keys_of_settle("", &request));
            let keys = "token_bucket:{a} fixed_window:{a}";
            let expected = format!("RATELIMIT.SETTLE reservation:{{a}}:r 2 {keys}{rest}");
            assert_eq!(words(&command), expected);
        }
    }
}
