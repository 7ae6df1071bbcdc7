//! The figures in README.md equal those of the last measurement.

use std::fs;

use serde_json::Value;

#[test]
fn the_figures_of_the_readme_are_those_of_the_report() {
    let report: Value = serde_json::from_str(&read("docs/benchmarks/report.json")).expect("JSON");
    let readme = read("README.md");
    let figure = |pointer: &str| {
        let ratio = report.pointer(pointer).and_then(Value::as_f64);
        ratio.unwrap_or_else(|| panic!("{pointer} is not in the report"))
    };
    let instructions = |name: &str| figure(&format!("/instructions/commands/{name}/ratio"));
    let time = |service: &str| figure(&format!("{service}/ratios/cpu_us/median"));

    let granted = instructions("RATELIMIT.TB granted");
    let script = instructions("token bucket in Lua, granted");
    let grant = format!("| instructions of a grant, `INCR` = 1 | {granted:.1} | {script:.0} |");
    assert!(readme.contains(&grant), "no {grant} in README.md");

    let (_, written) = readme.split_once("<!-- written by make bench -->").expect("its start");
    let (written, _) = written.split_once("<!-- until here -->").expect("its end");
    let rows: Vec<Vec<_>> = written
        .lines()
        .filter(|line| line.starts_with("| "))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .filter(|cells: &Vec<_>| cells[1].parse::<f64>().is_ok())
        .collect();
    assert!(rows.len() > 5, "{rows:?}");
    for cells in rows {
        let service = format!("/gateway/connections/50/{}", cells[0].replace('/', "~1"));
        let (expected, base) = match report.pointer(&service) {
            None => {
                let name = cells[0];
                let log = ["RATELIMIT.SW", "sliding"].iter().any(|start| name.starts_with(start));
                let entries = if log { ", 1,000 entries" } else { "" };
                let mut ratios = vec![instructions(&format!("{name}{entries}"))];
                // A report of before the processor time was measured has no second column.
                if cells.len() > 2 {
                    ratios.push(time(&format!("/throughput/pipelines/16/{name}")));
                }
                (ratios, None)
            }
            Some(measured) => (vec![time(&service)], measured["base"].as_str()),
        };
        let expected = expected.iter().map(|ratio| format!("{ratio:.2}"));
        let expected: Vec<_> = expected.chain(base.map(str::to_owned)).collect();
        assert_eq!(cells[1..], expected, "{}", cells[0]);
    }
}

/// Reads a file of the repository.
fn read(path: &str) -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../");
    fs::read_to_string(format!("{root}{path}")).unwrap_or_else(|error| panic!("{path}: {error}"))
}
