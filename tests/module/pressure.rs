//! A server in trouble: short of memory, busy, paused, or with modules that are loaded and
//! unloaded. Limiters behave as every value and every command of the server, and work again
//! afterwards.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use limiter::{Effect, LogEffect};
use redis::Value;

use crate::harness::{Client, NOON, Server, Snapshot, effect, eventually, log};

const KEYS: [&str; 2] = ["bucket", "log"];

const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";

#[test]
fn a_full_server_refuses_to_take_and_changes_nothing() {
    let server = Server::at(NOON);
    let mut client = server.client();
    fill(&mut client);
    let before = Snapshot::all(&mut client, &KEYS);
    client.call::<()>("CONFIG SET maxmemory 1");
    for call in [
        "RATELIMIT.TB bucket 10 60",
        "RATELIMIT.TB bucket 10 60 COST 11",
        "RATELIMIT.TB missing 10 60",
        "RATELIMIT.SW log 10 60",
        "RATELIMIT.SW log 10 60 COST 11",
        "RATELIMIT.SW missing 10 60",
        "RATELIMIT.MULTI 2 bucket log TB 10 60 SW 10 60",
    ] {
        assert_eq!(client.refusal(call), OUT_OF_MEMORY, "{call}");
    }
    let script = b"return redis.call('RATELIMIT.TB', KEYS[1], 10, 60)";
    assert!(client.refusal_of(&[b"EVAL", script, b"1", b"bucket"]).starts_with("OOM "));
    client.call::<()>("CONFIG SET maxmemory 0");
    assert_eq!(Snapshot::all(&mut client, &KEYS), before);
    assert_eq!(client.call::<i64>("EXISTS missing"), 0);
    assert_eq!(client.decide("RATELIMIT.TB bucket 10 60 COST 4"), [4, 10, 0, 0, 60_000]);
}

#[test]
fn a_full_server_answers_peeks_and_gives_back() {
    let server = Server::at(NOON);
    let mut client = server.client().acting_as_a_server();
    fill(&mut client);
    let without_logs = client.used_memory();
    store_large_logs(&mut client, LARGE_LOGS);
    let of_logs = client.used_memory() - without_logs;
    client.call::<()>("CONFIG SET maxmemory 1");
    assert_eq!(client.decide("RATELIMIT.PEEK bucket TB 10 60"), [1, 10, 4, 0, 36_000]);
    assert_eq!(client.decide("RATELIMIT.PEEK log SW 10 60"), [1, 10, 4, 0, 60_000]);
    assert_eq!(client.decide("RATELIMIT.PEEK missing TB 10 60"), [1, 10, 10, 0, 0]);
    for key in KEYS {
        assert_eq!(client.call::<i64>(&format!("RATELIMIT.REFUND {key} 2")), 2);
    }
    assert_eq!(client.decide("RATELIMIT.PEEK bucket TB 10 60")[2], 6);
    assert_eq!(client.call::<i64>("RATELIMIT.REFUND bucket 4"), 4);
    assert_eq!(client.call::<i64>("RATELIMIT.RESET bucket log large:0 large:1 large:2"), 4);
    for large in 3..LARGE_LOGS {
        assert_eq!(client.call::<i64>(&format!("RATELIMIT.REFUND large:{large} 1000000")), 5_000);
    }
    assert_eq!(client.call::<i64>("DBSIZE"), 0);
    // Buffers of connections and the log of slow commands take some memory as well.
    eventually("the memory of the logs is freed", || {
        (client.used_memory() < without_logs + of_logs / 4).then_some(())
    });
}

#[test]
fn what_a_primary_has_granted_is_applied_on_a_full_server_too() {
    let server = Server::at(NOON);
    let mut client = server.client().acting_as_a_server();
    client.call::<()>("CONFIG SET maxmemory 1");
    store_large_logs(&mut client, 1);
    assert_eq!(client.decide("RATELIMIT.PEEK large:0 SW 5000 86400")[2], 0);
}

#[test]
fn evicted_limiters_start_afresh_here_and_on_replicas() {
    for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-ttl"] {
        let primary = Server::at(NOON);
        let replica = Server::builder().clock_of(&primary).start();
        let mut client = primary.client().acting_as_a_server();
        replica.follow(&primary);
        store_large_logs(&mut client, LARGE_LOGS);
        client.call::<()>(&format!("CONFIG SET maxmemory-policy {policy}"));
        eventually("limiters are evicted", || {
            // The memory of buffers changes too.
            let less = client.used_memory() - 100_000;
            client.call::<()>(&format!("CONFIG SET maxmemory {less}"));
            let _ = client.reply(&[&b"RATELIMIT.TB"[..], b"new", b"10", b"60"]);
            let evicted: u32 = client.info("stats", "evicted_keys").parse().unwrap();
            (evicted > 5).then_some(())
        });
        client.call::<()>("CONFIG SET maxmemory 0");
        let exists = |log: &usize| client.call::<i64>(&format!("EXISTS large:{log}")) == 1;
        let (kept, lost): (Vec<usize>, Vec<usize>) = (0..LARGE_LOGS).partition(exists);
        assert!(!kept.is_empty() && !lost.is_empty(), "{policy}: kept {kept:?}");
        replica.catch_up_with(&primary);
        assert_eq!(digest(&replica), digest(&primary), "{policy}");
        for log in lost {
            let afresh = client.decide(&format!("RATELIMIT.SW large:{log} 5000 86400"));
            assert_eq!(afresh, [1, 5_000, 4_999, 0, 86_400_000], "{policy}");
        }
    }
}

#[test]
fn the_module_cannot_be_unloaded_and_works_on() {
    let server = Server::builder().clock(NOON).config("enable-module-command", "yes").start();
    let mut client = server.client();
    fill(&mut client);
    let before = Snapshot::all(&mut client, &KEYS);
    let error = client.refusal("MODULE UNLOAD ratelimit");
    assert_eq!(
        error,
        "ERR Error unloading module: the module exports one or more module-side data types, \
         can't unload"
    );
    assert_eq!(Snapshot::all(&mut client, &KEYS), before);
    assert_eq!(client.decide("RATELIMIT.TB bucket 10 60"), [1, 10, 3, 0, 42_000]);
}

#[test]
fn a_second_copy_of_the_module_is_refused_and_the_first_works_on() {
    let server = Server::builder().clock(NOON).config("enable-module-command", "yes").start();
    let mut client = server.client();
    fill(&mut client);
    let before = Snapshot::all(&mut client, &KEYS);
    let loaded = module_path(&server);
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("copy.so");
    fs::copy(&loaded, &copy).unwrap();
    for module in [loaded, copy] {
        let error = client.refusal(&format!("MODULE LOAD {}", module.display()));
        assert!(error.starts_with("ERR Error loading the extension."), "{error}");
    }
    assert_eq!(Snapshot::all(&mut client, &KEYS), before);
    assert_eq!(client.decide("RATELIMIT.TB bucket 10 60"), [1, 10, 3, 0, 42_000]);
    client.call::<()>("DEBUG RELOAD");
    assert_eq!(client.decide("RATELIMIT.SW log 10 60"), [1, 10, 3, 0, 60_000]);
}

#[test]
fn the_module_can_be_loaded_into_a_running_server() {
    let server = Server::builder()
        .clock(NOON)
        .without_module()
        .config("enable-module-command", "yes")
        .start();
    server.load_module();
    let mut client = server.client();
    assert_eq!(client.decide("RATELIMIT.TB bucket 10 60"), [1, 10, 9, 0, 6_000]);
}

#[test]
fn a_busy_script_keeps_callers_waiting_no_longer_than_until_it_is_killed() {
    let server = Server::builder().clock(NOON).config("busy-reply-threshold", "1").start();
    let mut client = server.client();
    fill(&mut client);
    let mut busy = server.socket();
    let script =
        "local peek = redis.call('RATELIMIT.PEEK', KEYS[1], 'TB', 10, 60) while true do end";
    write!(
        busy,
        "*4\r\n$4\r\nEVAL\r\n${}\r\n{script}\r\n$1\r\n1\r\n$6\r\nbucket\r\n",
        script.len()
    )
    .unwrap();
    eventually("the script is busy", || client.reply(&[b"PING"]).is_err().then_some(()));
    for call in ["RATELIMIT.TB bucket 10 60", "RATELIMIT.PEEK log SW 10 60", "RATELIMIT.RESET log"]
    {
        assert!(client.refusal(call).starts_with("BUSY "), "{call}");
    }
    client.call::<()>("SCRIPT KILL");
    assert_eq!(read(&mut busy, 4), b"-ERR");
    assert_eq!(client.decide("RATELIMIT.TB bucket 10 60"), [1, 10, 3, 0, 42_000]);
    assert_eq!(client.decide("RATELIMIT.SW log 10 60"), [1, 10, 3, 0, 60_000]);
}

#[test]
fn calls_wait_while_writes_are_paused_and_peeks_do_not() {
    let server = Server::at(NOON);
    let mut client = server.client();
    fill(&mut client);
    client.call::<()>("CLIENT PAUSE 100000000 WRITE");
    let mut paused = server.socket();
    paused.write_all(b"RATELIMIT.TB bucket 10 60\r\n").unwrap();
    eventually("the call has arrived", || {
        client.call::<String>("CLIENT LIST").contains("cmd=ratelimit.tb").then_some(())
    });
    assert_eq!(client.decide("RATELIMIT.PEEK bucket TB 10 60")[2], 4, "it is not decided yet");
    client.call::<()>("CLIENT UNPAUSE");
    assert_eq!(read(&mut paused, 8), b"*5\r\n:1\r\n");
    assert_eq!(client.decide("RATELIMIT.PEEK bucket TB 10 60")[2], 3);
}

#[test]
fn a_client_that_is_not_to_be_evicted_is_served_when_others_are() {
    const LENGTH: usize = 1_000_000;
    let server = Server::at(NOON);
    let mut client = server.client();
    client.call::<()>("CLIENT NO-EVICT ON");
    let mut start_of_call = format!("*4\r\n$12\r\nRATELIMIT.TB\r\n${LENGTH}\r\n").into_bytes();
    start_of_call.extend(vec![b'k'; LENGTH]);
    let [mut kept, mut evicted] = [server.socket(), server.socket()];
    kept.write_all(b"CLIENT NO-EVICT ON\r\n").unwrap();
    assert_eq!(read(&mut kept, 5), b"+OK\r\n");
    for socket in [&mut kept, &mut evicted] {
        socket.write_all(&start_of_call).unwrap();
    }
    client.call::<()>("CONFIG SET maxmemory-clients 200kb");
    eventually("a client is evicted", || {
        (client.info("stats", "evicted_clients") == "1").then_some(())
    });
    kept.write_all(b"\r\n$2\r\n10\r\n$2\r\n60\r\n").unwrap();
    assert_eq!(read(&mut kept, 8), b"*5\r\n:1\r\n");
    assert!(matches!(evicted.read(&mut [0]), Ok(0) | Err(_)), "the other is disconnected");
}

/// Reads the next bytes of a reply.
fn read(socket: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    socket.read_exact(&mut bytes).unwrap();
    bytes
}

/// Creates a bucket and a log, each with six of ten units in use.
fn fill(client: &mut Client) {
    assert_eq!(client.decide("RATELIMIT.TB bucket 10 60 COST 6")[0], 6);
    assert_eq!(client.decide("RATELIMIT.SW log 10 60 COST 6")[0], 6);
}

const LARGE_LOGS: usize = 200;

/// Stores logs with 5000 entries of one unit, the latest of which expire in a day.
fn store_large_logs(client: &mut Client, count: usize) {
    let log = Effect::SlidingWindowLog(LogEffect::Whole(log(5_000, NOON)));
    let effect = effect(NOON / 1_000 + 86_400_000, &log);
    for index in 0..count {
        let key = format!("large:{index}");
        client.send::<()>(&[b"RATELIMIT.APPLY", key.as_bytes(), &effect]);
    }
}

/// Returns the digest of all data of a server.
fn digest(server: &Server) -> String {
    server.client().call("DEBUG DIGEST")
}

/// Returns the file from which a server has loaded the module.
fn module_path(server: &Server) -> PathBuf {
    let modules: Vec<HashMap<String, Value>> = server.client().call("MODULE LIST");
    let ours = modules.iter().find(|module| text(&module["name"]) == "ratelimit").unwrap();
    text(&ours["path"]).into()
}

fn text(value: &Value) -> String {
    redis::from_redis_value_ref(value).unwrap()
}
