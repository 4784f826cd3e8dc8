//! Heads for backends (RFC 9110 section 7.6, RFC 9112 sections 3 and 6).

use _core::codec::*;

use crate::common::*;

/// The field lines of a head, without those the gateway adds to every plain request.
fn lines_for(request_lines: &str) -> Vec<String> {
    lines_with(request_lines, &context())
}

fn lines_with(request_lines: &str, ctx: &ForwardContext<'_>) -> Vec<String> {
    let raw = format!("POST / HTTP/1.1\r\nHost: h\r\n{request_lines}\r\n");
    let sent = upstream(raw.as_bytes(), ctx);
    let body = sent
        .strip_suffix("\r\n\r\n")
        .expect("one empty line at the end");
    body.split("\r\n")
        .skip(1)
        .filter(|line| {
            ![
                "Host: h",
                "X-Forwarded-For: 192.0.2.1",
                "X-Forwarded-Proto: http",
                "X-Forwarded-Host: h",
                "Via: 1.1 hotswap",
                "X-Request-ID: made-here",
            ]
            .contains(line)
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_plain_request_is_copied_and_signed() {
    let raw = b"GET /a?b=c HTTP/1.1\r\nHost: h.example\r\nX-A: 1\r\n\r\n";
    assert_eq!(
        upstream(raw, &context()),
        "GET /a?b=c HTTP/1.1\r\nHost: h.example\r\nX-A: 1\r\nX-Forwarded-For: 192.0.2.1\r\n\
         X-Forwarded-Proto: http\r\nVia: 1.1 hotswap\r\nX-Forwarded-Host: h.example\r\n\
         X-Request-ID: made-here\r\n\r\n"
    );
}

#[test]
fn request_lines_are_written_in_origin_form() {
    let cases = [
        (
            "GET /a/../b?q HTTP/1.1\r\nHost: h",
            "GET /b?q HTTP/1.1\r\nHost: h\r\n",
        ),
        (
            "GET http://o:81/a HTTP/1.1\r\nHost: h",
            "GET /a HTTP/1.1\r\nHost: o:81\r\n",
        ),
        (
            "GET http://o?q HTTP/1.1\r\nHost: h",
            "GET /?q HTTP/1.1\r\nHost: o\r\n",
        ),
        (
            "OPTIONS http://o HTTP/1.1\r\nHost: h",
            "OPTIONS * HTTP/1.1\r\nHost: o\r\n",
        ),
        (
            "GET /? HTTP/1.1\r\nHost: h",
            "GET /? HTTP/1.1\r\nHost: h\r\n",
        ),
        (
            "GET /a HTTP/1.0\r\nHost: h",
            "GET /a HTTP/1.1\r\nHost: h\r\n",
        ),
        (
            "GET /a HTTP/1.0",
            "GET /a HTTP/1.1\r\nHost: backend:9001\r\n",
        ),
        (
            "GET /a HTTP/1.1\r\nhost:\t h ",
            "GET /a HTTP/1.1\r\nHost: h\r\n",
        ),
        (
            "\r\nGET /a HTTP/1.1\r\nHost: h",
            "GET /a HTTP/1.1\r\nHost: h\r\n",
        ),
    ];
    for (raw, beginning) in cases {
        let sent = upstream(format!("{raw}\r\n\r\n").as_bytes(), &context());
        assert!(sent.starts_with(beginning), "{raw} became {sent}");
        assert_eq!(
            sent.to_lowercase().matches("\r\nhost:").count(),
            1,
            "{sent}"
        );
    }
    let old = upstream(b"GET /a HTTP/1.0\r\nHost: h\r\n\r\n", &context());
    assert!(old.contains("\r\nVia: 1.0 hotswap\r\n"));
}

#[test]
fn rfc9110_7_6_1_hop_by_hop_fields_end_here() {
    for line in [
        "Connection: close",
        "Connection: keep-alive",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic x",
        "Proxy-Authenticate: Basic",
        "TE: gzip",
        "Upgrade: websocket",
        "HTTP2-Settings: x",
        "Proxy: http://evil",
    ] {
        assert!(lines_for(&format!("{line}\r\n")).is_empty(), "{line}");
    }
    let nominated = "Connection: X-Hop, x-second\r\nX-Hop: 1\r\nX-Stay: 2\r\nX-SECOND: 3\r\n";
    assert_eq!(lines_for(nominated), ["X-Stay: 2"]);
}

#[test]
fn rfc9110_7_6_1_some_fields_cannot_be_nominated() {
    let lines = "Connection: Host, Content-Length, X-Forwarded-For, X-Forwarded-Proto, Via, \
                 X-Request-ID\r\nContent-Length: 3\r\nX-Request-ID: mine\r\nVia: 1.0 a\r\n\
                 X-Forwarded-For: 198.51.100.9\r\n";
    assert_eq!(
        lines_for(lines),
        [
            "Content-Length: 3",
            "X-Request-ID: mine",
            "Via: 1.0 a",
            "X-Forwarded-For: 198.51.100.9, 192.0.2.1",
        ]
    );
    let chunked = "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(lines_for(chunked), ["Transfer-Encoding: chunked"]);
}

#[test]
fn rfc9112_6_framing_is_written_canonically() {
    let cases = [
        ("Content-Length: 42\r\n", "Content-Length: 42"),
        ("content-length: 42\r\n", "content-length: 42"),
        ("Content-Length:42\r\n", "Content-Length: 42"),
        ("Content-Length: \t42\r\n", "Content-Length: 42"),
        ("Content-Length: 42 \r\n", "Content-Length: 42"),
        ("Content-Length: 0042\r\n", "Content-Length: 42"),
        ("Content-Length: 0\r\n", "Content-Length: 0"),
        (
            "Transfer-Encoding:\tCHUNKED\r\n",
            "Transfer-Encoding: chunked",
        ),
    ];
    for (sent, framing) in cases {
        assert_eq!(lines_for(sent), [framing], "{sent}");
    }
    assert!(lines_for("").is_empty());
}

#[test]
fn client_claims_about_itself_are_replaced() {
    let claims = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n\
                  X-Real-IP: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\n";
    assert!(lines_for(claims).is_empty());
    let disguised = "X_Forwarded_For: 1\r\nX-Forwarded_Proto: https\r\nX_Request_ID: a\r\n\
                     Content_Length: 9\r\nTransfer_Encoding: chunked\r\nX_Own: 1\r\n";
    assert_eq!(lines_for(disguised), ["X_Own: 1"]);
    assert_eq!(
        lines_for("X-Forwarded-For: a\r\nX-Forwarded-For:\r\nx-forwarded-for: b, c\r\n"),
        ["X-Forwarded-For: a, b, c, 192.0.2.1"]
    );
    let tls = ForwardContext {
        secure: true,
        ..context()
    };
    assert_eq!(lines_with("", &tls), ["X-Forwarded-Proto: https"]);
}

#[test]
fn rfc7239_forwarded_is_written_on_request() {
    let ctx = ForwardContext {
        forwarded: true,
        ..context()
    };
    assert_eq!(
        lines_with("Forwarded: for=evil\r\n", &ctx),
        ["Forwarded: for=192.0.2.1;host=\"h\";proto=http"]
    );
    let ctx = ForwardContext {
        client_ip: b"2001:db8::1",
        secure: true,
        ..ctx
    };
    let lines = lines_with("", &ctx);
    assert!(lines.contains(&"Forwarded: for=\"[2001:db8::1]\";host=\"h\";proto=https".to_owned()));
}

#[test]
fn request_ids_are_kept_or_made() {
    let lines = |raw: &str| {
        let raw = format!("GET / HTTP/1.1\r\nHost: h\r\n{raw}\r\n");
        let sent = upstream(raw.as_bytes(), &context()).to_lowercase();
        let of = |line: &&str| line.starts_with("x-request-id");
        sent.split("\r\n")
            .filter(of)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(lines(""), ["x-request-id: made-here"]);
    assert_eq!(lines("x-request-id: mine\r\n"), ["x-request-id: mine"]);
    assert_eq!(
        lines("X-Request-ID: not valid\r\n"),
        ["x-request-id: made-here"]
    );
    assert_eq!(
        lines("X-Request-ID: a\r\nX-Request-ID: b\r\n"),
        ["x-request-id: made-here"]
    );
}

#[test]
fn rfc9110_7_8_upgrades_are_asked_for_again() {
    assert_eq!(
        lines_for(
            "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n"
        ),
        [
            "Sec-WebSocket-Key: k",
            "Connection: upgrade",
            "Upgrade: websocket"
        ]
    );
    assert!(lines_for("Connection: upgrade\r\nUpgrade: h2c\r\n").is_empty());
}

#[test]
fn rfc9110_10_1_4_only_trailers_of_te_goes_on() {
    let kept = ["Connection: te", "TE: trailers"];
    assert_eq!(lines_for("TE: trailers\r\nConnection: TE\r\n"), kept);
    assert_eq!(lines_for("TE: gzip;q=0.5, Trailers\r\n"), kept);
    assert_eq!(
        lines_for("TE: trailers\r\nConnection: TE, upgrade\r\nUpgrade: a\r\n"),
        ["Connection: upgrade, te", "Upgrade: a", "TE: trailers"]
    );
}

#[test]
fn rfc9110_10_1_1_expect_goes_on_if_asked_to() {
    let lines = "Expect: 100-continue\r\nContent-Length: 1\r\n";
    assert_eq!(
        lines_for(lines),
        ["Expect: 100-continue", "Content-Length: 1"]
    );
    let ctx = ForwardContext {
        forward_expect: false,
        ..context()
    };
    assert_eq!(lines_with(lines, &ctx), ["Content-Length: 1"]);
    assert!(lines_for("Expect: 100-continue\r\n").is_empty());
}

#[test]
fn rfc9110_7_6_2_max_forwards_counts_down() {
    let send = |method: &str, value: &str| {
        let raw = format!("{method} / HTTP/1.1\r\nHost: h\r\nMax-Forwards: {value}\r\n\r\n");
        let hops = with_request(raw.as_bytes(), |head| head.max_forwards());
        let sent = upstream(raw.as_bytes(), &context());
        let line = sent
            .split("\r\n")
            .find(|line| line.starts_with("Max-Forwards"));
        (hops, line.map(str::to_owned))
    };
    assert_eq!(
        send("TRACE", "5"),
        (Some(5), Some("Max-Forwards: 4".into()))
    );
    assert_eq!(
        send("OPTIONS", "0"),
        (Some(0), Some("Max-Forwards: 0".into()))
    );
    assert_eq!(send("GET", "5"), (None, Some("Max-Forwards: 5".into())));
    assert_eq!(send("TRACE", "x"), (None, Some("Max-Forwards: x".into())));
}

#[test]
fn what_is_withheld_ends_here_in_any_spelling() {
    let lines = "X-User-Id: mallory\r\nx_user_ID: mallory\r\nX-User-Ids: 1\r\nX-API-Key: k\r\n\
                 Connection: X-Gone\r\nX-Gone: 1\r\nAccept: */*\r\n";
    let ctx = ForwardContext {
        withheld: b"x-user-id,x-api-key",
        added: b"X-User-Id: ann\r\n",
        ..context()
    };
    let raw = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    with_request(raw.as_bytes(), |head| {
        let mut out = Vec::new();
        write_upstream_head(&mut out, head, &ctx);
        let text = String::from_utf8(out).expect("ASCII");
        assert!(
            !text.contains("mallory") && !text.contains("X-API-Key"),
            "{text}"
        );
        assert!(!text.contains("X-Gone"), "{text}");
        assert_eq!(text.matches("X-User-Id: ann\r\n").count(), 1);
        assert!(text.contains("X-User-Ids: 1\r\n") && text.contains("Accept: */*\r\n"));
        assert!(text.ends_with("\r\n\r\n"));
    });
}

/// The trace lines a backend gets when the client sends `lines`.
fn trace_lines(lines: &str, ctx: &ForwardContext<'_>) -> Vec<String> {
    let raw = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let sent = upstream(raw.as_bytes(), ctx);
    sent.split("\r\n")
        .filter(|line| line.to_ascii_lowercase().starts_with("trace"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn trace_fields_pass_untouched_when_nothing_is_traced() {
    let lines =
        "TraceParent:  what ever \r\ntracestate: a=1\r\ntracestate: b=2\r\ntraceparent: x\r\n";
    let sent = trace_lines(lines, &context());
    let same: Vec<_> = lines
        .split("\r\n")
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(sent, same);
    let nominated = format!("Connection: tracestate\r\n{lines}");
    assert_eq!(trace_lines(&nominated, &context()).len(), 2);
}

#[test]
fn our_traceparent_replaces_all_that_came_and_tracestate_stays_with_its_trace() {
    let lines = "Traceparent: x\r\ntracestate: a=1\r\ntraceparent: y\r\nA: 1\r\n";
    let with = |begins| ForwardContext {
        trace: Some(Trace {
            traceparent: b"ours",
            begins,
        }),
        ..context()
    };
    assert_eq!(
        trace_lines(lines, &with(false)),
        ["tracestate: a=1", "traceparent: ours"]
    );
    assert_eq!(trace_lines(lines, &with(true)), ["traceparent: ours"]);
    assert_eq!(trace_lines("", &with(true)), ["traceparent: ours"]);
    let nominated = format!("Connection: traceparent\r\n{lines}");
    assert_eq!(trace_lines(&nominated, &with(true)), ["traceparent: ours"]);
}

#[test]
fn a_route_that_removes_or_sets_the_traceparent_has_the_last_word() {
    let edit = Edit {
        drops: Names {
            list: b"traceparent",
            lengths: 1 << 11,
        },
        lines: b"Traceparent: routes\r\n",
        path: None,
    };
    let ctx = ForwardContext {
        trace: Some(Trace {
            traceparent: b"ours",
            begins: false,
        }),
        edit: Some(&edit),
        ..context()
    };
    assert_eq!(
        trace_lines("traceparent: x\r\n", &ctx),
        ["Traceparent: routes"]
    );
}
