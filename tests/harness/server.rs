//! A redis-server with the module loaded.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::artifacts;
use super::client::Client;
use super::clock::Clock;
use super::port::free_port;
use super::process::{Process, log_tail};
use super::wait::{TIMEOUT, eventually, within};

/// Settings of a server that is about to start.
#[derive(Clone, Debug)]
pub(crate) struct Builder {
    arguments: Vec<String>,
    /// Port of the cluster bus; `None` for a server that is not in a cluster.
    bus_port: Option<u16>,
    clock: Option<Clock>,
    configuration: Option<PathBuf>,
    /// Functions of the server that fail for the module.
    faults: Option<String>,
    module: bool,
    module_arguments: Vec<String>,
    password: Option<String>,
    port: Option<u16>,
}

impl Builder {
    /// Stops the server's clock at `micros` since the Unix epoch, to be set by the test.
    pub(crate) fn clock(mut self, micros: u64) -> Self {
        self.clock = Some(Clock::at(micros));
        self
    }

    /// Lets the server read the clock of another one.
    pub(crate) fn clock_of(mut self, server: &Server) -> Self {
        self.clock = Some(server.clock().clone());
        self
    }

    /// Makes the server a node of a cluster.
    pub(crate) fn cluster(mut self) -> Self {
        self.bus_port = Some(free_port());
        self.config("cluster-enabled", "yes")
    }

    /// Adds a configuration directive, as in redis.conf.
    pub(crate) fn config(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([format!("--{name}"), value.to_owned()]);
        self
    }

    /// Reads a configuration file, whose directives all other settings override.
    pub(crate) fn configuration_file(mut self, path: &Path) -> Self {
        self.configuration = Some(path.to_owned());
        self
    }

    /// Makes functions of the server fail for the module; see the crate of tests/faults.
    pub(crate) fn faults(mut self, faults: &str) -> Self {
        self.faults = Some(faults.to_owned());
        self
    }

    /// Does not load the module.
    pub(crate) fn without_module(mut self) -> Self {
        self.module = false;
        self
    }

    /// Loads the module with arguments.
    pub(crate) fn module_arguments(mut self, arguments: &[&str]) -> Self {
        self.module_arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        self
    }

    /// Requires a password of clients.
    pub(crate) fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.config("requirepass", password)
    }

    /// Renames a command of the server, or removes it if the new name is empty.
    pub(crate) fn rename_command(mut self, name: &str, new_name: &str) -> Self {
        self.arguments.extend(["--rename-command", name, new_name].map(str::to_owned));
        self
    }

    /// Makes the server a replica of another one.
    pub(crate) fn replica_of(self, primary: &Server) -> Self {
        self.config("replicaof", &format!("127.0.0.1 {}", primary.port()))
    }

    /// Listens on this port instead of a free one.
    pub(crate) fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Starts the server and waits until it answers.
    pub(crate) fn start(mut self) -> Server {
        let directory = TempDir::new().expect("a directory for the server");
        let log = directory.path().join("redis-server.log");
        let fixed_port = self.port;
        for _ in 0..10 {
            let port = fixed_port.unwrap_or_else(free_port);
            let mut process = Process::start(&mut self.command(port, &directory), &log);
            if answers(port, &mut process) {
                let Self { clock, password, .. } = &self;
                let (clock, password) = (clock.clone(), password.clone());
                let process = Some(process);
                return Server { process, port, password, clock, log, builder: self, directory };
            }
            // Another process may have taken the port since it was found to be free.
            let port_taken = process.log().contains("Address already in use");
            let may_retry = port_taken && fixed_port.is_none();
            assert!(may_retry, "redis-server does not answer\n{}", log_tail(&log));
            self.bus_port = self.bus_port.map(|_| free_port());
        }
        panic!("every free port was taken before redis-server could bind it");
    }

    /// Starts a server that ends by itself because of its settings or its files, and returns its
    /// log. With files that it cannot read it may end as if all were well.
    pub(crate) fn start_in_vain(self) -> String {
        let directory = TempDir::new().expect("a directory for the server");
        let log = directory.path().join("redis-server.log");
        let mut process = Process::start(&mut self.command(free_port(), &directory), &log);
        eventually("the server gives up", || process.status());
        process.log()
    }

    fn command(&self, port: u16, directory: &TempDir) -> Command {
        let mut command = Command::new(Server::program());
        command.current_dir(directory).args(&self.configuration);
        command.args(["--port", &port.to_string()]).args(DEFAULTS);
        command.args(&self.arguments);
        if let Some(port) = self.bus_port {
            command.args(["--cluster-port", &port.to_string()]);
        }
        if let Some(faults) = &self.faults {
            command.env("RATELIMIT_TEST_MODULE", artifacts::module());
            command.env("RATELIMIT_TEST_FAULTS", faults);
        }
        if self.module {
            command.arg("--loadmodule").arg(self.module_path()).args(&self.module_arguments);
        }
        if let Some(clock) = &self.clock {
            clock.preload(&mut command);
        }
        command
    }

    /// Returns the path of the library that the server loads.
    fn module_path(&self) -> &'static Path {
        if self.faults.is_some() { artifacts::faults() } else { artifacts::module() }
    }
}

/// Directives of all servers; later directives override these.
const DEFAULTS: [&str; 10] = [
    "--bind",
    "127.0.0.1",
    "--save",
    "",
    "--enable-debug-command",
    "yes",
    // A replica is synchronised at once: the usual delay counts seconds of a clock that may stand
    // still.
    "--repl-diskless-sync-delay",
    "0",
    // An append-only file survives the process as soon as the process has written it, and no test
    // needs more.
    "--appendfsync",
    "no",
];

/// A running redis-server.
#[derive(Debug)]
pub(crate) struct Server {
    /// The running process; `None` while the server is stopped.
    process: Option<Process>,
    port: u16,
    password: Option<String>,
    clock: Option<Clock>,
    log: PathBuf,
    builder: Builder,
    /// Removed when this value is dropped.
    directory: TempDir,
}

impl Server {
    /// Starts a server with the module and real time, which stores nothing on disk.
    pub(crate) fn start() -> Self {
        Self::builder().start()
    }

    /// Starts a server with the module whose clock stands at `micros` since the Unix epoch.
    pub(crate) fn at(micros: u64) -> Self {
        Self::builder().clock(micros).start()
    }

    /// Returns the server program to be tested.
    pub(crate) fn program() -> PathBuf {
        env::var_os("REDIS_SERVER_BIN").map_or_else(|| "redis-server".into(), PathBuf::from)
    }

    /// Returns a server to be configured.
    pub(crate) fn builder() -> Builder {
        Builder {
            arguments: vec![],
            bus_port: None,
            clock: None,
            configuration: None,
            faults: None,
            module: true,
            module_arguments: vec![],
            password: None,
            port: None,
        }
    }

    /// Opens a connection.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.url(), self.log.clone())
    }

    /// Opens a connection without a client: the test writes and reads bytes.
    pub(crate) fn socket(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address()).expect("a connection");
        socket.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        socket
    }

    /// Returns the number of units that [`Gateway::check`](super::Gateway::check) has taken of the
    /// bucket of an identifier.
    pub(crate) fn used_units(&self, identifier: &str) -> i64 {
        let key = format!("token_bucket:{{{identifier}}}");
        1000 - self.client().decide(&format!("RATELIMIT.PEEK {key} TB 1000 31622400"))[2]
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the password for clients, if there is one.
    pub(crate) fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// Returns the port of the cluster bus.
    pub(crate) fn bus_port(&self) -> u16 {
        self.builder.bus_port.expect("a server that was built as a node of a cluster")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn url(&self) -> String {
        let user = self.password.as_ref().map(|password| format!(":{password}@"));
        format!("redis://{}127.0.0.1:{}/", user.unwrap_or_default(), self.port)
    }

    /// Returns the clock of this server.
    pub(crate) fn clock(&self) -> &Clock {
        self.clock.as_ref().expect("a server whose builder was given a clock")
    }

    /// Returns the log of the server so far.
    pub(crate) fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Ends the server as an operator would (SIGTERM). The files of the server stay.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let status = process.terminate();
            assert!(status.success(), "redis-server ended: {status}\n{}", log_tail(&self.log));
        }
    }

    /// Kills the server without a warning (SIGKILL). The files of the server stay.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Stops the process as if its machine were far too busy (SIGSTOP): connections stay open.
    pub(crate) fn freeze(&self) {
        self.process.as_ref().expect("a running server").freeze();
    }

    /// Continues a frozen server.
    pub(crate) fn thaw(&self) {
        self.process.as_ref().expect("a running server").thaw();
    }

    /// Starts a stopped server again with the same port, files and settings.
    pub(crate) fn resume(&mut self) {
        let mut command = self.builder.command(self.port, &self.directory);
        let mut process = Process::start(&mut command, &self.log);
        let back = answers(self.port, &mut process);
        assert!(back, "redis-server does not come back\n{}", log_tail(&self.log));
        self.process = Some(process);
    }

    /// Starts a stopped server again as a replica of another one.
    pub(crate) fn resume_as_replica_of(&mut self, primary: &Server) {
        self.builder = self.builder.clone().replica_of(primary);
        self.resume();
    }

    /// Makes the running server a replica of another one, and waits until it follows.
    pub(crate) fn follow(&self, primary: &Server) {
        self.client().call::<()>(&format!("REPLICAOF 127.0.0.1 {}", primary.port()));
        self.catch_up_with(primary);
    }

    /// Waits until this replica has received all data that its primary has sent so far.
    pub(crate) fn catch_up_with(&self, primary: &Server) {
        let number = |offset: String| offset.parse::<u64>().expect("an offset");
        let sent = number(primary.client().info("replication", "master_repl_offset"));
        let mut client = self.client();
        eventually("the replica catches up", || {
            let up = client.info("replication", "master_link_status") == "up";
            let received = number(client.info("replication", "slave_repl_offset"));
            (up && received >= sent).then_some(())
        });
    }

    /// Loads the module into the running server.
    pub(crate) fn load_module(&self) {
        self.try_to_load_module("MODULE LOAD", "").expect("the module is loaded");
    }

    /// Returns the answer of the running server to `MODULE LOAD` or `MODULE LOADEX` with the path
    /// of the module and the arguments in `rest`.
    pub(crate) fn try_to_load_module(&self, command: &str, rest: &str) -> Result<(), String> {
        let path = self.builder.module_path().to_str().expect("a path in Unicode");
        let line = format!("{command} {path} {rest}");
        self.client().try_call(&line).map(drop).map_err(|error| error.to_string())
    }

    /// Stops the server and starts it again.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.resume();
    }
}

/// Returns whether the server answers commands before it ends or the deadline passes.
pub(super) fn answers(port: u16, process: &mut Process) -> bool {
    let ended_or_answers = || match process.status() {
        Some(_) => Some(false),
        None => {
            let is_answered = ping(port).is_ok_and(|reply| is_ready(&reply));
            // The server of another test may have taken the port: this server then ends.
            (is_answered && process.listens_on(port)).then_some(true)
        }
    };
    within(TIMEOUT, ended_or_answers).unwrap_or(false)
}

fn ping(port: u16) -> std::io::Result<String> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.write_all(b"PING\r\n")?;
    let mut reply = String::new();
    BufReader::new(socket).read_line(&mut reply)?;
    Ok(reply)
}

/// Returns whether a server is ready: a server that is still loading its files answers `-LOADING`.
fn is_ready(reply: &str) -> bool {
    reply.starts_with("+PONG") || reply.starts_with("-NOAUTH")
}
