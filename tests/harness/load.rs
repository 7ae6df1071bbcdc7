//! Clients that take units without a pause, on any server that has the keys, and keep account of
//! these units.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use redis::{Cmd, Connection, FromRedisValue, RedisError, Value};

use super::client::Client;
use super::wait::{StopOnDrop, TIMEOUT, eventually};

/// Number of concurrent clients, each with its share of the keys.
const CLIENTS: usize = 3;

/// The limit of every call: more than any test takes, with a drain so slow that during a test no
/// unit comes back and no key expires.
const LIMIT: &str = "1000 31622400";
const CAPACITY: u64 = 1_000_000;

/// The results of the calls on one key, in units.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    /// Units that were granted.
    granted: u64,
    /// Units that were granted and acknowledged by the required number of replicas.
    acknowledged: u64,
    /// Units of calls whose answer was lost: these units may have been granted or not.
    uncertain: u64,
}

/// The accounts of all keys.
#[derive(Debug)]
pub(crate) struct Ledger(BTreeMap<String, Account>);

impl Ledger {
    /// Asserts that every granted unit is used, and no unit without a call.
    pub(crate) fn assert_none_lost(&self, client: &mut Client) {
        self.assert_used(client, |account| account.granted);
    }

    /// Asserts that every unit with an acknowledged grant is used, and no unit without a call.
    pub(crate) fn assert_no_acknowledged_lost(&self, client: &mut Client) {
        let acknowledged: u64 = self.0.values().map(|account| account.acknowledged).sum();
        assert_ne!(acknowledged, 0, "there is something to lose");
        self.assert_used(client, |account| account.acknowledged);
    }

    fn assert_used(&self, client: &mut Client, least: impl Fn(&Account) -> u64) {
        for (key, account) in &self.0 {
            let possible = least(account)..=account.granted + account.uncertain;
            let used = used(client, key);
            assert!(possible.contains(&used), "{key}: {used} are used, {account:?}");
        }
    }
}

/// Clients that take one unit at a time from buckets and logs.
#[derive(Debug)]
pub(crate) struct Load {
    keys: Vec<String>,
    replicas: u32,
    /// Number of granted units of each client.
    granted: [AtomicU64; CLIENTS],
    stop: AtomicBool,
}

impl Load {
    /// Creates a load on `count` buckets and as many logs whose names begin with `prefix`.
    pub(crate) fn on(prefix: &str, count: usize) -> Self {
        let pair = |key| [format!("{prefix}bucket:{key}"), format!("{prefix}log:{key}")];
        let keys = (0..count).flat_map(pair).collect();
        let granted = [const { AtomicU64::new(0) }; CLIENTS];
        Self { keys, replicas: 0, granted, stop: AtomicBool::new(false) }
    }

    /// Waits after each grant for the acknowledgements of this number of replicas.
    pub(crate) fn acknowledged_by(mut self, replicas: u32) -> Self {
        self.replicas = replicas;
        self
    }

    pub(crate) fn keys(&self) -> &[String] {
        &self.keys
    }

    /// Runs `scenario` while the clients take units. The clients call `locate` for the port of a
    /// server, follow its redirections, and call `locate` again when the server refuses a call or
    /// has ended.
    pub(crate) fn during(
        &self,
        locate: impl Fn() -> Option<u16> + Sync,
        scenario: impl FnOnce(),
    ) -> Ledger {
        thread::scope(|scope| {
            let start = |(granted, share)| {
                let locate = &locate;
                scope.spawn(move || self.take_units(granted, share, locate))
            };
            let shares = self.keys.chunks(self.keys.len().div_ceil(CLIENTS));
            let clients: Vec<_> = self.granted.iter().zip(shares).map(start).collect();
            // The guard stops the clients also when the scenario panics, because the scope waits
            // for its threads.
            let stop = StopOnDrop(&self.stop);
            self.more();
            scenario();
            self.more();
            drop(stop);
            let accounts = clients.into_iter().flat_map(|client| client.join().expect("a client"));
            Ledger(accounts.collect())
        })
    }

    /// Waits until every client has received 100 more units.
    pub(crate) fn more(&self) {
        let so_far = || self.granted.each_ref().map(|granted| granted.load(Ordering::Relaxed));
        let enough = so_far().map(|granted| granted + 100);
        eventually("more is granted", || {
            so_far().iter().zip(enough).all(|(&granted, enough)| granted >= enough).then_some(())
        });
    }

    /// Takes units as one client until the client is stopped.
    fn take_units(
        &self,
        granted: &AtomicU64,
        keys: &[String],
        locate: &dyn Fn() -> Option<u16>,
    ) -> BTreeMap<String, Account> {
        let new_account = |key: &String| (key.clone(), Account::default());
        let mut accounts: BTreeMap<_, _> = keys.iter().map(new_account).collect();
        let mut links = Links::default();
        for key in keys.iter().cycle() {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let account = accounts.get_mut(key).expect("every key has an account");
            match links.take(key, locate) {
                Call::Granted(port) => {
                    account.granted += 1;
                    granted.fetch_add(1, Ordering::Relaxed);
                    if self.replicas > 0 && links.is_acknowledged(port, self.replicas) {
                        account.acknowledged += 1;
                    }
                }
                Call::Lost => account.uncertain += 1,
                Call::Refused => thread::sleep(Duration::from_millis(2)),
            }
        }
        accounts
    }
}

/// Returns whether the server at this port answers, and is a primary.
pub(crate) fn is_primary(port: u16) -> bool {
    let role = connect(port).map(|mut connection| redis::cmd("ROLE").query(&mut connection));
    let name =
        |role: &[Value]| role.first().and_then(|name| String::from_redis_value_ref(name).ok());
    matches!(role, Some(Ok(Value::Array(role))) if name(&role).as_deref() == Some("master"))
}

/// Returns the number of used units of a key of a [`Load`].
fn used(client: &mut Client, key: &str) -> u64 {
    let [_, _, remaining, ..] = client.decide(&format!("RATELIMIT.PEEK {key} {}", limit(key)));
    CAPACITY - u64::try_from(remaining).expect("units")
}

/// Returns the algorithm and the limit of a key, as RATELIMIT.PEEK takes them.
fn limit(key: &str) -> String {
    if key.contains("bucket:") {
        format!("TB {LIMIT} BURST {CAPACITY}")
    } else {
        format!("SW {CAPACITY} 31622400")
    }
}

/// The result of one call.
enum Call {
    /// The server at this port granted the call.
    Granted(u16),
    /// No server granted the call.
    Refused,
    /// The client sent the call, and received no answer.
    Lost,
}

/// The connections of one client, and the last known port of each key.
#[derive(Default)]
struct Links {
    open: HashMap<u16, Connection>,
    ports: HashMap<String, u16>,
}

impl Links {
    /// Takes one unit of a key.
    fn take(&mut self, key: &str, locate: &dyn Fn() -> Option<u16>) -> Call {
        let Some(port) = self.ports.get(key).copied().or_else(locate) else {
            return Call::Refused;
        };
        self.ports.insert(key.to_owned(), port);
        let command = command(key);
        let answer = self.call(port, &command);
        let moved_to = match &answer {
            Some(Err(error)) => error.redirect_node().map(|(address, _)| port_of(address)),
            _ => None,
        };
        match moved_to {
            None => self.outcome(key, port, answer),
            Some(port) if is_code(&answer, "ASK") => {
                // ASKING and the command use one connection, because ASKING permits only the next
                // command on its connection.
                self.call::<()>(port, &redis::cmd("ASKING"));
                let answer = self.call(port, &command);
                self.outcome(key, port, answer)
            }
            Some(port) => {
                self.ports.insert(key.to_owned(), port);
                Call::Refused
            }
        }
    }

    /// Returns whether this number of replicas has acknowledged all grants on the connection to
    /// this port.
    fn is_acknowledged(&mut self, port: u16, replicas: u32) -> bool {
        let mut wait = redis::cmd("WAIT");
        wait.arg(replicas).arg(10);
        matches!(self.call::<u32>(port, &wait), Some(Ok(reached)) if reached >= replicas)
    }

    fn outcome(&mut self, key: &str, port: u16, answer: Answer<[i64; 5]>) -> Call {
        match answer {
            Some(Ok([granted, ..])) => {
                assert_eq!(granted, 1, "{key} has units left");
                return Call::Granted(port);
            }
            Some(Err(error)) if error.code().is_none() => {
                self.open.remove(&port);
                self.ports.remove(key);
                return Call::Lost;
            }
            Some(Err(error)) => {
                let code = error.code().unwrap_or_default();
                assert!(PASSING.contains(&code), "{key}: {error}");
            }
            None => {}
        }
        self.ports.remove(key);
        Call::Refused
    }

    /// Returns the answer to a command, or `None` if no server listens on this port.
    fn call<T: FromRedisValue>(&mut self, port: u16, command: &Cmd) -> Answer<T> {
        let connection = match self.open.entry(port) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => place.insert(connect(port)?),
        };
        Some(command.query(connection))
    }
}

type Answer<T> = Option<Result<T, RedisError>>;

/// Errors of servers while the keys move to another server or become available again.
const PASSING: [&str; 7] =
    ["READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED", "MOVED"];

fn is_code<T>(answer: &Answer<T>, code: &str) -> bool {
    matches!(answer, Some(Err(error)) if error.code() == Some(code))
}

/// Returns the command that takes one unit of a key.
fn command(key: &str) -> Cmd {
    let limit = limit(key);
    let (algorithm, limit) = limit.split_once(' ').expect("an algorithm and a limit");
    let mut command = redis::cmd(&format!("RATELIMIT.{algorithm}"));
    command.arg(key).arg(limit.split(' ').collect::<Vec<_>>());
    command
}

/// Returns the port in the address of a redirection.
fn port_of(address: &str) -> u16 {
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.unwrap_or_else(|| panic!("{address} has no port"))
}

fn connect(port: u16) -> Option<Connection> {
    let client = redis::Client::open((Ipv4Addr::LOCALHOST.to_string(), port)).expect("an address");
    let connection = client.get_connection_with_timeout(TIMEOUT).ok()?;
    connection.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    Some(connection)
}
