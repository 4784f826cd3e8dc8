//! Nanoseconds per head: `cargo run --release --example codec_bench [NAME]`.

use std::hint::black_box;
use std::time::Instant;

use _core::codec::{
    parse_request, parse_response, write_client_head, write_upstream_head, ChunkedDecoder,
    ClientContext, DateCache, ForwardContext, Limits, Mode, ResponseContext, Scratch,
};

const REQUEST: &[u8] = b"GET /api/v1/users/42?fields=name HTTP/1.1\r\nHost: api.example.com\r\n\
User-Agent: wrk/4.2.0\r\nAccept: application/json\r\nAccept-Encoding: gzip, br\r\n\
Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n\r\n";

/// What a browser behind a load balancer sends: a body, hop-by-hop fields, a chain of addresses.
const REWRITTEN: &[u8] = b"POST /shop/./orders/%7Eme?page=2 HTTP/1.1\r\nHost: shop.example.com\r\n\
Connection: keep-alive\r\nContent-Length: 348\r\nsec-ch-ua-platform: \"Linux\"\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0\r\n\
Content-Type: application/json\r\nAccept: */*\r\nOrigin: https://shop.example.com\r\n\
Referer: https://shop.example.com/basket\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
Accept-Language: en-GB,en;q=0.9\r\nCookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https\r\n\r\n";

const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: backend\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
Content-Type: application/json\r\nContent-Length: 128\r\nCache-Control: no-cache\r\n\r\n";

/// Best of many short rounds, in nanoseconds per call: short enough to fall between interruptions.
fn measure(name: &str, calls: u32, mut call: impl FnMut()) {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    if !name.contains(&wanted) {
        return;
    }
    let best = (0..1000)
        .map(|_| {
            let start = Instant::now();
            (0..calls).for_each(|_| call());
            start.elapsed().as_nanos() as f64 / f64::from(calls)
        })
        .fold(f64::MAX, f64::min);
    println!("{name:<40} {best:>9.1} ns");
}

fn main() {
    if cfg!(debug_assertions) {
        eprintln!("build with --release: a debug build says nothing");
        std::process::exit(2);
    }
    let limits = Limits::default();
    let mut scratch = Scratch::new();
    let mut out = Vec::with_capacity(65_536);
    let forward = ForwardContext {
        client_ip: b"192.0.2.17",
        secure: false,
        request_id: b"0190b5f4-5d7a-7cc1-8e1f-3a2b1c0d9e8f",
        backend_host: b"10.0.0.1:9001",
        forwarded: false,
        trusted: false,
        forward_expect: true,
        withheld: b"",
        added: b"",
        trace: None,
        edit: None,
    };
    let date = *DateCache::new().at(784_111_777);
    let client = ClientContext {
        client_minor: 1,
        keep_alive: true,
        request_id: forward.request_id,
        date: &date,
        fields: b"",
        drops: None,
    };
    let asked = ResponseContext::default();

    measure("httparse alone, request", 1_000, || {
        let mut headers = [const { std::mem::MaybeUninit::uninit() }; 128];
        let mut request = httparse::Request::new(&mut []);
        let parsed = request.parse_with_uninit_headers(black_box(REQUEST), &mut headers);
        black_box(parsed.is_ok());
    });
    measure("parse_request", 1_000, || {
        let head = parse_request(black_box(REQUEST), &limits, &mut scratch);
        black_box(head.is_ok());
    });
    measure("parse_request + write_upstream_head", 1_000, || {
        out.clear();
        if let Ok(Some(head)) = parse_request(black_box(REQUEST), &limits, &mut scratch) {
            write_upstream_head(&mut out, &head, &forward);
        }
        black_box(&out);
    });
    measure("httparse alone, 14 fields", 1_000, || {
        let mut headers = [const { std::mem::MaybeUninit::uninit() }; 128];
        let mut request = httparse::Request::new(&mut []);
        let parsed = request.parse_with_uninit_headers(black_box(REWRITTEN), &mut headers);
        black_box(parsed.is_ok());
    });
    measure("parse_request, 14 fields", 1_000, || {
        let head = parse_request(black_box(REWRITTEN), &limits, &mut scratch);
        black_box(head.is_ok());
    });
    measure("parse and write, 14 fields, rewritten", 1_000, || {
        out.clear();
        if let Ok(Some(head)) = parse_request(black_box(REWRITTEN), &limits, &mut scratch) {
            write_upstream_head(&mut out, &head, &forward);
        }
        black_box(&out);
    });
    measure("parse_response", 1_000, || {
        let head = parse_response(black_box(RESPONSE), &asked, &limits, &mut scratch);
        black_box(head.is_ok());
    });
    measure("parse_response + write_client_head", 1_000, || {
        out.clear();
        if let Ok(Some(head)) = parse_response(black_box(RESPONSE), &asked, &limits, &mut scratch) {
            write_client_head(&mut out, &head, &client);
        }
        black_box(&out);
    });

    let mut body = Vec::new();
    for _ in 0..4 {
        body.extend_from_slice(b"4000\r\n");
        body.resize(body.len() + 0x4000, b'x');
        body.extend_from_slice(b"\r\n");
    }
    let mut copy = Vec::with_capacity(65_536);
    measure("64 KB copied", 50, || {
        copy.clear();
        copy.extend_from_slice(black_box(&body));
        black_box(&copy);
    });
    measure("64 KB in four chunks, feed", 50, || {
        out.clear();
        let mut decoder = ChunkedDecoder::new();
        black_box(decoder.feed(black_box(&body), &mut out, Mode::Rechunk)).ok();
    });
    measure("64 KB in four chunks, relay", 500, || {
        out.clear();
        let mut decoder = ChunkedDecoder::new();
        black_box(decoder.relay(black_box(&body), &mut out, Mode::Rechunk)).ok();
    });
}
