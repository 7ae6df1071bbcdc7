//! Access rules: the server applies them to every command, for each user.

use std::fs;

use limiter::{Encode, Instant, Limit, Limiter, Request, TokenBucket, Units, Window};
use redis::Value;
use tempfile::NamedTempFile;

use crate::harness::{Client, NOON, Server, eventually};

/// One call of every command that is meant for users.
const CALLS: [&str; 13] = [
    "RATELIMIT.TB bucket 10 60",
    "RATELIMIT.SW log 10 60",
    "RATELIMIT.FW window 10 60",
    "RATELIMIT.ACQUIRE leases 5 60 holder",
    "RATELIMIT.RENEW leases 60 holder",
    "RATELIMIT.HOLDERS leases",
    "RATELIMIT.RELEASE leases holder",
    "RATELIMIT.RESERVE reservation 60 2 bucket log TB 10 60 SW 10 60",
    "RATELIMIT.SETTLE reservation 2 bucket log ACTUAL 1 2",
    "RATELIMIT.MULTI 2 bucket log TB 10 60 SW 10 60",
    "RATELIMIT.PEEK bucket TB 10 60",
    "RATELIMIT.REFUND log 1",
    "RATELIMIT.RESET bucket log",
];

/// The commands that a right to read is enough for.
const READERS: [&str; 2] = ["RATELIMIT.PEEK", "RATELIMIT.HOLDERS"];

const COMMANDS: [&str; 13] = [
    "ratelimit.acquire",
    "ratelimit.fw",
    "ratelimit.holders",
    "ratelimit.multi",
    "ratelimit.peek",
    "ratelimit.refund",
    "ratelimit.release",
    "ratelimit.renew",
    "ratelimit.reserve",
    "ratelimit.reset",
    "ratelimit.settle",
    "ratelimit.sw",
    "ratelimit.tb",
];

#[test]
fn a_user_with_the_modules_category_may_call_its_commands_and_nothing_else() {
    let server = Server::at(NOON);
    let mut client = user(&server, &format!("~* {}", all_commands(&server)));
    for call in CALLS {
        allows(&mut client, call);
    }
    for call in ["GET bucket", "DEL bucket", "CONFIG GET maxmemory", "FLUSHALL"] {
        refuses(&mut client, call);
    }
}

#[test]
fn a_user_without_rights_may_call_nothing() {
    let server = Server::at(NOON);
    for rules in ["", "~* +get +set +del", "+@all"] {
        let mut client = user(&server, rules);
        for call in CALLS {
            refuses(&mut client, call);
        }
    }
    assert_eq!(server.client().call::<i64>("DBSIZE"), 0);
}

#[test]
fn a_user_with_read_only_keys_may_only_read() {
    let server = Server::at(NOON);
    server.client().decide("RATELIMIT.TB bucket 10 60");
    let before: Vec<u8> = server.client().call("DUMP bucket");
    let mut client = user(&server, "%R~* +@all");
    may_only(&mut client, &READERS);
    assert_eq!(server.client().call::<Vec<u8>>("DUMP bucket"), before);
}

#[test]
fn a_user_with_write_only_keys_may_reset_and_learn_nothing() {
    let server = Server::at(NOON);
    let mut client = user(&server, "%W~* +@all");
    may_only(&mut client, &["RATELIMIT.RESET"]);
}

#[test]
fn a_user_who_may_only_read_may_only_peek_and_list() {
    let server = Server::at(NOON);
    let rules =
        if has_categories(&server) { "~* +@read" } else { "~* +ratelimit.peek +ratelimit.holders" };
    let mut client = user(&server, rules);
    may_only(&mut client, &READERS);
}

#[test]
fn a_user_may_reach_only_keys_that_match_a_pattern() {
    let server = Server::at(NOON);
    let mut client = user(&server, "~quota:* +@all");
    for (call, allowed) in [
        ("RATELIMIT.TB quota:a 10 60", true),
        ("RATELIMIT.TB other 10 60", false),
        ("RATELIMIT.SW quota:b 10 60", true),
        ("RATELIMIT.SW other 10 60", false),
        ("RATELIMIT.PEEK quota:a TB 10 60", true),
        ("RATELIMIT.PEEK other TB 10 60", false),
        ("RATELIMIT.REFUND quota:a 1", true),
        ("RATELIMIT.REFUND other 1", false),
        ("RATELIMIT.MULTI 2 quota:a quota:b TB 10 60 SW 10 60", true),
        ("RATELIMIT.MULTI 2 quota:a other TB 10 60 SW 10 60", false),
        ("RATELIMIT.MULTI 2 other quota:a SW 10 60 TB 10 60", false),
        ("RATELIMIT.RESERVE quota:r 60 2 quota:a quota:b TB 10 60 SW 10 60", true),
        ("RATELIMIT.RESERVE other 60 2 quota:a quota:b TB 10 60 SW 10 60", false),
        ("RATELIMIT.RESERVE quota:r 60 2 quota:a other TB 10 60 SW 10 60", false),
        ("RATELIMIT.SETTLE other 2 quota:a quota:b", false),
        ("RATELIMIT.SETTLE quota:r 2 quota:a other", false),
        ("RATELIMIT.SETTLE quota:r 2 quota:a quota:b", true),
        ("RATELIMIT.RESET quota:a other", false),
        ("RATELIMIT.RESET other quota:a", false),
        ("RATELIMIT.RESET quota:a quota:b", true),
    ] {
        if allowed {
            allows(&mut client, call);
        } else {
            refuses(&mut client, call);
        }
    }
    assert_eq!(server.client().call::<i64>("DBSIZE"), 0);
}

/// The server finds the keys by their number, and lets a call pass in which it finds no key.
#[test]
fn a_false_number_of_keys_passes_no_pattern() {
    let server = Server::at(NOON);
    let mut client = user(&server, "~quota:* +@all");
    for numkeys in [
        "0",
        "-1",
        "+1",
        "01",
        "1.0",
        "1x",
        "0x1",
        "9",
        "4294967297",
        "9223372036854775808",
        "18446744073709551617",
    ] {
        for keys in ["other", "quota:a other", "other quota:a"] {
            let limits = "TB 10 60 TB 10 60";
            client.refusal(&format!("RATELIMIT.MULTI {numkeys} {keys} {limits}"));
            client.refusal(&format!("RATELIMIT.RESERVE quota:r 60 {numkeys} {keys} {limits}"));
            client.refusal(&format!("RATELIMIT.SETTLE quota:r {numkeys} {keys} ACTUAL 1 1"));
        }
    }
    assert_eq!(server.client().call::<i64>("DBSIZE"), 0);
}

#[test]
fn no_ordinary_user_may_apply_an_effect() {
    let server = Server::at(NOON);
    let own = format!("~* {}", all_commands(&server));
    for rules in [
        own.as_str(),
        "~* +@all -@dangerous",
        "~* +@all -@admin -@dangerous",
        "~* +@write +@read +@fast",
        "~* +@all -ratelimit.apply",
    ] {
        let mut client = user(&server, rules);
        let error = apply(&mut client, "direct").expect_err(rules);
        let unknown = error.detail().is_some_and(|detail| detail.starts_with("unknown command"));
        assert!(error.code() == Some("NOPERM") || unknown, "{rules}: {error}");
        // These calls may fail at any point; the test requires that they change nothing.
        let effect = effect();
        let _ = client.reply(&[b"MULTI"]);
        let _ = apply(&mut client, "queued");
        let _ = client.reply(&[b"EXEC"]);
        let script = b"return redis.call('RATELIMIT.APPLY', KEYS[1], ARGV[1])";
        let _ = client.reply(&[b"EVAL", script, b"1", b"scripted", &effect]);
    }
    assert_eq!(server.client().call::<i64>("EXISTS direct queued scripted"), 0);
}

#[test]
fn no_tenant_may_list_denied_keys() {
    let server = Server::at(NOON);
    server.client().decide("RATELIMIT.TB tenant-b:secret 1 60 COST 2");
    let own = all_commands(&server);
    for rules in [
        own.as_str(),
        "+@all -@dangerous",
        "+@all -@admin",
        "+@all -@dangerous -@admin",
        "+@all -ratelimit.top",
        "+@read +@write +@fast",
    ] {
        for keys in ["~tenant-a:*", "~*"] {
            let mut client = user(&server, &format!("{keys} {rules}"));
            refuses(&mut client, "RATELIMIT.TOP");
            // These calls may fail at any point; the test requires that no reply has the name of a
            // key.
            let script: &[&[u8]] = &[b"EVAL", b"return redis.call('RATELIMIT.TOP')", b"0"];
            for call in [&[b"MULTI" as &[u8]] as &[&[u8]], &[b"RATELIMIT.TOP"], &[b"EXEC"], script]
            {
                let answer = format!("{:?}", client.reply(call));
                assert!(!answer.contains("secret"), "{keys} {rules}: {answer}");
            }
        }
    }
}

#[test]
fn an_operator_may_list_denied_keys() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.TB key 1 60 COST 2");
    let expected = [("key".to_owned(), 1)];
    assert_eq!(client.call::<Vec<(String, i64)>>("RATELIMIT.TOP"), expected);
    for rules in ["+@all", "+@admin +ratelimit.top", "+ratelimit.top +slowlog|get"] {
        let listed: Vec<(String, i64)> = user(&server, rules).call("RATELIMIT.TOP");
        assert_eq!(listed, expected, "{rules}");
    }
}

/// Excluding a category that the documentation names excludes every command that it puts there.
#[test]
fn a_user_without_a_category_may_call_none_of_its_commands() {
    let server = Server::at(NOON);
    let mut client = server.client();
    if has_own_category(&server) {
        let mut client = user(&server, "~* +@all -@ratelimit");
        for call in CALLS {
            refuses(&mut client, call);
        }
    } else {
        let refusal = client.refusal("ACL SETUSER someone +@all -@ratelimit");
        assert!(refusal.contains("Unknown command or category"), "{refusal}");
    }
    if has_categories(&server) {
        let mut client = user(&server, "~* +@all -@write");
        may_only(&mut client, &READERS);
        let mut client = user(&server, "~* +@all -@fast");
        for call in CALLS {
            refuses(&mut client, call);
        }
    }
    for category in ["admin", "dangerous"] {
        let mut client = user(&server, &format!("~* +@all -@{category}"));
        refuses(&mut client, "RATELIMIT.TOP");
        apply(&mut client, "key").expect_err("only servers apply effects");
    }
}

/// A user is often made before the module is loaded: at that time no category has its commands.
#[test]
fn users_created_before_the_module_is_loaded_have_no_more_rights() {
    let server = Server::builder().without_module().config("enable-module-command", "yes").start();
    let mut operator = server.client();
    operator.call::<()>("ACL SETUSER someone reset on nopass ~* +@all -@dangerous -@admin");
    server.load_module();
    operator.decide("RATELIMIT.TB secret 1 60 COST 2");
    let mut client = server.client();
    client.call::<()>("AUTH someone password");
    refuses(&mut client, "RATELIMIT.TOP");
    apply(&mut client, "key").expect_err("only servers apply effects");
    assert_eq!(operator.call::<i64>("EXISTS key"), 0);
}

#[test]
fn a_server_may_apply_an_effect_and_so_may_its_administrator() {
    let server = Server::at(NOON);
    let mut client = server.client().acting_as_a_server();
    assert_eq!(apply(&mut client, "bucket").unwrap(), Value::Okay);
    assert_eq!(client.decide("RATELIMIT.PEEK bucket TB 10 60")[2], 7);
}

#[test]
fn a_dry_run_reports_the_rights_of_a_user() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let rules = if has_categories(&server) { "+@read" } else { "+ratelimit.peek" };
    client.call::<()>(&format!("ACL SETUSER someone reset on nopass ~quota:* {rules}"));
    let peek = "ACL DRYRUN someone RATELIMIT.PEEK";
    assert_eq!(client.call::<Value>(&format!("{peek} quota:a TB 10 60")), Value::Okay);
    for call in ["RATELIMIT.PEEK other TB 10 60", "RATELIMIT.TB quota:a 10 60"] {
        let answer: String = client.call(&format!("ACL DRYRUN someone {call}"));
        assert!(answer.contains("no permissions"), "{call}: {answer}");
    }
    if has_categories(&server) {
        client.call::<()>("ACL SETUSER someone reset on nopass ~* +@all -@dangerous");
        let answer: String = client.call("ACL DRYRUN someone RATELIMIT.APPLY key payload");
        assert!(answer.contains("no permissions"), "{answer}");
    }
}

#[test]
fn the_modules_category_has_exactly_the_commands_for_users() {
    let server = Server::at(NOON);
    let mut client = server.client();
    if !has_own_category(&server) {
        client.refusal("ACL CAT ratelimit");
        return;
    }
    let mut listed: Vec<String> = client.call("ACL CAT ratelimit");
    listed.sort();
    // On some servers ACL CAT lists no command of any module.
    let writers: Vec<String> = client.call("ACL CAT write");
    let expected: &[&str] =
        if writers.iter().any(|name| name == "ratelimit.tb") { &COMMANDS } else { &[] };
    assert_eq!(listed, expected);
}

#[test]
fn effects_arrive_where_users_may_not_apply_them() {
    let rules = NamedTempFile::new().unwrap();
    let default = "user default on nopass ~* &* +@all -@dangerous -ratelimit.apply";
    fs::write(&rules, format!("{default} +debug +info +psync +replconf\n")).unwrap();
    let restricted = || Server::builder().config("aclfile", rules.path().to_str().unwrap());
    let mut primary = restricted().clock(NOON).config("appendonly", "yes").start();
    let replica = restricted().clock_of(&primary).replica_of(&primary).start();
    eventually("the replica follows", || {
        let mut client = replica.client();
        (client.info("replication", "master_link_status") == "up").then_some(())
    });
    let mut client = primary.client();
    for cost in 1..=20 {
        client.decide(&format!("RATELIMIT.TB bucket 1000 60 COST {cost}"));
        client.decide(&format!("RATELIMIT.SW log 1000 60 COST {cost}"));
    }
    client.call::<i64>("RATELIMIT.REFUND log 5");
    let expected = digests(&primary);
    assert!(expected.iter().all(|digest| digest.contains(|digit| digit != '0')), "{expected:?}");
    eventually("the replica catches up", || (digests(&replica) == expected).then_some(()));
    primary.restart();
    assert_eq!(digests(&primary), expected);
}

/// Returns the digests of a bucket and a log.
fn digests(server: &Server) -> Vec<String> {
    server.client().call("DEBUG DIGEST-VALUE bucket log")
}

/// Returns a client of a user that has only these rights.
fn user(server: &Server, rules: &str) -> Client {
    server.client().call::<()>(&format!("ACL SETUSER someone reset on nopass {rules}"));
    let mut client = server.client();
    client.call::<()>("AUTH someone password");
    client
}

/// Returns the rules that permit every command of the module for users.
fn all_commands(server: &Server) -> String {
    if has_own_category(server) {
        return "+@ratelimit".to_owned();
    }
    COMMANDS.map(|name| format!("+{name}")).join(" ")
}

fn has_own_category(server: &Server) -> bool {
    let categories: Vec<String> = server.client().call("ACL CAT");
    categories.iter().any(|category| category == "ratelimit")
}

/// Returns whether the server puts commands of modules into categories.
fn has_categories(server: &Server) -> bool {
    let [info]: [Vec<Value>; 1] = server.client().call("COMMAND INFO ratelimit.tb");
    let categories: Vec<String> = redis::from_redis_value_ref(&info[6]).unwrap();
    !categories.is_empty()
}

/// Asserts that the user may call this command and no other command of the module.
#[track_caller]
fn may_only(client: &mut Client, commands: &[&str]) {
    for call in CALLS {
        if commands.iter().any(|command| call.starts_with(command)) {
            allows(client, call);
        } else {
            refuses(client, call);
        }
    }
}

#[track_caller]
fn allows(client: &mut Client, call: &str) {
    client.call::<Value>(call);
}

#[track_caller]
fn refuses(client: &mut Client, call: &str) {
    let error = client.refusal(call);
    assert!(error.starts_with("NOPERM "), "{call}: {error}");
}

fn apply(client: &mut Client, key: &str) -> Result<Value, redis::RedisError> {
    client.reply(&[b"RATELIMIT.APPLY", key.as_bytes(), &effect()])
}

/// Returns the effect that a primary sends after a call has taken 3 of 10 units from a bucket.
fn effect() -> Vec<u8> {
    let (now, window) = (Instant::from_micros(NOON), Window::from_millis(60_000).unwrap());
    let [limit, cost] = [10, 3].map(|units| Units::new(units).unwrap());
    let mut bucket = TokenBucket::new();
    bucket.take(&Limit::new(limit, window), Request::all(cost), now);
    let mut effect = (NOON / 1_000 + 18_000).to_be_bytes().to_vec();
    bucket.encode(&mut effect);
    effect
}
