use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::load;

/// The headings of docs/policies.md, and the names of their types in the schema.
const TABLES: [(&str, &str); 8] = [
    ("### The file", ""),
    ("### The form of paths", "Path"),
    ("### A policy", "Policy"),
    ("### A limit", "Limit"),
    ("### A cost from an attribute", "CostFrom"),
    ("### A choice of a plan", "PlanFrom"),
    ("### A clause", "Condition"),
    ("### An override", "Override"),
];

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/policies.md");
    std::fs::read_to_string(path).unwrap()
}

/// Returns the first cells of the first table behind a heading, and whether `required` follows.
fn members(page: &str, heading: &str) -> BTreeMap<String, bool> {
    let (_, section) = page.split_once(&format!("\n{heading}\n")).unwrap();
    let section = section.split("\n#").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows = rows.map(|row| {
        let cells: Vec<_> = row.split(" | ").collect();
        (cells[0].trim_end_matches('`').to_owned(), cells[2] == "required")
    });
    rows.collect()
}

#[test]
fn the_tables_have_every_member_of_the_schema() {
    let (page, schema) = (page(), serde_json::to_value(policies::schema()).unwrap());
    let mut described = BTreeSet::new();
    for (heading, name) in TABLES {
        let object = if name.is_empty() { &schema } else { &schema["$defs"][name] };
        let properties = object["properties"].as_object().unwrap_or_else(|| panic!("{name}"));
        let required = object["required"].as_array();
        let is_required = |member: &String| {
            required.is_some_and(|names| names.contains(&Value::from(member.as_str())))
        };
        let members = members(&page, heading);
        let names: BTreeSet<_> = members.keys().collect();
        assert_eq!(names, properties.keys().collect(), "{heading}");
        for (member, says_required) in &members {
            // Some members are required only beside certain others, which no schema of one type has.
            assert!(*says_required || !is_required(member), "{heading}: {member} is required");
        }
        described.insert(name);
    }
    for (name, object) in schema["$defs"].as_object().unwrap() {
        let has_table = described.contains(name.as_str());
        assert!(has_table || object.get("properties").is_none(), "no table describes {name}");
    }
}

#[test]
fn the_bounds_of_the_tables_are_those_of_the_schema() {
    let (page, schema) = (page(), serde_json::to_value(policies::schema()).unwrap());
    let row = |heading: &str, member: &str| {
        let (_, section) = page.split_once(&format!("\n{heading}\n")).unwrap();
        let start = format!("| `{member}` |");
        section.lines().find(|line| line.starts_with(&start)).unwrap().replace(',', "")
    };
    for (heading, name) in TABLES {
        let object = if name.is_empty() { &schema } else { &schema["$defs"][name] };
        for (member, rule) in object["properties"].as_object().unwrap() {
            for (keyword, bound) in rule.as_object().into_iter().flatten() {
                if ["maxItems", "maxLength"].contains(&keyword.as_str())
                    // Bounds of all overrides of a file, and of entries, of which there are three.
                    && !["overrides", "entry"].contains(&member.as_str())
                {
                    let row = row(heading, member);
                    assert!(row.contains(&bound.to_string()), "{heading}: {row} lacks {bound}");
                }
            }
        }
    }
    assert!(page.contains("100,000 overrides"));
}

#[test]
fn files_of_the_page_load_and_faults_are_reported_as_shown() {
    let page = page();
    let blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split_once("```\n").unwrap());
    let (first, _) = blocks.clone().next().unwrap();
    assert!(first.lines().count() <= 10, "the first file has ten lines");
    let (mut valid, mut faulty) = (0, 0);
    for (file, rest) in blocks {
        match rest.trim_start().strip_prefix("```text\nline ") {
            Some(shown) => {
                let shown = format!("line {}", shown.split("\n```").next().unwrap());
                assert_eq!(load(file).unwrap_err().to_string(), shown);
                faulty += 1;
            }
            None => {
                load(file).unwrap_or_else(|error| panic!("{error}\n{file}"));
                valid += 1;
            }
        }
    }
    assert!(valid >= 2 && faulty >= 1, "{valid} {faulty}");
}
