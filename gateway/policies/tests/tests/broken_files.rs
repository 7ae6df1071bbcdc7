//! Each case of `broken_files.txt` is a file, a line `----`, and the messages or, after `warning:`,
//! the warnings that loading it gives. Cases are separated by a line `====`. `LIMITS` stands for a
//! list of one limit.

use super::load;

const CASES: &str = include_str!("broken_files.txt");

#[test]
fn every_broken_file_has_exact_messages() {
    let mut wrong = String::new();
    let mut count = 0;
    for case in CASES.split("====\n") {
        let (file, expected) = case.split_once("----\n").expect("a case without messages");
        let file = file.replace("LIMITS", "[{name: rate, limit: 1, per: 1s}]");
        let found = match load(&file) {
            Ok(policies) => {
                policies.warnings().iter().map(|warning| format!("warning: {warning}\n")).collect()
            }
            Err(error) => format!("{error}\n"),
        };
        count += 1;
        if found != expected {
            wrong += &format!("{file}----\n{found}====\n");
        }
    }
    assert!(count > 80, "{count} cases");
    assert!(wrong.is_empty(), "these cases have other messages:\n{wrong}");
}

#[test]
fn bytes_that_are_no_text_have_a_position() {
    let error = policies::Policies::load(b"version: 1\na: \xff", &super::options()).unwrap_err();
    assert_eq!(error.to_string(), "line 2, column 4: the file is not text; expected UTF-8");
}

#[test]
fn a_byte_order_mark_is_accepted() {
    let file =
        "\u{feff}version: 1\npolicies: [{name: a, by: [], limits: [{name: r, limit: 1, per: 1s}]}]";
    assert!(load(file).is_ok());
}

#[test]
fn a_file_that_must_have_an_end_and_has_none_is_incomplete() {
    let options = policies::LoadOptions { require_end: true, ..super::options() };
    let file =
        "version: 1\npolicies: [{name: a, by: [], limits: [{name: r, limit: 1, per: 1s}]}]\n";
    let error = policies::Policies::load(file.as_bytes(), &options).unwrap_err();
    let expected = "line 1, column 1: the file is not complete; expected `end: true` at its end";
    assert_eq!(error.to_string(), expected);
    let whole = format!("{file}end: true\n");
    assert!(policies::Policies::load(whole.as_bytes(), &options).is_ok());
}

#[test]
fn a_policy_that_reads_a_secret_needs_a_key() {
    let options = policies::LoadOptions { hash_key: None, ..super::options() };
    let file = "version: 1\npolicies: [{name: a, by: [header.Authorization], missing: deny, limits: [{name: r, limit: 1, per: 1s}]}]\n";
    let error = policies::Policies::load(file.as_bytes(), &options).unwrap_err();
    let expected = "line 2, column 27: `header.authorization` is secret; expected the setting IDENTITY_HASH_KEY";
    assert_eq!(error.to_string(), expected);
}
