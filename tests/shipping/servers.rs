//! The servers that `make test-servers` runs the tests of the module on.

use std::fs;
use std::process::Command;

use crate::harness::repository;

#[test]
fn the_page_lists_the_servers_that_the_tests_run_on() {
    let program = repository().join("scripts/test-servers");
    let output = Command::new(program).arg("list").output().expect("the script starts");
    assert!(output.status.success(), "{output:?}");
    let list = String::from_utf8(output.stdout).expect("a list");
    assert!(list.lines().count() > 1, "{list}");

    let page = repository().join("docs/where-it-runs.md");
    let page = fs::read_to_string(page).expect("docs/where-it-runs.md");
    let (_, rest) = page.split_once("<!-- written by make test-servers -->").expect("a table");
    let (table, _) = rest.split_once("<!-- until here -->").expect("the end of the table");
    let rows: Vec<_> = table.trim().lines().skip(2).collect();
    let [system, others @ ..] = rows.as_slice() else { panic!("no rows: {table}") };
    assert!(system.starts_with("| Redis 7.0"), "the oldest server comes first: {system}");
    assert_eq!(others, list.lines().collect::<Vec<_>>(), "repeat make test-servers");
}
