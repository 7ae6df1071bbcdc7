use limiter::Instant;
use policies::attributes::Attributes;
use policies::digest::HashKey;
use policies::model::Entry;
use policies::{LoadOptions, Policies};
use replay::{Evaluator, Replay, Report, Side};

use super::table::BEGIN_MICROS;

/// Two requests in any second for each address.
const PER_ADDRESS: &str = "{version: 1, policies: [{name: address, by: [client.ip], missing: deny, \
                           limits: [{name: rate, limit: 2, per: 1s, algorithm: sliding_window}]}]}";

fn hash_key() -> Option<HashKey> {
    HashKey::new(b"the secret of digests")
}

fn policies(file: &str) -> Policies {
    let options = LoadOptions {
        key_prefix: String::new(),
        hash_key: hash_key(),
        require_end: false,
        now: Instant::from_micros(BEGIN_MICROS),
    };
    Policies::load(file.as_bytes(), &options).unwrap_or_else(|error| panic!("{error}"))
}

fn replay<L: AsRef<[u8]>>(
    new: &str,
    old: Option<&str>,
    lines: impl IntoIterator<Item = L>,
) -> Report {
    let new = Side::new(policies(new), hash_key());
    let old = old.map(|old| Side::new(policies(old), hash_key()));
    let mut replay = Replay::new(&new, old.as_ref());
    for line in lines {
        replay.add(line.as_ref());
    }
    replay.finish()
}

/// A line of the combined log format at a second after 12:00.
fn line(second: u32, target: &str) -> String {
    let (minute, second) = (second / 60, second % 60);
    format!(
        "203.0.113.7 - ann [15/Jan/2027:12:{minute:02}:{second:02} +0000] \"GET {target} HTTP/1.1\" \
         200 5 \"-\" \"a \\\" b\"\n"
    )
}

#[test]
fn requests_of_one_second_are_spread_evenly() {
    // Four requests at 0, 250, 500 and 750 ms; of the next second, those at 1000 and 1250 ms are a
    // window after a grant.
    let lines = [0, 0, 0, 0, 1, 1, 1, 1].map(|second| line(second, "/"));
    let report = replay(PER_ADDRESS, None, lines);
    assert_eq!((report.lines, report.judged), (8, 8));
    assert_eq!((report.new.allowed, report.new.denied), (4, 4));
    let row = &report.new.limits[0];
    assert_eq!((&*row.policy, &*row.limit), ("address", "rate"));
    assert_eq!((row.outcomes.allowed, row.outcomes.denied), (4, 4));
    assert_eq!(report.new.keys[0].key, "policy:rate:sw:{address|203.0.113.7}");
    assert_eq!(report.from.as_deref(), Some("2027-01-15T12:00:00Z"));
    assert_eq!(report.until.as_deref(), Some("2027-01-15T12:00:01.75Z"));
}

#[test]
fn a_minute_of_disorder_is_sorted_and_more_is_counted() {
    let sorted = replay(PER_ADDRESS, None, [0, 20, 40, 59, 60].map(|second| line(second, "/")));
    let mixed = replay(PER_ADDRESS, None, [60, 0, 40, 59, 20].map(|second| line(second, "/")));
    assert_eq!(sorted.to_json().unwrap(), mixed.to_json().unwrap());
    assert_eq!((mixed.judged, mixed.skipped.late), (5, 0));
    let late = replay(PER_ADDRESS, None, [61, 0].map(|second| line(second, "/")));
    assert_eq!((late.judged, late.skipped.late), (1, 1));
}

#[test]
fn requests_whose_identity_is_not_in_the_log_are_skipped_and_counted() {
    for missing in ["deny", "skip", "share"] {
        let file = format!(
            "{{version: 1, policies: [{{name: user, match: {{path: /v1/**}}, by: [jwt.sub], missing: \
             {missing}, limits: [{{name: rate, limit: 1, per: 1m}}]}}, {{name: site, by: [], limits: \
             [{{name: rate, limit: 100, per: 1m}}]}}]}}"
        );
        let lines = [line(0, "/v1/a?x=y"), line(1, "/other"), "no log".to_owned()];
        let report = replay(&file, None, lines);
        assert_eq!((report.lines, report.judged), (3, 1), "{missing}");
        assert_eq!(report.skipped.identities.get("jwt.sub"), Some(&1));
        assert_eq!(report.skipped.malformed, 1);
        assert_eq!(report.absent, ["jwt.sub"]);
        assert!(report.to_string().contains("1 lines lack `jwt.sub`"), "{report}");
    }
}

#[test]
fn a_decision_log_gets_the_same_decisions_again() {
    let file = "{version: 1, unmatched: deny, policies: [
        {name: user, match: {path: /v1/**}, by: [user], missing: skip, limits: [
            {name: rate, limit: 3, per: 1s}, {name: minute, limit: 120, per: 1m, algorithm: sliding_window},
            {name: tokens, limit: 1500, per: 1m, algorithm: fixed_window, charge: always,
             cost: {from: tokens, default: 1, max: 100}}]},
        {name: rest, match: {method: GET}, by: [client.ip], missing: deny, limits: [
            {name: rate, limit: 5, per: 1s}]}]}";
    let policies = policies(file);
    let (mut evaluator, mut lines, mut denied) = (Evaluator::new(), Vec::new(), 0);
    for number in 0..2_000_u64 {
        let micros = BEGIN_MICROS + number * 37_123;
        let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let user = ["ann", "bob", ""][random as usize % 3];
        let mut values = vec![("path", ["/v1/x", "/y"][random as usize / 3 % 2].to_owned())];
        values.push(("method", ["GET", "PUT"][random as usize / 6 % 2].to_owned()));
        values.push(("tokens", (random / 12 % 30).to_string()));
        if !user.is_empty() {
            values.push(("user", user.to_owned()));
        }
        let mut attributes = Attributes::new(Entry::Check, policies.path_form());
        for (name, value) in &values {
            attributes.set(name, value).unwrap();
        }
        let now = Instant::from_micros(micros);
        let judgement = policies.judge(&attributes, now).unwrap();
        let allowed = evaluator.decide(&judgement, None, now).allowed;
        denied += u64::from(!allowed);
        let attributes: serde_json::Map<String, serde_json::Value> = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
            .collect();
        lines.push(
            serde_json::json!({"time": micros, "attributes": attributes, "allowed": allowed})
                .to_string(),
        );
    }
    let report = replay(file, None, lines);
    assert_eq!(report.agreement, Some([2_000, 0]));
    assert_eq!((report.new.denied, report.judged), (denied, 2_000));
    assert!((200..1_800).contains(&denied), "{denied} denials");
}

#[test]
fn digests_of_a_decision_log_are_judged_as_the_secrets() {
    let file = "{version: 1, secret: [key], policies: [
        {name: partner, match: {key: k-partner}, by: [key], missing: deny, limits: [{name: r, limit: 1, per: 1h}]},
        {name: rest, by: [key], missing: share, limits: [{name: r, limit: 2, per: 1h}]}]}";
    let digest = |text: &str| hash_key().unwrap().digest(text.as_bytes());
    let line = |key: &str, allowed: bool| {
        let time = BEGIN_MICROS;
        serde_json::json!({"time": time, "attributes": {"key": key}, "allowed": allowed})
            .to_string()
    };
    let (partner, other) = (digest("k-partner"), digest("k-1"));
    let lines = [
        line(&partner, true),
        line(&partner, false),
        line(&other, true),
        line(&other, true),
        line(&other, false),
    ];
    let report = replay(file, None, &lines);
    assert_eq!(report.agreement, Some([5, 0]), "{report}");
    assert_eq!(report.new.keys[0].key, format!("policy:r:tb:{{partner|{partner}}}"));
    // In another log the text is the value.
    let plain = serde_json::json!({"time": BEGIN_MICROS, "attributes": {"key": &partner}});
    let report = replay(file, None, [plain.to_string()]);
    assert_eq!(report.new.limits[0].policy, "rest");

    let starred = file.replace("k-partner", "'k-*'");
    let report = replay(&starred, None, &lines);
    assert_eq!((report.judged, report.skipped.secrets.get("key")), (0, Some(&5)));
    assert!(report.to_string().contains("5 lines need the value of `key`"), "{report}");
}

#[test]
fn other_lines_of_the_log_of_a_gateway_are_no_requests() {
    let lines = [
        r#"{"timestamp":"2027-01-15T12:00:00Z","level":"INFO","message":"answered","allowed":true,"target":"ratelimit_gateway"}"#,
        r#"{"time":"2027-01-15T12:00:00.000000Z","attributes":{"client.ip":"192.0.2.7"},"allowed":true}"#,
    ];
    let report = replay(PER_ADDRESS, None, lines);
    assert_eq!((report.lines, report.judged, report.skipped.events), (2, 1, 1));
    assert_eq!(report.agreement, Some([1, 0]));
}

#[test]
fn lists_and_bytes_of_a_decision_log_are_values() {
    let file = "{version: 1, unmatched: deny, policies: [{name: a, match: {jwt.groups: staff}, \
                by: [word], missing: deny, limits: [{name: r, limit: 1, per: 1h}]}]}";
    let lines = [
        (r#"{"jwt.groups":["staff",7],"word":{"hex":"ff"}}"#, true),
        (r#"{"jwt.groups":["other"],"word":{"hex":"ff"}}"#, false),
        (r#"{"jwt.groups":["staff"],"word":{"hex":"ff"}}"#, false),
    ];
    let line = |(attributes, allowed): &(&str, bool)| {
        format!(r#"{{"time":{BEGIN_MICROS},"attributes":{attributes},"allowed":{allowed}}}"#)
    };
    let report = replay(file, None, lines.iter().map(line));
    assert_eq!(report.agreement, Some([3, 0]), "{report}");
    assert_eq!(report.new.keys[0].key, "policy:r:tb:{a|%FF}");
}

#[test]
fn a_change_of_the_file_is_compared_with_the_old_file() {
    let half = PER_ADDRESS.replace("limit: 2", "limit: 1");
    let lines = [0, 0, 2, 2].map(|second| line(second, "/"));
    let report = replay(&half, Some(PER_ADDRESS), lines);
    let changes = report.changes.unwrap();
    assert_eq!((changes.newly_denied, changes.newly_allowed), (2, 0));
    assert_eq!(report.old.as_ref().unwrap().denied, 0);
    let table = report.to_string();
    assert!(table.contains("2 requests are newly denied, and 0 newly allowed."), "{table}");
    assert!(table.lines().any(|line| line.contains("old denied")), "{table}");
}

#[test]
fn leases_without_a_duration_are_skipped() {
    let file = "{version: 1, policies: [{name: jobs, by: [], entry: [check], limits: \
                [{name: slots, limit: 1, ttl: 1h, algorithm: concurrency}]}]}";
    let lease = |second: u64, holder: &str, rest: &str| {
        format!("{{\"time\": {}, \"lease\": \"{holder}\"{rest}}}", 1_800_014_400 + second)
    };
    let lines = [
        lease(0, "a", ", \"duration\": 1.5"),
        lease(1, "b", ", \"duration\": 1"),
        lease(2, "c", ", \"duration\": 1"),
        lease(2, "d", ""),
    ];
    let report = replay(file, None, lines);
    assert_eq!((report.new.allowed, report.new.denied, report.skipped.leases), (2, 1, 1));
}

#[test]
fn trials_and_overrides_have_rows_of_their_own() {
    let file = "{version: 1, policies: [
        {name: trial, by: [client.ip], missing: deny, shadow: true, limits: [{name: rate, limit: 1, per: 1m}]},
        {name: site, by: [client.ip], missing: deny, limits: [{name: rate, limit: 9, per: 1m}],
         overrides: [{match: {path: /free}, unlimited: true, reason: test},
                     {match: {path: /closed}, block: true, reason: test}]}]}";
    let lines = ["/", "/", "/free", "/closed"].map(|target| line(0, target));
    let report = replay(file, None, lines);
    let rows = report.new.limits.iter().map(|row| {
        let outcomes = row.outcomes;
        let counts = [outcomes.allowed, outcomes.denied, outcomes.shadow_denied];
        (row.policy.as_str(), row.limit.as_str(), counts)
    });
    let rows: Vec<_> = rows.collect();
    assert_eq!(
        rows,
        [
            ("site", "(override)", [1, 1, 0]),
            ("site", "rate", [2, 0, 0]),
            ("trial", "rate", [1, 0, 2]),
        ]
    );
}

#[test]
fn no_line_makes_a_replay_fail() {
    let lines: [&[u8]; 14] = [
        b"\xff\xfe",
        b"{",
        b"{}",
        b"{\"time\": \"soon\"}",
        b"{\"time\": -1}",
        b"{\"time\": 1e300, \"path\": \"/\"}",
        b"{\"time\": 1800014400, \"attributes\": 1}",
        b"{\"time\": 1800014400, \"entry\": \"door\"}",
        b"{\"time\": 1800014400, \"path\": \"/%zz\"}",
        b"{\"time\": 1800014400, \"client.ip\": \"x\"}",
        b"{\"time\": 1800014400, \"jwt.\": \"x\", \"policy\": \"none\"}",
        b"- - - [] \"\"",
        b"1.2.3.4 - - [15/Jan/2027:12:00:00 +0000] \"\x16\x03\" 400 0",
        b"1.2.3.4 - - [99/Jan/2027:12:00:00 +0000] \"GET / HTTP/1.1\" 200 0",
    ];
    let report = replay(PER_ADDRESS, None, lines);
    assert_eq!((report.lines, report.judged), (14, 0), "{report}");
}

#[test]
fn a_page_contains_names_of_a_log_as_text() {
    let file = "{version: 1, policies: [{name: agent, by: [header.user-agent], missing: deny, limits: \
                [{name: rate, limit: 1, per: 1m}]}]}";
    let line = line(0, "/").replace("a \\\" b", "<script>&");
    let page = replay(file, Some(file), [&line, &line, "x"]).to_html();
    assert!(page.contains("<td>agent</td>") && page.contains("<th>old denied</th>"), "{page}");
    // The key has the value with escapes of its own.
    assert!(page.contains("%3Cscript%3E%26") && !page.contains("<script"), "{page}");
}
