//! Leases in Redis.

use limiter::Window;
use redis::Cmd;

use super::{
    Redis,
    commands::{self, KeyedCommand},
    read,
};
use crate::{
    decision::{Decision, Source},
    error::StoreError,
    lease::{
        HeldLease, LeaseDecision, LeaseKey, LeaseList, LeaseName, LeaseRequest, ListedLease,
        Release, Renewal, TakenLease,
    },
    lease_keys::cost_above_limit,
    millis::Millis,
    redis_error::{RedisErrorKind, missing_answer},
};

/// The shortest time for which a lease is renewed.
const SHORTEST: Window = Window::MIN;

/// The answer of ACQUIRE: granted, limit, remaining, the milliseconds until a retry and until the
/// last lease ends, the fence, and the milliseconds until this lease ends.
type AcquireReply = (i64, i64, i64, i64, i64, i64, i64);

/// The answer of RENEW for each holder: the fence, and the milliseconds until the lease ends.
type RenewReply = (u64, u64);

/// The answer of HOLDERS for each lease: the holder, the cost, the milliseconds until the lease ends,
/// and the fence.
type HolderReply = (Vec<u8>, u32, u64, u64);

impl Redis {
    /// Takes a lease, or returns the time until it would be granted.
    pub(crate) async fn acquire(
        &self,
        request: &LeaseRequest,
    ) -> Result<LeaseDecision, StoreError> {
        let reply = self.connections.send(acquire(&self.key_prefix, request)).await?;
        lease_decision(read(reply)?, request)
    }

    /// Moves the end of a lease.
    pub(crate) async fn renew(&self, name: &LeaseName, ttl: Window) -> Result<Renewal, StoreError> {
        let reply = self.connections.send(renew(&self.key_prefix, name, ttl)).await?;
        let [(fence, ends_in)]: [RenewReply; 1] = read(reply)?;
        Ok(Renewal { source: Source::Redis, lease: held(fence, ends_in) })
    }

    /// Ends a lease.
    pub(crate) async fn release(&self, name: &LeaseName) -> Result<Release, StoreError> {
        let reply = self.connections.send(release(&self.key_prefix, name)).await?;
        let released: u64 = read(reply)?;
        Ok(Release { source: Source::Redis, is_released: released > 0 })
    }

    /// Takes leases, each as if alone, in one pipeline to each server. Answers in their order.
    pub(crate) async fn acquire_all(
        &self,
        requests: &[LeaseRequest],
    ) -> Vec<Result<TakenLease, StoreError>> {
        let both = |request: &LeaseRequest| {
            let prefix = &self.key_prefix;
            [look(prefix, request), acquire(prefix, request)]
        };
        let replies = self.send_all(requests.iter().flat_map(both).collect()).await;
        let mut replies = replies.into_iter();
        let mut next = || replies.next().unwrap_or_else(|| Err(missing_answer()));
        let answer = |request| {
            let (looked, acquired) = (next(), next());
            let [(fence, _)]: [RenewReply; 1] = read(looked?)?;
            let decision = lease_decision(read(acquired?)?, request)?;
            let is_new = decision.decision.allowed && fence == 0;
            Ok(TakenLease { decision, is_new })
        };
        requests.iter().map(answer).collect()
    }

    /// Moves the ends of leases. Answers in their order; `None` for a lease that is lost.
    pub(crate) async fn renew_all(
        &self,
        leases: &[(LeaseName, Window)],
    ) -> Vec<Result<Option<HeldLease>, StoreError>> {
        let renew = |(name, ttl): &(LeaseName, Window)| renew(&self.key_prefix, name, *ttl);
        let replies = self.send_all(leases.iter().map(renew).collect()).await;
        let answer = |reply| {
            let [(fence, ends_in)]: [RenewReply; 1] = read(reply)?;
            Ok(held(fence, ends_in))
        };
        replies.into_iter().map(|reply| reply.and_then(answer)).collect()
    }

    /// Ends leases. Answers in their order: whether there was a lease to end.
    pub(crate) async fn release_all(&self, names: &[LeaseName]) -> Vec<Result<bool, StoreError>> {
        let release = |name: &LeaseName| release(&self.key_prefix, name);
        let replies = self.send_all(names.iter().map(release).collect()).await;
        let answer = |reply| read::<u64>(reply).map(|released| released > 0);
        replies.into_iter().map(|reply| reply.and_then(answer)).collect()
    }

    /// Lists the live leases of a key, at most `count`, the first to end first.
    pub(crate) async fn leases(&self, key: &LeaseKey, count: u32) -> Result<LeaseList, StoreError> {
        let reply = self.connections.send(holders(&self.key_prefix, key, count)).await?;
        let replies: Vec<HolderReply> = read(reply)?;
        let listed = |(holder, cost, ends_in, fence)| {
            let lease = HeldLease { fence, ends_in: Millis(ends_in) };
            ListedLease { holder, cost, lease }
        };
        Ok(LeaseList { source: Source::Redis, leases: replies.into_iter().map(listed).collect() })
    }

    /// Ends all leases of an identifier. Returns whether there was one.
    pub(crate) async fn reset_leases(&self, identifier: &str) -> Result<bool, StoreError> {
        let key = LeaseKey::Identifier(identifier.to_owned()).text(&self.key_prefix);
        let removed: u64 = read(self.connections.send(commands::reset(key)).await?)?;
        Ok(removed > 0)
    }
}

fn acquire(key_prefix: &str, request: &LeaseRequest) -> KeyedCommand {
    let LeaseRequest { key, holder, limit, cost, ttl } = request;
    let (key, mut command) = begin("RATELIMIT.ACQUIRE", key_prefix, key);
    let ttl = Millis::from(*ttl).to_string();
    command.arg(&key).arg(limit.get()).arg(ttl).arg(holder.as_bytes());
    // The command takes one unit by default.
    if cost.get() > 1 {
        command.arg("COST").arg(cost.get());
    }
    KeyedCommand { key, command }
}

/// Returns the command that finds out whether the holder of a request has a lease already. The renewal
/// is by the shortest time, so that no lease is changed but one that ends now.
fn look(key_prefix: &str, LeaseRequest { key, holder, .. }: &LeaseRequest) -> KeyedCommand {
    renew(key_prefix, &LeaseName { key: key.clone(), holder: *holder, fence: None }, SHORTEST)
}

fn renew(key_prefix: &str, name: &LeaseName, ttl: Window) -> KeyedCommand {
    let (key, mut command) = begin("RATELIMIT.RENEW", key_prefix, &name.key);
    command.arg(&key).arg(Millis::from(ttl).to_string());
    append_holder(&mut command, name);
    KeyedCommand { key, command }
}

fn release(key_prefix: &str, name: &LeaseName) -> KeyedCommand {
    let (key, mut command) = begin("RATELIMIT.RELEASE", key_prefix, &name.key);
    command.arg(&key);
    append_holder(&mut command, name);
    KeyedCommand { key, command }
}

fn holders(key_prefix: &str, key: &LeaseKey, count: u32) -> KeyedCommand {
    let (key, mut command) = begin("RATELIMIT.HOLDERS", key_prefix, key);
    command.arg(&key).arg("COUNT").arg(count);
    KeyedCommand { key, command }
}

fn begin(name: &str, key_prefix: &str, key: &LeaseKey) -> (String, Cmd) {
    (key.text(key_prefix), redis::cmd(name))
}

/// Without FENCED, a holder that is called like the option would be read as the option.
fn append_holder(command: &mut Cmd, LeaseName { holder, fence, .. }: &LeaseName) {
    match fence {
        None => command.arg(holder.as_bytes()),
        Some(fence) => command.arg("FENCED").arg(holder.as_bytes()).arg(*fence),
    };
}

fn lease_decision(
    reply: AcquireReply,
    request: &LeaseRequest,
) -> Result<LeaseDecision, StoreError> {
    let (granted, limit, remaining, retry_after, reset_after, fence, ends_in) = reply;
    if retry_after == -1 {
        return Err(cost_above_limit(request));
    }
    let unsigned =
        |value: i64| u64::try_from(value).map_err(|_| RedisErrorKind::Unexpected.report());
    let decision = Decision {
        source: Source::Redis,
        allowed: granted > 0,
        limit: request.limit.get(),
        window: None,
        capacity: unsigned(limit)?,
        remaining: unsigned(remaining)?,
        retry_after: Millis(unsigned(retry_after)?),
        reset_after: Millis(unsigned(reset_after)?),
    };
    Ok(LeaseDecision { decision, lease: held(unsigned(fence)?, unsigned(ends_in)?) })
}

/// Returns the lease with this fence; 0 is the fence of no lease.
fn held(fence: u64, ends_in: u64) -> Option<HeldLease> {
    (fence > 0).then_some(HeldLease { fence, ends_in: Millis(ends_in) })
}

#[cfg(test)]
mod tests {
    use limiter::{Holder, Units, Window};

    use super::{acquire, holders, look, release, renew};
    use crate::{
        lease::{LeaseKey, LeaseName, LeaseRequest},
        redis::commands::{KeyedCommand, words},
    };

    fn key() -> LeaseKey {
        LeaseKey::Identifier("a/b".to_owned())
    }

    fn lease_request(cost: u64) -> LeaseRequest {
        let (limit, cost) = (Units::new(5).unwrap(), Units::new(cost).unwrap());
        let (holder, ttl) = (Holder::new("job 1").unwrap(), Window::from_millis(1_500).unwrap());
        LeaseRequest { key: key(), holder, limit, cost, ttl }
    }

    #[test]
    fn each_call_is_one_command_without_options_that_are_the_default() {
        let name = |fence| LeaseName { key: key(), holder: Holder::new("job 1").unwrap(), fence };
        let ttl = Window::from_millis(30_000).unwrap();
        let limit = LeaseKey::Limit("policy:flight:lease:{jobs|}".to_owned());
        let of_limit = LeaseRequest { key: limit, ..lease_request(1) };
        for (command, expected) in [
            (acquire("p:", &lease_request(1)), "RATELIMIT.ACQUIRE p:concurrency:{a/b} 5 1.5 job 1"),
            (
                acquire("", &lease_request(2)),
                "RATELIMIT.ACQUIRE concurrency:{a/b} 5 1.5 job 1 COST 2",
            ),
            (look("", &lease_request(2)), "RATELIMIT.RENEW concurrency:{a/b} 0.001 job 1"),
            (
                acquire("p:", &of_limit),
                "RATELIMIT.ACQUIRE p:policy:flight:lease:{jobs|} 5 1.5 job 1",
            ),
            (renew("", &name(None), ttl), "RATELIMIT.RENEW concurrency:{a/b} 30 job 1"),
            (renew("", &name(Some(7)), ttl), "RATELIMIT.RENEW concurrency:{a/b} 30 FENCED job 1 7"),
            (release("", &name(None)), "RATELIMIT.RELEASE concurrency:{a/b} job 1"),
            (release("", &name(Some(7))), "RATELIMIT.RELEASE concurrency:{a/b} FENCED job 1 7"),
            (holders("", &key(), 101), "RATELIMIT.HOLDERS concurrency:{a/b} COUNT 101"),
        ] {
            let command: KeyedCommand = command;
            assert_eq!(words(&command), expected);
            assert!(expected.contains(&command.key));
        }
    }
}
