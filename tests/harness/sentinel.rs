//! Three Sentinels that watch a primary.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::client::Client;
use super::patience::eventually;
use super::process::{Process, log_tail};
use super::server::{self, Server, free_port};

const SENTINELS: usize = 3;

/// Sentinels that agree by majority, with times that suit a test.
#[derive(Debug)]
pub(crate) struct Sentinels {
    sentinels: Vec<Sentinel>,
}

impl Sentinels {
    /// Sentinels that know the primary, so many replicas of it, and each other.
    pub(crate) fn watch(primary: &Server, replicas: usize) -> Self {
        let sentinels: Vec<_> = (0..SENTINELS).map(|_| Sentinel::watch(primary)).collect();
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
        Self { sentinels }
    }

    /// The port of the server that is the primary now, as clients are told.
    pub(crate) fn primary_port(&self) -> u16 {
        let mut client = self.sentinels[0].client();
        let (_, port): (String, u16) = client.call("SENTINEL GET-MASTER-ADDR-BY-NAME primary");
        port
    }
}

/// One of them.
#[derive(Debug)]
struct Sentinel {
    port: u16,
    log: PathBuf,
    /// Ended when this is dropped.
    _process: Process,
    /// Holds its configuration, which it rewrites itself; deleted when this is dropped.
    _directory: TempDir,
}

impl Sentinel {
    fn watch(primary: &Server) -> Self {
        let directory = TempDir::new().expect("a directory for a Sentinel");
        let log = directory.path().join("sentinel.log");
        let configuration = directory.path().join("sentinel.conf");
        for _ in 0..10 {
            let port = free_port();
            fs::write(&configuration, settings(port, primary.port())).expect("its configuration");
            let binary = env::var_os("REDIS_SERVER_BIN").unwrap_or_else(|| "redis-server".into());
            let mut command = Command::new(binary);
            command.current_dir(&directory).arg("sentinel.conf").arg("--sentinel");
            let mut process = Process::start(&mut command, &log);
            if server::answers(port, &mut process) {
                let sentinel = Self { port, log, _process: process, _directory: directory };
                sentinel.hurry();
                return sentinel;
            }
        }
        panic!("no Sentinel answers\n{}", log_tail(&log));
    }

    /// Shortens the times after which it looks again, which are meant for real networks.
    fn hurry(&self) {
        let periods = "INFO-PERIOD 1000 PUBLISH-PERIOD 500";
        self.client().call::<()>(&format!("SENTINEL DEBUG {periods}"));
    }

    fn client(&self) -> Client {
        Client::connect(&format!("redis://127.0.0.1:{}/", self.port), self.log.clone())
    }
}

/// A failover for which no majority was found in time is tried again after twice its timeout.
fn settings(port: u16, primary: u16) -> String {
    format!(
        "port {port}
bind 127.0.0.1
sentinel monitor primary 127.0.0.1 {primary} 2
sentinel down-after-milliseconds primary 2000
sentinel failover-timeout primary 3000
sentinel parallel-syncs primary 2
"
    )
}
