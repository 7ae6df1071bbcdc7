//! The load on a rate limit service for Envoy: connections with one call at a time each, and messages
//! that are made in advance. Prints one line of JSON with the measured values. Every answer must be OK.
//!
//! usage: `ratelimit-grpc-load PORT CONNECTIONS seconds|rounds COUNT`
//!
//! In a round each connection has one call, and the next round begins when every connection has its
//! answer.

#![forbid(unsafe_code)]

use std::{
    env,
    error::Error,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::envoy::{
    extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
    service::ratelimit::v3::{RateLimitRequest, RateLimitResponse, rate_limit_response::Code},
};
use h2::client::{self, SendRequest};
use http::{HeaderMap, Request};
use prost::Message;
use tokio::{net::TcpStream, sync::Barrier, task::JoinSet};

const USAGE: &str = "usage: ratelimit-grpc-load PORT CONNECTIONS seconds|rounds COUNT";
const METHOD: &str = "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
const IDENTIFIERS: usize = 10_000;
/// The bytes before a message: a flag of compression, and the length.
const PREFIX_BYTES: usize = 5;

type Failure = Box<dyn Error + Send + Sync>;

/// The length of the load.
#[derive(Clone)]
enum Length {
    Seconds(Duration),
    Rounds(u64, Arc<Barrier>),
}

/// A connection, and its next call.
struct Connection {
    requests: SendRequest<Bytes>,
    uri: String,
    messages: Arc<[Bytes]>,
    next: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [port, count, unit, length] = &words[..] else { return Err(USAGE.into()) };
    let (port, count, length) = (port.parse()?, count.parse()?, length.parse()?);
    let length = match unit.as_str() {
        "seconds" => Length::Seconds(Duration::from_secs(length)),
        "rounds" => Length::Rounds(length, Arc::new(Barrier::new(count))),
        _ => return Err(USAGE.into()),
    };
    let messages: Arc<[Bytes]> = (0..IDENTIFIERS).map(message).collect();
    let mut connections = Vec::with_capacity(count);
    for number in 0..count {
        let next = number * IDENTIFIERS / count;
        connections.push(Connection::open(port, Arc::clone(&messages), next).await?);
    }
    let start = Instant::now();
    let mut calls = JoinSet::new();
    for connection in connections {
        calls.spawn(connection.call_for(length.clone()));
    }
    let mut latencies = Vec::new();
    while let Some(measured) = calls.join_next().await {
        latencies.extend(measured??);
    }
    print(start.elapsed(), latencies);
    Ok(())
}

impl Connection {
    async fn open(port: u16, messages: Arc<[Bytes]>, next: usize) -> Result<Self, Failure> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        let (requests, connection) = client::handshake(stream).await?;
        // The error of a connection is also that of its call.
        tokio::spawn(connection);
        let uri = format!("http://127.0.0.1:{port}/{METHOD}");
        Ok(Self { requests, uri, messages, next })
    }

    /// Calls one by one, and returns the latencies.
    async fn call_for(mut self, length: Length) -> Result<Vec<Duration>, Failure> {
        let mut latencies = Vec::new();
        match length {
            Length::Seconds(length) => {
                let start = Instant::now();
                while start.elapsed() < length {
                    latencies.push(self.call().await?);
                }
            }
            Length::Rounds(count, start) => {
                for _ in 0..count {
                    start.wait().await;
                    latencies.push(self.call().await?);
                }
            }
        }
        Ok(latencies)
    }

    /// Sends a call, reads its answer, and returns the latency.
    async fn call(&mut self) -> Result<Duration, Failure> {
        let start = Instant::now();
        let message = self.messages[self.next].clone();
        self.next = (self.next + 1) % self.messages.len();
        let request = Request::post(&self.uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        self.requests = self.requests.clone().ready().await?;
        let (response, mut stream) = self.requests.send_request(request, false)?;
        stream.send_data(message, true)?;
        let (head, mut body) = response.await?.into_parts();
        let mut answer = BytesMut::new();
        while let Some(part) = body.data().await {
            let part = part?;
            body.flow_control().release_capacity(part.len())?;
            answer.extend_from_slice(&part);
        }
        let trailers = body.trailers().await?.unwrap_or(head.headers);
        require_ok(&answer, &trailers)?;
        Ok(start.elapsed())
    }
}

/// Returns the message of a call, with its prefix.
fn message(number: usize) -> Bytes {
    let entry = Entry { key: "user".to_owned(), value: format!("user_{number}") };
    let descriptor = RateLimitDescriptor { entries: vec![entry], ..RateLimitDescriptor::default() };
    let request = RateLimitRequest {
        domain: "bench".to_owned(),
        descriptors: vec![descriptor],
        hits_addend: 0,
    };
    let message = request.encode_to_vec();
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    bytes.put_u8(0);
    bytes.put_u32(message.len() as u32);
    bytes.put_slice(&message);
    bytes.freeze()
}

/// Fails unless the call has succeeded and is within its limit.
fn require_ok(answer: &[u8], trailers: &HeaderMap) -> Result<(), Failure> {
    if trailers.get("grpc-status").is_none_or(|status| status != "0") {
        return Err(format!("the call has failed: {trailers:?}").into());
    }
    let message = answer.get(PREFIX_BYTES..).ok_or("the answer has no message")?;
    let code = RateLimitResponse::decode(message)?.overall_code();
    if code == Code::Ok { Ok(()) } else { Err(format!("the answer is {code:?}").into()) }
}

/// Prints the measured values as requests.lua does.
fn print(elapsed: Duration, mut latencies: Vec<Duration>) {
    latencies.sort_unstable();
    let percentile = |percent| {
        let latency = latencies.get(latencies.len() * percent / 100);
        latency.map_or(0, Duration::as_micros)
    };
    println!(
        r#"{{"requests":{},"micros":{},"p50":{},"p95":{},"p99":{},"status":0,"broken":0}}"#,
        latencies.len(),
        elapsed.as_micros(),
        percentile(50),
        percentile(95),
        percentile(99),
    );
}
