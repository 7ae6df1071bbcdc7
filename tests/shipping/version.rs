//! The version: every file that repeats it has that of the workspace.

use std::fs;

use serde_json::Value;

use crate::harness::{health, repository};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_changelog_begins_with_it() {
    let changelog = read("CHANGELOG.md");
    let mut sections = changelog.lines().filter_map(|line| line.strip_prefix("## "));
    let newest = sections.find(|section| *section != "Unreleased").unwrap();
    assert_eq!(newest.split(' ').next(), Some(VERSION), "{newest}");
}

#[test]
fn the_clients_have_it() {
    let project =
        format!("[project]\nname = \"ratelimit-gateway-client\"\nversion = \"{VERSION}\"\n");
    assert!(read("clients/python/pyproject.toml").contains(&project), "no\n{project}");
    let package: Value = serde_json::from_str(&read("clients/node/package.json")).unwrap();
    assert_eq!(package["version"], VERSION);
}

#[test]
fn the_page_of_the_http_api_shows_it() {
    let shown = health("healthy", true, "redis");
    // The page is that of a gateway with a file of policies.
    let shown = shown.strip_suffix("\"policies\":null}").expect("no policies");
    assert!(read("docs/http.md").contains(shown), "no {shown} in docs/http.md");
}
