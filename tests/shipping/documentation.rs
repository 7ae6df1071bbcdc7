//! The Markdown files: their links lead to existing targets, and their outputs are the real
//! outputs.
//!
//! A block with commands is `console` where the page has their output, and otherwise `sh`. The test
//! runs each command as written, in a shell with a server and a gateway of its own, unless the
//! command is in [`ELSEWHERE`]. A `json` block right after a request is the answer to that request.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    Block, Document, Gateway, NOON, Process, Server, eventually, free_port, gateway_program,
    repository,
};

/// Commands, or their beginnings, that this test does not run, and the targets that test them
/// instead.
const ELSEWHERE: &[(&str, &str)] = &[
    (".venv/bin/pip install", "callers.rs"),
    ("FAIL_OPEN=true", "callers.rs"),
    ("curl -i localhost:3000", "callers.rs"),
    ("docker", "make test-images"),
    ("make deb", "make test-package"),
    ("sed -i", "make test-package"),
    ("sudo apt install", "make test-package"),
    ("sudo systemctl", "make test-package"),
    ("systemctl", "make test-package"),
    ("make images", "make test-images"),
    ("gh attestation", "nothing: it is of the first release"),
    ("export", "callers.rs"),
    ("git push", "nothing: it is the release"),
    ("git tag", "nothing: it is the release"),
    ("helm", "kubernetes.rs"),
    ("javac", "callers.rs"),
    ("kubectl", "kubernetes.rs"),
    ("make dist", "make dist"),
    ("make run", "the_whole_is_run_by_one_command_and_stopped_by_a_signal"),
    ("make test", ".ci/run"),
    ("make test-web", ".ci/run"),
    ("make test-proxies", ".ci/run"),
    ("POLICIES_FILE=examples/nginx/policies.yaml", PROXIES),
    ("POLICIES_FILE=examples/haproxy/policies.yaml", PROXIES),
    ("POLICIES_FILE=examples/caddy/policies.yaml", PROXIES),
    ("POLICIES_FILE=examples/traefik/policies.yaml", PROXIES),
    ("POLICIES_FILE=examples/envoy/policies.yaml", PROXIES),
    ("python3 -m http.server 9000", PROXIES),
    ("sudo nginx", PROXIES),
    ("(cd examples/haproxy", PROXIES),
    ("(cd examples/traefik", PROXIES),
    ("caddy run", PROXIES),
    ("envoy --config-path", PROXIES),
    ("curl --include http://127.0.0.1:8080/", PROXIES),
    ("curl --silent --output /dev/null --write-out", PROXIES),
    ("make test-servers", ".ci/run, in the short form"),
    ("make lint", ".ci/run"),
    ("make memcheck", ".ci/run"),
    (".ci/run", "every change"),
    ("npm install", "callers.rs"),
    ("python3 -m venv", "callers.rs"),
    ("locust -f locustfile.py", "by hand: it needs Locust, and minutes"),
    ("make fuzz", "by hand: it looks for what nobody knows yet"),
    ("cargo test --package ratelimit-tests --test tests", "make test, with the same words"),
    (
        "REDIS_SERVER_BIN=/path/to/valkey-server make test",
        "make test-servers, which sets the same variable",
    ),
    ("cargo build --release --package ratelimit-module", "make bench"),
    ("cargo build --release --package ratelimit-gateway", "make bench-outage"),
    ("sha256sum --check --ignore-missing SHA256SUMS", "make dist"),
    ("redis_exporter", "exporter.rs"),
    ("redis-server --loadmodule target/release/libratelimit.so", "every test that starts a server"),
    (
        "REDIS_HOST=localhost REDIS_PORT=6379 target/release/ratelimit-gateway",
        "every test that starts a gateway",
    ),
];

/// The target that tests the commands of the examples for proxies.
const PROXIES: &str = "make test-proxies, with the same files";

/// The policies for a page that sends attributes and has no file of its own. Requests without a path
/// match none of them.
const POLICIES: &str = "
version: 1
policies:
  - {name: login, match: {path: /login}, by: [client.ip], missing: deny, limits: [{name: rate, limit: 9, per: 1m}]}
  - {name: api, match: {path: /v1/**}, by: [api_key], missing: deny, limits: [{name: rate, limit: 9, per: 1m}]}
";

/// Languages whose blocks hold no commands.
const LANGUAGES: &[(&str, &str)] = &[
    ("env", "hosting.rs"),
    ("go", "languages.rs"),
    ("java", "languages.rs"),
    ("js", "languages.rs"),
    ("json", "an answer, or parsed"),
    ("nginx", "reverse_proxy.rs"),
    ("php", "languages.rs"),
    ("python", "languages.rs"),
    ("rust", "languages.rs"),
    ("yaml", "kubernetes.rs, and documentation.rs of the policies"),
    ("resp", "bytes_are_those_that_are_shown_in_both_protocols"),
    ("text", "a picture, or a form of words"),
];

#[test]
fn every_link_leads_somewhere() {
    let documents = Document::all();
    let mut faults = Vec::new();
    for document in &documents {
        for link in &document.links {
            if link.starts_with("https://") || link.starts_with("http://localhost") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => document.path.clone(),
                path => normal(&document.path.with_file_name("").join(path)),
            };
            let there = if anchor.is_empty() {
                repository().join(&target).exists()
            } else {
                let mut pages = documents.iter().filter(|page| page.path == target);
                pages.any(|page| page.anchors.contains(anchor))
            };
            if !there {
                faults.push(format!("{}: {link}", document.path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "links that lead nowhere:\n{}", faults.join("\n"));
}

#[test]
fn every_page_can_be_reached_from_the_readme() {
    let documents = Document::all();
    let mut reached = BTreeSet::from([PathBuf::from("README.md")]);
    for _ in 0..documents.len() {
        let pages = documents.iter().filter(|page| reached.contains(&page.path));
        let targets = pages.flat_map(|page| {
            let path = |link: &String| link.split('#').next().unwrap_or_default().to_owned();
            page.links
                .iter()
                .map(move |link| normal(&page.path.with_file_name("").join(path(link))))
        });
        let targets: Vec<_> = targets.collect();
        // A link to a directory leads to its README.
        reached.extend(targets.iter().map(|path| path.join("README.md")));
        reached.extend(targets);
    }
    let lost = documents.iter().map(|page| &page.path).filter(|path| !reached.contains(*path));
    let lost: Vec<_> = lost.collect();
    assert!(lost.is_empty(), "no page links to {lost:?}");
}

/// Returns a path without `..`, so that links of different pages to one file are equal.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut normal, part| {
        match part {
            Component::ParentDir => {
                assert!(normal.pop(), "{} leads out of the repository", path.display());
            }
            Component::CurDir => {}
            part => normal.push(part),
        }
        normal
    })
}

#[test]
fn every_command_is_run_or_known_to_be_run_elsewhere() {
    let mut listed = BTreeSet::new();
    let mut faults = Vec::new();
    for document in Document::all() {
        for block in &document.blocks {
            let place = format!("{}:{}", document.path.display(), block.line);
            if ["sh", "console"].contains(&block.language.as_str()) {
                for step in steps(block) {
                    match elsewhere(&step.command) {
                        Some(command) => _ = listed.insert(command),
                        None if step.is_run() => {}
                        None => faults.push(format!("{place}: {}", step.command)),
                    }
                }
            } else if !LANGUAGES.iter().any(|(language, _)| *language == block.language) {
                faults.push(format!("{place}: a block of {:?}", block.language));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "nothing tests these; write such that they can be run here, or add them to ELSEWHERE or \
         LANGUAGES with what tests them:\n{}",
        faults.join("\n")
    );
    let stale = ELSEWHERE.iter().map(|(command, _)| *command).filter(|it| !listed.contains(it));
    assert_eq!(stale.collect::<Vec<_>>(), [""; 0], "listed, but on no page");
}

#[test]
fn every_test_that_the_readme_names_exists() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let links = readme.split("[`").filter_map(|link| Some(link.split_once("`](")?.0));
    let names: Vec<_> = links.filter(|name| !name.contains('/')).collect();
    assert!(names.len() >= 9, "the guarantees name their tests: {names:?}");
    for name in names {
        let (_, path) = readme.split_once(&format!("[`{name}`](")).unwrap();
        let (path, _) = path.split_once(')').unwrap();
        let source = fs::read_to_string(repository().join(path)).unwrap();
        assert!(source.contains(&format!("fn {name}(")), "{path} has no test {name}");
    }
}

#[test]
fn commands_answer_what_the_pages_show() {
    for document in Document::all() {
        let mut reader = None;
        let mut answer = None;
        for block in &document.blocks {
            let place = format!("{}:{}", document.path.display(), block.line);
            match block.language.as_str() {
                "sh" | "console" => {
                    for step in steps(block) {
                        if elsewhere(&step.command).is_none() {
                            let reader = reader.get_or_insert_with(|| Reader::new(&document));
                            answer = Some(reader.follow(&step, &place));
                        }
                    }
                }
                "json" => {
                    let shown: Value = serde_json::from_str(&block.text)
                        .unwrap_or_else(|error| panic!("{place}: {error}"));
                    if block.follows {
                        let answer = answer.as_ref().expect("an answer before a json block");
                        let given = serde_json::from_str(answer)
                            .unwrap_or_else(|error| panic!("{place}: {answer}: {error}"));
                        assert!(alike(&shown, &given), "{place}: it is\n{answer}");
                    }
                }
                _ => {}
            }
        }
    }
}

#[test]
fn bytes_are_those_that_are_shown_in_both_protocols() {
    let mut exchanges = 0;
    for (document, protocol) in Document::all().iter().flat_map(|page| [(page, 2), (page, 3)]) {
        let server = Server::at(NOON);
        let mut socket = server.socket();
        write!(socket, "HELLO {protocol}\r\nECHO ready\r\n").unwrap();
        let mut greeting = String::new();
        while !greeting.ends_with("ready\\r\\n") {
            greeting += &received(&mut socket, 1);
        }
        for block in document.blocks.iter().filter(|block| block.language == "resp") {
            let place = format!("{}:{}", document.path.display(), block.line);
            for line in block.text.lines() {
                match line.split_once(": ") {
                    Some(("C", sent)) => socket.write_all(&unescaped(sent)).unwrap(),
                    Some(("S", shown)) => {
                        assert_eq!(received(&mut socket, unescaped(shown).len()), shown, "{place}");
                        exchanges += 1;
                    }
                    _ => panic!("{place}: {line}: not what a client (C:) or server (S:) sends"),
                }
            }
        }
    }
    assert!(exchanges > 0, "no page shows bytes");
}

#[test]
fn logs_are_as_large_as_the_page_states() {
    let page = fs::read_to_string(repository().join("docs/redis.md")).unwrap();
    let row = |name: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches('|').split('|').map(|cell| cell.trim().replace(',', "")).collect()
    };
    let (limits, sizes): (Vec<_>, Vec<_>) = (row("| limit |"), row("| bytes |"));
    assert_eq!((limits.len(), sizes.len()), (5, 5));
    for (limit, size) in limits.iter().zip(sizes) {
        let (grants, unit) = limit.split_once(" per ").unwrap();
        let grants: u32 = grants.parse().unwrap();
        let window = match unit {
            "minute" => 60,
            "hour" => 3_600,
            _ => 86_400,
        };
        let server = Server::at(NOON);
        let mut client = server.client();
        for _ in 0..grants {
            server.clock().advance(Duration::from_secs(window) / grants);
            let decision = client.decide(&format!("RATELIMIT.SW log {grants} {window}"));
            assert_eq!(decision[0], 1);
        }
        let (told, size): (f64, f64) = (client.call("MEMORY USAGE log"), size.parse().unwrap());
        // Allocators and servers differ by some bytes.
        assert!((told / size - 1.0).abs() < 0.1, "{limit}: {told} bytes");
    }
}

#[test]
fn the_whole_is_run_by_one_command_and_stopped_by_a_signal() {
    // A build for release takes minutes, and one for this test would disturb the others.
    drop((Server::start(), gateway_program()));
    let built = gateway_program().parent().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (port, redis_port) = (free_port().to_string(), free_port().to_string());
    let mut command = Command::new("make");
    command.arg("--silent").arg("run").current_dir(repository());
    command.env("BUILT", built).env_remove("HOST");
    command.envs([("PORT", &port), ("REDIS_PORT", &redis_port)]);
    let mut run = Process::start(&mut command, &directory.path().join("log"));
    eventually("it says what to try", || run.log().contains("Ctrl-C stops both").then_some(()));
    // A server for trials on a machine accepts no connections from the network.
    let loopback = r#"listening host="127.0.0.1""#;
    eventually("it listens on loopback", || run.log().contains(loopback).then_some(()));
    let log = run.log();
    let (_, tried) = log.split_once("Try:\n").unwrap();
    let (tried, _) = tried.split_once("\nCtrl-C").unwrap();
    let tried = Command::new("bash").args(["-ec", tried]).output().unwrap();
    let printed = String::from_utf8(tried.stdout).unwrap();
    assert!(printed.starts_with("{\"allowed\":true,\"remaining\":99,"), "{printed}\n{log}");
    assert!(printed.ends_with("}1\n100\n99\n0\n600\n"), "{printed}");
    run.signal(Signal::TERM);
    eventually("it ends", || run.status());
    for port in [port, redis_port] {
        let address = format!("127.0.0.1:{port}");
        assert!(TcpStream::connect(&address).is_err(), "something listens on {address} still");
    }
}

/// Reads the next bytes of a server, and returns them in the notation of the pages.
fn received(socket: &mut TcpStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    socket.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap().replace('\r', "\\r").replace('\n', "\\n")
}

fn unescaped(text: &str) -> Vec<u8> {
    text.replace("\\r", "\r").replace("\\n", "\n").into_bytes()
}

/// One command of a block, and its expected output where the page has one.
#[derive(Debug)]
struct Step {
    command: String,
    shown: Option<Vec<String>>,
}

impl Step {
    /// Returns whether the shell of this test can run the command.
    fn is_run(&self) -> bool {
        let program = self.command.split_whitespace().next();
        program.is_some_and(|name| ["curl", "ratelimit-gateway", "redis-cli"].contains(&name))
    }
}

/// Returns the commands of a block, each joined from its lines, without comments.
fn steps(block: &Block) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut open = false;
    for line in block.text.lines() {
        let start = match block.language.as_str() {
            "console" => line.strip_prefix("$ "),
            _ => Some(line),
        };
        match (steps.last_mut(), start) {
            (Some(step), _) if open => step.command += &format!("\n{line}"),
            (_, Some(line)) => {
                let command = unlabelled(line);
                if command.is_empty() || command.starts_with("# ") {
                    continue;
                }
                let shown = (block.language == "console").then(Vec::new);
                steps.push(Step { command: command.to_owned(), shown });
            }
            (Some(Step { shown: Some(lines), .. }), None) => {
                lines.push(unlabelled(line).to_owned());
            }
            _ => panic!("{line}: no command has answered this"),
        }
        let command = steps.last().map_or("", |step| &step.command);
        open = command.ends_with('\\') || command.matches('\'').count() % 2 == 1;
    }
    steps
}

/// Returns a line of a block without the comment at its end.
fn unlabelled(line: &str) -> &str {
    line.split("  # ").next().unwrap_or_default().trim_end()
}

/// Returns the entry for a command that this test does not run.
fn elsewhere(command: &str) -> Option<&'static str> {
    let begins = |listed: &&str| {
        let rest = command.strip_prefix(listed);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    ELSEWHERE.iter().map(|(listed, _)| *listed).find(begins)
}

/// The server and the gateway on which the commands of a page are run.
struct Reader {
    server: Server,
    gateway: Gateway,
    /// The directory of the commands. A page about policies has its first file here.
    directory: TempDir,
    /// The time before each command.
    pause: Duration,
}

/// The time that a reader of a tutorial takes to type a command, for limits whose units return.
const TYPING: Duration = Duration::from_secs(10);

impl Reader {
    /// Starts a server whose clock stands still, since a page does not depend on the time of its
    /// commands.
    fn new(document: &Document) -> Self {
        let server = Server::at(NOON);
        let directory = tempfile::tempdir().unwrap();
        let mut settings = Gateway::builder().redis(&server);
        let is_policies = |block: &&Block| block.text.starts_with("version: 1\n");
        let mut files = document.blocks.iter().filter(|block| block.language == "yaml");
        let has_attributes = |block: &Block| block.text.contains("{\"attributes\": ");
        let own = files.find(is_policies).map(|file| file.text.as_str());
        let pause = if own.is_some() { TYPING } else { Duration::ZERO };
        let file = own.or_else(|| document.blocks.iter().any(has_attributes).then_some(POLICIES));
        if let Some(file) = file {
            let path = directory.path().join("policies.yaml");
            fs::write(&path, file).unwrap();
            settings = settings.env("POLICIES_FILE", path.to_str().unwrap());
        }
        Self { server, gateway: settings.start(), directory, pause }
    }

    /// Runs a command, and asserts the output on the page, or success where the page has no output.
    fn follow(&self, step: &Step, place: &str) -> String {
        self.server.clock().advance(self.pause);
        self.prepare(&step.command);
        let Output { status, stdout, stderr } = self.shell(step);
        let printed = String::from_utf8(stdout).unwrap();
        let told = format!(
            "{place}: {}\nprinted\n{printed}{}",
            step.command,
            String::from_utf8_lossy(&stderr)
        );
        match &step.shown {
            None => assert!(status.success(), "{told}"),
            Some(shown) => {
                let lines: Vec<_> = printed.lines().map(str::trim_end).collect();
                let same = lines.len() == shown.len()
                    && lines.iter().zip(shown).all(|(line, shown)| is_shown(line, shown));
                assert!(same, "{told}\nnot\n{}", shown.join("\n"));
            }
        }
        printed
    }

    /// Makes the calls that must precede a command for its output to equal that of the page.
    fn prepare(&self, command: &str) {
        if command.starts_with("redis-cli RATELIMIT.TOP") {
            let mut client = self.server.client();
            for (key, denials) in [("user_666", 4811), ("user_123", 7)] {
                let call = format!("RATELIMIT.TB {key} 1 60 COST 2");
                client.calls::<[i64; 5]>(&vec![call; denials]);
            }
        }
        if command.contains("/rate-limit/top") {
            let check = |identifier: &str| json!({ "identifier": identifier, "limit": 1 });
            let checks = [vec![check("user_666"); 813], vec![check("user_777"); 8]].concat();
            let body = json!({ "checks": checks }).to_string();
            assert_eq!(self.gateway.post("/rate-limit/check/batch", &body).status, 200);
        }
    }

    fn shell(&self, step: &Step) -> Output {
        // The pages use default ports, on which no test may start a server.
        let prelude = r#"
            curl() { command curl -sS --fail-with-body "${@//localhost:8000/$HOST:$PORT}"; }
            redis-cli() { command redis-cli --no-raw $STRICT -p "$REDIS_PORT" "$@"; }
            ratelimit-gateway() { "$PROGRAM" "$@"; }
        "#;
        let address = self.gateway.address();
        Command::new("bash")
            .args(["-c", &format!("{prelude}\n{}", step.command)])
            .current_dir(&self.directory)
            .env("HOST", address.ip().to_string())
            .env("PORT", address.port().to_string())
            .env("REDIS_PORT", self.server.port().to_string())
            // An error on the page is not a failure.
            .env("STRICT", if step.shown.is_none() { "-e" } else { "" })
            .env("PROGRAM", gateway_program())
            // The page about policies names this key, which takes no effect without a file.
            .envs(
                step.command
                    .contains(" hash ")
                    .then_some(("IDENTITY_HASH_KEY", "0123456789abcdef")),
            )
            .output()
            .expect("bash")
    }
}

/// Returns whether a printed line equals a line of the page, except for time that has passed: the
/// last two integers of a decision.
fn is_shown(line: &str, shown: &str) -> bool {
    let time = |line: &str| {
        let (place, milliseconds) = line.split_once(") (integer) ")?;
        let last = place.trim_start();
        (last == "4" || last == "5").then(|| milliseconds.parse::<i64>().ok())?
    };
    match (time(line), time(shown)) {
        (Some(time), Some(shown)) => (time - shown).abs() < 1_000 && (time > 0) == (shown > 0),
        _ => line == shown,
    }
}

/// Returns whether an answer equals an answer on the page, except for time that has passed.
fn alike(shown: &Value, given: &Value) -> bool {
    match (shown, given) {
        (Value::Object(shown), Value::Object(given)) => {
            shown.len() == given.len()
                && shown.iter().zip(given).all(|((name, shown), (other, given))| {
                    let near = |shown: f64, given: f64| match name.as_str() {
                        "reset_in_seconds" | "retry_after" => (shown - given).abs() < 1.0,
                        // A minute may have ended before the answer.
                        "denied" => given == (shown / 2.0).floor(),
                        _ => false,
                    };
                    let both = shown.as_f64().zip(given.as_f64());
                    name == other && (both.is_some_and(|(a, b)| near(a, b)) || alike(shown, given))
                })
        }
        (Value::Array(shown), Value::Array(given)) => {
            shown.len() == given.len()
                && shown.iter().zip(given).all(|(shown, given)| alike(shown, given))
        }
        (shown, given) => shown == given,
    }
}
