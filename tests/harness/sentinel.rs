//! Three Sentinels that watch a primary.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::client::Client;
use super::port::free_port;
use super::process::{Process, log_tail};
use super::server::{self, Server};
use super::wait::eventually;

const SENTINELS: usize = 3;

/// Sentinels that decide by majority, with short timeouts for tests.
#[derive(Debug)]
pub(crate) struct Sentinels {
    sentinels: Vec<Sentinel>,
}

/// Ports and password of Sentinels that are about to start.
#[derive(Debug)]
pub(crate) struct SentinelBuilder {
    ports: [Option<u16>; SENTINELS],
    password: Option<&'static str>,
}

impl SentinelBuilder {
    /// Listens on these ports instead of free ones.
    pub(crate) fn ports(mut self, ports: [u16; SENTINELS]) -> Self {
        self.ports = ports.map(Some);
        self
    }

    /// Requires a password of clients.
    pub(crate) fn password(mut self, password: &'static str) -> Self {
        self.password = Some(password);
        self
    }

    /// Starts Sentinels, and waits until these have found the primary, this number of its replicas,
    /// and each other.
    pub(crate) fn watch(self, primary: &Server, replicas: usize) -> Sentinels {
        let start = |port| Sentinel::watch(primary, port, self.password);
        let sentinels: Vec<_> = self.ports.into_iter().map(start).collect();
        for sentinel in &sentinels {
            let mut client = sentinel.client();
            eventually("the Sentinel knows all others", || {
                let known = [("SENTINELS", SENTINELS - 1), ("REPLICAS", replicas)];
                let all = known.into_iter().all(|(what, count)| {
                    let known: Vec<redis::Value> = client.call(&format!("SENTINEL {what} primary"));
                    known.len() == count
                });
                (all && client.try_call("SENTINEL CKQUORUM primary").is_ok()).then_some(())
            });
        }
        Sentinels { sentinels }
    }
}

impl Sentinels {
    /// Starts Sentinels, and waits until these have found the primary, this number of its replicas,
    /// and each other.
    pub(crate) fn watch(primary: &Server, replicas: usize) -> Self {
        Self::builder().watch(primary, replicas)
    }

    /// Returns Sentinels to be configured.
    pub(crate) fn builder() -> SentinelBuilder {
        SentinelBuilder { ports: [None; SENTINELS], password: None }
    }

    /// Returns the URL by which a gateway finds the primary, without a login.
    pub(crate) fn url(&self) -> String {
        let ports: Vec<_> = self.sentinels.iter().map(|sentinel| sentinel.port).collect();
        Self::url_at(&ports)
    }

    /// Returns the URL by which a gateway finds the primary that Sentinels at these ports watch.
    pub(crate) fn url_at(ports: &[u16]) -> String {
        let places: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("redis+sentinel://{}/primary", places.join(","))
    }

    /// Promotes a replica although the primary is healthy.
    pub(crate) fn fail_over(&self) {
        let mut client = self.sentinels[0].client();
        eventually("a replica can be promoted", || {
            client.try_call("SENTINEL FAILOVER primary").ok()
        });
    }

    /// Returns the port of the current primary, as Sentinels report it to clients.
    pub(crate) fn primary_port(&self) -> u16 {
        let mut client = self.sentinels[0].client();
        let (_, port): (String, u16) = client.call("SENTINEL GET-MASTER-ADDR-BY-NAME primary");
        port
    }
}

/// One Sentinel process.
#[derive(Debug)]
struct Sentinel {
    port: u16,
    password: Option<&'static str>,
    log: PathBuf,
    /// Ended when this value is dropped.
    _process: Process,
    /// Holds the configuration, which the Sentinel rewrites; removed when this value is dropped.
    _directory: TempDir,
}

impl Sentinel {
    fn watch(primary: &Server, fixed_port: Option<u16>, password: Option<&'static str>) -> Self {
        let directory = TempDir::new().expect("a directory for a Sentinel");
        let log = directory.path().join("sentinel.log");
        let configuration = directory.path().join("sentinel.conf");
        for _ in 0..10 {
            let port = fixed_port.unwrap_or_else(free_port);
            let settings = settings(port, primary, password);
            fs::write(&configuration, settings).expect("its configuration");
            let binary = env::var_os("REDIS_SERVER_BIN").unwrap_or_else(|| "redis-server".into());
            let mut command = Command::new(binary);
            command.current_dir(&directory).arg("sentinel.conf").arg("--sentinel");
            let mut process = Process::start(&mut command, &log);
            if server::answers(port, &mut process) {
                let sentinel =
                    Self { port, password, log, _process: process, _directory: directory };
                sentinel.shorten_periods();
                return sentinel;
            }
        }
        panic!("no Sentinel answers\n{}", log_tail(&log));
    }

    /// Shortens the polling periods of the Sentinel, whose defaults are for real networks.
    fn shorten_periods(&self) {
        let periods = "INFO-PERIOD 1000 PUBLISH-PERIOD 500";
        self.client().call::<()>(&format!("SENTINEL DEBUG {periods}"));
    }

    fn client(&self) -> Client {
        let user = self.password.map(|password| format!(":{password}@")).unwrap_or_default();
        Client::connect(&format!("redis://{user}127.0.0.1:{}/", self.port), self.log.clone())
    }
}

/// Returns a configuration. A Sentinel repeats a failover without a timely majority after twice its
/// timeout.
fn settings(port: u16, primary: &Server, password: Option<&str>) -> String {
    let own = password.map(|password| format!("requirepass {password}\n"));
    let of_primary =
        primary.password().map(|password| format!("sentinel auth-pass primary {password}\n"));
    format!(
        "port {port}
bind 127.0.0.1
sentinel monitor primary 127.0.0.1 {} 2
sentinel down-after-milliseconds primary 2000
sentinel failover-timeout primary 3000
sentinel parallel-syncs primary 2
{}{}",
        primary.port(),
        own.unwrap_or_default(),
        of_primary.unwrap_or_default()
    )
}
