//! The pages for people, in a real browser that can reach this machine alone.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Gateway, Server};

#[test]
#[ignore = "make test-web"]
fn the_pages_of_the_api_show_every_operation_without_the_internet() {
    let server = Server::start();
    let gateway = Gateway::start(&server);
    let texts = operations(&gateway.get("/openapi.json").body);
    for path in ["/rate-limit/check", "/rate-limit/status/{identifier}", "/health", "/metrics"] {
        assert!(texts.iter().any(|text| text == path), "{path} in {texts:?}");
    }
    for page in ["/docs", "/redoc"] {
        let source = gateway.get(page).body;
        let rendered = open(&format!("{}{page}", gateway.url()));
        for text in &texts {
            assert!(!source.contains(text), "{page} is to show {text} from the description");
            assert!(rendered.contains(text), "{page} does not show {text}");
        }
    }
}

#[test]
#[ignore = "make test-web"]
fn the_landing_page_links_to_the_others() {
    let server = Server::start();
    let gateway = Gateway::start(&server);
    let rendered = open(&gateway.url());
    for page in ["docs", "redoc", "openapi.json", "health", "metrics"] {
        let link = [format!("href=\"{page}\""), format!("href=\"/{page}\"")];
        assert!(link.iter().any(|link| rendered.contains(link)), "no link to {page}: {rendered}");
    }
}

/// A proxy that serves a gateway below `/limits` and adds a script to its pages. Returns its port.
fn serve_below_a_prefix(gateway: SocketAddr, script: &'static str) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut line = String::new();
            BufReader::new(&socket).read_line(&mut line).unwrap();
            let path = line.split(' ').nth(1).and_then(|path| path.strip_prefix("/limits"));
            let Some(path) = path else { continue };
            let mut answer = Vec::new();
            let mut forwarded = TcpStream::connect(gateway).unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            forwarded.write_all(request.as_bytes()).unwrap();
            forwarded.read_to_end(&mut answer).unwrap();
            let answer = String::from_utf8(answer).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let body = match body.rsplit_once("</body>") {
                Some((page, end)) => format!("{page}<script>{script}</script></body>{end}"),
                None => body.to_owned(),
            };
            let kind = head.lines().find(|line| line.to_lowercase().starts_with("content-type"));
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\n{}\r\nContent-Length: {length}", kind.unwrap());
            // The browser may close a connection that it does not need.
            let _ = write!(socket, "{head}\r\nConnection: close\r\n\r\n{body}");
        }
    });
    port
}

#[test]
#[ignore = "make test-web"]
fn swagger_sends_its_requests_to_the_origin_of_its_page() {
    // Builds the request that a click would send, as soon as the OpenAPI document is loaded.
    const SCRIPT: &str = "
        const timer = setInterval(() => {
            const { specSelectors, fn } = ui.getSystem();
            const spec = specSelectors.specJson().toJS();
            if (!spec.paths) return;
            clearInterval(timer);
            const contextUrl = new URL(specSelectors.url(), location).toString();
            const request = fn.buildRequest({ spec, operationId: 'live', contextUrl });
            document.title = 'sends ' + request.url;
        }, 50);";
    let server = Server::start();
    let gateway = Gateway::start(&server);
    let port = serve_below_a_prefix(gateway.address(), SCRIPT);
    let rendered = open(&format!("http://127.0.0.1:{port}/limits/docs"));
    let title = format!("<title>sends http://127.0.0.1:{port}/limits/health/live</title>");
    assert!(rendered.contains(&title), "{title}\n{}", &rendered[..rendered.len().min(2000)]);
}

/// Returns the paths and the summaries of all operations in an OpenAPI document.
fn operations(description: &str) -> Vec<String> {
    let description: Value = serde_json::from_str(description).expect("the description is JSON");
    let paths = description["paths"].as_object().expect("it has paths");
    let mut texts = vec![];
    for (path, operations) in paths {
        texts.push(path.clone());
        for (method, operation) in operations.as_object().expect("a path has operations") {
            let summary = operation["summary"].as_str();
            texts.push(summary.unwrap_or_else(|| panic!("{method} {path} has no summary")).into());
        }
    }
    texts
}

/// Returns the page after its scripts have run.
fn open(url: &str) -> String {
    let profile = TempDir::new().expect("a directory for the browser");
    // The browser ends by itself, unless it hangs.
    let output = Command::new("timeout")
        .args(["--kill-after=5", "60", "chromium"])
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"])
        .args(["--no-first-run", "--disable-background-networking", "--disable-sync"])
        .args(["--disable-component-update", "--enable-logging=stderr"])
        .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--virtual-time-budget=20000", "--dump-dom", url])
        .output()
        .expect("the browser starts");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{url}: {}\n{log}", output.status);
    // The console reports blocked resources and exceptions of scripts.
    let complaints: Vec<_> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(complaints.is_empty(), "{url}: {complaints:?}");
    String::from_utf8(output.stdout).expect("a page is text")
}
