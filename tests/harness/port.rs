//! Ports of the loopback address that no other process of the tests uses.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

/// First of the ports that are given out, and their number. Linux takes the ports of outgoing
/// connections from 32768 on, so that no connection takes one of these ports.
const FIRST: u16 = 10_000;
const COUNT: u16 = 22_000;

/// Number of ports that this process has given out.
static GIVEN_OUT: AtomicU16 = AtomicU16::new(0);

/// Returns a port that no process listens on at the moment, and that this process gives out once in
/// a long time: a test would otherwise talk to the server of another test that has taken the port.
pub(crate) fn free_port() -> u16 {
    // Processes that start one after the other begin far from each other.
    let begin = process::id().wrapping_mul(7_919) % u32::from(COUNT);
    let begin = u16::try_from(begin).expect("a remainder below a u16");
    for _ in 0..COUNT {
        let number = GIVEN_OUT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (begin + number) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("another process listens on each of the {COUNT} ports from {FIRST} on");
}

/// Returns whether the process with this id listens on a port. Another process that has taken the
/// port would answer as well.
pub(crate) fn listens(process_id: u32, port: u16) -> bool {
    let process = Path::new("/proc").join(process_id.to_string());
    let listeners: Vec<_> = ["net/tcp", "net/tcp6"]
        .into_iter()
        .filter_map(|table| fs::read_to_string(process.join(table)).ok())
        .flat_map(|table| table.lines().filter_map(|line| listener(line, port)).collect::<Vec<_>>())
        .collect();
    let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()).any(|target| {
        let target = target.to_string_lossy();
        listeners.iter().any(|listener| *target == *listener)
    })
}

/// Returns the file name of the socket in a line of `/proc/net/tcp`, if the socket listens on the
/// port.
fn listener(line: &str, port: u16) -> Option<String> {
    const LISTENS: &str = "0A";
    const INODE: usize = 9;
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
    let is_listener = u16::from_str_radix(local_port, 16) == Ok(port) && fields[3] == LISTENS;
    is_listener.then(|| format!("socket:[{}]", fields[INODE]))
}

#[test]
fn a_port_belongs_to_the_process_that_listens() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    let mut child = process::Command::new("sleep").arg("60").spawn().expect("a child");
    let child_listens = listens(child.id(), port);
    child.kill().and_then(|()| child.wait()).expect("the end of the child");
    assert!(listens(process::id(), port) && !child_listens);
    drop(listener);
    assert!(!listens(process::id(), port));
}
