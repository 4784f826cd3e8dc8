//! Shorthands shared by the codec's tests.

use _core::codec::*;

pub const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

pub fn context() -> ForwardContext<'static> {
    ForwardContext {
        client_ip: b"192.0.2.1",
        secure: false,
        request_id: b"made-here",
        backend_host: b"backend:9001",
        forwarded: false,
        trusted: false,
        forward_expect: true,
        withheld: b"",
        added: b"",
        trace: None,
        edit: None,
    }
}

pub fn client() -> ClientContext<'static> {
    ClientContext {
        client_minor: 1,
        keep_alive: true,
        request_id: b"made-here",
        date: DATE,
        fields: b"",
        drops: None,
    }
}

/// Runs `look` on the parsed head of a complete, valid request.
pub fn with_request<R>(raw: &[u8], look: impl FnOnce(&RequestHead<'_>) -> R) -> R {
    let mut scratch = Scratch::new();
    match parse_request(raw, &Limits::default(), &mut scratch) {
        Ok(Some(head)) => look(&head),
        Ok(None) => panic!("incomplete: {}", raw.escape_ascii()),
        Err(refusal) => panic!("{refusal:?}: {}", raw.escape_ascii()),
    }
}

/// What the parser says about a request: `None` if incomplete.
pub fn verdict(raw: &[u8]) -> Option<Result<(), Refusal>> {
    match parse_request(raw, &Limits::default(), &mut Scratch::new()) {
        Ok(None) => None,
        Ok(Some(_)) => Some(Ok(())),
        Err(refusal) => Some(Err(refusal)),
    }
}

pub fn upstream(raw: &[u8], ctx: &ForwardContext<'_>) -> String {
    with_request(raw, |head| {
        let mut out = Vec::new();
        write_upstream_head(&mut out, head, ctx);
        String::from_utf8(out).expect("the test sent UTF-8")
    })
}

/// Runs `look` on the parsed head of a complete, valid response.
pub fn with_response<R>(
    raw: &[u8],
    asked: &ResponseContext<'_>,
    look: impl FnOnce(&ResponseHead<'_>) -> R,
) -> R {
    let mut scratch = Scratch::new();
    match parse_response(raw, asked, &Limits::default(), &mut scratch) {
        Ok(Some(head)) => look(&head),
        Ok(None) => panic!("incomplete: {}", raw.escape_ascii()),
        Err(fault) => panic!("{fault:?}: {}", raw.escape_ascii()),
    }
}

pub fn relayed(raw: &[u8], ctx: &ClientContext<'_>) -> (String, ClientHead) {
    let asked = ResponseContext {
        head_request: false,
        upgrade: Some(b"websocket, own/2"),
    };
    relayed_for(raw, &asked, ctx)
}

pub fn relayed_for(
    raw: &[u8],
    asked: &ResponseContext<'_>,
    ctx: &ClientContext<'_>,
) -> (String, ClientHead) {
    with_response(raw, asked, |head| {
        let mut out = Vec::new();
        let decided = write_client_head(&mut out, head, ctx);
        (
            String::from_utf8(out).expect("the test sent UTF-8"),
            decided,
        )
    })
}

/// `GET / HTTP/1.1` with a Host and these lines.
pub fn with_lines(lines: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n").into_bytes()
}

pub fn refused(raw: &[u8], why: Refusal) {
    assert_eq!(verdict(raw), Some(Err(why)), "{}", raw.escape_ascii());
}

pub fn accepted(raw: &[u8]) {
    assert_eq!(verdict(raw), Some(Ok(())), "{}", raw.escape_ascii());
}
