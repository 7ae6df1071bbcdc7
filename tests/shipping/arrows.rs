//! The arrows between the crates and the files of this repository: they point one way.
//!
//! An arrow leads from a file to each file of its crate that its paths name, in `use` lines and in
//! code. Tests are excepted. A path through a re-export leads to the file that re-exports, so a
//! file must name the file that defines what it needs.

mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::harness::repository;

use sources::{Sources, forbids_unsafe_code, has_unsafe_code, rust_files};

/// A crate, and the rules for its files.
///
/// A part is a file or a directory directly below the sources, and the root of the crate is the
/// part `lib` or `main`.
struct Package {
    /// Directory of the sources.
    sources: &'static str,
    /// Name of the crate in paths of other crates.
    name: &'static str,
    /// Crates of this repository whose names the sources may contain.
    uses: &'static [&'static str],
    /// Parts, and the only other parts that may name them.
    named_by: &'static [(&'static str, &'static [&'static str])],
    /// Parts, and the only other parts that they may name.
    names: &'static [(&'static str, &'static [&'static str])],
}

/// All crates of the product, from the bottom to the top. docs/architecture.md has the same table.
const PACKAGES: &[Package] = &[
    Package {
        sources: "module/limiter/src",
        name: "limiter",
        uses: &[],
        named_by: &[],
        names: &[("codec", &["limits", "math", "time", "varint"])],
    },
    Package {
        sources: "module/src",
        name: "ratelimit_module",
        uses: &["limiter"],
        named_by: &[],
        names: &[("ffi", &[])],
    },
    Package {
        sources: "gateway/calendar/src",
        name: "calendar",
        uses: &["limiter"],
        named_by: &[],
        names: &[],
    },
    Package {
        sources: "gateway/policies/src",
        name: "policies",
        uses: &["calendar", "limiter"],
        named_by: &[],
        names: &[],
    },
    Package {
        sources: "gateway/import/src",
        name: "import",
        uses: &["limiter", "policies"],
        named_by: &[],
        names: &[],
    },
    Package {
        sources: "gateway/replay/src",
        name: "replay",
        uses: &["limiter", "policies"],
        named_by: &[],
        names: &[],
    },
    Package {
        sources: "gateway/store/src",
        name: "store",
        uses: &["calendar", "limiter"],
        named_by: &[],
        names: &[],
    },
    Package {
        sources: "gateway/envoy/src",
        name: "envoy",
        uses: &["calendar", "limiter", "policies", "store"],
        named_by: &[],
        names: &[],
    },
    Package {
        sources: "gateway/src",
        name: "ratelimit_gateway",
        uses: &["calendar", "envoy", "import", "limiter", "policies", "replay", "store"],
        named_by: &[("settings", &["main"])],
        names: &[("telemetry", &[])],
    },
];

/// Files that may contain unsafe code. The last three are of tests: a library that is preloaded, a
/// module that loads another one, and a call between `fork` and `exec`.
const UNSAFE: &[&str] =
    &["module/src/ffi/", "tests/clock/src/", "tests/faults/src/", "tests/harness/process.rs"];

/// Roots of crates to which these files belong.
const UNSAFE_ROOTS: &[&str] =
    &["module/src/lib.rs", "tests/clock/src/lib.rs", "tests/faults/src/lib.rs"];

#[test]
fn no_file_leads_back_to_itself() {
    for package in PACKAGES {
        let circles = circles(&package.read().arrows);
        assert!(circles.is_empty(), "{}: circles of files: {circles:#?}", package.sources);
    }
}

#[test]
fn every_crate_names_only_the_crates_below_it() {
    for package in PACKAGES {
        let turned = package.turned_arrows_to_crates(&package.read());
        assert!(turned.is_empty(), "{}: {turned:#?}", package.sources);
    }
}

#[test]
fn every_part_names_only_the_parts_that_it_may_name() {
    for package in PACKAGES {
        let turned = package.turned_arrows_to_parts(&package.read());
        assert!(turned.is_empty(), "{}: {turned:#?}", package.sources);
    }
}

#[test]
fn every_part_that_a_rule_names_exists() {
    for package in PACKAGES {
        let files = package.read().arrows;
        let parts: BTreeSet<&str> = files.keys().map(|file| part_of(file)).collect();
        for (part, _) in package.named_by.iter().chain(package.names) {
            assert!(parts.contains(part), "{} has no {part}", package.sources);
        }
    }
}

#[test]
fn unsafe_code_is_in_one_directory_and_forbidden_elsewhere() {
    let is_excepted = |file: &str| UNSAFE.iter().any(|place| file.starts_with(place));
    let files = rust_files(&repository());
    for (file, source) in &files {
        assert!(is_excepted(file) || !has_unsafe_code(source), "{file} has unsafe code");
        let is_root = file.ends_with("src/lib.rs") || file.ends_with("src/main.rs");
        let may_lack_it = !is_root || UNSAFE_ROOTS.contains(&file.as_str());
        assert!(may_lack_it || forbids_unsafe_code(source), "{file}: #![forbid(unsafe_code)]");
    }
    for root in UNSAFE_ROOTS {
        assert!(files.contains_key(*root), "there is no {root}");
    }
    for place in UNSAFE {
        let has_some =
            files.iter().any(|(file, text)| file.starts_with(place) && has_unsafe_code(text));
        assert!(has_some, "{place} needs no exception");
    }
}

#[test]
fn the_page_on_the_architecture_has_the_table_of_arrows() {
    let page = fs::read_to_string(repository().join("docs/architecture.md")).unwrap();
    for Package { sources, uses, .. } in PACKAGES {
        let member = sources.strip_suffix("/src").unwrap();
        let uses: Vec<_> = uses.iter().map(|name| format!("`{name}`")).collect();
        let uses = if uses.is_empty() { "none".to_owned() } else { uses.join(", ") };
        let row = format!("| `{member}` | {uses} |");
        assert!(page.lines().any(|line| line == row), "docs/architecture.md lacks {row}");
    }
}

#[test]
fn a_circle_is_found() {
    let files = [
        ("lib", "mod a; mod b; mod c; pub use a::A;"),
        ("a", "use crate::b::B; pub struct A;"),
        ("b", "fn f() { vec![crate::c::C] }"),
        ("c", "use super::{b, d}; pub struct C(b::B);"),
        ("d", "#[cfg(test)] mod tests { use crate::b::B; } #[cfg(test)] use crate::c::C;"),
    ];
    assert_eq!(circles(&Sources::parse(&files).arrows), [vec!["b", "c"]]);
}

#[test]
fn a_circle_through_a_re_export_is_found() {
    let files = [("a/mod", "mod b; pub use b::B;"), ("a/b", "use super::A; pub struct B;")];
    assert_eq!(circles(&Sources::parse(&files).arrows), [vec!["a", "a/b"]]);
}

#[test]
fn an_arrow_to_a_crate_above_is_found() {
    let store = package("gateway/store/src");
    let sources = Sources::parse(&[
        ("a", "use limiter::Units; fn f() { format!(\"{}\", ratelimit_gateway::X) }"),
        ("b", "impl policies::Match for B {}"),
    ]);
    let expected = ["a names the crate ratelimit_gateway", "b names the crate policies"];
    assert_eq!(store.turned_arrows_to_crates(&sources), expected);
}

#[test]
fn an_arrow_to_the_settings_and_one_from_the_telemetry_are_found() {
    let gateway = package("gateway/src");
    let sources = Sources::parse(&[
        ("main", "use ratelimit_gateway::settings::Settings;"),
        ("settings/mod", "use crate::server::Options;"),
        ("server/mod", "use crate::settings::Settings; use crate::telemetry::http;"),
        ("telemetry/mod", "mod http;"),
        ("telemetry/http", "use super::Guard; use crate::server::Options;"),
    ]);
    let expected = ["server names settings", "telemetry/http names server"];
    assert_eq!(gateway.turned_arrows_to_parts(&sources), expected);
}

#[test]
fn unsafe_code_is_found_in_code_and_not_in_text() {
    for code in [
        "fn f() { unsafe { g() } }",
        "unsafe impl Send for A {}",
        "macro_rules! m { () => { unsafe {} } }",
    ] {
        assert!(has_unsafe_code(code), "{code}");
    }
    let code = "#![forbid(unsafe_code)] // unsafe { }\nconst TEXT: &str = \"unsafe\";";
    assert!(!has_unsafe_code(code) && forbids_unsafe_code(code));
    assert!(!forbids_unsafe_code("#![deny(unsafe_code)]"));
}

fn package(sources: &str) -> &'static Package {
    PACKAGES.iter().find(|package| package.sources == sources).unwrap()
}

impl Package {
    fn read(&self) -> Sources {
        Sources::read(&repository().join(self.sources))
    }

    /// Returns a line for each file that names a crate of this repository that the file may not
    /// name.
    fn turned_arrows_to_crates(&self, sources: &Sources) -> Vec<String> {
        let is_of_repository = |name: &str| PACKAGES.iter().any(|package| package.name == name);
        let mut turned = vec![];
        for (file, name) in &sources.crates {
            // A program names the library beside it, and a root names its own parts.
            let is_part = sources.arrows.keys().any(|file| part_of(file) == name);
            let is_allowed = self.uses.contains(&name.as_str()) || name == self.name || is_part;
            if is_of_repository(name) && !is_allowed {
                turned.push(format!("{file} names the crate {name}"));
            }
        }
        turned
    }

    /// Returns a line for each arrow that the rules for parts forbid.
    fn turned_arrows_to_parts(&self, sources: &Sources) -> Vec<String> {
        let mut turned = vec![];
        for (from, targets) in &sources.arrows {
            for to in targets {
                let (from_part, to_part) = (part_of(from), part_of(to));
                if from_part == to_part {
                    continue;
                }
                let is_unexpected = |rule: Option<&(&str, &[&str])>, part: &str| {
                    rule.is_some_and(|(_, parts)| !parts.contains(&part))
                };
                let namers = self.named_by.iter().find(|(part, _)| *part == to_part);
                let named = self.names.iter().find(|(part, _)| *part == from_part);
                if is_unexpected(namers, from_part) || is_unexpected(named, to_part) {
                    turned.push(format!("{from} names {to}"));
                }
            }
        }
        turned
    }
}

/// Returns the first word of the name of a file: `redis` for `redis/node`.
fn part_of(file: &str) -> &str {
    file.split('/').next().unwrap_or(file)
}

/// Returns the groups of files whose arrows form a circle, each group once.
fn circles(arrows: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        arrows.keys().map(|file| (file.as_str(), reachable(arrows, file))).collect();
    let mut circles = BTreeSet::new();
    for (file, targets) in &reached {
        let leads_back = |target: &&&str| reached.get(**target).is_some_and(|t| t.contains(file));
        let circle = targets.iter().filter(leads_back);
        let circle: Vec<_> = circle.map(|file| (*file).to_owned()).collect();
        if !circle.is_empty() {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

/// Returns every file to which arrows lead from `from`, over any number of files.
fn reachable<'a>(
    arrows: &'a BTreeMap<String, BTreeSet<String>>,
    from: &'a str,
) -> BTreeSet<&'a str> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(file) = open.pop() {
        for target in arrows.get(file).into_iter().flatten() {
            if reached.insert(target.as_str()) {
                open.push(target);
            }
        }
    }
    reached
}
