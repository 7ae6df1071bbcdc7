//! The examples of README.md and docs/clients.md in each language, run as written where the
//! language and its client are installed. The test reports the examples that did not run, even when
//! all tests pass.

mod cluster;

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, iter};

use crate::harness::{
    Block, Client, Document, Gateway, NOON, Process, Server, eventually, example_program,
    repository,
};

/// The directory in which `scripts/install web` puts packages of Node.js.
const NODE: &str = "target/node";
/// The directory in which Debian puts packages of Go.
const GO: &str = "/usr/share/gocode";

#[test]
#[ignore = "make test-web"]
fn the_examples_for_python_run() {
    let python = python();
    let runs = works(Command::new(&python).args(["-c", "import redis.retry"]));
    run("python", runs, |source| {
        let mut command = Command::new(&python);
        command.arg(source);
        command
    });
}

#[test]
#[ignore = "make test-web"]
fn the_examples_for_node_run() {
    let package = repository().join(NODE).join("node_modules/redis");
    let runs = package.exists() && works(Command::new("node").arg("--version"));
    run("js", runs, |source| {
        let beside = repository().join(NODE).join(source.file_name().unwrap());
        fs::rename(source, &beside).unwrap();
        let mut command = Command::new("node");
        command.arg(beside);
        command
    });
}

#[test]
#[ignore = "make test-web"]
fn the_examples_for_go_run() {
    let package = Path::new(GO).join("src/github.com/gomodule/redigo/redis");
    let runs = package.exists() && works(Command::new("go").arg("version"));
    run("go", runs, |source| {
        let mut command = Command::new("go");
        command.arg("run").arg(source);
        command.env("GO111MODULE", "off").env("GOPATH", GO).env("GOFLAGS", "");
        command
    });
}

#[test]
#[ignore = "make test-web"]
fn the_examples_for_php_run() {
    let runs = works(Command::new("php").args(["-r", "exit((int) !class_exists('Redis'));"]));
    run("php", runs, |source| {
        let mut command = Command::new("php");
        command.arg(source);
        command
    });
}

#[test]
#[ignore = "make test-web"]
fn the_examples_for_java_run() {
    let runs = works(Command::new("java").arg("--version"));
    let jedis = env::var_os("JEDIS_CLASSPATH");
    let (with_jedis, without): (Vec<_>, Vec<_>) =
        examples("java").into_iter().partition(|example| example.text.contains("jedis"));
    for (examples, runs, path, what) in [
        (with_jedis, runs && jedis.is_some(), jedis, "java with jedis"),
        (without, runs, None, "java"),
    ] {
        run_all(&examples, what, runs, |source| {
            let mut command = Command::new("java");
            command.arg("-cp").arg(path.clone().unwrap_or_else(|| OsString::from(".")));
            command.arg(source);
            command
        });
    }
}

#[test]
#[ignore = "make test-web"]
fn the_example_for_rust_runs_and_is_the_one_that_is_compiled() {
    let compiled = fs::read_to_string(repository().join("tests/examples/limiter.rs")).unwrap();
    let (_, compiled) = compiled.split_once("\n\n").unwrap();
    for example in examples("rust") {
        assert_eq!(example.text, compiled);
    }
    run("rust", true, |_| Command::new(example_program("limiter")));
}

/// Runs all examples of a language, each with the command that runs a file.
fn run(language: &str, runs: bool, command: impl Fn(&Path) -> Command) {
    run_all(&examples(language), language, runs, command);
}

fn run_all(examples: &[Block], what: &str, runs: bool, command: impl Fn(&Path) -> Command) {
    assert!(!examples.is_empty(), "no page has an example in {what}");
    if !runs {
        report_missing(what);
        return;
    }
    for example in examples {
        let program = Program { example, command: &command };
        program.is_granted_three_times_and_then_denied();
        if example.text.contains("RATELIMIT.TB") {
            program.sends_a_call_once();
        }
    }
}

/// Reports a language or a client that is not installed, even when all tests pass.
pub(super) fn report_missing(what: &str) {
    // The output of a macro is not printed when all tests pass.
    let line = format!("SKIPPED: {what} or its client is not installed\n");
    io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Closes the connection of a process while the server has the call of that process and has not
/// answered it, and asserts that both the call and the process end.
fn is_sent_once(server: &mut Client, process: &mut Process, what: &str) {
    let first = eventually("the call arrives", || caller(server));
    server.call::<i64>(&format!("CLIENT KILL ID {first}"));
    let status = eventually("the program gives up", || {
        let next = caller(server).filter(|next| *next != first);
        assert_eq!(next, None, "{what}\nsends its call again");
        process.status()
    });
    assert!(!status.success(), "{what}");
}

/// An example, and the command that runs a file.
struct Program<'a> {
    example: &'a Block,
    command: &'a dyn Fn(&Path) -> Command,
}

impl Program<'_> {
    fn is_granted_three_times_and_then_denied(&self) {
        let server = Server::at(NOON);
        let gateway = Gateway::start(&server);
        let directory = tempfile::tempdir().unwrap();
        let mut command = self.in_directory(directory.path(), &server, gateway.address().port());
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let printed = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\nfailed: {errors}", self.example.text);
        let lines: Vec<_> = printed.lines().collect();
        let granted = ["2 left", "1 left", "0 left"];
        let denied = ["wait 20000 ms", "wait 20 s"];
        let as_shown = lines.len() == 4 && lines[..3] == granted && denied.contains(&lines[3]);
        assert!(as_shown, "{}\nprinted\n{printed}{errors}", self.example.text);
    }

    fn sends_a_call_once(&self) {
        let server = Server::start();
        let mut client = server.client();
        client.call::<()>("CLIENT PAUSE 100000 WRITE");
        let directory = tempfile::tempdir().unwrap();
        let mut command = self.in_directory(directory.path(), &server, 0);
        let mut process = Process::start(&mut command, &directory.path().join("log"));
        is_sent_once(&mut client, &mut process, &self.example.text);
    }

    /// Returns the command, with the file of the example in a directory and the ports of this test.
    fn in_directory(&self, directory: &Path, server: &Server, gateway_port: u16) -> Command {
        let extension = match self.example.language.as_str() {
            "python" => "py",
            "js" => "mjs",
            other => other,
        };
        let source = directory.join("limiter").with_extension(extension);
        // The pages use default ports, on which no test may start a server.
        let text = self.example.text.replace("6379", &server.port().to_string());
        let text = text.replace("8000", &gateway_port.to_string());
        fs::write(&source, text).unwrap();
        let mut command = (self.command)(&source);
        command.env("REDIS_URL", server.url()).current_dir(directory).stdin(Stdio::null());
        command
    }
}

/// The client whose call the server has not answered.
fn caller(client: &mut Client) -> Option<String> {
    let clients: String = client.call("CLIENT LIST");
    let caller = clients.lines().find(|line| line.contains(" cmd=ratelimit.tb "))?;
    caller.split(' ').next()?.strip_prefix("id=").map(str::to_owned)
}

/// Returns the examples of a language on all pages; recipes.rs runs those of the recipes, and
/// callers.rs uses the clients.
fn examples(language: &str) -> Vec<Block> {
    let is_elsewhere =
        |path: &Path| path.ends_with("docs/recipes.md") || path.starts_with("clients");
    let pages = Document::all().into_iter().filter(|page| !is_elsewhere(&page.path));
    let blocks = pages.flat_map(|document| document.blocks);
    blocks.filter(|block| block.language == language).collect()
}

/// The Python of the system, because the package redis comes from the system too.
pub(super) fn python() -> PathBuf {
    env::var_os("PYTHON").unwrap_or_else(|| "/usr/bin/python3".into()).into()
}

/// Returns whether a command can be started and succeeds.
pub(super) fn works(command: &mut Command) -> bool {
    let silent = command.stdout(Stdio::null()).stderr(Stdio::null());
    iter::once(silent.status()).flatten().any(|status| status.success())
}
