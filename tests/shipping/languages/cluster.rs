//! Clients of a cluster, called as docs/clients.md advises: each client sends a call once, and
//! takes from the key that the page names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::{NODE, is_sent_once, python, report_missing, works};
use crate::harness::{Cluster, Process, repository};

/// The Python for which `scripts/install web` installs the redis-py that the page advises.
const PYTHON: &str = "target/redis-py/bin/python";

/// A client, and a program that takes a unit from a cluster with it.
struct ClusterClient {
    name: &'static str,
    /// The program of this client; its arguments are a port and a key.
    source: &'static str,
    interpreter: PathBuf,
    is_installed: bool,
    /// The text in which the program and the page must agree.
    advice: &'static str,
    /// The prefix of the program's key, without the prefix that the program sets in an option of
    /// its client, except where the program itself applies that option.
    prefix: &'static str,
}

fn clients() -> [ClusterClient; 6] {
    let python = repository().join(PYTHON);
    let is_installed = works(Command::new(&python).args(["-c", "import redis.cluster"]));
    let redis_py = ClusterClient {
        name: "redis-py",
        source: "redis_py.py",
        interpreter: python,
        is_installed,
        advice: "retry=Retry(NoBackoff(), 0)",
        prefix: "",
    };
    let redis_rb = ClusterClient {
        name: "redis-rb",
        source: "redis_rb.rb",
        interpreter: "ruby".into(),
        is_installed: works(Command::new("ruby").args(["-r", "redis", "-e", ""])),
        advice: "reconnect_attempts: 0",
        prefix: "",
    };
    let exists = "exit((int) !class_exists('RedisCluster'));";
    let phpredis = ClusterClient {
        name: "phpredis",
        source: "phpredis.php",
        interpreter: "php".into(),
        is_installed: works(Command::new("php").args(["-r", exists])),
        advice: "rawCommand($key, 'RATELIMIT.TB', $client->_prefix($key), 3, 60)",
        prefix: "app:",
    };
    [
        redis_py,
        package_of_node("ioredis", "ioredis.mjs", "retryDelayOnFailover: 0"),
        package_of_node("iovalkey", "iovalkey.mjs", "retryDelayOnFailover: 0"),
        package_of_node("redis", "node_redis.mjs", "socketTimeout: 1000"),
        redis_rb,
        phpredis,
    ]
}

fn package_of_node(
    name: &'static str,
    source: &'static str,
    advice: &'static str,
) -> ClusterClient {
    let package = repository().join(NODE).join("node_modules").join(name);
    let is_installed = package.exists() && works(Command::new("node").arg("--version"));
    let interpreter = "node".into();
    ClusterClient { name, source, interpreter, is_installed, advice, prefix: "" }
}

impl ClusterClient {
    fn source(&self) -> PathBuf {
        repository().join("tests/shipping/languages").join(self.source)
    }

    /// Returns the command that takes a unit from a key.
    fn take(&self, port: u16, key: &str) -> Command {
        let mut source = self.source();
        if self.interpreter == Path::new("node") {
            // Node.js searches for packages in the directory of the program.
            let beside = repository().join(NODE).join(self.source);
            fs::copy(source, &beside).expect("a copy of the program");
            source = beside;
        }
        let mut command = Command::new(&self.interpreter);
        command.arg(source).args([&port.to_string(), key]).stdin(Stdio::null());
        command
    }
}

#[test]
#[ignore = "make test-web"]
fn clients_of_a_cluster_send_a_call_once_and_take_from_the_key_that_the_page_says() {
    let cluster = Cluster::start();
    let mut owner = cluster.node(0).client();
    // The node has to redirect the client.
    let port = cluster.node(1).port();
    for client in clients() {
        let name = client.name;
        if !client.is_installed {
            report_missing(name);
            continue;
        }
        let key = format!("{}{name}", cluster.tag(0));
        let mut command = client.take(port, &key);
        let printed = printed(command.output().expect("the program starts"));
        assert!(printed.starts_with("1 3 2 "), "{name}: {printed}");
        let keys: Vec<String> = owner.call(&format!("KEYS *}}{name}"));
        assert_eq!(keys, [format!("{}{key}", client.prefix)], "{name}");

        let directory = tempfile::tempdir().expect("a directory for the log");
        owner.call::<()>("CLIENT PAUSE 100000 WRITE");
        let mut process = Process::start(&mut command, &directory.path().join("log"));
        is_sent_once(&mut owner, &mut process, name);
        owner.call::<()>("CLIENT UNPAUSE");
    }
}

#[test]
#[ignore = "make test-web"]
fn redis_py_asks_every_primary_for_its_denied_keys() {
    let cluster = Cluster::start();
    for primary in 0..2 {
        let call = format!("RATELIMIT.TB {}denied 1 60 COST 2", cluster.tag(primary));
        // The denials are halved at every full minute; this number lasts for several minutes.
        cluster.node(primary).client().calls::<[i64; 5]>(&vec![call; 1_000]);
    }
    let mut denied = [0, 1].map(|primary| format!("{}denied", cluster.tag(primary)));
    denied.sort();
    // Debian's redis-py is older than the one of PyPI.
    for python in [python(), repository().join(PYTHON)] {
        if !works(Command::new(&python).args(["-c", "import redis.cluster"])) {
            report_missing("redis-py");
            continue;
        }
        let program = repository().join("tests/shipping/languages/redis_py_top.py");
        let port = cluster.node(2).port().to_string();
        let output = Command::new(&python).arg(program).arg(port).output().expect("Python starts");
        let printed = printed(output);
        assert_eq!(printed.split_whitespace().collect::<Vec<_>>(), denied, "{}", python.display());
    }
}

#[test]
#[ignore = "make test-web"]
fn the_page_advises_what_the_programs_do() {
    let page = fs::read_to_string(repository().join("docs/clients.md")).expect("the page");
    let top = (
        repository().join("tests/shipping/languages/redis_py_top.py"),
        r#"execute_command("RATELIMIT.TOP", target_nodes=client.get_primaries())"#,
    );
    let advice = clients().map(|client| (client.source(), client.advice));
    for (source, advice) in advice.into_iter().chain([top]) {
        let program = fs::read_to_string(&source).expect("a program");
        assert!(program.contains(advice), "{}: {advice}", source.display());
        assert!(page.contains(advice), "docs/clients.md: {advice}");
    }
}

/// Returns the output of a program; fails the test where the program fails.
fn printed(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("text")
}
