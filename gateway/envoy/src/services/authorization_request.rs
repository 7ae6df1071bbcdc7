//! The request of the authorization service on the wire, as far as the decision needs it. As in
//! [`rate_limit_request`](super::rate_limit_request), texts are bytes.

use std::{collections::HashMap, net::IpAddr};

use prost::Message;

use crate::original_request::OriginalRequest;

/// The key in `context_extensions` that names the policy.
const POLICY: &str = "policy";

/// `envoy.service.auth.v3.CheckRequest`
#[derive(Clone, PartialEq, Message)]
pub(super) struct CheckRequest {
    #[prost(message, optional, tag = "1")]
    attributes: Option<AttributeContext>,
}

/// `envoy.service.auth.v3.AttributeContext`
#[derive(Clone, PartialEq, Message)]
struct AttributeContext {
    #[prost(message, optional, tag = "1")]
    source: Option<Peer>,
    #[prost(message, optional, tag = "4")]
    request: Option<ContextRequest>,
    #[prost(map = "string, string", tag = "10")]
    context_extensions: HashMap<String, String>,
}

/// `AttributeContext.Peer`
#[derive(Clone, PartialEq, Message)]
struct Peer {
    #[prost(message, optional, tag = "1")]
    address: Option<Address>,
}

/// `envoy.config.core.v3.Address`
#[derive(Clone, PartialEq, Message)]
struct Address {
    #[prost(message, optional, tag = "1")]
    socket_address: Option<SocketAddress>,
}

/// `envoy.config.core.v3.SocketAddress`
#[derive(Clone, PartialEq, Message)]
struct SocketAddress {
    #[prost(string, tag = "2")]
    address: String,
}

/// `AttributeContext.Request`
#[derive(Clone, PartialEq, Message)]
struct ContextRequest {
    #[prost(message, optional, tag = "2")]
    http: Option<HttpRequest>,
}

/// `AttributeContext.HttpRequest`
#[derive(Clone, PartialEq, Message)]
struct HttpRequest {
    #[prost(bytes = "vec", tag = "2")]
    method: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    headers: Vec<Header>,
    #[prost(bytes = "vec", tag = "4")]
    path: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    host: Vec<u8>,
    #[prost(message, optional, tag = "13")]
    header_map: Option<HeaderMap>,
}

/// An entry of the map `headers`, which is a message on the wire.
#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(bytes = "vec", tag = "1")]
    name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `envoy.config.core.v3.HeaderMap`
#[derive(Clone, PartialEq, Message)]
struct HeaderMap {
    #[prost(message, repeated, tag = "1")]
    headers: Vec<HeaderValue>,
}

/// `envoy.config.core.v3.HeaderValue`
#[derive(Clone, PartialEq, Message)]
struct HeaderValue {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    raw_value: Vec<u8>,
}

impl CheckRequest {
    /// Returns the request of the end user, or `None` where Envoy asks about something else than an HTTP
    /// request.
    pub(super) fn into_original(self) -> Option<OriginalRequest> {
        let AttributeContext { source, request, mut context_extensions } = self.attributes?;
        let HttpRequest { method, headers, path, host, header_map } = request?.http?;
        let headers = headers.into_iter().map(|Header { name, value }| (name, value));
        let raw = header_map.map(|map| map.headers).unwrap_or_default();
        let raw = raw.into_iter().map(|header| (header.key, value(header.raw_value, header.value)));
        // The method, the host and the path of HTTP/2 have fields of their own.
        let headers = headers.chain(raw).filter(|(name, _)| !name.starts_with(b":"));
        let headers =
            headers.map(|(name, value)| (String::from_utf8_lossy(&name).into_owned(), value));
        Some(OriginalRequest {
            method,
            host,
            target: path,
            headers: headers.collect(),
            peer: source.and_then(Peer::ip),
            policy: context_extensions.remove(POLICY),
            max_wait: None,
        })
    }
}

/// Returns the value that a header has, of which only one is set.
fn value(raw: Vec<u8>, text: Vec<u8>) -> Vec<u8> {
    if raw.is_empty() { text } else { raw }
}

impl Peer {
    /// Returns the address, unless the peer has another one than an IP address.
    fn ip(self) -> Option<IpAddr> {
        self.address?.socket_address?.address.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use envoy_types::pb::envoy::{
        config::core::v3::{self as core, address, socket_address::PortSpecifier},
        service::auth::v3::{
            self as auth, AttributeContext,
            attribute_context::{HttpRequest, Peer, Request},
        },
    };
    use proptest::prelude::*;
    use prost::Message;

    use super::CheckRequest;
    use crate::original_request::OriginalRequest;

    fn read(attributes: AttributeContext) -> Option<OriginalRequest> {
        let request = auth::CheckRequest { attributes: Some(attributes) };
        CheckRequest::decode(&*request.encode_to_vec()).unwrap().into_original()
    }

    fn peer(address: &str) -> Peer {
        let socket = core::SocketAddress {
            address: address.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(5)),
            ..Default::default()
        };
        let address = address::Address::SocketAddress(socket);
        Peer {
            address: Some(core::Address { address: Some(address) }),
            principal: "spiffe://x".to_owned(),
            ..Default::default()
        }
    }

    fn request() -> HttpRequest {
        let headers = [(":path", "/a"), (":authority", "h"), ("x-user", "ann")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        HttpRequest {
            id: "7".to_owned(),
            method: "POST".to_owned(),
            headers: HashMap::from(headers),
            path: "/a?b=c".to_owned(),
            host: "shop.example:443".to_owned(),
            size: -1,
            body: "x".to_owned(),
            ..Default::default()
        }
    }

    fn attributes(http: HttpRequest) -> AttributeContext {
        let extensions = [("policy", "api"), ("other", "x")];
        let extensions = extensions.map(|(name, value)| (name.to_owned(), value.to_owned()));
        AttributeContext {
            source: Some(peer("10.0.0.1")),
            destination: Some(peer("10.0.0.2")),
            request: Some(Request { time: None, http: Some(http) }),
            context_extensions: HashMap::from(extensions),
            ..Default::default()
        }
    }

    #[test]
    fn the_fields_are_those_of_envoy() {
        let expected = OriginalRequest {
            method: b"POST".to_vec(),
            host: b"shop.example:443".to_vec(),
            target: b"/a?b=c".to_vec(),
            headers: vec![("x-user".to_owned(), b"ann".to_vec())],
            peer: Some([10, 0, 0, 1].into()),
            policy: Some("api".to_owned()),
            max_wait: None,
        };
        assert_eq!(read(attributes(request())).as_ref(), Some(&expected));

        let raw = |name: &str, value: &[u8]| core::HeaderValue {
            key: name.to_owned(),
            value: String::new(),
            raw_value: value.to_vec(),
        };
        let headers = vec![raw(":method", b"POST"), raw("x-user", b"\xff"), raw("x-user", b"b")];
        let map = Some(core::HeaderMap { headers });
        let raw = HttpRequest { headers: HashMap::new(), header_map: map, ..request() };
        let headers = [b"\xff", b"b"].map(|value| ("x-user".to_owned(), value.to_vec()));
        let expected = OriginalRequest { headers: headers.to_vec(), ..expected };
        assert_eq!(read(attributes(raw)), Some(expected));
    }

    #[test]
    fn a_peer_without_an_ip_address_has_none() {
        let pipe = address::Address::Pipe(core::Pipe { path: "/run/x".to_owned(), mode: 0 });
        let address = Some(core::Address { address: Some(pipe) });
        let source = Some(Peer { address, ..Default::default() });
        let found = read(AttributeContext { source, ..attributes(request()) }).unwrap();
        assert_eq!(found.peer, None);
        let source = Some(peer("unknown"));
        let found = read(AttributeContext { source, ..attributes(request()) }).unwrap();
        assert_eq!(found.peer, None);
        assert_eq!(read(AttributeContext { request: None, ..attributes(request()) }), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = CheckRequest::decode(&*bytes).map(CheckRequest::into_original);
        }
    }
}
