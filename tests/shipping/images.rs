//! Facts about the images that need no build. `make test-images` builds and runs the images.

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
fn the_dockerfile_copies_every_manifest_and_makes_every_empty_source() {
    let dockerfile = read("Dockerfile");
    let (_, touched) = dockerfile.split_once("&& touch ").expect("empty sources");
    let (touched, _) = touched.split_once("\n\n").expect("the end of the stage");
    let touched: Vec<_> = touched.split_whitespace().collect();
    for member in members() {
        let manifest = format!("{member}/Cargo.toml");
        let line = format!("COPY {manifest} {member}/\n");
        assert!(dockerfile.contains(&line), "Dockerfile lacks {line}");
        assert!(is_in_context(&manifest), ".dockerignore excludes {manifest}");
        let sources =
            ["src/lib.rs", "src/main.rs", "tests.rs"].map(|name| format!("{member}/{name}"));
        let source = sources.iter().find(|source| path(source).exists()).expect("a source");
        assert!(touched.contains(&source.as_str()), "Dockerfile does not make {source}");
        let manifest = read(&manifest);
        for bench in manifest.split("[[bench]]\nname = \"").skip(1) {
            let (name, _) = bench.split_once('"').expect("a name");
            let source = format!("{member}/benches/{name}.rs");
            assert!(touched.contains(&source.as_str()), "Dockerfile does not make {source}");
        }
    }
}

#[test]
fn the_dockerfile_builds_every_copied_member_again() {
    // Sources have the times of the context, which are earlier than the build of the empty sources.
    let dockerfile = read("Dockerfile");
    let stages: Vec<_> =
        dockerfile.split("\nFROM ").filter(|stage| stage.contains("cargo clean ")).collect();
    assert_eq!(stages.len(), 2, "one stage for the module, one for the gateway");
    for stage in stages {
        let copies = stage.lines().filter_map(|line| line.strip_prefix("COPY "));
        let copies: Vec<_> = copies.filter_map(|line| line.split(' ').next()).collect();
        let (_, clean) = stage.split_once("cargo clean ").expect("cargo clean");
        let (clean, _) = clean.split_once("\nCOPY ").expect("the sources after it");
        for member in members() {
            let beneath = |directory: &&str| Path::new(&member).starts_with(directory);
            if copies.iter().any(beneath) && is_in_context(&format!("{member}/src")) {
                let manifest = read(&format!("{member}/Cargo.toml"));
                let (_, name) = manifest.split_once("name = \"").expect("a name");
                let (name, _) = name.split_once('"').expect("its end");
                let mut words = clean.split_whitespace();
                assert!(words.any(|word| word == name), "cargo clean leaves the empty {name}");
            }
        }
    }
}

#[test]
fn the_dockerfile_uses_the_toolchain_of_the_workspace() {
    let dockerfile = read("Dockerfile");
    let image = format!("FROM rust:{}-", env!("CARGO_PKG_RUST_VERSION"));
    let toolchains: Vec<_> =
        dockerfile.lines().filter(|line| line.starts_with("FROM rust:")).collect();
    assert!(!toolchains.is_empty());
    assert!(toolchains.iter().all(|line| line.starts_with(&image)), "{toolchains:?}");
}

/// Returns the directories of the members of the workspace.
fn members() -> Vec<String> {
    let workspace = read("Cargo.toml");
    let (_, members) = workspace.split_once("members = [").expect("members");
    let (members, _) = members.split_once(']').expect("their end");
    members.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns whether Docker receives a file: the last line of .dockerignore that matches its path
/// decides.
fn is_in_context(file: &str) -> bool {
    let ignored = read(".dockerignore");
    let rules = ignored
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.strip_prefix('!').map_or((line, false), |included| (included, true)));
    let mut matching =
        rules.filter(|(pattern, _)| *pattern == "*" || Path::new(file).starts_with(pattern));
    matching.next_back().is_none_or(|(_, is_included)| is_included)
}

#[test]
fn the_entrypoint_loads_the_module_once_and_only_into_servers() {
    const LOAD: &str = "--loadmodule /usr/local/lib/libratelimit.so";
    let directory = tempfile::tempdir().expect("a directory");
    // A substitute for the entrypoint of the base image.
    let base = directory.path().join("docker-entrypoint.sh");
    fs::write(&base, "#!/bin/sh\necho \"$@\"\n").expect("it is written");
    fs::set_permissions(&base, PermissionsExt::from_mode(0o755)).expect("it can be run");
    symlink("/bin/grep", directory.path().join("grep")).expect("a link");
    fs::write(directory.path().join("plain.conf"), "# loadmodule libratelimit.so\nport 1\n")
        .expect("it is written");
    fs::write(directory.path().join("rewritten.conf"), format!("port 1\n{}\n", &LOAD[2..]))
        .expect("it is written");

    fs::create_dir(directory.path().join("parts")).expect("a directory");
    fs::write(directory.path().join("parts/a.conf"), "include parts/b.conf")
        .expect("it is written");
    fs::write(directory.path().join("parts/b.conf"), &LOAD[2..]).expect("it is written");
    fs::write(directory.path().join("parted.conf"), "port 1\n\tINCLUDE \"parts/a*.conf\" \n")
        .expect("it is written");
    fs::write(directory.path().join("endless.conf"), "include endless.conf\ninclude absent.conf\n")
        .expect("it is written");

    for (arguments, expected) in [
        ("", format!("redis-server {LOAD}")),
        ("parted.conf --port 2", "redis-server parted.conf --port 2".into()),
        ("redis-server parts/a.conf", "redis-server parts/a.conf".into()),
        ("--port 2 --include parts/b.conf", "redis-server --port 2 --include parts/b.conf".into()),
        ("--include plain.conf", format!("redis-server {LOAD} --include plain.conf")),
        (&format!("parted.conf {LOAD} top-keys 0"), "redis-server parted.conf".into()),
        ("endless.conf", format!("redis-server endless.conf {LOAD}")),
        ("/usr/bin/redis-server --port 1", format!("/usr/bin/redis-server {LOAD} --port 1")),
        ("/usr/bin/redis-server rewritten.conf", "/usr/bin/redis-server rewritten.conf".into()),
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
    // Starts the server as the base image does, with the module at its path on this machine.
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
