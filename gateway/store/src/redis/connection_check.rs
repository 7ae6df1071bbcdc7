//! A test of each server with every command that the gateway sends, after a change of the settings or
//! of the rights of a user.

use std::{collections::BTreeSet, io, time::Duration};

use limiter::{Algorithm, Facts};
use redis::{Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue, RedisError, Value};
use tokio::time::timeout;

use super::{
    advice::advice,
    commands::probe,
    dial::{Connection, Dialer},
    slots::{self, Address, SlotRange, slot_ranges},
    topology::{RedisOptions, SentinelTopology, Topology, server_at},
    topology_refresh::cluster_slots,
};
use crate::{
    key::{concurrency_key, key, limit_key, reservation_key},
    redis_error::RedisErrorKind,
};

/// Connects to every server that has keys, and sends every command to it. No key is changed.
///
/// `callers_prefix` is the prefix of the keys of callers, if their requests are limited. Returns the
/// number of servers.
///
/// # Errors
///
/// When a server cannot be reached or does not serve a command: one line that names the server, the
/// error, and the advice.
pub(crate) async fn run(
    topology: &Topology,
    options: &RedisOptions,
    key_prefix: &str,
    callers_prefix: Option<&str>,
) -> Result<usize, String> {
    let tls = topology.uses_tls().then(|| options.tls.clone());
    let dialer = Dialer::new(tls, options.timeout).map_err(|error| error.to_string())?;
    let check = Check { dialer, answer_timeout: options.timeout, key_prefix, callers_prefix };
    let servers = match topology {
        Topology::Standalone(server) => vec![server.as_ref().clone()],
        Topology::Sentinel(sentinels) => vec![check.find_primary(sentinels).await?],
        Topology::Cluster(seeds) => check.find_primaries(seeds).await?,
    };
    let is_cluster = matches!(topology, Topology::Cluster(_));
    for server in &servers {
        check.check_server(server, is_cluster).await?;
    }
    Ok(servers.len())
}

struct Check<'a> {
    dialer: Dialer,
    answer_timeout: Duration,
    key_prefix: &'a str,
    callers_prefix: Option<&'a str>,
}

impl Check<'_> {
    /// Asks the Sentinels in turn for the primary.
    async fn find_primary(&self, topology: &SentinelTopology) -> Result<ConnectionInfo, String> {
        let mut last_error = String::new();
        for sentinel in &topology.sentinels {
            match self.ask_sentinel(sentinel, &topology.primary_name).await {
                Ok(primary) => return Ok(primary.set_redis_settings(topology.login.clone())),
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    async fn ask_sentinel(
        &self,
        sentinel: &ConnectionInfo,
        primary_name: &str,
    ) -> Result<ConnectionInfo, String> {
        let address = sentinel.addr();
        let connection = self.dial(sentinel).await?;
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(primary_name);
        let answer = self.call(&connection, &question).await;
        let place =
            answer.and_then(|answer| Ok(Option::<(String, u16)>::from_redis_value(answer)?));
        match place {
            Ok(Some((host, port))) => Ok(server_at(sentinel, host, port)),
            Ok(None) => Err(format!(
                "the Sentinel at {address} watches no primary that is called {primary_name}: \
                 correct the name after the address in REDIS_URL"
            )),
            Err(error) => Err(describe(&format!("the Sentinel at {address}"), &error)),
        }
    }

    /// Asks the seeds in turn for the primaries, each of which has the login of the first seed.
    async fn find_primaries(
        &self,
        seeds: &[ConnectionInfo],
    ) -> Result<Vec<ConnectionInfo>, String> {
        let mut last_error = String::new();
        for seed in seeds {
            match self.ask_seed(seed).await {
                Ok(shares) => {
                    let covered: usize =
                        shares.iter().map(|share| share.last - share.first + 1).sum();
                    if covered < slots::COUNT {
                        let missing = slots::COUNT - covered;
                        return Err(format!(
                            "{missing} slots of the cluster have no server: find out with CLUSTER \
                             NODES which servers are missing"
                        ));
                    }
                    let places: BTreeSet<_> =
                        shares.into_iter().map(|share| share.primary).collect();
                    let at = |place: Address| server_at(seed, place.host, place.port);
                    return Ok(places.into_iter().map(at).collect());
                }
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    async fn ask_seed(&self, seed: &ConnectionInfo) -> Result<Vec<SlotRange>, String> {
        let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) =
            seed.addr()
        else {
            return Err("a cluster is reached by TCP".to_owned());
        };
        let connection = self.dial(seed).await?;
        let answer = self.call(&connection, &cluster_slots()).await;
        let address = Address { host: host.clone(), port: *port };
        let shares = answer.and_then(|answer| slot_ranges(answer, &address));
        shares.map_err(|error| describe(&format!("Redis at {address}"), &error))
    }

    /// Logs in to a server and sends every command to it.
    async fn check_server(&self, server: &ConnectionInfo, is_cluster: bool) -> Result<(), String> {
        let name = format!("Redis at {}", server.addr());
        let connection = self.dial(server).await?;
        let mut commands = commands(self.key_prefix, self.callers_prefix);
        if is_cluster {
            // The last one, since it concerns the command after it.
            commands.extend([("CLUSTER SLOTS", cluster_slots()), ("ASKING", redis::cmd("ASKING"))]);
        } else {
            commands.extend(peeks_at_random_keys(self.key_prefix));
        }
        let mut refused = BTreeSet::new();
        for (command_name, command) in commands {
            match self.call(&connection, &command).await {
                Ok(_) => {}
                Err(error) if is_past_rights(&error, is_cluster) => {}
                Err(error) if error.code() == Some("NOPERM") => {
                    refused.insert(command_name);
                }
                Err(error) => return Err(describe(&format!("{name} on {command_name}"), &error)),
            }
        }
        if refused.is_empty() {
            return Ok(());
        }
        let refused = refused.into_iter().collect::<Vec<_>>().join(", ");
        Err(format!("{name} refuses the user {refused}: {}", RedisErrorKind::NotAllowed.advice()))
    }

    async fn dial(&self, server: &ConnectionInfo) -> Result<Connection, String> {
        self.dialer.dial(server).await.map_err(|error| {
            let text = error.to_string();
            format!("{}: {text}: {}", server.addr(), advice(&text))
        })
    }

    async fn call(&self, connection: &Connection, command: &Cmd) -> Result<Value, RedisError> {
        let answer = timeout(self.answer_timeout, connection.calls.send(command)).await;
        let late = || Err(io::Error::from(io::ErrorKind::TimedOut).into());
        answer.unwrap_or_else(|_| late())?.extract_error()
    }
}

/// Returns every command of the gateway, for keys of every kind. A server looks for the command and
/// for the rights of the user before it looks at arguments: those of commands that would take or
/// give back units are wrong, and no state has these keys.
fn commands(key_prefix: &str, callers_prefix: Option<&str>) -> Vec<(&'static str, Cmd)> {
    let identifier = format!("connection-check-{:032x}", fastrand::u128(..));
    let command = |name: &'static str, key: &str, arguments: &[&str]| {
        let mut command = redis::cmd(name);
        command.arg(key).arg(arguments);
        (name, command)
    };
    let mut commands = vec![("RATELIMIT.PEEK", probe(key_prefix).command)];
    for algorithm in Algorithm::ALL {
        let Facts { command: take, word, .. } = *algorithm.facts();
        let key = key(key_prefix, algorithm, &identifier);
        commands.push(command(take, &key, &["0", "1"]));
        commands.push(command("RATELIMIT.PEEK", &key, &[word, "1", "1"]));
        commands.push(command("RATELIMIT.REFUND", &key, &["0"]));
        commands.push(command("RATELIMIT.RESET", &key, &[]));
    }
    let leases = concurrency_key(key_prefix, &identifier);
    commands.push(command("RATELIMIT.ACQUIRE", &leases, &["0", "1", "holder"]));
    commands.push(command("RATELIMIT.RENEW", &leases, &["0", "holder"]));
    commands.push(command("RATELIMIT.RELEASE", &leases, &[""]));
    commands.push(command("RATELIMIT.HOLDERS", &leases, &[]));
    commands.push(command("RATELIMIT.RESET", &leases, &[]));
    let reservation = reservation_key(key_prefix, &identifier, "connection-check");
    let bucket = key(key_prefix, Algorithm::TokenBucket, &identifier);
    let limit = ["0", "1", bucket.as_str(), "TB", "1", "1"];
    commands.push(command("RATELIMIT.RESERVE", &reservation, &limit));
    commands.push(command("RATELIMIT.SETTLE", &reservation, &["1", &bucket]));
    let limit = limit_key(key_prefix, &format!("inline:connection-check:tb:{{{identifier}}}"));
    commands.push(command("RATELIMIT.MULTI", "1", &[&limit, "TB", "0", "1"]));
    if let Some(prefix) = callers_prefix {
        let key = key(prefix, Algorithm::TokenBucket, &identifier);
        commands.push(command("RATELIMIT.TB", &key, &["0", "1"]));
        commands.push(command("RATELIMIT.REFUND", &key, &["0"]));
    }
    commands
}

/// Returns calls of RATELIMIT.PEEK for keys in many slots. A node of a cluster has only a share of the
/// slots and refuses at least one of these calls; the slot of a single identifier may be on the node.
fn peeks_at_random_keys(key_prefix: &str) -> impl Iterator<Item = (&'static str, Cmd)> {
    /// One of three equal nodes has the slots of all these keys with a probability of 3^-32.
    const KEYS: usize = 32;
    (0..KEYS).map(move |_| {
        let identifier = format!("connection-check-{:032x}", fastrand::u128(..));
        let mut command = redis::cmd("RATELIMIT.PEEK");
        command.arg(key(key_prefix, Algorithm::TokenBucket, &identifier)).arg(&["TB", "1", "1"]);
        ("RATELIMIT.PEEK", command)
    })
}

/// Returns whether the server knows the command, and lets the user run it: the server is not the
/// one that has the key, or the command itself refuses its arguments.
fn is_past_rights(error: &RedisError, is_cluster: bool) -> bool {
    match error.code() {
        Some("MOVED" | "ASK") => is_cluster,
        Some("ERR") => error.detail().is_some_and(|detail| detail.contains(" must be ")),
        _ => false,
    }
}

fn describe(server: &str, error: &RedisError) -> String {
    let detail = error.detail().unwrap_or_default();
    let kind = RedisErrorKind::from_error(error);
    let text = match error.code() {
        Some(code) => format!("{code} {detail}"),
        None => error.to_string(),
    };
    let advice = if kind == RedisErrorKind::Unexpected { advice(&text) } else { kind.advice() };
    format!("{server}: {}: {advice}", text.trim_end())
}
