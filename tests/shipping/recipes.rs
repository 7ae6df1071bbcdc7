//! The programs of docs/recipes.md, run as written. Where a program sleeps, the clock of the server
//! moves.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::languages::{python, report_missing, works};
use crate::harness::{Block, Document, NOON, Server};

/// Runs a program whose sleeps are lines on the output, each of which waits for a line.
const RUNNER: &str = r#"
import sys
import time


def sleep(seconds):
    print(seconds, flush=True)
    sys.stdin.readline()


time.sleep = sleep
exec(compile(open("recipe.py").read(), "recipe.py", "exec"), {"__name__": "__main__"})
"#;

#[test]
#[ignore = "make test-web"]
fn every_recipe_runs_as_written_and_asserts_its_outcome() {
    let pages = Document::all().into_iter().filter(|page| page.path.ends_with("docs/recipes.md"));
    let recipes: Vec<_> = pages.flat_map(|page| page.blocks).collect();
    assert!(recipes.len() >= 6, "{} recipes", recipes.len());
    if !works(Command::new(python()).args(["-c", "import redis"])) {
        return report_missing("python");
    }
    for recipe in recipes {
        assert_eq!(recipe.language, "python");
        assert!(recipe.text.contains("\nassert "), "{}\nasserts nothing", recipe.text);
        runs(&recipe);
    }
}

fn runs(recipe: &Block) {
    let server = Server::at(NOON);
    let directory = tempfile::tempdir().unwrap();
    // The page uses the default port, on which no test may start a server.
    let text = recipe.text.replace("6379", &server.port().to_string());
    fs::write(directory.path().join("recipe.py"), text).unwrap();
    let mut command = Command::new(python());
    command.args(["-c", RUNNER]).current_dir(&directory);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut input = process.stdin.take().unwrap();
    let mut total_seconds = 0.0;
    for line in BufReader::new(process.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let seconds = line.parse().unwrap_or_else(|_| panic!("{}\nprinted {line}", recipe.text));
        // A real server is some milliseconds later after each sleep.
        server.clock().advance(Duration::from_secs_f64(seconds) + Duration::from_millis(20));
        total_seconds += seconds;
        input.write_all(b"\n").unwrap();
    }
    let output = process.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\nfailed: {errors}", recipe.text);
    assert!(total_seconds < 60.0, "{}\nsleeps for {total_seconds} seconds", recipe.text);
}
