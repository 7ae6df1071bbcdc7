//! Commands about policies that need neither Redis nor a running gateway.

use std::fs;

use serde_json::Value;

use crate::harness::{Gateway, repository};

/// Returns the output of a command that ends with a status.
fn printed(words: &[&str], status: i32) -> String {
    let (ended, output) = Gateway::builder().answers(words);
    assert_eq!(ended.code(), Some(status), "{words:?}: {output}");
    output
}

#[test]
fn a_log_is_replayed_and_compared() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let file = "{version: 1, policies: [{name: address, by: [client.ip], missing: deny, limits: \
                [{name: rate, limit: 3, per: 1m}]}]}";
    let (new, old) = (write("new.yaml", file), write("old.yaml", &file.replace("3,", "5,")));
    let line =
        "203.0.113.7 - - [15/Jan/2027:12:00:00 +0000] \"GET / HTTP/1.1\" 200 5 \"-\" \"-\"\n";
    let log = write("access.log", &line.repeat(6));
    let table = printed(&["replay", &new, "--against", &old, &log], 0);
    assert!(table.contains("6 of 6 lines were decided."), "{table}");
    assert!(table.contains("2 requests are newly denied, and 0 newly allowed."), "{table}");
    let report: Value =
        serde_json::from_str(&printed(&["replay", &new, &log, "--json"], 0)).unwrap();
    assert_eq!((&report["new"]["allowed"], &report["new"]["denied"]), (&3.into(), &3.into()));
    assert_eq!(report["new"]["keys"][0]["key"], "policy:rate:tb:{address|203.0.113.7}");
    assert!(printed(&["replay", &new, &log, "--html"], 0).starts_with("<!doctype html>"));

    let broken = write("broken.yaml", &file.replace("limit:", "limt:"));
    let error = printed(&["replay", &broken, &log], 2);
    assert!(error.contains("unknown key `limt`; did you mean `limit`?"), "{error}");
    let error = printed(&["replay", &new, "/no/such.log"], 2);
    assert!(error.starts_with("/no/such.log: "), "{error}");
}

#[test]
fn a_configuration_is_converted_with_its_differences() {
    let source = repository().join("examples/policies/envoyproxy-ratelimit.yaml");
    // The log of the harness has both outputs: the notes, and then the file.
    let output = printed(&["import", source.to_str().unwrap()], 0);
    let converted = repository().join("examples/policies/envoy.yaml");
    let notes = output.strip_suffix(&fs::read_to_string(converted).unwrap()).unwrap();
    for note in ["* First match: ", "* All or nothing: ", "* Denied requests do not count; "] {
        assert!(notes.lines().any(|line| line.starts_with(note)), "{notes}");
    }
    let error = printed(&["import", "/dev/null"], 2);
    assert!(error.contains("/dev/null: the file has neither `domain`"), "{error}");

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let error = printed(&["import", path], 2);
    assert!(error.contains("no file whose name ends with .yaml or .yml"), "{error}");
    let text = fs::read_to_string(source).unwrap();
    fs::write(directory.path().join("shop.yaml"), &text).unwrap();
    fs::write(directory.path().join("mail.yml"), text.replace("domain: shop", "domain: mail"))
        .unwrap();
    fs::write(directory.path().join("README.md"), "domain: [").unwrap();
    let output = printed(&["import", path], 0);
    for domain in ["domain: shop", "domain: mail"] {
        assert!(output.contains(domain), "{output}");
    }
}
