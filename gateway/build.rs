//! Tells the program which compiler built it.

use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(compiler).arg("--version").output();
    let line = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    // As in "rustc 1.95.0 (commit and date)".
    let version = line.ok().and_then(|line| Some(line.split(' ').nth(1)?.to_owned()));
    println!("cargo::rustc-env=RUSTC_VERSION={}", version.as_deref().unwrap_or("unknown"));
}
