//! What a request asks of the connection and of the gateway (RFC 9110 sections 7.6 to 12).

use _core::codec::Refusal as R;

use crate::common::*;

#[test]
fn rfc9112_9_3_persistence() {
    let cases = [
        (1, "", true),
        (1, "Connection: close\r\n", false),
        (1, "Connection: Close\r\n", false),
        (1, "Connection: x, close\r\n", false),
        (1, "Connection: keep-alive\r\nConnection: close\r\n", false),
        (1, "Connection: keep-alive\r\n", true),
        (0, "", false),
        (0, "Connection: keep-alive\r\n", true),
        (0, "Connection: , Keep-Alive,\r\n", true),
        (0, "Connection: keep-alive, close\r\n", false),
    ];
    for (minor, lines, keep_alive) in cases {
        let raw = format!("GET / HTTP/1.{minor}\r\nHost: h\r\n{lines}\r\n");
        with_request(raw.as_bytes(), |head| {
            assert_eq!(head.keep_alive, keep_alive, "{raw}");
            assert_eq!(head.version_minor, minor);
        });
    }
    refused(&with_lines("Connection: a b\r\n"), R::ConnectionOptions);
    refused(
        &with_lines("Connection: \"close\"\r\n"),
        R::ConnectionOptions,
    );
    let many = format!("Connection: {}\r\n", vec!["a"; 33].join(","));
    refused(&with_lines(&many), R::ConnectionOptions);
}

#[test]
fn rfc9110_10_1_1_expect() {
    let cases = [
        (
            "HTTP/1.1",
            "Expect: 100-Continue\r\nContent-Length: 1\r\n",
            true,
        ),
        (
            "HTTP/1.1",
            "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n",
            true,
        ),
        ("HTTP/1.1", "Expect: 100-continue\r\n", false),
        (
            "HTTP/1.1",
            "Expect: 100-continue\r\nContent-Length: 0\r\n",
            false,
        ),
        (
            "HTTP/1.0",
            "Expect: 100-continue\r\nContent-Length: 1\r\n",
            false,
        ),
        ("HTTP/1.1", "Content-Length: 1\r\n", false),
    ];
    for (version, lines, waits) in cases {
        let raw = format!("POST / {version}\r\nHost: h\r\n{lines}\r\n");
        with_request(raw.as_bytes(), |head| {
            assert_eq!(head.expect_continue, waits, "{raw}")
        });
    }
    refused(&with_lines("Expect: 200-ok\r\n"), R::ExpectationUnknown);
}

#[test]
fn rfc9110_7_8_upgrade() {
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let cases = [
        (websocket.to_string(), Some("websocket")),
        (
            "Connection: keep-alive, upgrade\r\nUpgrade: a/1, b\r\n".into(),
            Some("a/1, b"),
        ),
        (
            format!("{websocket}Content-Length: 0\r\n"),
            Some("websocket"),
        ),
        (format!("{websocket}Content-Length: 1\r\n"), None),
        (format!("{websocket}Transfer-Encoding: chunked\r\n"), None),
        (format!("{websocket}Upgrade: other\r\n"), None),
        ("Upgrade: websocket\r\n".into(), None),
        ("Connection: upgrade\r\n".into(), None),
        ("Connection: upgrade\r\nUpgrade:\r\n".into(), None),
        ("Connection: upgrade\r\nUpgrade: h2c\r\n".into(), None),
        (
            "Connection: upgrade\r\nUpgrade: websocket, H2C\r\n".into(),
            None,
        ),
        ("Connection: upgrade\r\nUpgrade: HTTP/2.0\r\n".into(), None),
        ("Connection: upgrade\r\nUpgrade: TLS/1.2\r\n".into(), None),
    ];
    for (lines, upgrade) in cases {
        with_request(&with_lines(&lines), |head| {
            assert_eq!(head.upgrade, upgrade.map(str::as_bytes), "{lines}");
        });
    }
    let old = format!("GET / HTTP/1.0\r\n{websocket}\r\n");
    with_request(old.as_bytes(), |head| assert_eq!(head.upgrade, None));
}

#[test]
fn request_ids_are_kept_only_if_harmless() {
    let longest = "a".repeat(128);
    for id in ["a", "A-b_c.9", &longest] {
        with_request(&with_lines(&format!("X-Request-ID: {id}\r\n")), |head| {
            assert_eq!(head.request_id, Some(id.as_bytes()));
        });
    }
    let too_long = "a".repeat(129);
    for id in ["", "a b", "a~", "a\"", "a/b", "\u{e9}", &too_long] {
        with_request(&with_lines(&format!("X-Request-ID: {id}\r\n")), |head| {
            assert_eq!(head.request_id, None, "{id}");
        });
    }
    let twice = with_lines("X-Request-ID: a\r\nX-Request-ID: a\r\n");
    with_request(&twice, |head| assert_eq!(head.request_id, None));
}

#[test]
fn rfc9110_12_5_1_accept() {
    let cases = [
        ("", true),
        ("Accept: application/json\r\n", true),
        ("Accept: text/html, */*;q=0.8\r\n", true),
        ("Accept: text/html\r\n", false),
        (
            "Accept: text/html\r\nAccept: Application/JSON; q=0.1\r\n",
            true,
        ),
        ("Accept: application/json;q=0, */*\r\n", false),
        ("Accept: application/*;q=0.0, */*\r\n", false),
        ("Accept: application/*\r\n", true),
        ("Accept:\r\n", false),
    ];
    for (lines, json) in cases {
        with_request(&with_lines(lines), |head| {
            assert_eq!(head.accepts_json(), json, "{lines}")
        });
    }
}
