//! An application that asks the gateway about its requests.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::harness::{
    Gateway, Process, Response, eventually, free_port, http_exchange_from, http_request,
};

/// The port of the applications as their pages start them.
const PORT: &str = "3000";

/// A running application.
pub(super) struct Application {
    process: Process,
    address: SocketAddr,
}

impl Application {
    /// Starts an application with a script of the shell, and waits until the application listens.
    pub(super) fn start(
        script: &str,
        directory: &Path,
        gateway: &Gateway,
        fail_open: bool,
    ) -> Self {
        let port = free_port();
        let script = script.replace(PORT, &port.to_string());
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).current_dir(directory);
        shell.env("PORT", port.to_string()).env("RATELIMIT_URL", gateway.url());
        shell.env("FAIL_OPEN", fail_open.to_string());
        let log = directory.join(format!("{port}.log"));
        let mut process = Process::start(&mut shell, &log);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        eventually("the application listens", || {
            assert!(process.status().is_none(), "{script}\nended: {}", process.log());
            TcpStream::connect(address).ok()
        });
        Self { process, address }
    }

    /// Returns the answer to a GET request of a client with this address.
    pub(super) fn get(&self, client: Ipv4Addr, path: &str) -> Response {
        self.request(client, "GET", path, &[])
    }

    /// Repeats a request until the gateway has decided on it in time.
    pub(super) fn decided(
        &self,
        client: Ipv4Addr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Response {
        eventually("a decision in time", || {
            Some(self.request(client, method, path, headers)).filter(is_decided)
        })
    }

    fn request(
        &self,
        client: Ipv4Addr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Response {
        let request = http_request(method, path, headers, "");
        let answer = http_exchange_from(client, self.address, &request);
        answer.unwrap_or_else(|error| panic!("{error}\n{}", self.process.log()))
    }
}

/// Returns whether the gateway has decided on a request: without a decision the application serves
/// the request without headers about limits, or answers 503.
pub(super) fn is_decided(answer: &Response) -> bool {
    [400, 429].contains(&answer.status) || answer.header("RateLimit").is_some()
}

/// Returns an address of this machine.
pub(super) fn client_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, number)
}
