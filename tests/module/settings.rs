//! The settings of the module: the places where they can be set, and the values that are refused.

use std::collections::BTreeMap;
use std::fs;

use tempfile::TempDir;

use crate::harness::{NOON, Server};

const MAX_LIMIT: &str = "ratelimit.sliding-window-max-limit";
const TOP_KEYS: &str = "ratelimit.top-keys";
const LEASES_MAX: &str = "ratelimit.leases-max";

#[test]
fn the_highest_limit_of_a_log_is_a_million_unless_set() {
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(setting(&server, MAX_LIMIT), "1000000");
    assert_eq!(client.decide("RATELIMIT.SW log 1000000 60")[1], 1_000_000);
    let refusal = client.refusal("RATELIMIT.SW log 1000001 86400");
    assert_eq!(refusal, "ERR limit must be an integer between 1 and 1000000 with this resolution");
}

#[test]
fn the_page_has_every_setting_and_its_default() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/settings.md");
    let page = fs::read_to_string(page).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `ratelimit."));
    let told = rows.map(|row| {
        let mut cells = row.split(" | ").map(|cell| cell.trim_matches('`'));
        (format!("ratelimit.{}", cells.next().unwrap()), cells.next().unwrap().to_owned())
    });
    let settings: BTreeMap<String, String> =
        Server::start().client().call("CONFIG GET ratelimit.*");
    assert_eq!(told.collect::<BTreeMap<_, _>>(), settings);
}

#[test]
fn a_running_server_takes_another_highest_limit() {
    let server = Server::start();
    let mut client = server.client();
    client.decide("RATELIMIT.SW log 10 60 COST 10");
    client.call::<()>(&format!("CONFIG SET {MAX_LIMIT} 5"));
    let refusal = client.refusal("RATELIMIT.SW log 6 60");
    assert_eq!(refusal, "ERR limit must be an integer between 1 and 5 with this resolution");
    let refusal = client.refusal("RATELIMIT.PEEK log SW 6 60");
    assert_eq!(refusal, "ERR limit must be an integer between 1 and 5 with this resolution");
    assert_eq!(client.decide("RATELIMIT.SW log 5 60")[..3], [0, 5, 0]);
    assert_eq!(client.decide("RATELIMIT.TB bucket 6 60")[0], 1, "a bucket has no such bound");
}

#[test]
fn the_highest_limit_has_bounds_of_its_own() {
    let server = Server::start();
    let mut client = server.client();
    client.call::<()>(&format!("CONFIG SET {MAX_LIMIT} 1000000000"));
    assert_eq!(client.decide("RATELIMIT.SW log 1000000000 60")[0], 1);
    for wrong in ["0", "-1", "1000000001", "many"] {
        client.refusal(&format!("CONFIG SET {MAX_LIMIT} {wrong}"));
    }
    assert_eq!(setting(&server, MAX_LIMIT), "1000000000");
}

#[test]
fn the_denied_keys_that_are_kept_are_128_unless_set() {
    // The clock stands still, because denials halve at every full minute.
    let server = Server::at(NOON);
    let mut client = server.client();
    assert_eq!(setting(&server, TOP_KEYS), "128");
    for number in 0..130 {
        client.decide(&format!("RATELIMIT.TB {number} 1 60 COST 2"));
    }
    assert_eq!(kept(&server), "128");
    for right in ["10000", "1", "0", "5"] {
        client.call::<()>(&format!("CONFIG SET {TOP_KEYS} {right}"));
    }
    for wrong in ["-1", "10001", "many", ""] {
        client.refusal_of(&[b"CONFIG", b"SET", TOP_KEYS.as_bytes(), wrong.as_bytes()]);
    }
    assert_eq!(setting(&server, TOP_KEYS), "5");
}

#[test]
fn a_key_holds_100000_leases_unless_set() {
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(setting(&server, LEASES_MAX), "100000");
    for right in ["1000000", "1", "5"] {
        client.call::<()>(&format!("CONFIG SET {LEASES_MAX} {right}"));
    }
    for wrong in ["0", "-1", "1000001", "many", ""] {
        client.refusal_of(&[b"CONFIG", b"SET", LEASES_MAX.as_bytes(), wrong.as_bytes()]);
    }
    assert_eq!(setting(&server, LEASES_MAX), "5");
    let server = Server::builder().module_arguments(&["leases-max", "7"]).start();
    assert_eq!(setting(&server, LEASES_MAX), "7");
}

#[test]
fn the_modules_arguments_are_defaults_in_any_order() {
    for arguments in [
        ["sliding-window-max-limit", "7", "top-keys", "3"],
        ["top-keys", "3", "sliding-window-max-limit", "7"],
    ] {
        let server = Server::builder().module_arguments(&arguments).start();
        assert_eq!((setting(&server, MAX_LIMIT), setting(&server, TOP_KEYS)), both("7", "3"));
    }
    let one = Server::builder().module_arguments(&["top-keys", "0"]).start();
    assert_eq!((setting(&one, MAX_LIMIT), setting(&one, TOP_KEYS)), both("1000000", "0"));
    one.client().decide("RATELIMIT.TB key 1 60 COST 2");
    assert_eq!(kept(&one), "0");
}

#[test]
fn the_configuration_wins_over_the_modules_arguments() {
    let arguments = ["sliding-window-max-limit", "7", "top-keys", "3"];
    let configured = |max_limit, top_keys| {
        let builder = Server::builder().clock(NOON).module_arguments(&arguments);
        builder.config(MAX_LIMIT, max_limit).config(TOP_KEYS, top_keys).start()
    };
    // The configuration also wins with a value that is the default without the arguments.
    for (max_limit, top_keys) in [("9", "4"), ("1000000", "128"), ("1", "0")] {
        let server = configured(max_limit, top_keys);
        let found = (setting(&server, MAX_LIMIT), setting(&server, TOP_KEYS));
        assert_eq!(found, both(max_limit, top_keys));
        let mut client = server.client();
        client.decide("RATELIMIT.TB key 1 60 COST 2");
        assert_eq!(kept(&server), if top_keys == "0" { "0" } else { "1" });
        client.decide(&format!("RATELIMIT.SW key {max_limit} 86400"));
    }
}

#[test]
fn a_rewritten_configuration_survives_a_restart() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("redis.conf");
    fs::write(&path, format!("{TOP_KEYS} 5\n")).unwrap();
    let mut server = Server::builder()
        .configuration_file(&path)
        .module_arguments(&["sliding-window-max-limit", "7", "top-keys", "3"])
        .start();
    assert_eq!((setting(&server, MAX_LIMIT), setting(&server, TOP_KEYS)), both("7", "5"));
    let mut client = server.client();
    client.call::<()>(&format!("CONFIG SET {MAX_LIMIT} 70 {TOP_KEYS} 2"));
    client.call::<()>("CONFIG REWRITE");
    let written = fs::read_to_string(&path).unwrap();
    let own: Vec<&str> = written.lines().filter(|line| line.starts_with("ratelimit.")).collect();
    assert_eq!(own, [format!("{TOP_KEYS} 2"), format!("{MAX_LIMIT} 70")], "{written}");
    server.stop();
    // The file also names the module and its arguments.
    let server = Server::builder().without_module().configuration_file(&path).start();
    assert_eq!((setting(&server, MAX_LIMIT), setting(&server, TOP_KEYS)), both("70", "2"));
}

#[test]
fn names_and_words_of_module_arguments_may_be_in_capitals() {
    let arguments = ["Sliding-Window-Max-Limit", "7", "TOP-KEYS", "3", "CL-Throttle", "YES"];
    let server = Server::builder().module_arguments(&arguments).start();
    assert_eq!((setting(&server, MAX_LIMIT), setting(&server, TOP_KEYS)), both("7", "3"));
    server.client().call::<[i64; 5]>("CL.THROTTLE key 1 1 1");
}

#[test]
fn arguments_that_set_nothing_stop_the_start_with_one_line() {
    const NAMES: &str = "and the names are sliding-window-max-limit, leases-max, top-keys, \
                         cl-throttle";
    let unknown = |name: &str, nearest: &str| {
        format!("{name} is unknown: the nearest name is {nearest}, {NAMES}")
    };
    let rule = |name: &str, rule: &str| format!("{name} must be {rule}");
    let follows = |name: &str, rule: &str| format!("{name} must be followed by a value: {rule}");
    const MAX_LIMITS: &str = "an integer between 1 and 1000000000";
    const LEASES: &str = "an integer between 1 and 1000000";
    const KEYS: &str = "an integer between 0 and 10000";
    const WORD: &str = "yes or no";
    let long = "k".repeat(100);
    let (log, leases, keys) = ("sliding-window-max-limit", "leases-max", "top-keys");
    for (arguments, expected) in [
        (&[log][..], follows(log, MAX_LIMITS)),
        (&[log, "0"], rule(log, &format!("{MAX_LIMITS}, not 0"))),
        (&[log, "1000000001"], rule(log, &format!("{MAX_LIMITS}, not 1000000001"))),
        (&["SLIDING-window-MAX-limit", "many"], rule(log, &format!("{MAX_LIMITS}, not many"))),
        (&[log, "7", log], follows(log, MAX_LIMITS)),
        (&[log, "7", log, "7"], format!("{log} may be given only once")),
        (&["sliding-window-limit", "7"], unknown("sliding-window-limit", log)),
        (&[leases, "0"], rule(leases, &format!("{LEASES}, not 0"))),
        (&[leases, "1000001"], rule(leases, &format!("{LEASES}, not 1000001"))),
        (&[keys, "10001"], rule(keys, &format!("{KEYS}, not 10001"))),
        (&[keys, "-1"], rule(keys, &format!("{KEYS}, not -1"))),
        (&[keys, "9223372036854775808"], rule(keys, &format!("{KEYS}, not 9223372036854775808"))),
        (&[keys, "7", log, "7", "Top-Keys", "7"], "Top-Keys may be given only once".to_owned()),
        (&["TOP-KEY", "7"], unknown("TOP-KEY", keys)),
        (&[&long, "7"], unknown(&format!("{}...", &long[..64]), keys)),
        (&["cl-throttle"], follows("cl-throttle", WORD)),
        (&["cl-throttle", "1"], rule("cl-throttle", "yes or no, not 1")),
        (
            &["cl-throttle", "yes", "cl-throttle", "no"],
            "cl-throttle may be given only once".to_owned(),
        ),
        (&["cl-throttle", "yes", keys, "-1"], rule(keys, &format!("{KEYS}, not -1"))),
    ] {
        let log = Server::builder().module_arguments(arguments).start_in_vain();
        let lines = log.lines().filter(|line| line.contains("<ratelimit>"));
        let lines: Vec<_> = lines.filter_map(|line| line.split_once("# ")).collect();
        assert_eq!(lines.len(), 1, "{arguments:?}: {log}");
        assert_eq!(lines[0].1, format!("<ratelimit> module argument {expected}"), "{arguments:?}");
    }
}

fn setting(server: &Server, name: &str) -> String {
    let [_, value]: [String; 2] = server.client().call(&format!("CONFIG GET {name}"));
    value
}

fn both(max_limit: &str, top_keys: &str) -> (String, String) {
    (max_limit.to_owned(), top_keys.to_owned())
}

/// Returns the number of denied keys that the server keeps.
fn kept(server: &Server) -> String {
    server.client().info("ratelimit", "ratelimit_top_keys_tracked")
}
