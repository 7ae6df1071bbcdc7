//! The README's example for Python, run as it is written.

use std::env;
use std::fs;
use std::process::Command;

use crate::harness::Server;

#[test]
fn the_example_for_python_runs_as_it_is_written() {
    let server = Server::start();
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"))
        .expect("the README");
    let example = block(&readme, "python").expect("the README has an example for Python");
    // The example connects to the default port, where no test may have a server of its own.
    let prelude = format!(
        "import functools, redis\nredis.Redis = functools.partial(redis.Redis, port={})\n",
        server.port()
    );
    // The system's own Python, for which the package redis comes from the system too.
    let python = env::var("PYTHON").unwrap_or_else(|_| "/usr/bin/python3".into());
    let output = Command::new(python).arg("-c").arg(prelude + example).output().expect("it starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{example}\nfailed: {errors}");
    let calls = server.client().info("commandstats", "cmdstat_ratelimit.tb");
    assert!(calls.starts_with("calls="), "{calls}");
}

/// The text of the first fenced block of a language.
fn block<'a>(text: &'a str, language: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("```{language}\n"))?;
    rest.split_once("```").map(|(block, _)| block)
}
