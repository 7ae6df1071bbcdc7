//! The packages of the clients, as `make dist` builds them, installed without network access.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use super::super::languages::{python as system_python, works};
use crate::harness::repository;

/// The version of the clients.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The directory in which `scripts/install callers` puts the frameworks, as wheels and as a cache
/// of npm.
const FRAMEWORKS: &str = "target/callers";

/// The directory of the packages and their environments, fresh for each run of the tests.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("callers");
    let _ = fs::remove_dir_all(&directory);
    let mut build = Command::new(repository().join("scripts/dist-clients"));
    succeeds(build.arg(&directory));
    directory
});

static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
    let environment = DIRECTORY.join("python");
    succeeds(Command::new(system_python()).args(["-m", "venv"]).arg(&environment));
    let mut pip = Command::new(environment.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--no-index", "--find-links"]);
    pip.arg(repository().join(FRAMEWORKS).join("wheels")).arg("--find-links").arg(&*DIRECTORY);
    pip.args(["fastapi", "uvicorn", "django"]);
    succeeds(pip.arg(format!("ratelimit-gateway-client=={VERSION}")));
    environment
});

static NODE: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = DIRECTORY.join("node");
    fs::create_dir(&directory).unwrap();
    let mut npm = Command::new("npm");
    npm.args(["install", "--offline", "--no-audit", "--no-fund", "--loglevel=error", "--cache"]);
    npm.arg(repository().join(FRAMEWORKS).join("npm")).arg("--prefix").arg(&directory);
    npm.arg(express()).arg(DIRECTORY.join(tarball()));
    succeeds(&mut npm);
    directory.join("node_modules")
});

/// Returns an environment of Python with the wheel, FastAPI and Django.
pub(super) fn python() -> Option<&'static Path> {
    let wheels = repository().join(FRAMEWORKS).join("wheels");
    let runs = works(Command::new(system_python()).args(["-c", "import ensurepip, venv"]));
    (wheels.exists() && runs).then(|| PYTHON.as_path())
}

/// Returns a directory `node_modules` with the tarball and Express.
pub(super) fn node() -> Option<&'static Path> {
    let cache = repository().join(FRAMEWORKS).join("npm");
    let runs = works(Command::new("npm").arg("--version"));
    (cache.exists() && runs).then(|| NODE.as_path())
}

#[test]
#[ignore = "make test-web"]
fn the_wheel_has_types_and_needs_an_http_client_alone() {
    let Some(environment) = python() else { return super::report("clients/python", false) };
    let script = r#"
from importlib.metadata import distribution
from ratelimit_gateway_client import RateLimiter

package = distribution("ratelimit-gateway-client")
required = [line for line in package.requires if "extra ==" not in line]
assert len(required) == 1 and required[0].startswith("httpx"), required
assert any(path.name == "py.typed" for path in package.files), package.files
for arguments in ({}, {"fail_open": None}, {"fail_open": "false"}):
    try:
        RateLimiter("http://localhost:8000", **arguments)
    except TypeError:
        continue
    raise AssertionError(f"{arguments} is no choice")
print(package.version)
"#;
    let python = environment.join("bin/python");
    let printed = succeeds(Command::new(python).args(["-c", script]));
    assert_eq!(printed.trim(), VERSION);
    super::report("clients/python", true);
}

#[test]
#[ignore = "make test-web"]
fn the_tarball_serves_both_module_systems_with_types_and_needs_nothing() {
    let Some(modules) = node() else { return super::report("clients/node", false) };
    let name = "@ratelimit/ratelimit-gateway-client";
    for file in ["index.d.ts", "index.d.cts", "LICENSE"] {
        assert!(modules.join(name).join(file).is_file(), "{file}");
    }
    let script = format!(
        r#"
const client = require("{name}");
const {{ version, dependencies }} = require("./node_modules/{name}/package.json");
if (dependencies) throw new Error("the package has dependencies");
for (const failOpen of [undefined, null, "false"]) {{
  try {{
    client.rateLimit({{ url: "http://localhost:8000", failOpen }});
  }} catch (error) {{
    if (error instanceof TypeError) continue;
  }}
  throw new Error(`${{failOpen}} is no choice`);
}}
import("{name}").then((module) => {{
  if (module.rateLimit !== client.rateLimit) throw new Error("there are two modules");
  console.log(version);
}});
"#
    );
    let directory = modules.parent().unwrap();
    let printed = succeeds(Command::new("node").args(["-e", &script]).current_dir(directory));
    assert_eq!(printed.trim(), VERSION);
    super::report("clients/node", true);
}

#[test]
fn the_clients_have_the_licence_of_the_repository() {
    let read = |path: &str| fs::read_to_string(repository().join(path).join("LICENSE")).unwrap();
    for client in ["clients/python", "clients/node"] {
        assert_eq!(read(client), read(""), "{client}");
    }
}

/// Returns the name of the file that npm makes of the client for Node.js.
fn tarball() -> String {
    format!("ratelimit-ratelimit-gateway-client-{VERSION}.tgz")
}

/// Returns the version of Express that `scripts/install callers` has put into the cache.
fn express() -> String {
    let packages = fs::read_to_string(repository().join(FRAMEWORKS).join("packages")).unwrap();
    packages.split_whitespace().find(|package| package.starts_with("express@")).unwrap().to_owned()
}

/// Runs a command that must succeed, and returns its output.
fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\nfailed: {errors}");
    String::from_utf8(output.stdout).unwrap()
}
