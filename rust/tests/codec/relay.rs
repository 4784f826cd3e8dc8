//! Heads for clients (RFC 9110 sections 6.6.1, 7.6 and 7.8, RFC 9112 sections 6 and 9).

use _core::codec::*;

use crate::common::*;

const SIGNED: &str = "Via: 1.1 hotswap\r\nX-Request-ID: made-here\r\n";

#[test]
fn a_plain_response_is_copied_and_signed() {
    let raw = b"HTTP/1.1 200 Fine\r\nDate: x\r\nContent-Length: 5\r\nX-A: 1\r\n\r\n";
    let (sent, decided) = relayed(raw, &client());
    assert_eq!(
        sent,
        format!("HTTP/1.1 200 Fine\r\nDate: x\r\nContent-Length: 5\r\nX-A: 1\r\n{SIGNED}\r\n")
    );
    assert_eq!(
        decided,
        ClientHead {
            body: ClientBody::Length(5),
            keep_alive: true
        }
    );
}

/// Relays `lines` after `HTTP/{line}`; returns what differs from a copy with a Date.
fn changed(line: &str, lines: &str, ctx: &ClientContext<'_>) -> (String, ClientHead) {
    let raw = format!("HTTP/{line}\r\nDate: d\r\n{lines}\r\n");
    let (sent, decided) = relayed(raw.as_bytes(), ctx);
    let (first, rest) = sent.split_once("\r\n").expect("a status line");
    assert!(first.starts_with("HTTP/1.1 "), "{first}");
    let rest = rest.strip_prefix("Date: d\r\n").expect("the Date");
    (
        rest.replacen(SIGNED, "", 1).replacen(
            "Via: 1.0 hotswap\r\nX-Request-ID: made-here\r\n",
            "",
            1,
        ),
        decided,
    )
}

#[test]
fn rfc9112_6_framing_suits_the_client() {
    use ClientBody::*;
    let old = ClientContext {
        client_minor: 0,
        ..client()
    };
    let leaving = ClientContext {
        keep_alive: false,
        ..client()
    };
    let length = "Content-Length: 5\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let close = "Connection: close\r\n";
    let cases = [
        (
            "1.1 200 a",
            length,
            client(),
            length.to_owned(),
            Length(5),
            true,
        ),
        (
            "1.0 200 a",
            length,
            client(),
            length.into(),
            Length(5),
            true,
        ),
        (
            "1.1 200 a",
            "Content-Length:  05\r\n",
            client(),
            length.into(),
            Length(5),
            true,
        ),
        (
            "1.1 200 a",
            chunked,
            client(),
            chunked.into(),
            Chunked,
            true,
        ),
        ("1.1 200 a", "", client(), chunked.into(), Chunked, true),
        ("1.0 200 a", "", client(), chunked.into(), Chunked, true),
        ("1.1 200 a", chunked, old, close.into(), UntilClose, false),
        ("1.1 200 a", "", old, close.into(), UntilClose, false),
        (
            "1.1 200 a",
            length,
            old,
            format!("{length}Connection: keep-alive\r\n"),
            Length(5),
            true,
        ),
        (
            "1.1 200 a",
            length,
            leaving,
            format!("{length}{close}"),
            Length(5),
            false,
        ),
        ("1.1 304 a", length, client(), length.into(), None, true),
        ("1.1 204 a", length, client(), String::new(), None, true),
        ("1.1 204 a", chunked, client(), String::new(), None, true),
    ];
    for (line, lines, ctx, sent, body, keep_alive) in cases {
        let (text, decided) = changed(line, lines, &ctx);
        assert_eq!(text, format!("{sent}\r\n"), "{line} {lines} {ctx:?}");
        assert_eq!(
            decided,
            ClientHead { body, keep_alive },
            "{line} {lines} {ctx:?}"
        );
    }
}

#[test]
fn rfc9110_7_6_1_hop_by_hop_fields_end_here() {
    let hop = "Connection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Authenticate: a\r\n\
               Upgrade: h2,h2c\r\nTE: a\r\nX-Request-ID: theirs\r\nContent-Length: 1\r\nX-B: 2\r\n";
    let (text, _) = changed("1.1 200 a", hop, &client());
    assert_eq!(text, "Content-Length: 1\r\nX-B: 2\r\n\r\n");
    let nominated = "Connection: Content-Length, Date\r\nContent-Length: 1\r\n";
    assert_eq!(
        changed("1.1 200 a", nominated, &client()).0,
        "Content-Length: 1\r\n\r\n"
    );
}

#[test]
fn rfc9110_6_6_1_a_missing_date_is_added() {
    let (sent, _) = relayed(b"HTTP/1.1 204 No\r\n\r\n", &client());
    assert!(sent.contains("\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"));
}

#[test]
fn status_lines_are_well_formed() {
    for (raw, line) in [
        ("HTTP/1.1 204\r\n\r\n", "HTTP/1.1 204 \r\n"),
        ("HTTP/1.1 204 \r\n\r\n", "HTTP/1.1 204 \r\n"),
        ("HTTP/1.0 204 Old\r\n\r\n", "HTTP/1.1 204 Old\r\n"),
        (
            "HTTP/1.1 799 Odd\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 799 Odd\r\n",
        ),
    ] {
        let (sent, _) = relayed(raw.as_bytes(), &client());
        assert!(sent.starts_with(line), "{sent}");
    }
    let (sent, _) = relayed(b"HTTP/1.1 204 \xE9\r\n\r\n", &client());
    assert!(
        sent.starts_with("HTTP/1.1 204 \r\n"),
        "obs-text in a reason is dropped"
    );
    let (sent, _) = relayed(b"HTTP/1.0 204 Old\r\n\r\n", &client());
    assert!(sent.contains("\r\nVia: 1.0 hotswap\r\n"));
}

#[test]
fn rfc9110_15_2_interim_heads_carry_no_framing() {
    let raw =
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 3\r\nConnection: x\r\n\r\n";
    let (sent, _) = relayed(raw, &client());
    assert_eq!(sent, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
}

#[test]
fn rfc9110_7_8_upgrade_is_an_answer_only_in_101_and_426() {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: a\r\n";
    let sent = "Sec-WebSocket-Accept: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let (text, decided) = changed("1.1 101 a", upgrade, &client());
    assert_eq!(text, sent);
    assert_eq!(
        decided,
        ClientHead {
            body: ClientBody::None,
            keep_alive: false
        }
    );
    let (text, _) = changed(
        "1.1 426 a",
        &format!("Content-Length: 0\r\n{upgrade}"),
        &client(),
    );
    assert_eq!(text, format!("Content-Length: 0\r\n{sent}"));
    let leaving = ClientContext {
        keep_alive: false,
        ..client()
    };
    let (text, _) = changed("1.1 426 a", "Content-Length: 0\r\nUpgrade: a\r\n", &leaving);
    assert!(text.contains("Connection: upgrade, close\r\n"));
}

#[test]
fn rfc9110_9_3_2_head_is_described_not_framed() {
    let asked = ResponseContext {
        head_request: true,
        upgrade: None,
    };
    for (lines, kept) in [
        ("Content-Length: 5\r\n", "Content-Length: 5\r\n"),
        ("Content-Length:05\r\n", "Content-Length: 5\r\n"),
        ("Transfer-Encoding: chunked\r\n", ""),
        ("", ""),
    ] {
        let raw = format!("HTTP/1.1 200 OK\r\nDate: d\r\n{lines}\r\n");
        let (sent, decided) = relayed_for(raw.as_bytes(), &asked, &client());
        let want = format!("HTTP/1.1 200 OK\r\nDate: d\r\n{kept}{SIGNED}\r\n");
        assert_eq!(sent, want);
        let body = ClientBody::None;
        assert_eq!(
            decided,
            ClientHead {
                body,
                keep_alive: true
            }
        );
    }
}
