//! The tables of examples/policies/README.md: requests and their decisions.

use std::collections::BTreeMap;
use std::path::Path;

/// The first instant of each table, in microseconds.
pub(crate) const BEGIN_MICROS: u64 = 1_800_014_400_000_000;

/// The microseconds of a day.
const DAY: u64 = 86_400_000_000;

/// A table, and the file to which it belongs.
pub(crate) struct Table {
    pub(crate) file: String,
    pub(crate) rows: Vec<Row>,
}

/// One row of a table.
pub(crate) struct Row {
    /// The microseconds since the row before.
    pub(crate) after_micros: u64,
    /// The attributes by their names.
    pub(crate) request: Vec<(String, String)>,
    pub(crate) times: u32,
    /// The microseconds between two of these requests.
    pub(crate) every_micros: u64,
    pub(crate) expected: Expected,
}

/// The decision about a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) allowed: bool,
    pub(crate) policy: String,
    pub(crate) plan: String,
    /// The violated limit.
    pub(crate) limit: String,
    /// The policy that would have denied the request.
    pub(crate) trial: String,
}

/// Returns the tables of the page, each with the first file that its section links to.
pub(crate) fn tables(page: &Path) -> Vec<Table> {
    let text = std::fs::read_to_string(page).unwrap();
    let sections = text.split("\n## ").skip(1);
    sections.map(table).collect()
}

fn table(section: &str) -> Table {
    let mut links = section.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
    // A converted file stands behind its source.
    let file = links.find(|link| !link.contains("envoyproxy")).unwrap().to_owned();
    let mut lines = section.lines().filter(|line| line.starts_with('|')).map(cells);
    let names = lines.next().unwrap();
    let rows = lines.skip(1).map(|cells| {
        assert_eq!(cells.len(), names.len(), "{file}: {cells:?}");
        row(&names.iter().cloned().zip(cells).collect())
    });
    let rows: Vec<_> = rows.collect();
    assert!(rows.len() > 5, "{file}: {} rows", rows.len());
    Table { file, rows }
}

fn cells(line: &str) -> Vec<String> {
    let cells = line.trim_matches('|').split('|');
    cells.map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
}

fn row(cells: &BTreeMap<String, String>) -> Row {
    let cell = |name: &str| cells.get(name).map_or("", String::as_str);
    let pairs = cells["request"].split(' ').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    });
    Row {
        after_micros: micros(cell("after")),
        request: pairs.collect(),
        times: match cell("times") {
            "" => 1,
            times => times.parse().unwrap(),
        },
        every_micros: micros(cell("every")),
        expected: Expected {
            allowed: match cell("decision") {
                "allowed" => true,
                "denied" => false,
                other => panic!("{other} is no decision"),
            },
            policy: cell("policy").to_owned(),
            plan: cell("plan").to_owned(),
            limit: cell("limit").to_owned(),
            trial: cell("trial").to_owned(),
        },
    }
}

fn micros(text: &str) -> u64 {
    let units =
        [("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000), ("d", DAY)];
    let parsed = units
        .iter()
        .find_map(|(unit, micros)| Some(text.strip_suffix(unit)?.parse::<u64>().ok()? * micros));
    if text.is_empty() { 0 } else { parsed.unwrap() }
}
