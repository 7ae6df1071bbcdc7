//! The examples for reverse proxies in docs/gateway.md, in a real nginx.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{
    Document, Gateway, Process, Response, Server, eventually, free_port, http_exchange,
    http_request,
};

#[test]
#[ignore = "make test-web"]
fn decisions_pass_through_nginx_with_their_headers() {
    let server = Server::start();
    let gateway = Gateway::start(&server);
    let nginx = Nginx::in_front_of(&gateway);
    let check = |prefix: &str| nginx.post(&format!("{prefix}/rate-limit/check"));
    for (prefix, times) in [("", 1), ("/api", 2)] {
        let answer = check(prefix);
        assert_eq!(answer.status, 200, "{answer:?}");
        let limits = answer.headers.iter().filter(|(name, _)| name == "x-ratelimit-limit");
        let limits: Vec<_> = limits.map(|(_, value)| value.as_str()).collect();
        assert_eq!(limits, vec!["5"; times]);
    }
    let status = |prefix: &str| nginx.get(&format!("{prefix}/rate-limit/status/a%2Fb?limit=5"));
    let answer = status("");
    assert!(answer.body.starts_with(r#"{"identifier":"a/b","requests_used":2,"#), "{answer:?}");
    assert_eq!(status("/api").status, 404, "nginx decodes it");
}

/// An nginx with the examples as its locations.
struct Nginx {
    port: u16,
    #[expect(dead_code, reason = "it is killed when this is dropped")]
    process: Process,
    #[expect(dead_code, reason = "it is deleted when this is dropped")]
    directory: tempfile::TempDir,
}

impl Nginx {
    fn in_front_of(gateway: &Gateway) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let locations = examples().replace("localhost:8000", &gateway.address().to_string());
        let path = directory.path().display();
        let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let files = kinds.map(|kind| format!("{kind}_temp_path {path}/{kind};")).join(" ");
        let configuration = format!(
            "daemon off; master_process off; pid {path}/pid; error_log stderr; events {{}}\n\
             http {{ access_log off; {files}\n\
             server {{ listen 127.0.0.1:{port};\n{locations} }} }}\n"
        );
        let file = directory.path().join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let process = Process::start(&mut nginx(&file), &directory.path().join("log"));
        eventually("nginx listens", || process.listens_on(port).then_some(()));
        Self { port, process, directory }
    }

    fn get(&self, path: &str) -> Response {
        self.send(&http_request("GET", path, &[], ""))
    }

    /// Takes one of five units of an identifier with a slash.
    fn post(&self, path: &str) -> Response {
        let body = r#"{"identifier": "a/b", "limit": 5}"#;
        self.send(&http_request("POST", path, &[("Content-Type", "application/json")], body))
    }

    fn send(&self, request: &[u8]) -> Response {
        http_exchange(([127, 0, 0, 1], self.port).into(), request).unwrap()
    }
}

fn nginx(configuration: &Path) -> Command {
    // Debian installs nginx in a directory that only administrators have in their PATH.
    let found = Path::new("/usr/sbin/nginx").exists();
    let mut command = Command::new(if found { "/usr/sbin/nginx" } else { "nginx" });
    command.arg("-e").arg("stderr").arg("-c").arg(configuration);
    command
}

fn examples() -> String {
    let blocks = Document::all().into_iter().flat_map(|document| document.blocks);
    let texts = blocks.filter(|block| block.language == "nginx").map(|block| block.text);
    let texts = texts.collect::<Vec<_>>();
    assert_eq!(texts.len(), 2, "one as it should be, and one as it was");
    texts.join("\n")
}
