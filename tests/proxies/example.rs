//! The examples as processes: a proxy with its configuration, the gateway with its policies, Redis, and
//! a service.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::upstream::Upstream;
use crate::harness::{
    Connection, Gateway, GatewayBuilder, Process, Response, Server, eventually, free_port,
    http_connect_from, http_exchange_from, http_request, repository, within,
};

/// A proxy for which there is an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proxy {
    Nginx,
    Haproxy,
    Caddy,
    Traefik,
}

impl Proxy {
    pub(super) const ALL: [Self; 4] = [Self::Nginx, Self::Haproxy, Self::Caddy, Self::Traefik];

    /// Returns the name of the directory of the example.
    const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Caddy => "caddy",
            Self::Traefik => "traefik",
        }
    }

    /// Returns the status of a request while the gateway does not answer.
    pub(super) const fn status_without_gateway(self) -> u16 {
        match self {
            Self::Nginx | Self::Traefik => 500,
            Self::Haproxy => 503,
            Self::Caddy => 502,
        }
    }

    /// Returns the status of a request while the gateway answers with 503.
    pub(super) const fn status_without_redis(self) -> u16 {
        match self {
            Self::Nginx => 500,
            Self::Haproxy | Self::Caddy | Self::Traefik => 503,
        }
    }

    /// Returns whether clients get the rate limit headers of grants.
    pub(super) fn passes_headers_of_grants(self) -> bool {
        self != Self::Traefik
    }

    /// Returns the configuration behind a load balancer at 127.0.0.9, as docs/proxies.md says.
    pub(super) fn behind_balancer(self, text: &str) -> String {
        match self {
            Self::Nginx => text.replace(
                "X-Forwarded-For $remote_addr",
                "X-Forwarded-For $proxy_add_x_forwarded_for",
            ),
            Self::Haproxy => text.replace(
                "    http-request lua.ratelimit",
                "    http-request set-src req.hdr(x-forwarded-for,-1) if { src 127.0.0.9 }\n    \
                 http-request lua.ratelimit",
            ),
            Self::Caddy => text.replace(
                "{\n\tadmin off",
                "{\n\tservers {\n\t\ttrusted_proxies static 127.0.0.9\n\t}\n\tadmin off",
            ),
            Self::Traefik => text.replace(
                "address: 127.0.0.1:8080",
                "address: 127.0.0.1:8080\n    forwardedHeaders:\n      trustedIPs: [127.0.0.9]",
            ),
        }
    }

    /// Returns the configuration that fails open, if the proxy has one.
    pub(super) fn failing_open(self, text: &str) -> Option<String> {
        match self {
            Self::Nginx => {
                let text = text.replace("#proxy_intercept_errors", "proxy_intercept_errors");
                Some(text.replace("#error_page", "error_page"))
            }
            Self::Haproxy => Some(text.replace("forward-auth closed", "forward-auth open")),
            Self::Caddy | Self::Traefik => None,
        }
    }

    /// Returns the program with its arguments, to be run in a directory with the configuration.
    fn command(self, directory: &Path) -> Command {
        let own = |name: &str| repository().join("target/proxies").join(name).join("server");
        let system = |name: &str| PathBuf::from("/usr/sbin").join(name);
        let (program, arguments): (_, &[&str]) = match self {
            Self::Nginx => (system("nginx"), &["-p", ".", "-e", "stderr", "-c", "nginx.conf"]),
            Self::Haproxy => (system("haproxy"), &["-db", "-f", "haproxy.cfg"]),
            Self::Caddy => (own("caddy"), &["run", "--config", "Caddyfile"]),
            Self::Traefik => (own("traefik"), &["--configFile=traefik.yaml"]),
        };
        let mut command = Command::new(program);
        command.args(arguments).current_dir(directory).env("HOME", directory);
        if self == Self::Nginx {
            command.args(["-g", "daemon off; master_process off; pid pid;"]);
        }
        command
    }
}

/// A change of the text of the configuration, by file.
type Edit<'e> = &'e dyn Fn(String) -> String;

/// A proxy of an example in front of a service.
pub(super) struct Site {
    pub(super) proxy: Proxy,
    pub(super) server: Server,
    /// `None` while the gateway is away.
    pub(super) gateway: Option<Gateway>,
    pub(super) upstream: Upstream,
    gateway_port: u16,
    policies: String,
    trusted: String,
    address: SocketAddr,
    process: Process,
    #[expect(dead_code, reason = "it is deleted when this is dropped")]
    directory: TempDir,
}

impl Site {
    /// Starts an example as it is.
    pub(super) fn start(proxy: Proxy) -> Self {
        Self::with(proxy, None, "127.0.0.1", &|text| text)
    }

    /// Starts an example with these policies instead of its own, if there are any, with these trusted
    /// proxies, and with a change of its configuration.
    pub(super) fn with(
        proxy: Proxy,
        policies: Option<&str>,
        trusted: &str,
        edit: Edit<'_>,
    ) -> Self {
        let example = repository().join("examples").join(proxy.name());
        let own = || fs::read_to_string(example.join("policies.yaml")).expect("its policies");
        let policies = policies.map_or_else(own, str::to_owned);
        let (server, upstream) = (Server::start(), Upstream::start());
        let gateway_port = free_port();
        let directory = TempDir::new().expect("a directory");
        fs::write(directory.path().join("policies.yaml"), &policies).expect("policies");
        let (address, process) = start(proxy, &directory, gateway_port, upstream.address(), edit);
        let mut site = Self {
            proxy,
            server,
            gateway: None,
            upstream,
            gateway_port,
            policies: directory.path().join("policies.yaml").display().to_string(),
            trusted: trusted.to_owned(),
            address,
            process,
            directory,
        };
        if proxy == Proxy::Traefik {
            // Traefik listens before it has its routes. Without the gateway no request is counted.
            eventually("Traefik has its routes", || (site.get(2, "/").status != 404).then_some(()));
        }
        site.start_gateway();
        site
    }

    /// Starts the gateway, or starts it again at the same port.
    pub(super) fn start_gateway(&mut self) {
        let builder: GatewayBuilder = Gateway::builder()
            .redis(&self.server)
            .env("POLICIES_FILE", &self.policies)
            .env("TRUSTED_PROXIES", &self.trusted)
            .env("REDIS_TIMEOUT_MS", "200")
            .port(self.gateway_port);
        self.gateway = Some(builder.start());
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the answer to a request of a client at this address of the machine.
    pub(super) fn request_from(
        &self,
        client: u8,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response {
        self.send_from(client, &http_request(method, target, headers, body))
    }

    /// Returns the answer to these bytes of a client at this address of the machine.
    pub(super) fn send_from(&self, client: u8, request: &[u8]) -> Response {
        self.try_from(client, request)
            .unwrap_or_else(|error| panic!("{:?}: {error}\n{}", self.proxy, self.process.log()))
    }

    /// Returns the same, or the error of the connection.
    pub(super) fn try_from(&self, client: u8, request: &[u8]) -> io::Result<Response> {
        http_exchange_from(client_address(client), self.address, request)
    }

    pub(super) fn get(&self, client: u8, target: &str) -> Response {
        self.request_from(client, "GET", target, &[], "")
    }

    /// Opens a connection that stays open.
    pub(super) fn connect(&self, client: u8) -> io::Result<Connection<TcpStream>> {
        http_connect_from(client_address(client), self.address).map(Connection::over)
    }

    /// Returns the log of the proxy.
    pub(super) fn log(&self) -> String {
        self.process.log()
    }
}

/// Starts a proxy at a free port, with the ports of the example replaced.
fn start(
    proxy: Proxy,
    directory: &TempDir,
    gateway: u16,
    upstream: SocketAddr,
    edit: Edit<'_>,
) -> (SocketAddr, Process) {
    let log = directory.path().join("proxy.log");
    for _ in 0..10 {
        let port = free_port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let example = repository().join("examples").join(proxy.name());
        for file in fs::read_dir(example).expect("an example").flatten() {
            let name = file.file_name();
            if name == "policies.yaml" {
                continue;
            }
            let text = fs::read_to_string(file.path()).expect("a file of the example");
            let text = edit(text)
                .replace(":8080", &format!(":{port}"))
                .replace("127.0.0.1:8000", &format!("127.0.0.1:{gateway}"))
                .replace("127.0.0.1:9000", &upstream.to_string())
                // The machine can be slower than any service should be.
                .replace("250ms", "20s")
                .replace("500ms", "20s")
                // Another test can run the same proxy.
                .replace("abns@ratelimit", &format!("abns@ratelimit-{port}"))
                .replace("\nhttp {", &format!("\nhttp {{ {}", nginx_files()));
            fs::write(directory.path().join(name), text).expect("a file is written");
        }
        let mut process = Process::start(&mut proxy.command(directory.path()), &log);
        let ready = within(Duration::from_secs(60), || {
            if process.status().is_some() {
                return Some(false);
            }
            process.listens_on(port).then_some(true)
        });
        if ready == Some(true) {
            return (address, process);
        }
        let log = process.log();
        let port_taken = log.to_lowercase().contains("address already in use");
        assert!(port_taken, "{proxy:?} does not start\n{log}");
    }
    panic!("every free port was taken before the proxy could bind it");
}

/// Returns the directives that let nginx write to its own directory.
fn nginx_files() -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let files = kinds.map(|kind| format!("{kind}_temp_path {kind};"));
    format!("access_log off; {}", files.join(" "))
}

/// Returns 127.0.0.`client`: every address of that network is one of the machine.
pub(super) const fn client_address(client: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, client)
}
