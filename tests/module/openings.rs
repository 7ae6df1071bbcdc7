//! Keys that the server does not open for writing, as Valkey 9.2 does while it saves them.

use redis::Value;

use crate::harness::{Client, NOON, Server};

#[test]
fn a_call_that_cannot_open_one_of_its_keys_changes_none_of_them() {
    const ROUNDS: u32 = 50;
    const KEYS: [&str; 3] = ["a", "b", "made"];
    let server = Server::builder().clock(NOON).faults("RedisModule_OpenKey").start();
    let mut client = server.client();
    for line in [
        "RATELIMIT.TB a 10 60",
        "RATELIMIT.REFUND a 1",
        "RATELIMIT.MULTI 2 a b TB 10 60 TB 10 60",
        "RATELIMIT.RESET a b",
        "RATELIMIT.RESERVE job 60 2 a b TB 10 60 TB 10 60",
        "RATELIMIT.SETTLE made 2 a b ACTUAL 5 0",
    ] {
        let mut refused = 0;
        for _ in 0..ROUNDS {
            repeat(&mut client, "RATELIMIT.RESERVE made 60 2 a b TB 10 60 COST 2 TB 10 60 COST 2");
            let before = KEYS.map(|key| stored(&mut client, key));
            if let Err(error) = client.try_call(line) {
                assert_eq!(error.code(), Some("TRYAGAIN"), "{line}");
                let detail = "the server is saving this key: repeat the call";
                assert_eq!(error.detail(), Some(detail), "{line}");
                assert_eq!(KEYS.map(|key| stored(&mut client, key)), before, "{line}");
                refused += 1;
            }
            for line in ["RATELIMIT.RESET a b", "RATELIMIT.RESET job made"] {
                repeat(&mut client, line);
            }
        }
        assert!((1..ROUNDS).contains(&refused), "{line}: refused {refused} times");
    }
}

/// Calls until the server opens the keys.
fn repeat(client: &mut Client, line: &str) {
    while client.try_call(line).is_err() {}
}

fn stored(client: &mut Client, key: &str) -> Value {
    client.call(&format!("DUMP {key}"))
}
