//! The body of a request to a collector: `ExportTraceServiceRequest`.
//!
//! Spans of many requests, drained at different moments, become one body without being decoded: the field
//! `spans` of `ScopeSpans` is repeated, so bytes of it can be put one behind the other.

use super::proto::{KeyValue, Resource, Scope, Span};
use prost::encoding::{
    decode_varint, encode_key, encode_varint, encoded_len_varint, message, WireType,
};

/// Name of the scope that the spans of requests are in.
pub const SCOPE: &str = "hotswap_proxy.gateway";
/// Field number of `spans` in `ScopeSpans`.
const SPANS: u32 = 2;

/// Append a span as one more `spans` of a `ScopeSpans`.
pub fn push_span(out: &mut Vec<u8>, span: &Span) {
    message::encode(SPANS, span, out);
}

/// What stands around the spans of one node.
pub struct Envelope {
    /// `resource` of `ResourceSpans`.
    resource: Vec<u8>,
    /// `scope` of `ScopeSpans`.
    scope: Vec<u8>,
}

impl Envelope {
    pub fn new<'a>(
        attributes: impl IntoIterator<Item = (&'a str, &'a str)>,
        version: &str,
    ) -> Self {
        let attributes = attributes
            .into_iter()
            .map(|(key, value)| KeyValue::text(key, value));
        let resource = Resource {
            attributes: attributes.collect(),
        };
        let scope = Scope {
            name: SCOPE.to_owned(),
            version: version.to_owned(),
        };
        let mut envelope = Self {
            resource: Vec::new(),
            scope: Vec::new(),
        };
        message::encode(1, &resource, &mut envelope.resource);
        message::encode(1, &scope, &mut envelope.scope);
        envelope
    }

    /// The body for these spans (see [`push_span`]).
    pub fn wrap(&self, spans: &[u8]) -> Vec<u8> {
        let scope_spans = self.scope.len() + spans.len();
        let resource_spans =
            self.resource.len() + 1 + encoded_len_varint(scope_spans as u64) + scope_spans;
        let mut out = Vec::with_capacity(resource_spans + 16);
        encode_key(1, WireType::LengthDelimited, &mut out); // resource_spans
        encode_varint(resource_spans as u64, &mut out);
        out.extend_from_slice(&self.resource);
        encode_key(2, WireType::LengthDelimited, &mut out); // scope_spans
        encode_varint(scope_spans as u64, &mut out);
        out.extend_from_slice(&self.scope);
        out.extend_from_slice(spans);
        out
    }
}

/// How many spans [`push_span`] has put there.
pub fn count(mut spans: &[u8]) -> u64 {
    let mut count = 0;
    while let (Ok(_key), Ok(len)) = (decode_varint(&mut spans), decode_varint(&mut spans)) {
        let Some(rest) = usize::try_from(len).ok().and_then(|len| spans.get(len..)) else {
            return count;
        };
        spans = rest;
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    struct Request {
        #[prost(message, repeated, tag = "1")]
        resource_spans: Vec<ResourceSpans>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct ResourceSpans {
        #[prost(message, optional, tag = "1")]
        resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        scope_spans: Vec<ScopeSpans>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct ScopeSpans {
        #[prost(message, optional, tag = "1")]
        scope: Option<Scope>,
        #[prost(message, repeated, tag = "2")]
        spans: Vec<Span>,
    }

    #[test]
    fn bytes_of_spans_make_a_body_that_can_be_decoded() {
        for many in [0, 1, 3, 200] {
            let mut spans = Vec::new();
            for number in 0..many {
                let span = Span {
                    name: format!("span {number}"),
                    start_time_unix_nano: number,
                    ..Span::default()
                };
                push_span(&mut spans, &span);
            }
            assert_eq!(count(&spans), many);
            let envelope = Envelope::new([("service.name", "x")], "1.2");
            let body = envelope.wrap(&spans);
            let read = Request::decode(&body[..]).expect("a request");
            let [of_resource] = &read.resource_spans[..] else {
                panic!("{read:?}")
            };
            let resource = of_resource.resource.as_ref().expect("a resource");
            assert_eq!(resource.attributes[0].key, "service.name");
            let scope = &of_resource.scope_spans[0];
            assert_eq!(
                scope.scope.as_ref().map(|scope| &scope.version[..]),
                Some("1.2")
            );
            assert_eq!(scope.spans.len() as u64, many);
            let last = scope.spans.last().map(|last| last.name.clone());
            assert_eq!(
                last,
                many.checked_sub(1).map(|number| format!("span {number}"))
            );
        }
        assert_eq!(count(&[0x12, 0xff]), 0);
    }
}
