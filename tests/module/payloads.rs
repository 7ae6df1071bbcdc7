//! Stored bytes of every version: the module reads all older versions, and refuses newer ones.

use std::fs;

use limiter::codec::VERSION;
use tempfile::TempDir;

use crate::harness::{Client, NOON, Server, repository, sealed};

/// The expiry that the effects set.
const EXPIRY_MILLIS: u64 = NOON / 1_000 + 60_000;

/// The positions in a value of the encoding version of its type and of the version of the codec.
const ENCODING_AT: usize = 9;
const CODEC_AT: usize = 12;

/// Returns the committed bytes of version 1 with this name.
fn version_1(name: &str) -> Vec<u8> {
    committed(include_str!("../payloads/version-1.txt"), name)
}

/// Returns the committed bytes of version 2 with this name.
pub(crate) fn version_2(name: &str) -> Vec<u8> {
    committed(include_str!("../payloads/version-2.txt"), name)
}

fn committed(file: &str, name: &str) -> Vec<u8> {
    let lines = file.lines();
    let mut fields = lines.filter_map(|line| line.split_once(char::is_whitespace));
    let (_, digits) = fields.find(|(field, _)| *field == name).expect("a line of that name");
    let digits = digits.trim();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// Restores a value with the footer of this server, and returns the reply.
pub(crate) fn restore(
    client: &mut Client,
    key: &str,
    value: &[u8],
) -> Result<redis::Value, String> {
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
fn values_of_version_2_are_restored_and_decide_as_they_did() {
    let server = Server::builder().clock(NOON).config("rdbcompression", "no").start();
    let mut client = server.client();
    for key in ["window", "debt-bucket", "debt-log", "age-log"] {
        let value = version_2(&format!("{key}-value"));
        restore(&mut client, key, &value).unwrap();
        let stored: Vec<u8> = client.call(&format!("DUMP {key}"));
        assert_eq!(stored[..stored.len() - 10], value, "{key}");
    }
    assert_decides_as_version_2(&mut client);
}

#[test]
fn effects_of_version_2_are_applied_and_decide_as_they_did() {
    let server = Server::at(NOON);
    let mut client = server.client().acting_as_a_server();
    let mut apply = |key: &str, name: &str| {
        let effect = version_2(name);
        client.send::<()>(&[b"RATELIMIT.APPLY", key.as_bytes(), &effect]);
        let expiry: u64 = client.call(&format!("PEXPIRETIME {key}"));
        assert_eq!(expiry, EXPIRY_MILLIS, "{name}");
    };
    for key in ["window", "debt-bucket", "debt-log", "age-log"] {
        apply(key, &format!("{key}-effect"));
    }
    let mut other = server.client();
    assert_decides_as_version_2(&mut other);
    for (name, left) in
        [("resolution-grant-effect", 694), ("joining-grant-effect", 689), ("return-effect", 690)]
    {
        apply("age-log", name);
        let answer = other.decide("RATELIMIT.PEEK age-log SW 1000 60");
        assert_eq!(answer, [1, 1_000, left, 0, 60_001], "{name}");
    }
}

fn assert_decides_as_version_2(client: &mut Client) {
    for (peek, expected) in [
        ("window FW 100 60", [1, 100, 58, 0, 60_000]),
        ("window FW 42 MONTH", [0, 42, 0, 60_000, 60_000]),
        ("debt-bucket TB 100 60", [0, 100, 0, 599_999_941_200, 600_000_000_600]),
        ("debt-log SW 1000 60", [0, 1_000, 0, 60_000, 60_000]),
        ("age-log SW 1000 60", [1, 1_000, 699, 0, 60_000]),
    ] {
        assert_eq!(client.decide(&format!("RATELIMIT.PEEK {peek}")), expected, "{peek}");
    }
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
fn a_deletion_of_version_2_is_applied() {
    let server = Server::at(NOON);
    let mut client = server.client().acting_as_a_server();
    let deletion = version_2("deletion-effect");
    for (key, name) in [("bucket", "bucket-effect"), ("log", "log-effect")] {
        client.send::<()>(&[b"RATELIMIT.APPLY", key.as_bytes(), &version_1(name)]);
        // The effect also succeeds when the key does not exist any more.
        for _ in 0..2 {
            client.send::<()>(&[b"RATELIMIT.APPLY", key.as_bytes(), &deletion]);
            assert_eq!(client.call::<i64>(&format!("EXISTS {key}")), 0);
        }
    }
    client.call::<()>("SET text value");
    let refusal = client.refusal_of(&[b"RATELIMIT.APPLY", b"text", &deletion]);
    assert!(refusal.starts_with("WRONGTYPE "), "{refusal}");
    assert_eq!(client.call::<String>("GET text"), "value");
}

#[test]
fn a_deletion_with_an_expiry_or_a_field_is_refused() {
    let server = Server::at(NOON);
    let mut client = server.client().acting_as_a_server();
    client.send::<()>(&[b"RATELIMIT.APPLY", b"bucket", &version_1("bucket-effect")]);
    let deletion = version_2("deletion-effect");
    let with_expiry = [&EXPIRY_MILLIS.to_be_bytes()[..], &deletion[8..]].concat();
    let with_field = [&deletion[..], &[0]].concat();
    for payload in [with_expiry, with_field] {
        let refusal = client.refusal_of(&[b"RATELIMIT.APPLY", b"bucket", &payload]);
        assert!(refusal.starts_with("ERR payload must be one that"), "{refusal}");
        assert_eq!(client.call::<i64>("EXISTS bucket"), 1);
    }
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
            value[at] = if at == CODEC_AT { VERSION + 1 } else { value[at] + 1 };
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
        effect[8] = VERSION + 1;
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
    // In a snapshot the key is between the kind of the value and the name of its type.
    let name = &version_1("bucket-value")[1..ENCODING_AT];
    let named = snapshot.windows(name.len()).rposition(|bytes| bytes == name);
    let value = named.expect("a value in the snapshot") - 1;
    let mut newer = snapshot.clone();
    newer[value + CODEC_AT] = VERSION + 1;
    fs::write(&file, newer).unwrap();
    let log = builder().start_in_vain();
    assert!(log.contains("upgrade the module of this server"), "{log}");
    fs::write(&file, snapshot).unwrap();
    assert_eq!(builder().start().client().call::<i64>("EXISTS bucket"), 1);
}

#[test]
fn a_server_does_not_start_from_a_newer_or_damaged_append_only_file_and_its_log_says_why() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("appendonlydir");
    fs::create_dir(&path).unwrap();
    let name = "appendonly.aof.1.incr.aof";
    fs::write(path.join("appendonly.aof.manifest"), format!("file {name} seq 1 type i\n")).unwrap();
    let builder = || {
        let directory = directory.path().to_str().expect("a path in UTF-8");
        Server::builder().clock(NOON).config("dir", directory).config("appendonly", "yes")
    };
    let older = command(&[b"RATELIMIT.APPLY", b"log", &version_1("log-effect")]);
    let newer = |effect| {
        let mut newer = version_1(effect);
        newer[8] = VERSION + 1;
        (newer, NEWER_IN_FILE)
    };
    let mut cut = version_1("bucket-effect");
    cut.pop();
    for (payload, reason) in [
        newer("bucket-effect"),
        newer("grant-effect"),
        (cut, DAMAGED_IN_FILE),
        (b"damaged".to_vec(), DAMAGED_IN_FILE),
    ] {
        let unread = command(&[b"RATELIMIT.APPLY", b"key", &payload]);
        let transaction =
            [&command(&[b"MULTI"]), &older[..], &unread, &command(&[b"EXEC"])].concat();
        for file in [[&older[..], &unread, &older].concat(), transaction] {
            fs::write(path.join(name), file).unwrap();
            let log = builder().start_in_vain();
            let lines = log.lines().filter(|line| line.contains("<ratelimit>"));
            let reasons: Vec<_> = lines.filter_map(|line| line.split_once("> ")).collect();
            assert_eq!(reasons.len(), 1, "{log}");
            assert_eq!(reasons[0].1, reason);
            assert!(!log.contains("Ready to accept connections"), "{log}");
        }
    }
    // The server loads the file without this payload.
    fs::write(path.join(name), older).unwrap();
    let server = builder().start();
    assert_eq!(server.client().call::<Vec<String>>("KEYS *"), ["log"]);
}

const NEWER_IN_FILE: &str = "the append-only file has a change that was stored by a newer version \
                             of ratelimit: upgrade the module of this server";
const DAMAGED_IN_FILE: &str = "the append-only file has a change whose bytes are damaged: use another \
                               copy of the file";

const UNFIT_IN_FILE: &str = "the append-only file has a change that does not fit the value of its \
                             key, and was left out: a change before it is missing or damaged";

#[test]
fn a_change_that_does_not_fit_its_key_is_left_out_of_a_load_and_the_log_says_so() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().to_str().expect("a path in UTF-8");
    let builder = Server::builder().clock(NOON).config("dir", path);
    let mut server = builder.config("appendonly", "yes").start();
    let mut client = server.client();
    client.call::<Vec<i64>>("RATELIMIT.ACQUIRE jobs 5 3600 a");
    client.call::<Vec<i64>>("RATELIMIT.ACQUIRE jobs 5 3600 b");
    assert_eq!(client.call::<i64>("RATELIMIT.RELEASE jobs b"), 1);
    drop(client);
    server.stop();
    let files = fs::read_dir(directory.path().join("appendonlydir")).unwrap();
    let mut files = files.map(|entry| entry.unwrap().path());
    let file = files.find(|path| path.to_str().unwrap().ends_with(".incr.aof")).unwrap();
    // The last change releases another holder, which has no lease.
    let mut bytes = fs::read(&file).unwrap();
    let place = bytes.iter().rposition(|byte| *byte == b'b').unwrap();
    bytes[place] = b'c';
    fs::write(&file, bytes).unwrap();
    server.resume();
    let lines = server.log();
    let lines = lines.lines().filter(|line| line.contains("<ratelimit>"));
    assert_eq!(lines.filter(|line| line.ends_with(UNFIT_IN_FILE)).count(), 1);
    let held: Vec<(String, i64, i64, i64)> = server.client().call("RATELIMIT.HOLDERS jobs");
    assert_eq!(held.len(), 2);
}

#[test]
fn the_page_on_troubleshooting_has_the_lines_about_data_that_stops_the_start() {
    let page = fs::read_to_string(repository().join("docs/troubleshooting.md")).unwrap();
    for line in [
        NEWER_IN_FILE,
        DAMAGED_IN_FILE,
        UNFIT_IN_FILE,
        "stored by a newer version of ratelimit: upgrade the module of",
    ] {
        assert!(page.contains(&format!("| `{line}")), "{line}");
    }
}

/// Encodes a command as an append-only file contains it.
fn command(arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend(format!("${}\r\n", argument.len()).into_bytes());
        bytes.extend([argument, &b"\r\n"[..]].concat());
    }
    bytes
}
