//! Stored bytes of every version: an older one is read for ever, a newer one is refused.

use std::fs;

use tempfile::TempDir;

use crate::harness::{Client, NOON, Server, sealed};

/// When the effects let their keys expire.
const EXPIRY_MILLIS: u64 = NOON / 1_000 + 60_000;

/// Where a value holds the encoding version of its type, and the version of the limiter's codec.
const ENCODING_AT: usize = 9;
const CODEC_AT: usize = 12;

/// The committed bytes of that name.
fn version_1(name: &str) -> Vec<u8> {
    let lines = include_str!("payloads/version-1.txt").lines();
    let mut fields = lines.filter_map(|line| line.split_once(char::is_whitespace));
    let (_, digits) = fields.find(|(field, _)| *field == name).expect("a line of that name");
    let digits = digits.trim();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// What RESTORE says to a value, which gets the footer of this server.
fn restore(client: &mut Client, key: &str, value: &[u8]) -> Result<redis::Value, String> {
    client.call::<()>("SET sample value");
    let sample: Vec<u8> = client.call("DUMP sample");
    let version = &sample[sample.len() - 10..][..2];
    let command: [&[u8]; 4] = [b"RESTORE", key.as_bytes(), b"60000", &sealed(value, version)];
    client.reply(&command).map_err(|error| error.to_string())
}

fn assert_decides_as_stored(client: &mut Client) {
    assert_eq!(client.decide("RATELIMIT.PEEK bucket TB 100 60"), [1, 100, 57, 0, 25_350]);
    assert_eq!(client.decide("RATELIMIT.PEEK bucket TB 100 60 COST 58")[3], 150);
    assert_eq!(client.decide("RATELIMIT.PEEK log SW 1000 60"), [1, 1_000, 697, 0, 51_002]);
    assert_eq!(client.decide("RATELIMIT.PEEK log SW 1000 60 COST 698")[3], 1_000);
}

#[test]
fn values_of_version_1_are_restored_and_decide_as_they_did() {
    let server = Server::builder().clock(NOON).config("rdbcompression", "no").start();
    let mut client = server.client();
    for key in ["bucket", "log"] {
        let value = version_1(&format!("{key}-value"));
        restore(&mut client, key, &value).unwrap();
        let stored: Vec<u8> = client.call(&format!("DUMP {key}"));
        assert_eq!(stored[..stored.len() - 10], value, "{key}");
    }
    assert_decides_as_stored(&mut client);
}

#[test]
fn effects_of_version_1_are_applied_and_decide_as_they_did() {
    let server = Server::at(NOON);
    let mut client = server.client().acting_as_a_server();
    let mut apply = |key: &str, name: &str| {
        let effect = version_1(name);
        client.send::<()>(&[b"RATELIMIT.APPLY", key.as_bytes(), &effect]);
        let expiry: u64 = client.call(&format!("PEXPIRETIME {key}"));
        assert_eq!(expiry, EXPIRY_MILLIS, "{name}");
    };
    apply("bucket", "bucket-effect");
    apply("log", "log-effect");
    assert_decides_as_stored(&mut server.client());
    apply("log", "grant-effect");
    let mut other = server.client();
    assert_eq!(other.decide("RATELIMIT.PEEK log SW 1000 60"), [1, 1_000, 692, 0, 60_000]);
    apply("log", "refund-effect");
    assert_eq!(other.decide("RATELIMIT.PEEK log SW 1000 60"), [1, 1_000, 696, 0, 60_000]);
}

#[test]
fn a_newer_value_is_refused_and_the_log_says_what_to_upgrade() {
    for key in ["bucket", "log"] {
        for (at, advice) in [
            (ENCODING_AT, "cannot read: upgrade it"),
            (CODEC_AT, "by a newer version of ratelimit: upgrade the module of this server"),
        ] {
            let server = Server::at(NOON);
            let mut client = server.client();
            let mut value = version_1(&format!("{key}-value"));
            value[at] += 1;
            let refusal = restore(&mut client, key, &value).unwrap_err();
            assert!(refusal.contains("Bad data format"), "{refusal}");
            assert_eq!(client.call::<i64>(&format!("EXISTS {key}")), 0);
            assert!(server.log().contains(advice), "{}", server.log());
        }
    }
}

#[test]
fn a_newer_effect_is_refused_and_the_error_says_what_to_upgrade() {
    let server = Server::at(NOON);
    let mut client = server.client().acting_as_a_server();
    for name in ["bucket-effect", "log-effect", "grant-effect", "refund-effect"] {
        let mut effect = version_1(name);
        effect[8] += 1;
        assert_eq!(
            client.refusal_of(&[b"RATELIMIT.APPLY", b"key", &effect]),
            "ERR payload was sent by a newer version of ratelimit: upgrade this server's"
        );
        assert_eq!(client.call::<i64>("EXISTS key"), 0);
    }
}

#[test]
fn a_server_does_not_start_from_a_newer_snapshot_and_its_log_says_what_to_upgrade() {
    let directory = TempDir::new().unwrap();
    let builder = || {
        let directory = directory.path().to_str().expect("a path in UTF-8");
        Server::builder().clock(NOON).config("dir", directory).config("rdbchecksum", "no")
    };
    let server = builder().start();
    server.client().decide("RATELIMIT.TB bucket 100 60");
    server.client().call::<()>("SAVE");
    drop(server);
    let file = directory.path().join("dump.rdb");
    let snapshot = fs::read(&file).unwrap();
    // A snapshot has the key between the kind of the value and the name of its type.
    let name = &version_1("bucket-value")[1..ENCODING_AT];
    let named = snapshot.windows(name.len()).rposition(|bytes| bytes == name);
    let value = named.expect("a value in the snapshot") - 1;
    let mut newer = snapshot.clone();
    newer[value + CODEC_AT] += 1;
    fs::write(&file, newer).unwrap();
    let log = builder().start_in_vain();
    assert!(log.contains("upgrade the module of this server"), "{log}");
    fs::write(&file, snapshot).unwrap();
    assert_eq!(builder().start().client().call::<i64>("EXISTS bucket"), 1);
}
