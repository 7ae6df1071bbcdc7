//! A receiver of traces: OTLP over HTTP, or over HTTPS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::certificates::Certificate;
use super::wait::eventually;

/// Receives traces until the test ends.
#[derive(Debug)]
pub(crate) struct Collector {
    address: SocketAddr,
    scheme: &'static str,
    received: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        Self::serve("http", take_requests::<TcpStream>)
    }

    /// Starts a collector that authenticates with this certificate.
    pub(crate) fn with_tls(certificate: &Certificate) -> Self {
        let chain = CertificateDer::pem_file_iter(&certificate.certificate).expect("a PEM file");
        let chain = chain.collect::<Result<_, _>>().expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(&certificate.key).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate with its key");
        let config = Arc::new(config);
        Self::serve("https", move |stream, received| {
            let session = ServerConnection::new(Arc::clone(&config)).expect("a TLS session");
            take_requests(StreamOwned::new(session, stream), received);
        })
    }

    /// Returns the value for the setting `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub(crate) fn endpoint(&self) -> String {
        format!("{}://localhost:{}", self.scheme, self.address.port())
    }

    /// Returns all received data as text.
    pub(crate) fn everything(&self) -> String {
        format!("{:?}", self.lock())
    }

    /// Returns the names of the services that have sent data.
    pub(crate) fn services(&self) -> Vec<String> {
        let received = self.lock();
        let resources = received.iter().flat_map(|request| &request.resource_spans);
        let resources = resources.filter_map(|spans| spans.resource.as_ref());
        resources.map(|resource| attribute(&resource.attributes, "service.name")).collect()
    }

    /// Returns all spans so far, in the order in which they ended.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let received = self.lock();
        let resources = received.iter().flat_map(|request| request.resource_spans.clone());
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    /// Waits for a span with this name, and returns it.
    pub(crate) fn span(&self, name: &str) -> Span {
        eventually(&format!("a span {name:?}"), || {
            self.spans().into_iter().find(|span| span.name == name)
        })
    }

    fn serve(
        scheme: &'static str,
        take: impl Fn(TcpStream, &Mutex<Vec<ExportTraceServiceRequest>>) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let received = Arc::new(Mutex::new(vec![]));
        let taken = Arc::clone(&received);
        thread::spawn(move || {
            // The gateway keeps one connection, and opens another connection after the first one
            // has ended.
            for stream in listener.incoming().flatten() {
                take(stream, &taken);
            }
        });
        Self { address, scheme, received }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<ExportTraceServiceRequest>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the value of an attribute as text, or an empty text when there is no such attribute.
fn attribute(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|attribute| attribute.value.clone()) {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => text,
        Some(AnyValue { value: Some(Value::IntValue(number)) }) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

/// Returns the values of some attributes of a span.
pub(crate) fn attributes<const N: usize>(span: &Span, names: [&str; N]) -> [String; N] {
    names.map(|name| attribute(&span.attributes, name))
}

/// Returns whether a span has the status of an error.
pub(crate) fn has_failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

/// Returns the digits of the id of a trace or of a span.
pub(crate) fn id_digits(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads requests until the connection ends.
fn take_requests<S: Read + Write>(stream: S, received: &Mutex<Vec<ExportTraceServiceRequest>>) {
    let mut stream = BufReader::new(stream);
    while let Some((head, body)) = read_request(&mut stream) {
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("content-type: application/x-protobuf\r\n"), "{head}");
        let request = ExportTraceServiceRequest::decode(&*body).expect("spans");
        received.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let _ = stream.get_mut().write_all(answer);
        let _ = stream.get_mut().flush();
    }
}

/// Returns the head of a request, in lower case except for its first line, and the body.
fn read_request(stream: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        let line = if head.is_empty() { line } else { line.to_ascii_lowercase() };
        if let Some(text) = line.strip_prefix("content-length:") {
            length = text.trim().parse().ok()?;
        }
        head += &line;
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}
