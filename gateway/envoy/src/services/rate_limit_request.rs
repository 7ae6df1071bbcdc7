//! The request of the rate limit service on the wire.
//!
//! The types of `envoy-types` read texts, and bytes that are no UTF-8 make the whole message invalid. An
//! end user can write such bytes into a header that a descriptor contains, and the call would fail. So
//! these types have the same fields as bytes.

use prost::Message;

use crate::call::{Descriptor, Entry, Hits, LimitOverride, RateLimitCall};

/// `envoy.service.ratelimit.v3.RateLimitRequest`
#[derive(Clone, PartialEq, Message)]
pub(super) struct RateLimitRequest {
    #[prost(bytes = "vec", tag = "1")]
    domain: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    descriptors: Vec<RateLimitDescriptor>,
    #[prost(uint32, tag = "3")]
    hits_addend: u32,
}

/// `envoy.extensions.common.ratelimit.v3.RateLimitDescriptor`
#[derive(Clone, PartialEq, Message)]
struct RateLimitDescriptor {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<DescriptorEntry>,
    #[prost(message, optional, tag = "2")]
    limit: Option<DescriptorLimit>,
    #[prost(message, optional, tag = "3")]
    hits_addend: Option<u64>,
    #[prost(bool, tag = "4")]
    is_negative_hits: bool,
}

/// `RateLimitDescriptor.Entry`
#[derive(Clone, PartialEq, Message)]
struct DescriptorEntry {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `RateLimitDescriptor.RateLimitOverride`
#[derive(Clone, Copy, PartialEq, Message)]
struct DescriptorLimit {
    #[prost(uint32, tag = "1")]
    requests_per_unit: u32,
    #[prost(int32, tag = "2")]
    unit: i32,
}

impl From<RateLimitRequest> for RateLimitCall {
    fn from(request: RateLimitRequest) -> Self {
        let RateLimitRequest { domain, descriptors, hits_addend } = request;
        let descriptor = |descriptor: RateLimitDescriptor| Descriptor {
            entries: descriptor.entries.into_iter().map(Entry::from).collect(),
            hits: Hits::new(descriptor.hits_addend, hits_addend, descriptor.is_negative_hits),
            limit: descriptor
                .limit
                .map(|limit| LimitOverride::new(limit.requests_per_unit, limit.unit)),
        };
        let descriptors = descriptors.into_iter().map(descriptor).collect();
        Self { domain, descriptors, max_wait: None }
    }
}

impl From<DescriptorEntry> for Entry {
    fn from(DescriptorEntry { key, value }: DescriptorEntry) -> Self {
        Self { key: String::from_utf8_lossy(&key).into_owned(), value }
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::{
        envoy::{
            extensions::common::ratelimit::v3::{
                RateLimitDescriptor,
                rate_limit_descriptor::{Entry, RateLimitOverride},
            },
            service::ratelimit::v3,
            r#type::v3::RateLimitUnit,
        },
        google::protobuf::UInt64Value,
    };
    use limiter::Units;
    use proptest::prelude::*;
    use prost::Message;

    use super::RateLimitRequest;
    use crate::{
        call::{Hits, RateLimitCall},
        time_unit::TimeUnit,
    };

    fn read(request: &v3::RateLimitRequest) -> RateLimitCall {
        RateLimitRequest::decode(&*request.encode_to_vec()).unwrap().into()
    }

    #[test]
    fn the_fields_are_those_of_envoy() {
        let entry = Entry { key: "user".to_owned(), value: "ann".to_owned() };
        let limit = RateLimitOverride { requests_per_unit: 9, unit: RateLimitUnit::Month.into() };
        let descriptor = RateLimitDescriptor {
            entries: vec![entry.clone(), entry],
            limit: Some(limit),
            hits_addend: Some(UInt64Value { value: 4 }),
            is_negative_hits: true,
        };
        let call = read(&v3::RateLimitRequest {
            domain: "shop".to_owned(),
            descriptors: vec![descriptor, RateLimitDescriptor::default()],
            hits_addend: 3,
        });
        assert_eq!(call.domain, b"shop");
        let [first, second] = &call.descriptors[..] else { panic!("{call:?}") };
        let entries: Vec<_> =
            first.entries.iter().map(|entry| (entry.key.as_str(), &entry.value[..])).collect();
        assert_eq!(entries, [("user", &b"ann"[..]); 2]);
        assert_eq!(first.hits, Hits { units: 4, is_refund: true });
        let limit = first.limit.unwrap();
        assert_eq!((limit.limit, limit.unit), (Units::new(9), TimeUnit::Month));
        assert_eq!(second.hits, Hits { units: 3, is_refund: false });
        assert!(second.limit.is_none() && second.entries.is_empty());
    }

    proptest! {
        /// A value that is no UTF-8, which `envoy-types` refuses, is read as its bytes.
        #[test]
        fn any_bytes_are_a_value(value in proptest::collection::vec(128u8.., 1..20)) {
            // domain, and one descriptor of one entry with the key `k`.
            let entry = [&[10, 1, b'k', 18, value.len() as u8], &value[..]].concat();
            let descriptor = [&[10, entry.len() as u8], &entry[..]].concat();
            let bytes = [&[10, 1, b'd', 18, descriptor.len() as u8], &descriptor[..]].concat();
            let call = RateLimitCall::from(RateLimitRequest::decode(&*bytes).unwrap());
            prop_assert_eq!(&call.descriptors[0].entries[0].value, &value);
            if str::from_utf8(&value).is_err() {
                prop_assert!(v3::RateLimitRequest::decode(&*bytes).is_err());
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = RateLimitRequest::decode(&*bytes).map(RateLimitCall::from);
        }
    }
}
