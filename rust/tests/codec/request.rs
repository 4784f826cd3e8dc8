//! RFC 9112 sections 2 to 6 on the side of the client.

use _core::codec::Refusal as R;
use _core::codec::*;

use crate::common::*;

#[test]
fn rfc9112_2_2_lines_end_with_crlf() {
    let cases: &[(&[u8], Refusal)] = &[
        (b"GET / HTTP/1.1\nHost: h\r\n\r\n", R::LineEnding),
        (b"GET / HTTP/1.1\r\nHost: h\n\r\n", R::LineEnding),
        (b"GET / HTTP/1.1\r\nHost: h\nX: 1\r\n\r\n", R::LineEnding),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\n", R::LineEnding),
        (b"GET / HTTP/1.1\nHost: h\n\n", R::LineEnding),
        (
            b"GET / HTTP/1.1\r\nHost: h\r\nX:\nY: 1\r\n\r\n",
            R::LineEnding,
        ),
        (b"GET / HTTP/1.0\n\r\n", R::LineEnding),
        (b"GET / HTTP/1.0\r\n\n", R::LineEnding),
        (b"GET / HTTP/1.1\rHost: h\r\n\r\n", R::LineEnding),
        (b"GET / HTTP/1.1\r\r\nHost: h\r\n\r\n", R::LineEnding),
        (b"GET / HTTP/1.1\r\nHost: h\rX: 1\r\n\r\n", R::FieldValue),
        (b"GET / HTTP/1.1\r\nHost: h\r\r\n\r\n", R::FieldValue),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\rX", R::LineEnding),
    ];
    for &(raw, why) in cases {
        refused(raw, why);
    }
}

#[test]
fn rfc9112_2_2_one_empty_line_may_lead() {
    accepted(b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
    with_request(b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\nrest", |head| {
        assert_eq!(head.head_len, 29);
    });
    assert_eq!(verdict(b"\r"), None);
    assert_eq!(verdict(b"\r\n"), None);
    for raw in [
        &b"\n"[..],
        b"\r\n\r",
        b"\r\n\r\n",
        b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\n\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\r\n\nGET",
    ] {
        refused(raw, R::LeadingLines);
    }
    refused(b" GET / HTTP/1.1\r\nHost: h\r\n\r\n", R::RequestLine);
    refused(b"\rGET / HTTP/1.1\r\nHost: h\r\n\r\n", R::LineEnding);
}

#[test]
fn rfc9110_5_5_values_hold_no_controls() {
    for byte in (0..=0x1F).chain([0x7F]) {
        if matches!(byte, b'\t' | b'\n' | b'\r') {
            continue;
        }
        let mut raw = b"GET / HTTP/1.1\r\nHost: h\r\nX: a".to_vec();
        raw.push(byte);
        raw.extend_from_slice(b"b\r\n\r\n");
        refused(&raw, R::FieldValue);
    }
    accepted(&with_lines("X: a\tb\r\n"));
    accepted(b"GET / HTTP/1.1\r\nHost: h\r\nX: \xE9\r\n\r\n"); // obs-text
}

#[test]
fn rfc9112_5_field_lines() {
    for lines in [
        "X : 1\r\n",
        "X\t: 1\r\n",
        " X: 1\r\n",
        "X\r\n",
        ": 1\r\n",
        "X@: 1\r\n",
        "X: 1\r\n folded\r\n", // section 5.2
        "X: 1\r\n\tfolded\r\n",
    ] {
        refused(&with_lines(lines), R::FieldName);
    }
    refused(b"GET / HTTP/1.1\r\n Host: h\r\n\r\n", R::FieldName);
    refused(
        b"GET / HTTP/1.1\r\nHost: h\r\nX\xFF: 1\r\n\r\n",
        R::FieldName,
    );
    with_request(
        &with_lines("X:   a b \t \r\nEmpty:\r\nBlank:  \r\n"),
        |head| {
            assert_eq!(head.field(b"x"), Some(&b"a b"[..]));
            assert_eq!(head.field(b"EMPTY"), Some(&b""[..]));
            assert_eq!(head.field(b"blank"), Some(&b""[..]));
            assert_eq!(head.field(b"absent"), None);
            assert_eq!(head.fields.len(), 4);
        },
    );
}

#[test]
fn rfc9112_3_2_host() {
    for raw in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"GET http://h/ HTTP/1.1\r\nX: 1\r\n\r\n",
    ] {
        refused(raw, R::HostMissing);
    }
    accepted(b"GET / HTTP/1.0\r\n\r\n");
    refused(
        b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
        R::HostInvalid,
    );
    for host in [
        "",
        "a b",
        "a,b",
        "a/b",
        "user@h",
        "h:80:80",
        "h:65536",
        "h:x",
        "h:-1",
        ":80",
        "[::1",
        "[]",
        "[::1]x",
        "[zz]",
        "a%41",
        "a\tb",
        "h?x",
        "h#",
        "\u{e9}",
        "[::1%25eth0]",
    ] {
        let raw = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        refused(raw.as_bytes(), R::HostInvalid);
    }
    for host in [
        "h",
        "H.Example.",
        "h:8080",
        "h:",
        "10.0.0.1:80",
        "[::1]",
        "[::1]:80",
        "a_b",
    ] {
        let raw = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        with_request(raw.as_bytes(), |head| {
            assert_eq!(head.host, host.as_bytes())
        });
    }
    refused(
        b"GET / HTTP/1.1\r\nHost: h\r\nhost: h\r\n\r\n",
        R::HostInvalid,
    );
}

#[test]
fn rfc9112_3_2_forms_of_the_target() {
    let cases: &[(&str, &str, Option<&str>, &str)] = &[
        ("GET /a?b", "/a", Some("b"), "h"),
        ("GET /a?", "/a", Some(""), "h"),
        ("GET http://other/a?b", "/a", Some("b"), "other"), // 3.2.2: the authority wins
        ("GET HTTP://other:81", "/", None, "other:81"),
        ("GET https://other?x=/y", "/", Some("x=/y"), "other"),
        ("OPTIONS *", "*", None, "h"),
        ("OPTIONS http://other", "*", None, "other"), // 3.2.4
        ("OPTIONS http://other/", "/", None, "other"),
    ];
    for &(line, path, query, host) in cases {
        let raw = format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n");
        with_request(raw.as_bytes(), |head| {
            assert_eq!(head.path, path.as_bytes(), "{line}");
            assert_eq!(head.query, query.map(str::as_bytes), "{line}");
            assert_eq!(head.host, host.as_bytes(), "{line}");
        });
    }
    let refusals = [
        ("GET *", R::TargetForm),
        ("GET a", R::TargetForm),
        ("GET h:80", R::TargetForm),
        ("GET ftp://h/", R::TargetForm),
        ("GET http:/h/", R::TargetForm),
        ("OPTIONS *a", R::TargetForm),
        ("GET http://", R::HostInvalid),
        ("GET http:///a", R::HostInvalid),
        ("GET http://user@h/", R::HostInvalid),
        ("GET http://h:port/", R::HostInvalid),
        ("GET http://h#f", R::TargetCharacter),
        ("GET http://h/..", R::TargetAboveRoot),
        ("CONNECT h:443", R::ConnectMethod),
        ("CONNECT /", R::ConnectMethod),
    ];
    for (line, why) in refusals {
        refused(
            format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes(),
            why,
        );
    }
}

#[test]
fn rfc9112_2_3_and_3_request_line() {
    for raw in [
        &b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n"[..],
        b"GET /  HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GE(T / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / http/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTPS/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/11\r\nHost: h\r\n\r\n",
        b"GET /\r\n",                    // HTTP/0.9
        b"GET / \r\n",                   // no version
        b"\x16\x03\x01\x02\x00\x01\x00", // TLS to a plain port
        b"GET /\x00 HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        refused(raw, R::RequestLine);
    }
    refused(b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", R::LineEnding);
    for raw in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        b"GET / HTTP/2.0\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.2\r\nHost: h\r\n\r\n",
        b"GET / HTTP/0.9\r\nHost: h\r\n\r\n",
    ] {
        refused(raw, R::VersionUnsupported);
    }
    for (method, id) in [
        ("GET", 0),
        ("HEAD", 1),
        ("POST", 2),
        ("PUT", 3),
        ("DELETE", 4),
        ("PATCH", 5),
        ("OPTIONS", 6),
        ("TRACE", 7),
        ("get", 8), // RFC 9110 section 9.1: case-sensitive
        ("M-SEARCH", 8),
    ] {
        let raw = format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n");
        with_request(raw.as_bytes(), |head| {
            assert_eq!((head.method, head.method_id), (method.as_bytes(), id));
        });
    }
    let long = format!("{} / HTTP/1.1\r\nHost: h\r\n\r\n", "M".repeat(65));
    refused(long.as_bytes(), R::MethodTooLong);
}

#[test]
fn limits_hold_for_complete_and_endless_heads() {
    let head_of = |len: usize| {
        let mut raw = b"GET / HTTP/1.1\r\nHost: h\r\nX: ".to_vec();
        raw.resize(len - 4, b'x');
        raw.extend_from_slice(b"\r\n\r\n");
        raw
    };
    accepted(&head_of(65_536));
    refused(&head_of(65_537), R::HeadTooLarge);
    refused(&head_of(65_537)[..65_536], R::HeadTooLarge);
    assert_eq!(verdict(&head_of(65_537)[..65_535]), None);
    refused(
        &[&b"GET / HTTP/1.1\r\n"[..], &[b'a'; 70_000]].concat(),
        R::HeadTooLarge,
    );

    let line_of = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "p".repeat(len - 1));
    accepted(line_of(8192).as_bytes());
    refused(line_of(8193).as_bytes(), R::TargetTooLong);
    refused(&line_of(8193).as_bytes()[..4 + 8193], R::TargetTooLong);
    assert_eq!(verdict(&line_of(8193).as_bytes()[..4 + 8192]), None);
    refused(&[b'M'; 100], R::MethodTooLong);
    assert_eq!(verdict(&[b'M'; 64]), None);
    refused(
        &[&b"GET / HTTP/9"[..], &[b'9'; 70_000]].concat(),
        R::HeadTooLarge,
    );

    let fields = |n: usize| with_lines(&"X: 1\r\n".repeat(n - 1));
    accepted(&fields(128));
    refused(&fields(129), R::TooManyFields);
    let small = Limits {
        fields: 3,
        target: 4,
        ..Limits::default()
    };
    let parse = |raw: &[u8]| parse_request(raw, &small, &mut Scratch::new()).map(|_| ());
    assert_eq!(parse(&fields(3)), Ok(()));
    assert_eq!(parse(&fields(4)), Err(R::TooManyFields));
    assert_eq!(
        parse(b"GET /1234 HTTP/1.1\r\nHost: h\r\n\r\n"),
        Err(R::TargetTooLong)
    );
}

#[test]
fn a_trickling_head_is_not_parsed_at_every_byte() {
    let limits = Limits::default();
    let raw = with_lines(&format!("X: {}\r\n", "x".repeat(4000)));
    let worth: Vec<usize> = (1..=raw.len())
        .filter(|&seen| may_complete(&raw[..seen], seen - 1, &limits))
        .collect();
    assert_eq!(*worth.last().unwrap(), raw.len());
    assert!(worth.iter().all(|&len| len < 2048 || len == raw.len()));
    // However much arrives at once.
    for seen in 2048..raw.len() {
        assert!(may_complete(&raw, seen, &limits));
    }
}

#[test]
fn every_refusal_has_its_status() {
    for (why, status) in [
        (R::LineEnding, 400),
        (R::CodingInvalid, 400),
        (R::TargetTooLong, 414),
        (R::ExpectationUnknown, 417),
        (R::HeadTooLarge, 431),
        (R::TooManyFields, 431),
        (R::CodingUnknown, 501),
        (R::ConnectMethod, 501),
        (R::VersionUnsupported, 505),
    ] {
        assert_eq!(why.status(), status);
        assert!(why.message().ends_with('.'));
    }
}
