//! Grants within transactions, scripts and functions: a replica receives them as one unit with the
//! other writes, and read-only scripts cannot take units.

use crate::harness::{Client, Server, Snapshot};

const KEYS: [&str; 2] = ["{user}bucket", "{user}log"];

/// Takes from both keys, increments a third key, and returns the number of granted units.
const GRANT: &str = "
    redis.call('INCRBY', KEYS[3], 1)
    local bucket = redis.call('RATELIMIT.TB', KEYS[1], 3, 60)
    local log = redis.call('RATELIMIT.SW', KEYS[2], 3, 60)
    return bucket[1] + log[1]";

const TAKE: &str = "return redis.call('RATELIMIT.TB', KEYS[1], 3, 60)[1]";
const PEEK: &str = "return redis.call('RATELIMIT.PEEK', KEYS[1], 'TB', 3, 60)[3]";

/// Starts a primary, and a replica that stops when it receives a command that it cannot apply.
fn pair() -> (Server, Server) {
    let primary = Server::builder().config("repl-ping-replica-period", "86400").start();
    let replica = Server::builder().config("propagation-error-behavior", "panic").start();
    replica.follow(&primary);
    (primary, replica)
}

#[test]
fn grants_in_a_transaction_arrive_as_one() {
    assert_arrives_as_one(|client| {
        client.call::<()>("MULTI");
        client.call::<()>("INCRBY {user}count 1");
        client.call::<()>("RATELIMIT.TB {user}bucket 3 60");
        client.call::<()>("RATELIMIT.SW {user}log 3 60");
        let (_, bucket, log): (i64, [i64; 5], [i64; 5]) = client.call("EXEC");
        bucket[0] + log[0]
    });
}

#[test]
fn grants_in_a_script_arrive_as_one() {
    assert_arrives_as_one(|client| run(client, &["EVAL", GRANT]));
}

#[test]
fn grants_in_a_function_arrive_as_one() {
    assert_arrives_as_one(|client| {
        register(client, GRANT, "");
        run(client, &["FCALL", "run"])
    });
}

#[test]
fn denials_in_a_script_or_a_transaction_send_nothing() {
    let (primary, _replica) = pair();
    let mut client = primary.client();
    register(&mut client, TAKE, "");
    client.decide("RATELIMIT.TB {user}bucket 3 366 COST 3");
    let offset = |client: &mut Client| client.info("replication", "master_repl_offset");
    let before = offset(&mut client);
    assert_eq!(run(&mut client, &["EVAL", TAKE]), 0);
    assert_eq!(run(&mut client, &["FCALL", "run"]), 0);
    client.call::<()>("MULTI");
    client.call::<()>("RATELIMIT.TB {user}bucket 3 366");
    client.call::<()>("EXEC");
    assert_eq!(offset(&mut client), before);
}

#[test]
fn scripts_and_functions_that_only_read_may_peek() {
    let (primary, replica) = pair();
    register(&mut primary.client(), PEEK, "flags = {'no-writes'}");
    primary.client().decide("RATELIMIT.TB {user}bucket 3 366");
    replica.catch_up_with(&primary);
    let flagged = format!("#!lua flags=no-writes\n{PEEK}");
    for client in [&mut primary.client(), &mut replica.client()] {
        for call in [["EVAL_RO", PEEK], ["FCALL_RO", "run"], ["EVAL", &flagged], ["FCALL", "run"]] {
            assert_eq!(run(client, &call), 2, "{call:?}");
        }
    }
}

#[test]
fn scripts_and_functions_that_only_read_may_not_take() {
    let server = Server::start();
    let mut client = server.client();
    register(&mut client, TAKE, "flags = {'no-writes'}");
    let flagged = format!("#!lua flags=no-writes\n{TAKE}");
    for call in [["EVAL_RO", TAKE], ["FCALL_RO", "run"], ["EVAL", &flagged], ["FCALL", "run"]] {
        let refusal = client.refusal_of(&with_keys(&call));
        let rule = "Write commands are not allowed from read-only scripts";
        assert!(refusal.contains(rule), "{call:?} answers {refusal}");
    }
    assert_eq!(client.call::<i64>("EXISTS {user}bucket"), 0);
}

#[test]
fn a_refund_in_a_script_gives_back_what_the_script_took() {
    let server = Server::start();
    let mut client = server.client();
    for (take, amount) in [
        ("'RATELIMIT.TB', KEYS[1], 1, 86400", 1),
        ("'RATELIMIT.TB', KEYS[1], 5, 3600, 'COST', 5", 5),
        ("'RATELIMIT.SW', KEYS[1], 5, 3600, 'COST', 5", 5),
    ] {
        let script =
            format!("redis.call({take}) return redis.call('RATELIMIT.REFUND', KEYS[1], {amount})");
        assert_eq!(run(&mut client, &["EVAL", &script]), amount, "{take}");
        assert_eq!(client.call::<i64>("EXISTS {user}bucket"), 0, "{take}");
    }
}

#[test]
fn the_longest_time_is_exact_in_a_script() {
    let server = Server::start();
    let mut client = server.client();
    let script = "
        local quota = {1, 31622400, 'BURST', 1000000000, 'COST', 1000000000}
        redis.call('RATELIMIT.TB', KEYS[1], unpack(quota))
        return redis.call('RATELIMIT.TB', KEYS[1], unpack(quota))";
    let [granted, _, remaining, retry_after_ms, reset_after_ms]: [i64; 5] =
        client.send(&with_keys(&["EVAL", script]));
    assert_eq!((granted, remaining), (0, 0));
    assert_eq!((retry_after_ms, reset_after_ms), ((1 << 53) - 1, (1 << 53) - 1));
}

#[test]
fn set_repl_does_not_stop_the_replication_of_a_grant() {
    let (primary, replica) = pair();
    let mut client = primary.client();
    let script = format!("redis.set_repl(redis.REPL_NONE) {TAKE}");
    assert_eq!(run(&mut client, &["EVAL", &script]), 1);
    replica.catch_up_with(&primary);
    let bucket = &KEYS[..1];
    assert_eq!(Snapshot::all(&mut replica.client(), bucket), Snapshot::all(&mut client, bucket));
    assert_eq!(replica.client().call::<i64>("EXISTS {user}bucket"), 1);
}

/// Asserts that three granted calls reach a replica as three transactions that contain only effects
/// and the other writes, and that both servers then have the same values.
fn assert_arrives_as_one(mut grant: impl FnMut(&mut Client) -> i64) {
    let (primary, replica) = pair();
    let mut client = primary.client();
    for _ in 0..3 {
        assert_eq!(grant(&mut client), 2);
    }
    replica.catch_up_with(&primary);
    let mut copy = replica.client();
    assert_eq!(Snapshot::all(&mut copy, &KEYS), Snapshot::all(&mut client, &KEYS));
    assert_eq!(copy.call::<i64>("GET {user}count"), 3);
    let stats: String = copy.call("INFO commandstats");
    for (command, calls) in [("multi", 3), ("exec", 3), ("incrby", 3), ("ratelimit.apply", 6)] {
        let line = format!("cmdstat_{command}:calls={calls},");
        assert!(stats.contains(&line), "{line} is not in\n{stats}");
    }
    for command in ["eval", "fcall", "ratelimit.tb", "ratelimit.sw"] {
        assert!(!stats.contains(&format!("cmdstat_{command}:")), "{command} reached the replica");
    }
}

/// Calls a script or a function with the keys of these tests.
fn run(client: &mut Client, call: &[&str]) -> i64 {
    client.send(&with_keys(call))
}

fn with_keys<'a>(call: &[&'a str]) -> Vec<&'a [u8]> {
    let keys = ["3", KEYS[0], KEYS[1], "{user}count"];
    call.iter().chain(&keys).map(|word| word.as_bytes()).collect()
}

/// Registers a script as the function `run`.
fn register(client: &mut Client, script: &str, flags: &str) {
    let library = format!(
        "#!lua name=limits\n
        redis.register_function{{
            function_name = 'run', callback = function(KEYS) {script} end, {flags}
        }}"
    );
    client.send::<()>(&[b"FUNCTION", b"LOAD", b"REPLACE", library.as_bytes()]);
}
