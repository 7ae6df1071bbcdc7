//! HTTP as bytes on a socket: the client adds, follows, retries and hides nothing.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType};

use super::wait::TIMEOUT;

/// An answer, with its head parsed and its body unchanged.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case and values, in the order of the answer.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Response {
    /// Returns the value of a header, or `None`. Panics when the answer has the header more than
    /// once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} came more than once in {self:?}");
        value
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let headers = lines.map(header).collect::<Option<_>>()?;
        let body = String::from_utf8(bytes.get(end + 4..)?.to_vec()).ok()?;
        Some(Self { status, headers, body })
    }
}

/// Sends a whole request unchanged, and reads the answer until the server closes the connection.
/// The request should ask for this with `Connection: close`.
pub(crate) fn exchange(address: SocketAddr, request: &[u8]) -> io::Result<Response> {
    exchange_over(connect(address)?, request)
}

/// Does the same from another address of this machine.
pub(crate) fn exchange_from(
    source: Ipv4Addr,
    address: SocketAddr,
    request: &[u8],
) -> io::Result<Response> {
    exchange_over(connect_from(source, address)?, request)
}

/// Does the same on an open stream.
pub(super) fn exchange_over(mut stream: impl Read + Write, request: &[u8]) -> io::Result<Response> {
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Response::parse(&answer)
        .ok_or_else(|| io::Error::other(format!("not an HTTP response: {}", answer.escape_ascii())))
}

/// Opens a connection from another address of this machine, whose reads fail at the deadline.
pub(crate) fn connect_from(source: Ipv4Addr, address: SocketAddr) -> io::Result<TcpStream> {
    let SocketAddr::V4(address) = address else { return Err(io::ErrorKind::Unsupported.into()) };
    let socket =
        net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    net::bind(&socket, &SocketAddrV4::new(source, 0))?;
    net::connect(&socket, &address)?;
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Opens a connection whose reads fail at the deadline.
pub(super) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// A persistent connection.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    socket: S,
    /// Bytes that have arrived and are not yet part of an answer.
    received: Vec<u8>,
}

impl Connection<TcpStream> {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::over(connect(address)?))
    }
}

impl<S: Read + Write> Connection<S> {
    /// Uses an open stream.
    pub(crate) fn over(socket: S) -> Self {
        Self { socket, received: vec![] }
    }

    /// Returns the stream, for bytes that are not a whole request.
    pub(crate) fn stream(&mut self) -> &mut S {
        &mut self.socket
    }

    /// Sends a whole request unchanged, and reads the answer, whose head must contain its length.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> io::Result<Response> {
        self.socket.write_all(request)?;
        self.receive()
    }

    /// Reads the next answer, whose head must contain its length.
    pub(crate) fn receive(&mut self) -> io::Result<Response> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(length) = whole_length(&self.received) {
                let answer = self.received.drain(..length).collect::<Vec<_>>();
                return Response::parse(&answer).ok_or_else(|| {
                    io::Error::other(format!("not an HTTP response: {}", answer.escape_ascii()))
                });
            }
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.received.extend(buffer.iter().take(count)),
                // A signal that stops and continues the process interrupts a read.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Returns the length of the answer at the beginning of `bytes`, if `bytes` has the whole answer.
fn whole_length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = Response::parse(bytes.get(..end)?)?;
    let body: usize = head.header("Content-Length")?.parse().ok()?;
    (bytes.len() >= end + body).then_some(end + body)
}

/// Returns the bytes of a request that asks the server to close the connection after the answer.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    kept_request(method, path, &[headers, &[("Connection", "close")]].concat(), body)
}

/// Returns the bytes of a request that keeps the connection open.
pub(crate) fn kept_request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Vec<u8> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        request += &format!("Content-Length: {}\r\n", body.len());
    }
    request += "\r\n";
    request += body;
    request.into_bytes()
}
