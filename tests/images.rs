//! What can be known of the images without building them. `make test-images` builds and runs them.

use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Process, Server, eventually, free_port, module_library};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_dockerfile_knows_all_members_and_the_toolchain() {
    let (workspace, dockerfile) = (read("Cargo.toml"), read("Dockerfile"));
    let (_, members) = workspace.split_once("members = [").expect("members");
    let (members, _) = members.split_once(']').expect("their end");
    for member in members.split('"').skip(1).step_by(2) {
        let line = format!("COPY {member}/Cargo.toml {member}/\n");
        assert!(dockerfile.contains(&line), "Dockerfile lacks {line}");
    }
    let image = format!("FROM rust:{}-", env!("CARGO_PKG_RUST_VERSION"));
    let toolchains: Vec<_> =
        dockerfile.lines().filter(|line| line.starts_with("FROM rust:")).collect();
    assert!(!toolchains.is_empty());
    assert!(toolchains.iter().all(|line| line.starts_with(&image)), "{toolchains:?}");
}

#[test]
fn the_entrypoint_loads_the_module_once_and_only_into_servers() {
    const LOAD: &str = "--loadmodule /usr/local/lib/libratelimit.so";
    let directory = tempfile::tempdir().expect("a directory");
    // What the base image would be asked to run.
    let base = directory.path().join("docker-entrypoint.sh");
    fs::write(&base, "#!/bin/sh\necho \"$@\"\n").expect("it is written");
    fs::set_permissions(&base, PermissionsExt::from_mode(0o755)).expect("it can be run");
    symlink("/bin/grep", directory.path().join("grep")).expect("a link");
    fs::write(directory.path().join("plain.conf"), "# loadmodule libratelimit.so\nport 1\n")
        .expect("it is written");
    fs::write(directory.path().join("rewritten.conf"), format!("port 1\n{}\n", &LOAD[2..]))
        .expect("it is written");

    for (arguments, expected) in [
        ("", format!("redis-server {LOAD}")),
        ("--port 1", format!("redis-server {LOAD} --port 1")),
        ("redis-server --port 1 -", format!("redis-server {LOAD} --port 1 -")),
        ("plain.conf --port 2", format!("redis-server plain.conf {LOAD} --port 2")),
        ("redis-server plain.conf", format!("redis-server plain.conf {LOAD}")),
        ("redis-server absent.conf", format!("redis-server absent.conf {LOAD}")),
        ("rewritten.conf --port 2", "redis-server rewritten.conf --port 2".into()),
        (
            &format!("rewritten.conf {LOAD} top-keys 0 --port 2 -"),
            "redis-server rewritten.conf --port 2 -".into(),
        ),
        (
            &format!("redis-server rewritten.conf --port 2 --loadmodule other.so a {LOAD}"),
            "redis-server rewritten.conf --port 2 --loadmodule other.so a".into(),
        ),
        (
            &format!("rewritten.conf {LOAD} top-keys 0 --loadmodule other.so top-keys 0"),
            "redis-server rewritten.conf --loadmodule other.so top-keys 0".into(),
        ),
        (&format!("rewritten.conf {LOAD} top-keys 0 -"), "redis-server rewritten.conf -".into()),
        (
            &format!("plain.conf {LOAD} top-keys 0"),
            format!("redis-server plain.conf {LOAD} top-keys 0"),
        ),
        (&format!("{LOAD} top-keys 0"), format!("redis-server {LOAD} top-keys 0")),
        ("redis-server --version", "redis-server --version".into()),
        ("plain.conf --sentinel", "redis-server plain.conf --sentinel".into()),
        ("redis-sentinel plain.conf", "redis-sentinel plain.conf".into()),
        ("redis-cli PING", "redis-cli PING".into()),
        ("valkey-server --port 1", format!("valkey-server {LOAD} --port 1")),
    ] {
        let output =
            Command::new(path("module/entrypoint.sh").canonicalize().expect("it is there"))
                .args(arguments.split_whitespace())
                .current_dir(directory.path())
                .env("PATH", directory.path())
                .output()
                .expect("it starts");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), expected, "{arguments}");
    }
}

#[test]
fn the_image_starts_again_after_its_configuration_was_rewritten() {
    let directory = tempfile::tempdir().expect("a directory");
    let (conf, log) = (directory.path().join("redis.conf"), directory.path().join("log"));
    let port = free_port();
    fs::write(&conf, format!("bind 127.0.0.1\nport {port}\n")).expect("it is written");
    // Starts the server as the base image does, with the module where it is on this machine.
    let server = Server::program();
    let base = format!(
        "#!/bin/sh\nshift\nfor word; do\nshift\n\
         [ \"$word\" = /usr/local/lib/libratelimit.so ] && word={}\nset -- \"$@\" \"$word\"\ndone\n\
         exec {} \"$@\"\n",
        module_library().display(),
        server.display(),
    );
    let program = directory.path().join("docker-entrypoint.sh");
    fs::write(&program, base).expect("it is written");
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("it can be run");
    let search = env::var("PATH").expect("a path");
    let start = || {
        let mut command =
            Command::new(path("module/entrypoint.sh").canonicalize().expect("it is there"));
        command.arg(&conf).args([
            "--loadmodule",
            "/usr/local/lib/libratelimit.so",
            "top-keys",
            "8",
        ]);
        command.args(["--save", ""]).current_dir(directory.path());
        command.env("PATH", format!("{}:{search}", directory.path().display()));
        Process::start(&mut command, &log)
    };
    let top_keys = |more: &str| {
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).expect("a URL");
        eventually("the server answers", || {
            let mut connection = client.get_connection().ok()?;
            if !more.is_empty() {
                redis::cmd("CONFIG").arg(more).exec(&mut connection).ok()?;
            }
            let get = redis::cmd("CONFIG").arg("GET").arg("ratelimit.top-keys").to_owned();
            get.query::<(String, String)>(&mut connection).ok()
        })
    };
    let expected = ("ratelimit.top-keys".to_owned(), "8".to_owned());
    let mut first = start();
    assert_eq!(top_keys("REWRITE"), expected);
    assert!(first.terminate().success());
    let written = fs::read_to_string(&conf).expect("the configuration");
    assert!(written.contains("loadmodule "), "{written}");
    let mut second = start();
    assert_eq!(top_keys(""), expected);
    assert!(second.log().contains("not as --loadmodule says"), "{}", second.log());
    assert!(second.terminate().success());
}
