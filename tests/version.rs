//! The version, which is that of the workspace wherever it has to be written down once more.

use std::fs;
use std::path::Path;

use crate::harness::health;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_changelog_begins_with_it() {
    let changelog = read("CHANGELOG.md");
    let newest = changelog.lines().find_map(|line| line.strip_prefix("## ")).unwrap();
    assert_eq!(newest.split(' ').next(), Some(VERSION), "{newest}");
}

#[test]
fn the_readme_shows_it() {
    let shown = health("healthy", true, "redis");
    assert!(read("README.md").contains(&shown), "no {shown} in README.md");
}
