//! A gateway process.

use std::fs;
use std::io::{self, PipeReader};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use rustix::process::Signal;
use tempfile::TempDir;

use super::artifacts;
use super::certificates::{Authority, Certificate};
use super::clock::Clock;
use super::http::{self, Connection, Response};
use super::https::{self, TlsStream, Trust};
use super::port::free_port;
use super::process::{Process, log_tail};
use super::server::Server;
use super::wait::{TIMEOUT, eventually, within};

/// Timeout for Redis, unless a test sets another one: longer than any stall of a busy machine.
const REDIS_TIMEOUT_MS: &str = "10000";

/// Body of an answer while Redis does not decide and `FAIL_MODE` is `closed`.
pub(crate) const UNAVAILABLE: &str =
    r#"{"detail":"Rate limiting service temporarily unavailable","error_code":"REDIS_ERROR"}"#;

/// Settings of a gateway that is about to start.
#[derive(Debug)]
pub(crate) struct Builder {
    variables: Vec<(String, String)>,
    clock: Option<Clock>,
    directory: TempDir,
    trust: Option<Trust>,
    without_reader: bool,
    admin: bool,
    open_files: Option<u64>,
    port: Option<u16>,
}

impl Builder {
    /// Sets this server as the Redis of the gateway.
    pub(crate) fn redis(self, server: &Server) -> Self {
        self.env("REDIS_URL", &server.url())
    }

    /// Sets an environment variable. The gateway inherits no variables from the environment of the
    /// test.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends the spans of the gateway to this collector at once.
    pub(crate) fn traces_to(self, endpoint: &str) -> Self {
        self.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).env("OTEL_BSP_SCHEDULE_DELAY", "20")
    }

    /// Lets the gateway read this clock as the time of the system.
    pub(crate) fn clock(mut self, clock: &Clock) -> Self {
        self.clock = Some(clock.clone());
        self
    }

    /// Serves HTTPS with a certificate of this authority, which the test trusts.
    pub(crate) fn https(mut self, authority: &Authority, files: &Certificate) -> Self {
        self.trust = Some(https::trust(authority));
        self.env("TLS_CERT_FILE", &files.certificate.to_string_lossy())
            .env("TLS_KEY_FILE", &files.key.to_string_lossy())
    }

    /// Puts a `.env` file into the directory in which the gateway starts.
    pub(crate) fn dotenv(self, text: &str) -> Self {
        fs::write(self.directory.path().join(".env"), text).expect(".env is written");
        self
    }

    /// Listens on this port, which must be free, instead of a free port that the harness finds.
    pub(crate) fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Listens for probes and operators on a separate port.
    pub(crate) fn admin(mut self) -> Self {
        self.admin = true;
        self
    }

    /// Sends standard output to a pipe without a reader.
    pub(crate) fn without_reader(mut self) -> Self {
        self.without_reader = true;
        self
    }

    /// Bounds the number of files and sockets that the gateway can have open.
    pub(crate) fn open_files(mut self, limit: u64) -> Self {
        self.open_files = Some(limit);
        self
    }

    /// Starts the gateway and waits until it is alive, whether or not Redis is there.
    pub(crate) fn start(self) -> Gateway {
        let log = self.log_path();
        for _ in 0..10 {
            let port = self.port.unwrap_or_else(free_port);
            let mut command = self.command(port);
            let admin_port = self.admin.then(free_port);
            command.envs(admin_port.map(|port| ("ADMIN_PORT", port.to_string())));
            let (process, unread) = if self.without_reader {
                let (process, output) = Process::start_without_reader(&mut command, &log);
                (process, Some(output))
            } else {
                (Process::start(&mut command, &log), None)
            };
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let (trust, log) = (self.trust.clone(), log.clone());
            let admin = admin_port.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
            let mut gateway =
                Gateway { process, address, admin, trust, log, unread, directory: None };
            if gateway.comes_alive() {
                gateway.directory = Some(self.directory);
                return gateway;
            }
            // Another process may have taken the port since the harness found it free.
            let port_taken = gateway.log().to_lowercase().contains("address already in use");
            assert!(port_taken, "the gateway does not start\n{}", log_tail(&gateway.log));
        }
        panic!("every free port was taken before the gateway could bind it");
    }

    /// Starts a gateway that must end by itself, and returns its status and its output.
    pub(crate) fn fails(self) -> (ExitStatus, String) {
        self.answers(&[])
    }

    /// Runs the program with these arguments, and returns its status and its output.
    pub(crate) fn answers(self, words: &[&str]) -> (ExitStatus, String) {
        let mut command = self.command(free_port());
        let mut process = Process::start(command.args(words), &self.log_path());
        let status = eventually("the program ends by itself", || process.status());
        (status, process.log())
    }

    fn command(&self, port: u16) -> Command {
        let mut command = match self.open_files {
            None => Command::new(artifacts::gateway()),
            Some(limit) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]);
                shell.arg(artifacts::gateway());
                shell
            }
        };
        command.current_dir(&self.directory).env_clear();
        command.env("HOST", "127.0.0.1").env("PORT", port.to_string());
        // No load balancer routes to the gateways of a test, so a gateway need not delay its end.
        command.env("SHUTDOWN_DELAY_MS", "0").env("REDIS_TIMEOUT_MS", REDIS_TIMEOUT_MS);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        if let Some(clock) = &self.clock {
            clock.preload(&mut command);
        }
        command
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("gateway.log")
    }
}

/// A running gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    process: Process,
    address: SocketAddr,
    /// Address for probes and operators, if it differs from the address for clients.
    admin: Option<SocketAddr>,
    /// Configuration by which clients trust the gateway, if the gateway serves HTTPS.
    trust: Option<Trust>,
    log: PathBuf,
    /// The read end of its standard output, if the output does not go to the log file.
    #[expect(dead_code, reason = "it is there to be open")]
    unread: Option<PipeReader>,
    /// Removed when this value is dropped.
    directory: Option<TempDir>,
}

impl Gateway {
    /// Starts a gateway in front of `server`.
    pub(crate) fn start(server: &Server) -> Self {
        Self::builder().redis(server).start()
    }

    /// Returns a gateway to be configured.
    pub(crate) fn builder() -> Builder {
        let directory = TempDir::new().expect("a directory for the gateway");
        Builder {
            variables: vec![],
            clock: None,
            directory,
            trust: None,
            without_reader: false,
            admin: false,
            open_files: None,
            port: None,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address for probes and operators.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin.unwrap_or(self.address)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], "")
    }

    /// Returns the answer to a GET request of a probe or an operator.
    pub(crate) fn get_as_operator(&self, path: &str) -> Response {
        let request = http::request("GET", path, &[], "");
        let answer = self.exchange_at(self.admin_address(), &request);
        answer.unwrap_or_else(|error| panic!("{path}: {error}\n{}", log_tail(&self.log)))
    }

    pub(crate) fn delete(&self, path: &str) -> Response {
        self.request("DELETE", path, &[], "")
    }

    /// Posts a JSON body.
    pub(crate) fn post(&self, path: &str, json: &str) -> Response {
        self.request("POST", path, &[("Content-Type", "application/json")], json)
    }

    /// Takes one unit of a bucket of 1000 units that does not drain while a test runs.
    pub(crate) fn check(&self, identifier: &str) -> Response {
        let quota = r#""limit": 1000, "window_seconds": 31622400"#;
        self.post("/rate-limit/check", &format!(r#"{{"identifier": "{identifier}", {quota}}}"#))
    }

    /// Waits until Redis decides a check of this identifier.
    pub(crate) fn wait_until_redis_decides(&self, identifier: &str) {
        eventually("Redis decides", || {
            let answer = self.check(identifier);
            let is_of_redis = answer.header("X-RateLimit-Source").is_none();
            (answer.status == 200 && is_of_redis).then_some(())
        });
    }

    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response {
        self.send(&http::request(method, path, headers, body))
    }

    /// Returns the answer to a request given as bytes.
    pub(crate) fn send(&self, request: &[u8]) -> Response {
        self.exchange(request).unwrap_or_else(|error| {
            panic!("{}\nfailed: {error}\n{}", request.escape_ascii(), log_tail(&self.log))
        })
    }

    /// Opens a persistent connection.
    pub(crate) fn connect(&self) -> Connection<TcpStream> {
        Connection::open(self.address).expect("a connection to the gateway")
    }

    /// Opens a persistent connection with TLS, and returns the connection and the certificate of
    /// the gateway.
    pub(crate) fn connect_tls(&self) -> (Connection<TlsStream>, Vec<u8>) {
        let trust = self.trust.as_ref().expect("a gateway that serves HTTPS");
        https::open(self.address, trust).expect("a connection with TLS to the gateway")
    }

    /// Returns the first message of a client that begins a handshake.
    pub(crate) fn client_hello(&self) -> Vec<u8> {
        let trust = self.trust.as_ref().expect("a gateway that serves HTTPS");
        https::client_hello(self.address, trust)
    }

    /// Returns the value of a metric, named with its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = self.get_as_operator("/metrics").body;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no {name} in\n{page}"))
    }

    /// Waits until the log has a text, and returns the log. The gateway writes lines in the
    /// background, so the line about an answer can come after the answer.
    pub(crate) fn log_with(&self, text: &str) -> String {
        let found = within(TIMEOUT, || Some(self.log()).filter(|log| log.contains(text)));
        found.unwrap_or_else(|| panic!("{text:?} is not logged\n{}", log_tail(&self.log)))
    }

    /// Returns the log so far; see also [`Self::log_with`].
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Returns the number of bytes of memory that the process has in use.
    pub(crate) fn resident_memory(&self) -> u64 {
        self.process.resident_memory()
    }

    /// Returns the number of threads of the process.
    pub(crate) fn threads(&self) -> usize {
        self.process.threads()
    }

    /// Returns the number of open files and sockets of the process.
    pub(crate) fn open_files(&self) -> usize {
        self.process.open_files()
    }

    /// Returns whether the process runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.process.status().is_none()
    }

    /// Sends SIGTERM.
    pub(crate) fn ask_to_end(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Sends SIGHUP, as `systemctl reload` does.
    pub(crate) fn hang_up(&self) {
        self.process.signal(Signal::HUP);
    }

    /// Stops the process without a notice to the process (SIGSTOP): the system goes on serving its
    /// sockets.
    pub(crate) fn freeze(&self) {
        self.process.freeze();
    }

    /// Continues a frozen process.
    pub(crate) fn thaw(&self) {
        self.process.thaw();
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        self.process.signal(Signal::INT);
    }

    /// Waits for the end, and returns the status and the log.
    pub(crate) fn ends(mut self) -> (ExitStatus, String) {
        let status = eventually("the gateway ends", || self.process.status());
        (status, self.process.log())
    }

    /// Sends SIGTERM, waits for the end, and returns the status and the log.
    pub(crate) fn terminate(mut self) -> (ExitStatus, String) {
        (self.process.terminate(), self.process.log())
    }

    fn comes_alive(&mut self) -> bool {
        let live = http::request("GET", "/health/live", &[], "");
        let ended_or_alive = || match self.process.status() {
            Some(_) => Some(false),
            None => {
                let answer = self.exchange(&live);
                let is_alive = answer.is_ok_and(|response| response.status == 200);
                // Another process may have taken the port: this gateway then ends.
                (is_alive && self.process.listens_on(self.address.port())).then_some(true)
            }
        };
        within(TIMEOUT, ended_or_alive).unwrap_or(false)
    }

    fn exchange(&self, request: &[u8]) -> io::Result<Response> {
        self.exchange_at(self.address, request)
    }

    fn exchange_at(&self, address: SocketAddr, request: &[u8]) -> io::Result<Response> {
        match &self.trust {
            Some(trust) => https::exchange(address, trust, request),
            None => http::exchange(address, request),
        }
    }
}

/// Returns the body of `/health` and `/health/ready` before the first failure of Redis.
pub(crate) fn health(status: &str, redis_connected: bool, store: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let redis = format!(r#""redis_connected":{redis_connected},"version":"{version}""#);
    let rest = r#""last_failure":null,"policies":null"#;
    format!(r#"{{"status":"{status}",{redis},"store":"{store}",{rest}}}"#)
}
