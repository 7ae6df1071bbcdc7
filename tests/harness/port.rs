//! Ports of the loopback address that no other process of the tests uses.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
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
/// port would answer as well. Linux takes milliseconds to list the sockets, so a test that waits for
/// a server calls this function after the server has answered.
pub(crate) fn listens(process_id: u32, port: u16) -> bool {
    let process = Path::new("/proc").join(process_id.to_string());
    let tables = ["net/tcp", "net/tcp6"].map(|table| process.join(table));
    let listeners: Vec<_> = tables.iter().flat_map(|table| listeners(table, port)).collect();
    let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()).any(|target| {
        let target = target.to_string_lossy();
        listeners.iter().any(|listener| *target == *listener)
    })
}

/// Returns the file names of the sockets in `/proc/net/tcp` that listen on a port.
///
/// Linux lists the sockets that listen first. The file is read line by line, up to the first other
/// socket, because after the tests of floods tens of thousands of connections follow.
fn listeners(table: &Path, port: u16) -> Vec<String> {
    const LONGEST_LINE: usize = 192;
    const LISTENS: &str = "0A";
    let Ok(table) = File::open(table) else { return Vec::new() };
    let address_end = format!(":{port:04X}");
    let mut listeners = Vec::new();
    let lines = BufReader::with_capacity(LONGEST_LINE, table).lines();
    for line in lines.skip(1).map_while(Result::ok) {
        let mut fields = line.split_ascii_whitespace();
        // The number of the line, the local and the remote address, the state; the inode is the tenth.
        let (address, state) = (fields.nth(1), fields.nth(1));
        if state != Some(LISTENS) {
            break;
        }
        if address.is_some_and(|address| address.ends_with(&address_end)) {
            listeners.push(format!("socket:[{}]", fields.nth(5).expect("the inode")));
        }
    }
    listeners
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
