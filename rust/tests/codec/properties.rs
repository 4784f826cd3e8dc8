//! What holds for every input.

use _core::codec::target::normalise;
use _core::codec::*;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::common::*;

/// Pieces that make heads which are valid, nearly valid, or dangerous.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /a?b HTTP/1.0\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "\r\n",
        "\n",
        "\r",
        "Host: h\r\n",
        "Host: a,b\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 05 \r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: x\r\n",
        "Connection: close, x\r\n",
        "X: 1\r\n",
        " folded\r\n",
        "X : 1\r\n",
        "Upgrade: websocket\r\n",
        "Expect: 100-continue\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 304\r\n",
        "5\r\nabcde\r\n",
        "0\r\n",
        "GET http://o/%2e HTTP/1.1\r\n",
        "TE: trailers\r\n",
        "X-Forwarded-For: a\r\n",
        "PRI * HTTP/2.0\r\n",
        "Date: x\r\n",
    ]);
    prop_oneof![
        8 => known.prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..8),
    ]
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    vec(piece(), 0..10).prop_map(|pieces| pieces.concat())
}

/// A head that is valid, with fields that matter and others.
fn valid_request() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(vec![
        "GET /",
        "POST /a/b?c=d",
        "PUT /a/%2e%2e/b%2f",
        "OPTIONS *",
        "DELETE http://o:1/x?",
        "HEAD http://o",
        "PATCH /a/./b",
    ]);
    let framing = prop::sample::select(vec![
        "",
        "Content-Length: 7\r\n",
        "content-length:\t007 \r\n",
        "Transfer-Encoding: chunked\r\n",
        "transfer-encoding:CHUNKED\r\n",
    ]);
    let field = prop_oneof![
        prop::sample::select(vec![
            "Connection: keep-alive",
            "Connection: close, X-Drop",
            "X-Drop: 1",
            "TE: trailers, x",
            "X-Forwarded-For: 1.2.3.4",
            "Via: 1.0 x",
            "Upgrade: websocket",
            "Connection: upgrade",
            "Expect: 100-continue",
            "Forwarded: for=x",
            "Max-Forwards: 3",
            "Content_Length: 3",
            "Keep-Alive: 1",
            "X-Real-IP: 1",
        ])
        .prop_map(str::to_owned),
        ("x-[a-z_]{1,12}", "[ -~]{0,20}").prop_map(|(name, value)| format!("{name}:{value}")),
    ];
    (line, framing, vec(field, 0..12), 0..3usize).prop_map(|(line, framing, mut fields, at)| {
        fields.insert(at.min(fields.len()), "host: h.example:8080".to_owned());
        format!(
            "{line} HTTP/1.1\r\n{}\r\n{framing}\r\n",
            fields.join("\r\n")
        )
        .into_bytes()
    })
}

/// Everything of a request that a backend would act on.
fn meaning(raw: &[u8]) -> String {
    with_request(raw, |head| {
        let hop = [
            "connection",
            "te",
            "upgrade",
            "host",
            "via",
            "x-request-id",
            "forwarded",
        ];
        let kept: Vec<_> = head
            .fields
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec()))
            .filter(|(name, _)| !hop.iter().any(|known| known.as_bytes() == name.as_slice()))
            .filter(|(name, _)| name.starts_with(b"x-") && !name.starts_with(b"x-forwarded-"))
            .filter(|(name, _)| name != b"x-real-ip" && name != b"x-drop")
            .collect();
        format!(
            "{:?}",
            (
                head.method.to_vec(),
                head.path.to_vec(),
                head.query.map(<[u8]>::to_vec),
                head.host.to_vec(),
                head.framing,
                head.expect_continue,
                head.upgrade.map(<[u8]>::to_vec),
                kept,
            )
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics_and_prefixes_agree(raw in message()) {
        let whole = verdict(&raw);
        let asked = ResponseContext::default();
        let limits = Limits::default();
        let mut scratch = Scratch::new();
        let response = |raw: &[u8], scratch: &mut Scratch| {
            parse_response(raw, &asked, &limits, scratch).map(|head| head.map(|head| head.head_len))
        };
        let whole_response = response(&raw, &mut scratch);
        for cut in 0..raw.len() {
            // A prefix is undecided or decided as the whole is.
            let part = verdict(&raw[..cut]);
            match (part, whole) {
                (None, _) => {}
                (Some(Ok(())), whole) => prop_assert_eq!(whole, Some(Ok(()))),
                (Some(Err(why)), whole) => prop_assert_eq!(Some(Err(why)), whole),
            }
            match response(&raw[..cut], &mut scratch) {
                Ok(None) => {}
                decided => prop_assert_eq!(decided, whole_response),
            }
            let mut out = Vec::new();
            let _ = ChunkedDecoder::new().feed(&raw[cut..], &mut out, Mode::Rechunk);
        }
    }

    #[test]
    fn random_bytes_never_panic(raw in vec(any::<u8>(), 0..300)) {
        let _ = verdict(&raw);
        let _ = parse_response(&raw, &ResponseContext::default(), &Limits::default(), &mut Scratch::new()).map(|_| ());
        let _ = normalise(&raw, &mut Vec::new()).map(|_| ());
        let _ = ChunkedDecoder::new().relay(&raw, &mut Vec::new(), Mode::Plain);
    }

    #[test]
    fn normalising_twice_changes_nothing(segments in vec("(%2[eEfF]|%[0-9a-f]{2}|[a-z.;/]|\\.\\.?){0,4}", 1..6)) {
        let target = format!("/{}", segments.join("/"));
        let (mut once, mut twice) = (Vec::new(), Vec::new());
        if let Ok(first) = normalise(target.as_bytes(), &mut once) {
            prop_assert!(first.path.starts_with(b"/"));
            let second = normalise(first.path, &mut twice).expect("a normal path is valid");
            prop_assert_eq!(second.path, first.path);
            let text = std::str::from_utf8(first.path).expect("ASCII");
            prop_assert!(text.split('/').all(|segment| segment != "." && segment != ".."));
            prop_assert!(!text.contains("//"));
        }
    }

    #[test]
    fn every_cut_gives_the_same_head(raw in valid_request()) {
        for cut in 0..raw.len() {
            prop_assert_eq!(verdict(&raw[..cut]), None);
        }
        with_request(&[&raw[..], b"body"].concat(), |head| assert_eq!(head.head_len, raw.len()));
    }

    #[test]
    fn what_is_forwarded_means_the_same(raw in valid_request()) {
        let sent = upstream(&raw, &context());
        prop_assert_eq!(meaning(sent.as_bytes()), meaning(&raw));
        for field in ["host", "content-length", "transfer-encoding", "connection", "x-forwarded-for"] {
            let lines = sent.to_lowercase().matches(&format!("\r\n{field}:")).count();
            prop_assert!(lines <= 1, "{} times {} in {}", lines, field, sent);
        }
        // The next hop of our kind accepts what this one wrote, and adds itself once.
        let again = upstream(sent.as_bytes(), &context());
        prop_assert_eq!(again.matches("Via: 1.1 hotswap").count(), 2);
    }

    #[test]
    fn chunked_bodies_survive(
        chunks in vec(vec(any::<u8>(), 1..40), 0..6),
        cuts in vec(1..30usize, 1..40),
    ) {
        let mut body = Vec::new();
        for chunk in &chunks {
            begin_chunk(&mut body, chunk.len() as u64);
            body.extend_from_slice(chunk);
            body.extend_from_slice(CHUNK_END);
        }
        body.extend_from_slice(LAST_CHUNK);
        let (mut decoder, mut out, mut rest) = (ChunkedDecoder::new(), Vec::new(), &body[..]);
        let mut cuts = cuts.into_iter().cycle();
        while !rest.is_empty() {
            let piece = &rest[..cuts.next().unwrap_or(1).min(rest.len())];
            let fed = decoder.relay(piece, &mut out, Mode::Plain).expect("valid");
            if fed.verbatim {
                out.extend_from_slice(&piece[..fed.consumed]);
            }
            rest = &rest[piece.len()..];
        }
        prop_assert!(decoder.is_done());
        prop_assert_eq!(out, chunks.concat());
    }
}
