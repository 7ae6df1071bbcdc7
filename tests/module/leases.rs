//! RATELIMIT.ACQUIRE, RENEW, RELEASE and HOLDERS: their replies, and the commands on leases.

use std::time::Duration;

use crate::harness::{Client, NOON, Server, exchange};

/// The fence of the first lease that a server at noon gives.
const FENCE: i64 = NOON.cast_signed();

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

/// Returns the seven integers that answer RATELIMIT.ACQUIRE.
fn acquire(client: &mut Client, rest: &str) -> [i64; 7] {
    client.call(&format!("RATELIMIT.ACQUIRE {rest}"))
}

fn renew(client: &mut Client, rest: &str) -> Vec<[i64; 2]> {
    client.call(&format!("RATELIMIT.RENEW {rest}"))
}

fn release(client: &mut Client, rest: &str) -> i64 {
    client.call(&format!("RATELIMIT.RELEASE {rest}"))
}

/// A live lease: holder, cost, milliseconds until the end, fence.
type Held = (String, i64, i64, i64);

fn holders(client: &mut Client, rest: &str) -> Vec<Held> {
    client.call(&format!("RATELIMIT.HOLDERS {rest}"))
}

fn held(holder: &str, cost: i64, millis: i64, fence: i64) -> Held {
    (holder.to_owned(), cost, millis, fence)
}

#[test]
fn at_most_the_limit_is_held_until_a_lease_is_released_or_expires() {
    let server = Server::at(NOON);
    let mut client = server.client();
    assert_eq!(acquire(&mut client, "jobs 2 60 a"), [1, 2, 1, 0, 60_000, FENCE, 60_000]);
    server.clock().advance(Duration::from_millis(10_500));
    let fence = FENCE + 10_500_000;
    assert_eq!(acquire(&mut client, "jobs 2 60 b"), [1, 2, 0, 0, 60_000, fence, 60_000]);
    assert_eq!(acquire(&mut client, "jobs 2 60 c"), [0, 2, 0, 49_500, 60_000, 0, 0]);
    assert_eq!(acquire(&mut client, "jobs 2 60 c COST 3")[3], -1);
    assert_eq!(release(&mut client, "jobs b"), 1);
    assert_eq!(acquire(&mut client, "jobs 2 1 c")[0], 1);
    assert_eq!(acquire(&mut client, "jobs 2 60 d")[..4], [0, 2, 0, 1_000]);
    server.clock().advance(Duration::from_millis(1_000));
    assert_eq!(acquire(&mut client, "jobs 2 60 d")[0], 1, "the lease of c has expired");
}

#[test]
fn a_repeated_call_keeps_the_slot_and_the_fence() {
    let server = Server::at(NOON);
    let mut client = server.client();
    assert_eq!(acquire(&mut client, "jobs 5 60 a COST 3"), [3, 5, 2, 0, 60_000, FENCE, 60_000]);
    assert_eq!(acquire(&mut client, "jobs 5 60 a COST 3"), [3, 5, 2, 0, 60_000, FENCE, 60_000]);
    server.clock().advance(Duration::from_secs(10));
    // A shorter ttl leaves the expiry; a lower cost frees units; a lower limit takes none away.
    assert_eq!(acquire(&mut client, "jobs 1 1 a COST 2"), [2, 1, 0, 0, 50_000, FENCE, 50_000]);
    assert_eq!(acquire(&mut client, "jobs 5 60 b COST 3")[0], 3);
    // A higher cost that does not fit changes nothing, and answers the fence of the lease.
    let denied = [0, 5, 0, 60_000, 60_000, FENCE, 50_000];
    assert_eq!(acquire(&mut client, "jobs 5 60 a COST 3"), denied);
    let found = [held("a", 2, 50_000, FENCE), held("b", 3, 60_000, FENCE + 10_000_000)];
    assert_eq!(holders(&mut client, "jobs"), found);
}

#[test]
fn the_end_of_a_lease_is_rounded_down_and_waits_are_rounded_up() {
    let server = Server::at(NOON);
    let mut client = server.client();
    acquire(&mut client, "jobs 1 0.010 a");
    server.clock().advance(Duration::from_micros(1));
    assert_eq!(acquire(&mut client, "jobs 1 0.001 b")[3..], [10, 10, 0, 0]);
    assert_eq!(acquire(&mut client, "jobs 1 0.001 a")[4..], [10, FENCE, 9]);
    assert_eq!(renew(&mut client, "jobs 0.001 a"), [[FENCE, 9]]);
    assert_eq!(holders(&mut client, "jobs")[0].2, 9);
    server.clock().advance(Duration::from_micros(9_998));
    assert_eq!(holders(&mut client, "jobs")[0].2, 0, "a microsecond is left");
    assert_eq!(acquire(&mut client, "jobs 1 60 b")[0], 0);
    server.clock().advance(Duration::from_micros(1));
    assert_eq!(renew(&mut client, "jobs 60 a"), [[0, 0]]);
    assert_eq!(holders(&mut client, "jobs"), []);
    assert_eq!(acquire(&mut client, "jobs 1 60 b")[0], 1);
}

#[test]
fn a_renewal_never_shortens_a_lease_and_reports_the_lost_ones() {
    let server = Server::at(NOON);
    let mut client = server.client();
    acquire(&mut client, "jobs 9 60 a");
    acquire(&mut client, "jobs 9 5 b");
    assert_eq!(renew(&mut client, "jobs 10 a b c"), [[FENCE, 60_000], [FENCE + 1, 10_000], [0, 0]]);
    server.clock().advance(Duration::from_secs(10));
    assert_eq!(renew(&mut client, "jobs 100 a b a"), [[FENCE, 100_000], [0, 0], [FENCE, 100_000]]);
    assert_eq!(release(&mut client, "jobs a b"), 1);
    assert_eq!(renew(&mut client, "jobs 10 a"), [[0, 0]]);
    assert_eq!(client.call::<i64>("EXISTS jobs"), 0, "the last release deletes the key");
}

#[test]
fn a_fenced_call_leaves_the_lease_of_another_attempt_alone() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let old = acquire(&mut client, "jobs 1 1 host")[5];
    server.clock().advance(Duration::from_secs(1));
    let new = acquire(&mut client, "jobs 1 60 host")[5];
    assert!(new > old);
    assert_eq!(renew(&mut client, &format!("jobs 90 FENCED host {old}")), [[0, 0]]);
    assert_eq!(release(&mut client, &format!("jobs fenced host {old} host {old}")), 0);
    assert_eq!(renew(&mut client, &format!("jobs 90 FENCED host {new}")), [[new, 90_000]]);
    assert_eq!(release(&mut client, &format!("jobs FENCED host {old} host {new}")), 1);
}

#[test]
fn no_fence_is_given_twice_although_keys_are_deleted_and_the_clock_steps_back() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let mut last = 0;
    for call in
        ["DEL a", "RATELIMIT.RESET a", "FLUSHALL", "RATELIMIT.RELEASE a h", "SELECT 1", "FLUSHDB"]
    {
        for key in ["a", "b"] {
            let fence = acquire(&mut client, &format!("{key} 1 60 h"))[5];
            assert!(fence > last, "{fence} after {last}: {call}");
            last = fence;
            client.call::<redis::Value>(call);
            client.call::<i64>(&format!("DEL {key}"));
        }
        server.clock().step_back(Duration::from_secs(100));
    }
    // In a transaction the clock of newer servers stands still.
    let mut fences: Vec<i64> = vec![last];
    client.call::<()>("MULTI");
    for holder in ["x", "y", "z"] {
        client.call::<()>(&format!("RATELIMIT.ACQUIRE one 1 60 {holder}"));
        client.call::<()>(&format!("RATELIMIT.RELEASE one {holder}"));
    }
    let replies: Vec<redis::Value> = client.call("EXEC");
    for reply in replies.iter().step_by(2) {
        let [_, _, _, _, _, fence, _]: [i64; 7] = redis::from_redis_value_ref(reply).unwrap();
        fences.push(fence);
    }
    assert!(fences.is_sorted_by(|before, after| before < after), "{fences:?}");
}

#[test]
fn holders_are_listed_by_their_expiry_up_to_a_count() {
    let server = Server::at(NOON);
    let mut client = server.client();
    assert_eq!(holders(&mut client, "jobs"), []);
    for (number, ttl) in [30, 10, 20].into_iter().enumerate() {
        acquire(&mut client, &format!("jobs 9 {ttl} {number}"));
    }
    let names = |held: Vec<Held>| held.into_iter().map(|(holder, ..)| holder).collect::<Vec<_>>();
    assert_eq!(names(holders(&mut client, "jobs COUNT 10000")), ["1", "2", "0"]);
    assert_eq!(names(holders(&mut client, "jobs count 2")), ["1", "2"]);
    for number in 0..150 {
        acquire(&mut client, &format!("many 1000 60 {number:03}"));
    }
    let listed = names(holders(&mut client, "many"));
    assert_eq!((listed.len(), &listed[99]), (100, &"099".to_owned()));
    assert_eq!(holders(&mut client, "many COUNT 149").len(), 149);
}

#[test]
fn leases_and_other_kinds_refuse_each_others_keys() {
    let server = Server::at(NOON);
    let mut client = server.client();
    acquire(&mut client, "jobs 1 60 a");
    client.decide("RATELIMIT.TB bucket 10 60");
    client.call::<()>("SET text value");
    for call in [
        "RATELIMIT.TB jobs 10 60",
        "RATELIMIT.SW jobs 10 60",
        "RATELIMIT.PEEK jobs TB 10 60",
        "RATELIMIT.MULTI 1 jobs TB 10 60",
        "RATELIMIT.REFUND jobs 1",
        "RATELIMIT.ACQUIRE bucket 1 60 a",
        "RATELIMIT.RENEW bucket 60 a",
        "RATELIMIT.RELEASE bucket a",
        "RATELIMIT.HOLDERS bucket",
        "RATELIMIT.ACQUIRE text 1 60 a",
        "RATELIMIT.RENEW text 60 a",
        "RATELIMIT.RELEASE text a",
        "RATELIMIT.HOLDERS text",
        "RATELIMIT.RESET jobs text",
        "GET jobs",
    ] {
        assert_eq!(client.refusal(call), WRONG_TYPE, "{call}");
    }
    assert_eq!(client.call::<i64>("RATELIMIT.RESET jobs bucket"), 2);
    // What has ended counts as missing, for every kind.
    acquire(&mut client, "ended 1 1 a");
    client.decide("RATELIMIT.TB whole 1 1");
    server.clock().advance(Duration::from_millis(1_001));
    assert_eq!(client.call::<i64>("EXISTS ended whole"), 2, "their keys are still there");
    assert_eq!(client.call::<i64>("RATELIMIT.REFUND ended 1"), 0);
    assert_eq!(holders(&mut client, "whole"), []);
    assert_eq!(renew(&mut client, "whole 60 a"), [[0, 0]]);
    assert_eq!(release(&mut client, "whole a"), 0);
    assert_eq!(client.call::<i64>("RATELIMIT.RESET ended"), 0);
    assert_eq!(acquire(&mut client, "whole 1 60 a")[0], 1);
    acquire(&mut client, "ended 1 1 a");
    server.clock().advance(Duration::from_millis(1_001));
    assert_eq!(client.decide("RATELIMIT.TB ended 10 60")[0], 1);
}

#[test]
fn a_wrong_argument_has_one_error_that_names_the_rule() {
    const LIMIT: &str = "ERR limit must be an integer between 1 and 1000000000";
    const TTL: &str = "ERR ttl must be a number of seconds between 0.001 and 31622400 with at most \
                       three decimals";
    const COST: &str = "ERR cost must be an integer between 1 and 1000000000";
    const HOLDER: &str = "ERR holder must be 1 to 64 bytes";
    const RESERVED: &str =
        "ERR holder must not be FENCED, which RENEW and RELEASE read as their option";
    const FENCED: &str = "ERR FENCED must be followed by holders, each with its fence";
    const MISPLACED: &str = "ERR FENCED must stand before the holders, once";
    const FENCE: &str = "ERR fence must be an integer between 1 and 9007199254740991";
    const COUNT: &str = "ERR count must be an integer between 1 and 10000";
    let server = Server::at(NOON);
    let mut client = server.client();
    acquire(&mut client, "jobs 5 60 a");
    let before: Vec<u8> = client.call("DUMP jobs");
    let long = "x".repeat(65);
    for (call, error) in [
        ("ACQUIRE jobs 0 60 a", LIMIT),
        ("ACQUIRE jobs 1000000001 60 a", LIMIT),
        ("ACQUIRE jobs -1 60 a", LIMIT),
        ("ACQUIRE jobs 5 0 a", TTL),
        ("ACQUIRE jobs 5 31622400.001 a", TTL),
        ("ACQUIRE jobs 5 0.0001 a", TTL),
        ("ACQUIRE jobs 5 NaN a", TTL),
        (&format!("ACQUIRE jobs 5 60 {long}"), HOLDER),
        ("ACQUIRE jobs 5 60 FENCED", RESERVED),
        ("ACQUIRE jobs 5 60 fenced COST 1", RESERVED),
        ("ACQUIRE jobs 5 60 a COST 0", COST),
        ("ACQUIRE jobs 5 60 a COST 1000000001", COST),
        ("ACQUIRE jobs 5 60 a COST", "ERR COST must be followed by a cost"),
        ("ACQUIRE jobs 5 60 a COST 1 COST 1", "ERR COST may be given only once"),
        ("ACQUIRE jobs 5 60 a PARTIAL", "ERR options must be COST cost"),
        ("RENEW jobs 0 a", TTL),
        (&format!("RENEW jobs 60 a {long}"), HOLDER),
        ("RENEW jobs 60 FENCED", FENCED),
        ("RENEW jobs 60 FENCED a", FENCED),
        ("RENEW jobs 60 FENCED a 1 b", FENCED),
        ("RENEW jobs 60 FENCED a 0", FENCE),
        ("RENEW jobs 60 FENCED a 9223372036854775808", FENCE),
        ("RENEW jobs 60 FENCED a b", FENCE),
        ("RENEW jobs 60 a FENCED 1", MISPLACED),
        ("RENEW jobs 60 FENCED fenced 1", MISPLACED),
        ("RENEW jobs 60 FENCED a 1 Fenced 1", MISPLACED),
        ("RELEASE jobs a FENCED", MISPLACED),
        ("RELEASE jobs a fEnced 1", MISPLACED),
        ("RELEASE jobs FENCED FENCED a 1", MISPLACED),
        (&format!("RELEASE jobs a {long}"), HOLDER),
        ("RELEASE jobs FENCED", FENCED),
        ("RELEASE jobs FENCED a", FENCED),
        ("RELEASE jobs FENCED a -1", FENCE),
        ("HOLDERS jobs COUNT 0", COUNT),
        ("HOLDERS jobs COUNT 10001", COUNT),
        ("HOLDERS jobs COUNT", "ERR COUNT must be followed by a count"),
        ("HOLDERS jobs 5", "ERR options must be COUNT count"),
    ] {
        assert_eq!(client.refusal(&format!("RATELIMIT.{call}")), error, "{call}");
    }
    for call in ["ACQUIRE jobs 5 60", "RENEW jobs 60", "RELEASE jobs", "HOLDERS"] {
        let error = client.refusal(&format!("RATELIMIT.{call}"));
        let name = call.split(' ').next().unwrap().to_ascii_lowercase();
        assert_eq!(error, format!("ERR wrong number of arguments for 'ratelimit.{name}' command"));
    }
    let empty: [&[u8]; 5] = [b"RATELIMIT.ACQUIRE", b"jobs", b"5", b"60", b""];
    assert_eq!(client.refusal_of(&empty), HOLDER);
    assert_eq!(client.call::<Vec<u8>>("DUMP jobs"), before);
}

#[test]
fn a_holder_of_any_bytes_is_a_holder() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let names = [&b"\0"[..], b"\r\n", &[0xff; 64], b"a\0b", b"a", b" "];
    for name in names {
        let reply: [i64; 7] = client.send(&[b"RATELIMIT.ACQUIRE", b"jobs", b"9", b"60", name]);
        assert_eq!(reply[0], 1);
    }
    let listed: Vec<(Vec<u8>, i64, i64, i64)> = client.call("RATELIMIT.HOLDERS jobs");
    let mut listed: Vec<_> = listed.into_iter().map(|(holder, ..)| holder).collect();
    listed.sort();
    let mut expected = names.map(<[u8]>::to_vec);
    expected.sort();
    assert_eq!(listed, expected);
    let call = [&[&b"RATELIMIT.RELEASE"[..], b"jobs"], &names[..]].concat();
    assert_eq!(client.send::<i64>(&call), 6);
}

#[test]
fn a_key_holds_as_many_leases_as_the_setting_allows() {
    const FULL: &str = "ERR the key has as many leases as the setting ratelimit.leases-max allows";
    let server = Server::builder().clock(NOON).module_arguments(&["leases-max", "3"]).start();
    let mut client = server.client();
    for holder in ["a", "b", "c"] {
        assert_eq!(acquire(&mut client, &format!("jobs 1000000000 60 {holder}"))[0], 1);
    }
    let before: Vec<u8> = client.call("DUMP jobs");
    assert_eq!(client.refusal("RATELIMIT.ACQUIRE jobs 1000000000 60 d"), FULL);
    assert_eq!(client.call::<Vec<u8>>("DUMP jobs"), before);
    // A call that would be denied is denied, and the holder of a lease is not one more.
    assert_eq!(acquire(&mut client, "jobs 3 60 d")[0], 0);
    assert_eq!(acquire(&mut client, "jobs 9 60 a COST 2")[0], 2);
    client.call::<()>("CONFIG SET ratelimit.leases-max 4");
    assert_eq!(acquire(&mut client, "jobs 9 1 d")[0], 1);
    assert_eq!(client.refusal("RATELIMIT.ACQUIRE jobs 9 60 e"), FULL);
    server.clock().advance(Duration::from_secs(1));
    assert_eq!(acquire(&mut client, "jobs 9 60 e")[0], 1, "an expired lease does not count");
}

#[test]
fn denied_and_empty_calls_change_nothing_and_a_denial_is_listed() {
    let server = Server::builder().clock(NOON).config("appendonly", "yes").start();
    let (mut client, mut other) = (server.client(), server.client());
    acquire(&mut client, "jobs 1 60 a");
    let state = |client: &mut Client| {
        let dump: Vec<u8> = client.call("DUMP jobs");
        let expiry: i64 = client.call("PEXPIRETIME jobs");
        let dirty = client.info("persistence", "rdb_changes_since_last_save");
        (dump, expiry, dirty, client.info("persistence", "aof_current_size"))
    };
    server.clock().advance(Duration::from_secs(1));
    let before = state(&mut other);
    client.call::<()>("WATCH jobs none");
    assert_eq!(acquire(&mut other, "jobs 1 60 b")[0], 0);
    assert_eq!(acquire(&mut other, "jobs 1 60 a COST 2")[3], -1);
    assert_eq!(acquire(&mut other, "none 1 60 a COST 2")[0], 0);
    assert_eq!(renew(&mut other, "jobs 1 b a"), [[0, 0], [FENCE, 59_000]]);
    assert_eq!(renew(&mut other, "none 1 b"), [[0, 0]]);
    assert_eq!(release(&mut other, "jobs b"), 0);
    assert_eq!(release(&mut other, "none b"), 0);
    assert_eq!(holders(&mut other, "jobs").len(), 1);
    assert_eq!(state(&mut other), before);
    client.call::<()>("MULTI");
    client.call::<()>("PING");
    assert_eq!(client.call::<Vec<String>>("EXEC"), ["PONG"], "WATCH has seen no change");
    let top: Vec<(String, i64)> = client.call("RATELIMIT.TOP");
    assert_eq!(top, [("jobs".to_owned(), 2), ("none".to_owned(), 1)]);
}

#[test]
fn calls_on_leases_are_counted() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let fields = ["calls", "granted", "denied", "granted_units", "renewals", "lost", "releases"];
    let counts = || {
        fields.map(|field| {
            let field = format!("ratelimit_concurrency_{field}");
            server.client().info("ratelimit", &field).parse::<u64>().unwrap()
        })
    };
    assert_eq!(counts(), [0; 7]);
    acquire(&mut client, "jobs 5 60 a COST 3");
    acquire(&mut client, "jobs 5 60 a COST 3");
    acquire(&mut client, "jobs 5 60 b COST 3");
    client.refusal("RATELIMIT.ACQUIRE jobs 0 60 b");
    renew(&mut client, "jobs 60 a b c a");
    release(&mut client, "jobs a b a");
    assert_eq!(counts(), [3, 2, 1, 6, 2, 2, 1]);
}

#[test]
fn the_replies_are_the_same_in_both_protocols() {
    let server = Server::at(NOON);
    let mut socket = server.socket();
    for hello in ["", "HELLO 3\r\n"] {
        exchange(&mut socket, &format!("{hello}DEL jobs"));
        let mut reply = |call: &str| {
            let answer = exchange(&mut socket, &format!("RATELIMIT.{call}"));
            answer.strip_suffix("+PONG\r\n").unwrap().to_owned()
        };
        let acquired = reply("ACQUIRE jobs 5 60 a COST 2");
        let (head, fence) = acquired.split_at(acquired.find(":18").unwrap());
        assert_eq!(head, "*7\r\n:2\r\n:5\r\n:3\r\n:0\r\n:60000\r\n");
        let fence = fence.lines().next().unwrap();
        let renewed = format!("*2\r\n*2\r\n{fence}\r\n:60000\r\n*2\r\n:0\r\n:0\r\n");
        assert_eq!(reply("RENEW jobs 60 a b"), renewed);
        let listed = format!("*1\r\n*4\r\n$1\r\na\r\n:2\r\n:60000\r\n{fence}\r\n");
        assert_eq!(reply("HOLDERS jobs"), listed);
        assert_eq!(reply("RELEASE jobs a"), ":1\r\n");
    }
}

#[test]
fn a_lease_of_a_clock_that_was_far_ahead_is_lost() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.call::<()>("DEBUG SET-ACTIVE-EXPIRE 0");
    server.clock().advance(Duration::from_secs(3_600));
    let fence = acquire(&mut client, "jobs 1 60 a")[5];
    server.clock().step_back(Duration::from_secs(3_600));
    assert_eq!(renew(&mut client, "jobs 60 a"), [[0, 0]]);
    assert_eq!(holders(&mut client, "jobs"), []);
    let taken = acquire(&mut client, "jobs 1 60 b");
    assert_eq!((taken[0], taken[5], taken[6]), (1, fence + 1, 60_000));
    // A step back of up to a ttl frees no slot.
    server.clock().step_back(Duration::from_secs(60));
    assert_eq!(acquire(&mut client, "jobs 1 60 c")[0], 0);
}

#[test]
fn a_key_expires_when_its_last_lease_has_ended() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let now = NOON.cast_signed() / 1_000;
    let expiry = || server.client().call::<i64>("PEXPIRETIME jobs") - now;
    acquire(&mut client, "jobs 9 60 a");
    assert_eq!(expiry(), 61_000);
    acquire(&mut client, "jobs 9 5 b");
    assert_eq!(expiry(), 69_000, "the second call leaves more time");
    renew(&mut client, "jobs 90 b");
    assert_eq!(expiry(), 99_000, "a second after the last lease has ended, and eight more");
    release(&mut client, "jobs b");
    assert_eq!(expiry(), 69_000);
}
