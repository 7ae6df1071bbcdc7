//! The examples for callers with their own code, each in its real framework, in front of a real
//! gateway and then of a gateway that fails in chosen ways.

mod application;
mod packages;
mod scripted_gateway;

use std::fs;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{env, iter};

use super::languages::works;
use crate::harness::{Gateway, NOON, Response, Server, eventually, program, repository, timed};
use application::{Application, client_address, is_decided};
use scripted_gateway::{Answer, ScriptedGateway};

/// All examples for callers with their own code.
const EXAMPLES: [&str; 6] = ["axum", "django", "express", "fastapi", "go", "servlet"];

/// The longest time of a request while the gateway is silent: the application waits for 250 ms, and
/// the rest is for the machine.
const LONGEST: Duration = Duration::from_millis(750);

/// A text in answers of the gateway that no end user may receive.
const SECRET: &str = "a detail for operators";

#[test]
#[ignore = "make test-web"]
fn the_example_for_fastapi_limits_requests() {
    limits("fastapi", packages::python(), |directory, environment| {
        symlink(environment, directory.join(".venv")).unwrap();
        start("fastapi")
    });
}

#[test]
#[ignore = "make test-web"]
fn the_example_for_django_limits_requests() {
    limits("django", packages::python(), |directory, environment| {
        symlink(environment, directory.join(".venv")).unwrap();
        start("django")
    });
}

#[test]
#[ignore = "make test-web"]
fn the_example_for_express_limits_requests() {
    limits("express", packages::node(), |directory, modules| {
        symlink(modules, directory.join("node_modules")).unwrap();
        start("express")
    });
}

#[test]
#[ignore = "make test-web"]
fn the_example_for_go_limits_requests() {
    let is_installed = works(Command::new("go").arg("version"));
    limits("go", is_installed.then_some(()), |directory, ()| {
        // `go run` is a parent of the application, which would outlive this parent.
        assert_eq!(start("go"), "exec go run .");
        run(directory, "test -z \"$(gofmt -l .)\" && go vet . && go build -o application .");
        "exec ./application".to_owned()
    });
}

#[test]
#[ignore = "make test-web"]
fn the_example_for_axum_limits_requests() {
    limits("axum", Some(()), |_, ()| {
        assert_eq!(start("axum"), "exec cargo run");
        format!("exec {}", program("axum-example").display())
    });
}

#[test]
#[ignore = "make test-web"]
fn the_example_for_servlets_limits_requests() {
    let class_path = commands("servlet").swap_remove(0);
    let jars = class_path.split(':').filter(|entry| entry.ends_with(".jar"));
    let is_installed = works(Command::new("javac").arg("--version"))
        && jars.into_iter().all(|jar| Path::new(jar).exists());
    limits("servlet", is_installed.then_some(class_path), |directory, class_path| {
        run(
            directory,
            &format!("{class_path}\njavac -Xlint:all,-path,-serial -Werror -d classes *.java"),
        );
        format!("{class_path}\n{}", start("servlet"))
    });
}

#[test]
fn the_examples_have_one_policies_file() {
    let files = EXAMPLES.map(|example| read(example, "policies.yaml"));
    assert!(files.iter().all(|file| *file == files[0]), "{files:#?}");
}

/// Starts the application of an example twice, with both values of its fail switch, and makes the
/// gateway allow, deny and fail. `requirement` is what the example needs on this machine, if it is
/// installed, and `prepare` returns the script that starts the application in a directory.
fn limits<T>(example: &str, requirement: Option<T>, prepare: impl FnOnce(&Path, T) -> String) {
    let Some(requirement) = requirement else {
        return report(&format!("examples/{example}"), false);
    };
    let directory = tempfile::tempdir().unwrap();
    copy(&repository().join("examples").join(example), directory.path());
    let script = prepare(directory.path(), requirement);

    let server = Server::at(NOON);
    let policies = directory.path().join("policies.yaml");
    let gateway = Gateway::builder().redis(&server);
    let gateway = gateway.env("POLICIES_FILE", policies.to_str().unwrap()).start();
    let application =
        |fail_open| Application::start(&script, directory.path(), &gateway, fail_open);
    let (open, closed) = (application(true), application(false));

    each_client_has_its_limits(example, &open, &closed);
    gateway.freeze();
    the_fail_switch_decides(&open, &closed);
    gateway.thaw();
    let address = gateway.address();
    drop(gateway);
    the_fail_switch_decides(&open, &closed);
    a_failed_check_is_not_sent_again(&closed, &ScriptedGateway::start(address));
    report(&format!("examples/{example}"), true);
}

fn each_client_has_its_limits(example: &str, open: &Application, closed: &Application) {
    // A check is late on a busy machine, and then the unit is lost: another client tries again.
    let mut clients = (2..=250).map(client_address);
    let client = eventually("no check of a client is late", || {
        let client = clients.next().expect("a client address");
        let answers: Vec<_> = (0..5).map(|_| open.get(client, "/")).collect();
        answers.iter().all(is_decided).then(|| {
            for (answer, left) in iter::zip(&answers, (0..5).rev()) {
                assert_eq!(answer.status, 200, "{answer:?}");
                let policy = answer.header("RateLimit-Policy");
                assert_eq!(policy, Some(r#""rate";q=5;w=60"#), "{answer:?}");
                let limit = answer.header("RateLimit");
                assert_eq!(limit, Some(format!(r#""rate";r={left};t=12"#).as_str()));
                assert!(answer.body.contains("world"), "{answer:?}");
            }
            client
        })
    });
    let is_denied = |answer: &Response| {
        assert_eq!(answer.status, 429, "{answer:?}");
        assert_eq!(answer.header("Retry-After"), Some("12"), "{answer:?}");
        assert_eq!(answer.header("X-RateLimit-Remaining"), Some("0"), "{answer:?}");
        assert_eq!(answer.body, "");
    };
    is_denied(&open.decided(client, "GET", "/", &[]));
    is_denied(&closed.decided(client, "GET", "/", &[]));
    // Some servers take the address out of a header if the socket has the address of this machine.
    let local = Ipv4Addr::LOCALHOST;
    eventually("the local client is denied", || {
        (open.decided(local, "GET", "/", &[]).status == 429).then_some(())
    });
    for header in ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Client-IP"] {
        is_denied(&open.decided(client, "GET", "/", &[(header, "203.0.113.7")]));
        is_denied(&open.decided(local, "GET", "/", &[(header, "203.0.113.7")]));
    }
    let other = open.decided(clients.next().unwrap(), "GET", "/", &[]);
    assert_eq!(other.status, 200, "{other:?}");

    // The policy for logins needs the method and the path of the request.
    let logins = clients.next().unwrap();
    let denial = eventually("a third login", || {
        let answer = open.decided(logins, "POST", "/login?next=/", &[]);
        assert_eq!(answer.header("X-RateLimit-Limit"), Some("2"), "{answer:?}");
        (answer.status == 429).then_some(answer)
    });
    assert_eq!(denial.header("Retry-After"), Some("30"), "{denial:?}");

    // Other spellings, which the server of one of the examples takes for the same path.
    let escaped_slash = ["/x%2F..%2Flogin"].as_slice();
    let parameters = ["/login;x=1", "/;x/login"].as_slice();
    let others = match example {
        // In Python `;` is a part of a name like any other.
        "django" | "fastapi" => escaped_slash.to_vec(),
        "go" => [escaped_slash, parameters].concat(),
        _ => parameters.to_vec(),
    };
    for path in ["/%6Cogin", "/LOGIN"].into_iter().chain(others) {
        let answer = open.decided(logins, "POST", path, &[]);
        assert_eq!(answer.status, 429, "{path}: {answer:?}");
    }
    // A request whose path the gateway refuses does not escape the limits.
    let malformed = open.decided(client, "GET", &format!("/{}", "a".repeat(9000)), &[]);
    assert_eq!(malformed.status, 400, "{malformed:?}");
}

/// The gateway does not answer: each request is served or refused within the time-out.
fn the_fail_switch_decides(open: &Application, closed: &Application) {
    for _ in 0..2 {
        let (served, time) = timed(|| open.get(Ipv4Addr::LOCALHOST, "/"));
        assert_eq!(served.status, 200, "{served:?}");
        assert_eq!(served.header("RateLimit"), None, "{served:?}");
        assert!(time < LONGEST, "{time:?}");
        let (refused, time) = timed(|| closed.get(Ipv4Addr::LOCALHOST, "/"));
        is_unavailable(&refused);
        assert!(time < LONGEST, "{time:?}");
    }
}

fn a_failed_check_is_not_sent_again(closed: &Application, gateway: &ScriptedGateway) {
    let get = || closed.get(Ipv4Addr::LOCALHOST, "/");
    eventually("checks share a connection", || {
        let connections = gateway.connections();
        let served = (0..3).filter(|_| get().status == 200).count();
        (served == 3 && gateway.connections() == connections).then_some(())
    });
    for answer in [
        Answer::Hangup,
        Answer::Silence,
        Answer::Trickle,
        Answer::text(500, SECRET),
        Answer::text(503, SECRET),
        Answer::text(401, SECRET),
        // The caller itself is over its limit, and not the end user.
        Answer::text(429, &format!(r#"{{"detail":"{SECRET}","error_code":"CALLER_LIMITED"}}"#)),
        Answer::text(200, SECRET),
    ] {
        let refused = eventually("a check arrives in time", || {
            let before = gateway.checks_answered_by(&answer);
            let (refused, time) = timed(get);
            assert!(time < LONGEST, "{time:?} after {answer:?}");
            match gateway.checks() - before {
                0 => None,
                1 => Some(refused),
                checks => panic!("{checks} checks for one request after {answer:?}"),
            }
        });
        is_unavailable(&refused);
    }
}

fn is_unavailable(answer: &Response) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.header("Retry-After"), Some("1"), "{answer:?}");
    assert_eq!(answer.body, "");
}

/// Reports whether an example ran, even when all tests pass. In the gate each must run.
fn report(example: &str, ran: bool) {
    let outcome = if ran { "ran" } else { "SKIPPED, because its language is not installed" };
    let line = format!("{example}: {outcome}\n");
    io::stderr().write_all(line.as_bytes()).unwrap();
    assert!(ran || env::var_os("CI").is_none(), "{line}");
}

/// Returns the commands with which the README of an example starts its application.
fn commands(example: &str) -> Vec<String> {
    let readme = read(example, "README.md");
    let (_, rest) = readme.split_once("in this directory:\n\n```sh\n").unwrap();
    let (commands, _) = rest.split_once("```").unwrap();
    commands.lines().map(str::to_owned).collect()
}

/// Returns the last of these commands, without its fail switch. The shell leaves its process to the
/// application.
fn start(example: &str) -> String {
    let command = commands(example).pop().unwrap();
    format!("exec {}", command.strip_prefix("FAIL_OPEN=true ").unwrap())
}

fn read(example: &str, file: &str) -> String {
    fs::read_to_string(repository().join("examples").join(example).join(file)).unwrap()
}

/// Copies the files of a directory.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// Runs a script that must succeed.
fn run(directory: &Path, script: &str) {
    let output = Command::new("sh").args(["-c", script]).current_dir(directory).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\nfailed: {errors}");
}
