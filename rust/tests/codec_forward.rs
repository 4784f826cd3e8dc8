//! Heads written for backends and clients (RFC 9110 section 7.6, RFC 9112 section 6).

mod codec_common;
use codec_common::*;

#[test]
fn a_plain_request_is_copied_and_signed() {
    let sent = upstream(
        b"GET /a?b=c HTTP/1.1\r\nHost: h.example\r\nX-A: 1\r\n\r\n",
        &context(),
    );
    assert_eq!(
        sent,
        "GET /a?b=c HTTP/1.1\r\nHost: h.example\r\nX-A: 1\r\nX-Forwarded-For: 192.0.2.1\r\n\
         X-Forwarded-Proto: http\r\nVia: 1.1 hotswap\r\nX-Forwarded-Host: h.example\r\n\
         X-Request-ID: made-here\r\n\r\n"
    );
}
