//! RFC 9112 sections 4 to 6 on the side of the backend.

use _core::codec::BadGateway as B;
use _core::codec::*;

use crate::common::*;

const GET: ResponseContext<'static> = ResponseContext {
    head_request: false,
    upgrade: None,
};
const HEAD: ResponseContext<'static> = ResponseContext {
    head_request: true,
    upgrade: None,
};

fn fault(raw: &[u8]) -> Option<Result<(), BadGateway>> {
    match parse_response(raw, &GET, &Limits::default(), &mut Scratch::new()) {
        Ok(None) => None,
        Ok(Some(_)) => Some(Ok(())),
        Err(fault) => Some(Err(fault)),
    }
}

#[test]
fn rfc9112_4_status_lines() {
    for (raw, status, reason) in [
        ("HTTP/1.1 200 OK\r\n\r\n", 200, "OK"),
        ("HTTP/1.0 404 Not here\r\n\r\n", 404, "Not here"),
        ("HTTP/1.1 200 \r\n\r\n", 200, ""),
        ("HTTP/1.1 200\r\n\r\n", 200, ""),
        ("HTTP/1.1 999 x\r\n\r\n", 999, "x"),
    ] {
        with_response(raw.as_bytes(), &GET, |head| {
            assert_eq!((head.status, head.reason), (status, reason.as_bytes()));
            assert_eq!(head.head_len, raw.len());
        });
    }
    for raw in [
        &b"HTTP/1.1 099 x\r\n\r\n"[..],
        b"HTTP/1.1 000 x\r\n\r\n",
        b"HTTP/1.1 20 x\r\n\r\n",
        b"HTTP/1.1 2000 x\r\n\r\n",
        b"HTTP/1.1 abc x\r\n\r\n",
        b"HTTP/1.1  200 x\r\n\r\n",
        b"HTTP/1.1 200 a\0b\r\n\r\n",
        b"HTTP/2.0 200 x\r\n\r\n",
        b"HTTP/1.2 200 x\r\n\r\n",
        b"http/1.1 200 x\r\n\r\n",
        b"\r\nHTTP/1.1 200 x\r\n\r\n",
        b"\n",
        b"<html>",
        b" HTTP/1.1 200 x\r\n\r\n",
    ] {
        assert_eq!(
            fault(raw),
            Some(Err(B::StatusLine)),
            "{}",
            raw.escape_ascii()
        );
    }
}

#[test]
fn rfc9112_2_2_and_5_lines() {
    for (raw, why) in [
        (&b"HTTP/1.1 200 OK\n\r\n"[..], B::LineEnding),
        (b"HTTP/1.1 200 OK\r\n\n", B::LineEnding),
        (b"HTTP/1.1 200 OK\nA: 1\r\n\r\n", B::LineEnding),
        (b"HTTP/1.1 200 OK\r\nA: 1\n\r\n", B::LineEnding),
        (b"HTTP/1.1 200 OK\r\nA: 1\nB: 2\r\n\r\n", B::LineEnding),
        (b"HTTP/1.1 200 OK\r\nA: 1\rB: 2\r\n\r\n", B::FieldValue),
        (b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", B::FieldValue),
        (b"HTTP/1.1 200 OK\r\nA : 1\r\n\r\n", B::FieldName),
        (b"HTTP/1.1 200 OK\r\nA: 1\r\n folded\r\n\r\n", B::FieldName),
        (b"HTTP/1.1 200 OK\r\n A: 1\r\n\r\n", B::FieldName),
    ] {
        assert_eq!(fault(raw), Some(Err(why)), "{}", raw.escape_ascii());
    }
}

#[test]
fn rfc9112_6_3_framing_and_reuse() {
    use BodyFraming::*;
    let cases = [
        ("1.1 200 OK", "Content-Length: 5", Length(5), true),
        (
            "1.1 200 OK",
            "Content-Length: 5\r\nConnection: close",
            Length(5),
            false,
        ),
        ("1.1 200 OK", "Transfer-Encoding: chunked", Chunked, true),
        ("1.1 200 OK", "X: 1", UntilClose, false),
        ("1.0 200 OK", "Content-Length: 5", Length(5), false),
        (
            "1.0 200 OK",
            "Content-Length: 5\r\nConnection: keep-alive",
            Length(5),
            true,
        ),
        ("1.1 204 No", "X: 1", None, true),
        ("1.1 204 No", "Content-Length: 0", None, true),
        ("1.1 204 No", "Content-Length: 5", None, false),
        ("1.1 204 No", "Transfer-Encoding: chunked", None, false),
        ("1.1 304 No", "Content-Length: 5", None, true),
        ("1.1 304 No", "X: 1", None, true),
        ("1.1 100 Go", "X: 1", None, true),
    ];
    for (line, lines, framing, keep_alive) in cases {
        let raw = format!("HTTP/{line}\r\n{lines}\r\n\r\n");
        with_response(raw.as_bytes(), &GET, |head| {
            assert_eq!(
                (head.framing, head.keep_alive),
                (framing, keep_alive),
                "{raw}"
            );
        });
    }
    for lines in ["Content-Length: 5", "Transfer-Encoding: chunked", "X: 1"] {
        let raw = format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n");
        with_response(raw.as_bytes(), &HEAD, |head| {
            assert_eq!((head.framing, head.keep_alive), (None, true), "{raw}");
        });
    }
}

#[test]
fn rfc9112_6_conflicts_are_bad_gateways() {
    for (lines, why) in [
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            B::LengthAndCoding,
        ),
        ("Content-Length: 5\r\nContent-Length: 6", B::LengthInvalid),
        ("Content-Length: 5\r\nContent-Length: 5", B::LengthInvalid),
        ("Content-Length: 5, 5", B::LengthInvalid),
        ("Content-Length: x", B::LengthInvalid),
        ("Content-Length: -1", B::LengthInvalid),
        ("Transfer-Encoding: gzip", B::CodingUnsupported),
        ("Transfer-Encoding: identity", B::CodingUnsupported),
        ("Transfer-Encoding: gzip, chunked", B::CodingUnsupported),
        ("Transfer-Encoding: chunked, gzip", B::CodingUnsupported),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            B::CodingUnsupported,
        ),
        ("Connection: a b", B::ConnectionOptions),
    ] {
        let raw = format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n");
        assert_eq!(fault(raw.as_bytes()), Some(Err(why)), "{lines}");
    }
    let old = b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(fault(old), Some(Err(B::CodingInHttp10)));
}

#[test]
fn rfc9110_15_2_interim_responses_and_101() {
    let early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n";
    with_response(early, &GET, |head| {
        assert!(head.is_interim());
        assert_eq!(head.framing, BodyFraming::None);
        assert_eq!(head.head_len, 40);
    });
    let switching = b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(fault(switching), Some(Err(B::UnexpectedUpgrade)));
    let asked = ResponseContext {
        upgrade: Some(b"websocket, own/2"),
        ..GET
    };
    with_response(switching, &asked, |head| {
        assert!(!head.is_interim());
        assert!(!head.keep_alive);
    });
    let old = b"HTTP/1.0 101 S\r\nUpgrade: websocket\r\n\r\n";
    let mut scratch = Scratch::new();
    let parsed = parse_response(old, &asked, &Limits::default(), &mut scratch);
    assert_eq!(parsed.err(), Some(B::StatusLine));
    for (line, named) in [
        ("HTTP/1.1 101 S\r\nUpgrade: WebSocket", true),
        ("HTTP/1.1 101 S\r\nUpgrade: own/2, websocket/13", true),
        ("HTTP/1.1 101 S\r\nX: y", false),
        ("HTTP/1.1 101 S\r\nUpgrade: h2c", false),
        ("HTTP/1.1 101 S\r\nUpgrade: own", false),
        ("HTTP/1.1 101 S\r\nUpgrade: own/1", false),
        ("HTTP/1.1 101 S\r\nUpgrade: websockets", false),
        (
            "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nUpgrade: h2c",
            false,
        ),
        ("HTTP/1.1 101 S\r\nUpgrade:", false),
    ] {
        let raw = format!("{line}\r\n\r\n");
        let mut scratch = Scratch::new();
        let parsed = parse_response(raw.as_bytes(), &asked, &Limits::default(), &mut scratch);
        let fault = (!named).then_some(B::UnexpectedUpgrade);
        assert_eq!(parsed.err(), fault, "{line}");
    }
}

#[test]
fn limits_hold_for_responses() {
    let mut raw = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
    raw.resize(65_536, b'x');
    assert_eq!(fault(&raw[..65_535]), None);
    assert_eq!(fault(&raw), Some(Err(B::HeadTooLarge)));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: 1\r\n".repeat(129));
    assert_eq!(fault(many.as_bytes()), Some(Err(B::TooManyFields)));
    let some = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: 1\r\n".repeat(128));
    assert_eq!(fault(some.as_bytes()), Some(Ok(())));
    let limits = Limits {
        fields: 127,
        ..Limits::default()
    };
    let mut scratch = Scratch::new();
    let parsed = parse_response(some.as_bytes(), &GET, &limits, &mut scratch);
    assert_eq!(parsed.err(), Some(B::TooManyFields));
    assert!(B::TooManyFields.reason().ends_with('.'));
}
