//! A gateway that answers each check as the test says, and counts the checks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, thread};

use crate::harness::eventually;

/// The time between two bytes of an answer that trickles, shorter than any time-out for a read.
const TRICKLE: Duration = Duration::from_millis(50);

/// The answer to a check.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// The end of the connection.
    Hangup,
    /// No answer while the client waits.
    Silence,
    /// A head without an end, one byte after the other.
    Trickle,
    /// A response.
    Response { status: u16, body: String },
}

impl Answer {
    pub(super) fn text(status: u16, body: &str) -> Self {
        Self::Response { status, body: body.to_owned() }
    }
}

/// A gateway that serves until the test process ends.
pub(super) struct ScriptedGateway {
    state: Arc<Mutex<State>>,
}

struct State {
    answer: Answer,
    checks: usize,
    connections: usize,
}

impl ScriptedGateway {
    /// Takes the address of a gateway that has ended, and allows checks.
    pub(super) fn start(address: SocketAddr) -> Self {
        let listener = eventually("the address is free", || TcpListener::bind(address).ok());
        let answer = Answer::text(200, r#"{"allowed":true,"remaining":1}"#);
        let state = Arc::new(Mutex::new(State { answer, checks: 0, connections: 0 }));
        let served = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, state) = (stream.unwrap(), Arc::clone(&served));
                lock(&state).connections += 1;
                // The client may end its connection at any time.
                thread::spawn(move || _ = serve(stream, &state));
            }
        });
        Self { state }
    }

    /// Answers all checks from now on in this way, and returns the number of checks so far.
    pub(super) fn checks_answered_by(&self, answer: &Answer) -> usize {
        let mut state = lock(&self.state);
        state.answer = answer.clone();
        state.checks
    }

    pub(super) fn checks(&self) -> usize {
        lock(&self.state).checks
    }

    pub(super) fn connections(&self) -> usize {
        lock(&self.state).connections
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while read_request(&mut reader)? {
        let answer = {
            let mut state = lock(state);
            state.checks += 1;
            state.answer.clone()
        };
        match answer {
            Answer::Hangup => return Ok(()),
            Answer::Silence => return reader.read_to_end(&mut Vec::new()).map(drop),
            Answer::Trickle => {
                stream.write_all(b"HTTP/1.1 200 -\r\nX: ")?;
                loop {
                    stream.write_all(b"x")?;
                    thread::sleep(TRICKLE);
                }
            }
            Answer::Response { status, body } => {
                let length = body.len();
                write!(stream, "HTTP/1.1 {status} -\r\nContent-Length: {length}\r\n\r\n{body}")?;
            }
        }
    }
    Ok(())
}

/// Reads a whole request, and returns false at the end of the connection.
fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<bool> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        if line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("Content-Length")
        {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    Ok(true)
}
