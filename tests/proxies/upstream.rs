//! The service behind the proxies, which answers with the request that has arrived.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

/// A service that runs until the end of the test process.
#[derive(Debug)]
pub(super) struct Upstream {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Upstream {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                thread::spawn(move || {
                    // The proxy ends the connection.
                    let _ = serve(stream, &count);
                });
            }
        });
        Self { address, requests }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the number of requests that have arrived.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

/// Answers the requests of a connection.
fn serve(stream: TcpStream, count: &AtomicUsize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    loop {
        let Some(line) = read_line(&mut input)? else { return Ok(()) };
        let mut words = line.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let headers = read_headers(&mut input)?;
        let body = read_body(&mut input, &headers)?;
        count.fetch_add(1, Ordering::Relaxed);
        let headers: Vec<Value> =
            headers.into_iter().map(|(name, value)| json!([name, value])).collect();
        let echo = json!({ "method": method, "target": target, "headers": headers, "body": body });
        let echo = echo.to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            echo.len()
        );
        output.write_all(head.as_bytes())?;
        if method != "HEAD" {
            output.write_all(echo.as_bytes())?;
        }
    }
}

/// Reads a line, whose bytes need not be UTF-8; `None` at the end.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let count = input.read_until(b'\n', &mut line)?;
    Ok((count > 0).then(|| String::from_utf8_lossy(&line).into_owned()))
}

/// Reads names in lower case, and values.
fn read_headers(input: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut headers = vec![];
    loop {
        let line = read_line(input)?.unwrap_or_default();
        match line.trim_end().split_once(':') {
            Some((name, value)) => {
                headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
            None => return Ok(headers),
        }
    }
}

fn read_body(input: &mut impl BufRead, headers: &[(String, String)]) -> io::Result<String> {
    let header = |name: &str| headers.iter().find(|(other, _)| other == name);
    let mut body = vec![];
    if header("transfer-encoding").is_some() {
        loop {
            let mut size = String::new();
            input.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
            let begin = body.len();
            body.resize(begin + size, 0);
            input.read_exact(&mut body[begin..])?;
            input.read_line(&mut String::new())?;
            if size == 0 {
                break;
            }
        }
    } else if let Some((_, length)) = header("content-length") {
        body.resize(length.parse().unwrap_or(0), 0);
        input.read_exact(&mut body)?;
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}
