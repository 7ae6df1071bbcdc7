//! The programs and libraries that the tests run, built once for each test process: `cargo test`
//! alone does not build the shared library of another package, and would test a stale one.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

static MODULE: LazyLock<PathBuf> =
    LazyLock::new(|| build(&["--package", "ratelimit-module"], "libratelimit.so"));

static CLOCK: LazyLock<PathBuf> =
    LazyLock::new(|| build(&["--package", "ratelimit-test-clock"], "libratelimit_test_clock.so"));

static FAULTS: LazyLock<PathBuf> =
    LazyLock::new(|| build(&["--package", "ratelimit-test-faults"], "libratelimit_test_faults.so"));

// The build has the features that the whole workspace and its tests require of dependencies,
// because `cargo test --workspace` has just built the dependencies with these features: the
// features of the gateway alone would cause another build of most dependencies. With `--examples`,
// which are small, cargo also includes the dependencies of tests.
static GATEWAY: LazyLock<PathBuf> = LazyLock::new(|| {
    let selection = ["--workspace", "--bin", "ratelimit-gateway", "--examples"];
    let features: &[&str] = match cfg!(feature = "envoy") {
        true => &["--features", "ratelimit-gateway/envoy,ratelimit-tests/envoy"],
        false => &[],
    };
    build(&[&selection, features].concat(), "ratelimit-gateway")
});

/// The module's shared library.
pub(crate) fn module() -> &'static Path {
    &MODULE
}

/// The clock that is preloaded into servers.
pub(crate) fn clock() -> &'static Path {
    &CLOCK
}

/// The module that loads another one and makes functions of the server fail for it.
pub(crate) fn faults() -> &'static Path {
    &FAULTS
}

/// The gateway's executable.
pub(crate) fn gateway() -> &'static Path {
    &GATEWAY
}

/// An example's executable.
pub(crate) fn example(name: &str) -> PathBuf {
    build(&["--workspace", "--example", name], &format!("examples/{name}"))
}

/// The executable of a package of the workspace.
pub(crate) fn program(name: &str) -> PathBuf {
    build(&["--workspace", "--bin", name, "--examples"], name)
}

/// Builds with the target directory and profile of this test binary, and returns the path of
/// `file`.
fn build(selection: &[&str], file: &str) -> PathBuf {
    let executable = env::current_exe().expect("the path of the test binary");
    // This binary is TARGET/PROFILE/deps/NAME.
    let output = executable.ancestors().nth(2).expect("a profile's directory");
    let target = output.parent().expect("a target directory");
    let profile = match output.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => panic!("{} is no profile's directory", output.display()),
    };
    let mut command = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    for (name, _) in env::vars_os() {
        if is_of_package(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    let status = command
        .args(["build", "--quiet", "--profile", profile, "--target-dir"])
        .arg(target)
        .args(selection)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo starts");
    assert!(status.success(), "cargo build {} failed", selection.join(" "));
    let built = output.join(file);
    assert!(built.is_file(), "cargo build left no {}", built.display());
    built
}

/// Returns true for a variable about this package, which `cargo test` has set. The build script of
/// ring reads such variables: with other values cargo would build ring and all that depends on it
/// again, here and in the next build by hand.
fn is_of_package(name: &str) -> bool {
    ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|prefix| name.starts_with(prefix))
}
