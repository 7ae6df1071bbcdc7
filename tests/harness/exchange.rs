//! A connection on which a server also sends messages without a command.

use std::io::{Read, Write};
use std::net::TcpStream;

/// Sends a command, and returns its answer with all messages that the server has pushed since the
/// last answer: the function reads up to the answer to a PING after the command.
pub(crate) fn exchange(socket: &mut TcpStream, command: &str) -> String {
    write!(socket, "{command}\r\nPING\r\n").unwrap();
    let mut received = vec![];
    while !received.ends_with(b"+PONG\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        received.extend(byte);
    }
    String::from_utf8(received).unwrap()
}
