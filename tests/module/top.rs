//! RATELIMIT.TOP: the keys with the most denied calls, and the rights to read them.

use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

use crate::harness::{Client, NOON, Server, eventually};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn the_most_denied_keys_come_first_and_equals_in_the_order_of_their_bytes() {
    let server = Server::at(NOON);
    let mut client = server.client();
    assert_eq!(top(&mut client, ""), []);
    for (key, times) in [("b", 2), ("most", 5), ("a", 2), ("once", 1), ("aa", 2)] {
        deny(&mut client, key, times);
    }
    let all = listed(&[("most", 5), ("a", 2), ("aa", 2), ("b", 2), ("once", 1)]);
    assert_eq!(top(&mut client, ""), all);
    assert_eq!(top(&mut client, "COUNT 2"), all[..2]);
    assert_eq!(top(&mut client, "count 10000"), all);
}

#[test]
fn ten_keys_are_listed_unless_a_count_says_otherwise() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for number in 0..40 {
        deny(&mut client, &format!("key:{number}"), 1);
    }
    assert_eq!(top(&mut client, "").len(), 10);
    assert_eq!(top(&mut client, "COUNT 1").len(), 1);
    assert_eq!(top(&mut client, "COUNT 39").len(), 39);
    assert_eq!(top(&mut client, "COUNT 41").len(), 40);
}

#[test]
fn wrong_arguments_are_refused_with_their_rule() {
    let server = Server::start();
    let mut client = server.client();
    for count in
        ["0", "-1", "+1", "01", "1.0", "ten", "10001", "1000000001", "99999999999999999999"]
    {
        let refusal = client.refusal(&format!("RATELIMIT.TOP COUNT {count}"));
        assert_eq!(refusal, "ERR count must be an integer between 1 and 10000", "{count}");
    }
    for (call, rule) in [
        ("RATELIMIT.TOP 10", "ERR options must be COUNT count"),
        ("RATELIMIT.TOP COUNT 10 key", "ERR options must be COUNT count"),
        ("RATELIMIT.TOP COUNT", "ERR COUNT must be followed by a count"),
        ("RATELIMIT.TOP COUNT 1 COUNT 1", "ERR COUNT may be given only once"),
    ] {
        assert_eq!(client.refusal(call), rule, "{call}");
    }
    let [_, max]: [String; 2] = client.call("CONFIG GET ratelimit.top-keys");
    assert_eq!(max, "128");
    client.call::<()>("CONFIG SET ratelimit.top-keys 10000");
    client.refusal("CONFIG SET ratelimit.top-keys 10001");
}

#[test]
fn denials_halve_at_each_full_minute_until_a_key_leaves() {
    let server = Server::at(NOON);
    let mut client = server.client();
    server.clock().advance(MINUTE - Duration::from_micros(1));
    deny(&mut client, "seven", 7);
    deny(&mut client, "one", 1);
    assert_eq!(top(&mut client, ""), listed(&[("seven", 7), ("one", 1)]));
    server.clock().advance(Duration::from_micros(1));
    assert_eq!(top(&mut client, ""), listed(&[("seven", 3)]));
    deny(&mut client, "seven", 1);
    assert_eq!(top(&mut client, ""), listed(&[("seven", 4)]));
    server.clock().advance(2 * MINUTE);
    assert_eq!(top(&mut client, ""), listed(&[("seven", 1)]));
    server.clock().advance(MINUTE);
    assert_eq!(top(&mut client, ""), []);
}

#[test]
fn a_clock_that_steps_back_halves_nothing() {
    let server = Server::at(NOON);
    let mut client = server.client();
    deny(&mut client, "key", 4);
    server.clock().step_back(100 * MINUTE);
    assert_eq!(top(&mut client, ""), listed(&[("key", 4)]));
    deny(&mut client, "key", 4);
    assert_eq!(top(&mut client, ""), listed(&[("key", 8)]));
    server.clock().advance(MINUTE);
    assert_eq!(top(&mut client, ""), listed(&[("key", 4)]));
}

#[test]
fn only_denials_count() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for call in [
        "RATELIMIT.TB bucket 10 60 COST 10",
        "RATELIMIT.SW log 10 60 COST 9",
        "RATELIMIT.SW log 10 60 COST 9 PARTIAL",
        "RATELIMIT.PEEK bucket TB 10 60",
        "RATELIMIT.PEEK log SW 10 60",
        "RATELIMIT.PEEK missing TB 10 60 COST 11",
    ] {
        client.decide(call);
    }
    client.refusal("RATELIMIT.TB bucket 10 0");
    client.refusal("RATELIMIT.SW bucket 10 60");
    assert_eq!(top(&mut client, ""), []);
    client.decide("RATELIMIT.SW log 10 60 PARTIAL");
    assert_eq!(top(&mut client, ""), listed(&[("log", 1)]));
}

#[test]
fn of_several_keys_at_once_those_count_that_denied() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let limits = "TB 10 60 COST 6 SW 10 60 COST 11 TB 10 60 COST 3";
    let multi = format!("RATELIMIT.MULTI 3 bucket log other {limits}");
    client.call::<redis::Value>(&multi);
    assert_eq!(top(&mut client, ""), listed(&[("log", 1)]));
    client.decide("RATELIMIT.TB bucket 10 60 COST 10");
    client.call::<redis::Value>(&multi);
    assert_eq!(top(&mut client, ""), listed(&[("log", 2), ("bucket", 1)]));
    client.call::<redis::Value>("RATELIMIT.MULTI 2 other more TB 10 60 SW 10 60");
    assert_eq!(top(&mut client, ""), listed(&[("log", 2), ("bucket", 1)]));
}

#[test]
fn denials_within_a_transaction_and_a_script_count() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.call::<()>("MULTI");
    client.call::<()>("RATELIMIT.TB key 1 60 COST 2");
    client.call::<()>("RATELIMIT.TOP");
    let (_, listed_within): ([i64; 5], Vec<(String, i64)>) = client.call("EXEC");
    assert_eq!(listed_within, [("key".to_owned(), 1)]);
    let script = b"return redis.call('RATELIMIT.SW', KEYS[1], 1, 60, 'COST', 2)";
    client.send::<[i64; 5]>(&[b"EVAL", script, b"1", b"key"]);
    assert_eq!(top(&mut client, ""), listed(&[("key", 2)]));
}

#[test]
fn no_more_keys_are_kept_than_the_setting_says_and_the_most_denied_stay() {
    let server = Server::builder().clock(NOON).config("ratelimit.top-keys", "3").start();
    let mut client = server.client();
    for (key, times) in [("most", 9), ("least", 4), ("middle", 6)] {
        deny(&mut client, key, times);
    }
    deny(&mut client, "new", 4);
    let kept = listed(&[("most", 9), ("middle", 6), ("least", 4)]);
    assert_eq!(top(&mut client, ""), kept, "the new one was not denied more");
    deny(&mut client, "new", 1);
    let kept = listed(&[("most", 9), ("middle", 6), ("new", 1)]);
    assert_eq!(top(&mut client, ""), kept, "the least denied has gone");
    for number in 0..100 {
        deny(&mut client, &format!("key:{number}"), 1);
        deny(&mut client, "most", 1);
    }
    assert_eq!(top(&mut client, "").len(), 3);
    assert_eq!(top(&mut client, "COUNT 1"), listed(&[("most", 109)]));
}

#[test]
fn a_running_server_keeps_more_or_fewer_keys_or_none() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for number in 1..=5 {
        deny(&mut client, &format!("key:{number}"), number);
    }
    client.call::<()>("CONFIG SET ratelimit.top-keys 2");
    assert_eq!(top(&mut client, ""), listed(&[("key:5", 5), ("key:4", 4)]));
    client.call::<()>("CONFIG SET ratelimit.top-keys 3");
    deny(&mut client, "new", 1);
    let all = listed(&[("key:5", 5), ("key:4", 4), ("new", 1)]);
    assert_eq!(top(&mut client, ""), all);
    client.call::<()>("CONFIG SET ratelimit.top-keys 0");
    deny(&mut client, "key:5", 1);
    assert_eq!(top(&mut client, ""), []);
    assert_eq!(client.info("ratelimit", "ratelimit_top_keys_tracked"), "0");
    client.call::<()>("CONFIG SET ratelimit.top-keys 128");
    assert_eq!(top(&mut client, ""), [], "what was freed does not come back");
    deny(&mut client, "key:5", 1);
    assert_eq!(top(&mut client, ""), listed(&[("key:5", 1)]));
}

#[test]
fn what_is_turned_off_takes_no_memory() {
    let server = Server::builder().clock(NOON).config("ratelimit.top-keys", "10000").start();
    let mut client = server.client();
    let before = client.used_memory();
    let padding = "x".repeat(500);
    for number in 0..10_000 {
        deny(&mut client, &format!("{number:010}{padding}"), 1);
    }
    let full = client.used_memory();
    assert!(full > before + 10_000 * 500, "{before} bytes, then {full}");
    client.call::<()>("CONFIG SET ratelimit.top-keys 0");
    let after = client.used_memory();
    assert!(after < before + 1_000_000, "{before} bytes, then {full}, then {after}");
}

#[test]
fn keys_of_any_bytes_are_listed_and_long_ones_by_their_beginning() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let binary = [0, b'\r', b'\n', 0xff, b' ', 0];
    let long = vec![b'k'; 1_000];
    let other_end = [vec![b'k'; 999], vec![b'!']].concat();
    for (key, times) in [(&binary[..], 1), (b"", 2), (&long, 2), (&other_end, 2)] {
        for _ in 0..times {
            client.send::<[i64; 5]>(&[b"RATELIMIT.TB", key, b"1", b"60", b"COST", b"2"]);
        }
    }
    let expected = [(long[..512].to_vec(), 4), (vec![], 2), (binary.to_vec(), 1)];
    assert_eq!(top(&mut client, ""), expected);
}

#[test]
fn the_selected_database_is_listed() {
    let server = Server::at(NOON);
    let mut client = server.client();
    deny(&mut client, "key", 1);
    client.call::<()>("SELECT 5");
    assert_eq!(top(&mut client, ""), []);
    deny(&mut client, "key", 2);
    assert_eq!(top(&mut client, ""), listed(&[("key", 2)]));
    assert_eq!(client.call::<i64>("RATELIMIT.RESET key"), 0);
    assert_eq!(top(&mut client, ""), []);
    client.call::<()>("SELECT 0");
    assert_eq!(top(&mut client, ""), listed(&[("key", 1)]));
}

#[test]
fn a_reset_forgets_the_key_and_nothing_else_does() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.TB key 10 60 COST 10");
    for key in ["key", "missing", "other"] {
        deny(&mut client, key, 3);
    }
    client.call::<i64>("DEL key");
    client.call::<()>("FLUSHALL");
    assert_eq!(top(&mut client, "").len(), 3);
    client.decide("RATELIMIT.TB key 10 60 COST 10");
    client.call::<()>("SET string value");
    let refusal = client.refusal("RATELIMIT.RESET key string");
    assert!(refusal.starts_with("WRONGTYPE"), "{refusal}");
    assert_eq!(top(&mut client, "").len(), 3, "a refused call has changed nothing");
    assert_eq!(client.call::<i64>("RATELIMIT.RESET key missing"), 1);
    assert_eq!(top(&mut client, ""), listed(&[("other", 3)]));
}

#[test]
fn the_reply_is_nested_arrays_in_either_protocol() {
    let server = Server::at(NOON);
    deny(&mut server.client(), "key", 2);
    deny(&mut server.client(), "k", 1);
    for hello in ["", "HELLO 3\r\n"] {
        let mut socket = server.socket();
        write!(socket, "{hello}PING\r\nRATELIMIT.TOP\r\nPING\r\n").unwrap();
        let lines = BufReader::new(socket).lines().map(Result::unwrap);
        let mut lines = lines.skip_while(|line| line != "+PONG").skip(1);
        let reply: Vec<String> = lines.by_ref().take_while(|line| line != "+PONG").collect();
        assert_eq!(reply, ["*2", "*2", "$3", "key", ":2", "*2", "$1", "k", ":1"], "{hello}");
    }
}

#[test]
fn a_replica_lists_what_it_denied_itself() {
    let primary = Server::at(NOON);
    let replica = Server::builder()
        .clock_of(&primary)
        .config("replica-read-only", "no")
        .replica_of(&primary)
        .start();
    let mut client = replica.client();
    eventually("the replica follows", || {
        (client.info("replication", "master_link_status") == "up").then_some(())
    });
    deny(&mut primary.client(), "key", 3);
    assert_eq!(top(&mut client, ""), []);
    deny(&mut client, "own", 1);
    client.call::<()>("CONFIG SET replica-read-only yes");
    assert_eq!(top(&mut client, ""), listed(&[("own", 1)]));
}

#[test]
fn a_restart_forgets() {
    let mut server = Server::at(NOON);
    deny(&mut server.client(), "key", 1);
    server.restart();
    assert_eq!(top(&mut server.client(), ""), []);
}

#[test]
fn rights_to_read_and_write_all_keys_do_not_permit_listing_them() {
    let server = Server::start();
    let mut client = server.client();
    client.call::<()>("ACL SETUSER user on nopass ~* +@read +@write +@fast");
    let answer: String = client.call("ACL DRYRUN user RATELIMIT.TOP");
    assert!(answer.contains("no permissions"), "{answer}");
    let categories: Vec<String> = client.call("ACL CAT");
    if categories.iter().any(|category| category == "ratelimit") {
        client.call::<()>("ACL SETUSER user +@ratelimit");
        let answer: String = client.call("ACL DRYRUN user RATELIMIT.TOP");
        assert!(answer.contains("no permissions"), "{answer}");
    }
    client.call::<()>("ACL SETUSER user +ratelimit.top");
    assert_eq!(client.call::<String>("ACL DRYRUN user RATELIMIT.TOP"), "OK");
}

/// Makes denied calls on a key, which change nothing else.
fn deny(client: &mut Client, key: &str, times: u32) {
    for _ in 0..times {
        assert_eq!(client.decide(&format!("RATELIMIT.TB {key} 1 60 COST 2"))[0], 0);
    }
}

fn top(client: &mut Client, options: &str) -> Vec<(Vec<u8>, i64)> {
    client.call(&format!("RATELIMIT.TOP {options}"))
}

fn listed(keys: &[(&str, i64)]) -> Vec<(Vec<u8>, i64)> {
    keys.iter().map(|(key, denials)| (key.as_bytes().to_vec(), *denials)).collect()
}
