//! What the codec promises, rule by rule. One binary: linking is most of the cost of a test.

mod answer;
mod chunked;
mod common;
mod forward;
mod framing;
mod intent;
mod properties;
mod proxy_protocol;
mod relay;
mod request;
mod response;
mod target;
