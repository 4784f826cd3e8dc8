//! RFC 9112 section 7.1 and RFC 9110 section 6.5.

use _core::codec::Malformed as M;
use _core::codec::*;

/// Feeds the input in pieces of `step` bytes; returns output, data bytes and input consumed.
fn decode(input: &[u8], mode: Mode, step: usize) -> Result<(Vec<u8>, u64, usize), Malformed> {
    let mut decoder = ChunkedDecoder::new();
    let (mut out, mut data, mut consumed) = (Vec::new(), 0, 0);
    for piece in input.chunks(step) {
        let fed = decoder.feed(piece, &mut out, mode)?;
        assert!(!fed.verbatim);
        data += fed.data_bytes;
        consumed += fed.consumed;
        if fed.done {
            break;
        }
        assert_eq!(fed.consumed, piece.len());
    }
    Ok((out, data, consumed))
}

/// The same through `relay`, taking what is verbatim from the input.
fn relay(input: &[u8], mode: Mode, step: usize) -> (Vec<u8>, usize) {
    let mut decoder = ChunkedDecoder::new();
    let (mut out, mut borrowed) = (Vec::new(), 0);
    for piece in input.chunks(step) {
        let before = out.len();
        let fed = decoder.relay(piece, &mut out, mode).expect("valid");
        if fed.verbatim {
            assert_eq!(out.len(), before);
            out.extend_from_slice(&piece[..fed.consumed]);
            borrowed += fed.consumed;
        }
        if fed.done {
            break;
        }
    }
    (out, borrowed)
}

const CASES: &[(&str, &str, &str)] = &[
    // input, chunks again, plain
    ("0\r\n\r\n", "0\r\n\r\n", ""),
    ("3\r\nabc\r\n0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n", "abc"),
    (
        "3\r\nabc\r\n2\r\nde\r\n000\r\n\r\n",
        "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        "abcde",
    ),
    (
        "00A\r\n0123456789\r\n0\r\n\r\n",
        "a\r\n0123456789\r\n0\r\n\r\n",
        "0123456789",
    ),
    (
        "1;a=b;c=\"d e\"\r\nx\r\n0;z\r\n\r\n",
        "1\r\nx\r\n0\r\n\r\n",
        "x",
    ),
    ("2\r\n\r\n\r\n0\r\n\r\n", "2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
    (
        "0\r\nX-Sum: 1\r\nY:\t2 \r\n\r\n",
        "0\r\nX-Sum: 1\r\nY:\t2 \r\n\r\n",
        "",
    ),
    (
        "0\r\nVia: 5\r\nX: 1\r\nhOST: h\r\nX_Real_IP: chunked\r\n\
         x-forwarded-for: a\r\nAuthorization: b\r\nConnection: c\r\n\r\n",
        "0\r\nX: 1\r\n\r\n",
        "",
    ),
    (
        "0\r\nA-Name-Longer-Than-Any-Forbidden-One-Is: 1\r\n\r\n",
        "0\r\nA-Name-Longer-Than-Any-Forbidden-One-Is: 1\r\n\r\n",
        "",
    ),
];

#[test]
fn streams_are_the_same_however_they_are_cut() {
    for (input, rechunked, plain) in CASES {
        let with_next = [input.as_bytes(), b"GET / next"].concat();
        for step in 1..=with_next.len() {
            for (mode, want) in [(Mode::Rechunk, rechunked), (Mode::Plain, plain)] {
                let (out, data, consumed) = decode(&with_next, mode, step).expect("valid");
                assert_eq!(out, want.as_bytes(), "{input:?} by {step}");
                assert_eq!(data as usize, plain.len());
                assert_eq!(consumed, input.len());
                assert_eq!(relay(&with_next, mode, step).0, want.as_bytes());
            }
        }
    }
}

#[test]
fn bare_streams_lose_their_trailers_and_nothing_else() {
    let body = "3;x=y\r\nabc\r\n";
    let trailers = "X-User: root\r\nA-Name-Longer-Than-Any-Forbidden-One-Is: 1\r\nVia: 1\r\n";
    let input = format!("{body}0\r\n{trailers}\r\n");
    for step in 1..=input.len() {
        let want = b"3\r\nabc\r\n0\r\n\r\n";
        let (out, _, consumed) = decode(input.as_bytes(), Mode::Bare, step).expect("valid");
        assert_eq!((out.as_slice(), consumed), (&want[..], input.len()));
        assert_eq!(relay(input.as_bytes(), Mode::Bare, step).0, want);
    }
    let bad = b"0\r\nContent-Length: 1\r\n\r\n";
    assert!(decode(bad, Mode::Bare, 1).is_err());
}

#[test]
fn canonical_chunks_are_not_copied() {
    let body = b"3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n";
    assert_eq!(relay(body, Mode::Rechunk, body.len()).1, body.len());
    let mut decoder = ChunkedDecoder::new();
    let mut out = Vec::new();
    decoder
        .feed(b"10000\r\n", &mut out, Mode::Plain)
        .expect("valid");
    let fed = decoder
        .relay(&[b'x'; 100], &mut out, Mode::Plain)
        .expect("valid");
    assert!(fed.verbatim && out.is_empty());
    assert_eq!(fed.data_bytes, 100);
    assert_eq!(std::mem::size_of::<ChunkedDecoder>(), 48);
}

#[test]
fn anything_else_is_refused() {
    let long_extension = format!("1;{}\r\n", "e".repeat(257));
    let long_trailers = format!("0\r\nX: {}\r\n\r\n", "t".repeat(8192));
    let many_trailers = format!("0\r\n{}\r\n", "X: 12345678\r\n".repeat(800));
    let cases = [
        ("\r\n", M::Size),
        ("g\r\n", M::Size),
        ("-1\r\n", M::Size),
        ("+1\r\n", M::Size),
        ("0x1\r\n", M::Size),
        (" 1\r\n", M::Size),
        ("1 \r\n", M::Size),
        ("1 ;a\r\n", M::Size),
        (";a\r\n", M::Size),
        ("1\n", M::Size),
        ("1\rx", M::LineEnding),
        ("11111111111111111\r\n", M::SizeTooLarge),
        ("00000000000000001\r\n", M::SizeTooLarge),
        ("1;a\nb\r\n", M::Extension),
        ("1;a\0\r\n", M::Extension),
        ("1;a\r\r\n", M::LineEnding),
        (&long_extension, M::ExtensionTooLong),
        ("1\r\nabc", M::LineEnding),
        ("1\r\na\n", M::LineEnding),
        ("1\r\na\rb", M::LineEnding),
        ("0\r\n\n", M::Trailer),
        ("0\r\n\rx", M::LineEnding),
        ("0\r\n X: 1\r\n", M::Trailer),
        ("0\r\nX : 1\r\n", M::Trailer),
        ("0\r\n: 1\r\n", M::Trailer),
        ("0\r\nX: 1\n", M::Trailer),
        ("0\r\nX: \0\r\n", M::Trailer),
        ("0\r\nHost: \x01\r\n", M::Trailer),
        ("0\r\nX: 1\r\r\n", M::LineEnding),
        ("0\r\nX: 1\r\n folded\r\n", M::Trailer),
        ("0\r\nX\r\n", M::Trailer),
        (
            "0\r\nA-Name-Longer-Than-Any-Forbidden-One-Is : 1\r\n",
            M::Trailer,
        ),
        (&long_trailers, M::TrailersTooLong),
        (&many_trailers, M::TrailersTooLong),
    ];
    for (input, why) in cases {
        for step in [1, 7, input.len()] {
            let result = decode(input.as_bytes(), Mode::Rechunk, step);
            assert_eq!(result.err(), Some(why), "{input:?} by {step}");
        }
    }
}

#[test]
fn the_largest_size_is_no_overflow() {
    let mut decoder = ChunkedDecoder::new();
    let mut out = Vec::new();
    let fed = decoder.feed(b"FFFFFFFFFFFFFFFF\r\nabc", &mut out, Mode::Rechunk);
    assert_eq!(fed.map(|fed| fed.data_bytes), Ok(3));
    assert_eq!(out, b"ffffffffffffffff\r\nabc");
}

#[test]
fn nothing_is_taken_after_the_end() {
    let mut decoder = ChunkedDecoder::new();
    let mut out = Vec::new();
    decoder
        .feed(b"0\r\n\r\n", &mut out, Mode::Plain)
        .expect("valid");
    assert!(decoder.is_done());
    let fed = decoder.feed(b"more", &mut out, Mode::Plain).expect("valid");
    assert_eq!((fed.consumed, fed.done), (0, true));
}

#[test]
fn chunks_made_here_read_back() {
    for len in [1u64, 9, 10, 15, 16, 255, 256, 0x1_0000, u64::MAX] {
        let mut out = Vec::new();
        begin_chunk(&mut out, len);
        assert_eq!(out, format!("{len:x}\r\n").as_bytes());
    }
    let mut none = Vec::new();
    begin_chunk(&mut none, 0);
    assert!(none.is_empty(), "a chunk of no data would end the body");
    let mut body = Vec::new();
    begin_chunk(&mut body, 3);
    body.extend_from_slice(b"abc");
    body.extend_from_slice(CHUNK_END);
    body.extend_from_slice(LAST_CHUNK);
    assert_eq!(decode(&body, Mode::Plain, 2).expect("valid").0, b"abc");
}
