//! PROXY headers: what the specification's examples mean, and what holds for every input.

use _core::codec::proxy_protocol::{parse_proxy, BadHeader, ProxyHeader, MAX_HEADER};
use proptest::prelude::*;
use std::net::IpAddr;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend([command, family]);
    header.extend((addresses.len() as u16).to_be_bytes());
    header.extend(addresses);
    header
}

fn tcp4() -> Vec<u8> {
    v2(
        0x21,
        0x11,
        &[203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x34, 0, 80],
    )
}

fn source(header: &[u8]) -> Option<String> {
    let parsed = parse_proxy(header).unwrap().unwrap();
    assert_eq!(parsed.len, header.len());
    parsed.source.map(|ip| ip.to_string())
}

#[test]
fn version_1_names_the_client() {
    let text = |line: &str| source(line.as_bytes());
    assert_eq!(
        text("PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\r\n").as_deref(),
        Some("203.0.113.7")
    );
    assert_eq!(
        text("PROXY TCP6 2001:db8::7 2001:db8::1 65535 0\r\n").as_deref(),
        Some("2001:db8::7")
    );
    assert_eq!(text("PROXY UNKNOWN\r\n"), None);
    assert_eq!(text("PROXY UNKNOWN ffff:: whatever\r\n"), None);
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
    assert_eq!(text(&longest), None);
}

#[test]
fn version_1_that_breaks_the_rules_is_refused() {
    for line in [
        "PROXY TCP4 203.0.113.7 192.0.2.1 4711\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 4711 80 \r\n",
        "PROXY TCP4  203.0.113.7 192.0.2.1 4711 80\r\n",
        "PROXY TCP4 203.0.113.07 192.0.2.1 4711 80\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2 4711 80\r\n",
        "PROXY TCP4 ::1 ::1 4711 80\r\n",
        "PROXY TCP6 203.0.113.7 192.0.2.1 4711 80\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 65536 80\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 047 80\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 -1 80\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\n",
        "PROXY UDP4 203.0.113.7 192.0.2.1 4711 80\r\n",
        "PROXY \r\n",
        "PROXY TCP4 \u{665}.0.113.7 192.0.2.1 4711 80\r\n",
        "proxy TCP4 203.0.113.7 192.0.2.1 4711 80\r\n",
        "GET / HTTP/1.1\r\n",
        "\r\n\r\nGET",
        "P\r\n",
    ] {
        assert_eq!(parse_proxy(line.as_bytes()), Err(BadHeader), "{line:?}");
    }
    let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
    assert_eq!(parse_proxy(&endless), Err(BadHeader));
    assert_eq!(parse_proxy(&endless[..106]), Ok(None));
    assert_eq!(parse_proxy(&endless[..107]), Err(BadHeader));
}

#[test]
fn version_2_names_the_client() {
    assert_eq!(source(&tcp4()).as_deref(), Some("203.0.113.7"));
    let mut addresses = [0u8; 36];
    addresses[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
    addresses[15] = 7;
    assert_eq!(
        source(&v2(0x21, 0x21, &addresses)).as_deref(),
        Some("2001:db8::7")
    );
    addresses = [0; 36];
    addresses[10..16].copy_from_slice(&[0xff, 0xff, 203, 0, 113, 7]);
    assert_eq!(
        source(&v2(0x21, 0x21, &addresses)).as_deref(),
        Some("203.0.113.7"),
        "mapped"
    );
}

#[test]
fn version_2_without_a_client_keeps_the_peer() {
    assert_eq!(source(&v2(0x20, 0x00, &[])), None, "LOCAL");
    assert_eq!(
        source(&v2(0x20, 0x11, &[9; 12])),
        None,
        "LOCAL with an address"
    );
    assert_eq!(
        source(&v2(0x20, 0x11, &[9; 3])),
        None,
        "LOCAL with anything"
    );
    assert_eq!(source(&v2(0x21, 0x00, &[9; 5])), None, "UNSPEC");
    assert_eq!(source(&v2(0x21, 0x31, &[9; 216])), None, "AF_UNIX");
    assert_eq!(source(&v2(0x21, 0x12, &[9; 12])), None, "datagrams");
}

#[test]
fn extensions_of_version_2_are_skipped() {
    let mut addresses = vec![203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x34, 0, 80];
    addresses.extend([0x02, 0, 4, b'h', b'o', b's', b't', 0x20, 0xff]);
    assert_eq!(
        source(&v2(0x21, 0x11, &addresses)).as_deref(),
        Some("203.0.113.7")
    );
}

#[test]
fn version_2_that_breaks_the_rules_is_refused() {
    for header in [
        v2(0x11, 0x11, &[9; 12]),
        v2(0x31, 0x11, &[9; 12]),
        v2(0x22, 0x11, &[9; 12]),
        v2(0x21, 0x13, &[9; 12]),
        v2(0x21, 0x41, &[9; 12]),
        v2(0x21, 0x11, &[9; 11]),
        v2(0x21, 0x21, &[9; 35]),
        v2(0x21, 0x31, &[9; 215]),
        v2(0x21, 0x00, &[9; MAX_HEADER]),
    ] {
        assert_eq!(parse_proxy(&header), Err(BadHeader));
        assert_eq!(
            parse_proxy(&header[..16]),
            Err(BadHeader),
            "by its first bytes"
        );
    }
    assert!(parse_proxy(&v2(0x21, 0x00, &[9; MAX_HEADER - 16])).is_ok());
}

fn any_header() -> impl Strategy<Value = (Vec<u8>, Option<IpAddr>)> {
    let v1 = (any::<[u8; 4]>(), any::<u16>(), any::<u16>()).prop_map(|(ip, from, to)| {
        let ip = IpAddr::from(ip);
        (
            format!("PROXY TCP4 {ip} 192.0.2.1 {from} {to}\r\n").into_bytes(),
            Some(ip),
        )
    });
    let v1_6 = any::<[u8; 16]>().prop_map(|ip| {
        let ip = IpAddr::from(ip);
        let line = format!("PROXY TCP6 {ip} ::1 1 2\r\n");
        (line.into_bytes(), Some(ip.to_canonical()))
    });
    let tlvs = prop::collection::vec(any::<u8>(), 0..300);
    let v2_4 = (any::<[u8; 4]>(), tlvs).prop_map(|(ip, tlvs)| {
        let addresses = [&ip[..], &[0; 8], &tlvs].concat();
        (v2(0x21, 0x11, &addresses), Some(IpAddr::from(ip)))
    });
    prop_oneof![v1, v1_6, v2_4]
}

proptest! {
    #[test]
    fn a_header_split_anywhere_is_the_same((header, source) in any_header(), cut in any::<prop::sample::Index>(), rest in prop::collection::vec(any::<u8>(), 0..50)) {
        let whole = Ok(Some(ProxyHeader { len: header.len(), source }));
        let with_more = [&header[..], &rest].concat();
        prop_assert_eq!(parse_proxy(&with_more), whole);
        prop_assert_eq!(parse_proxy(&header[..cut.index(header.len())]), Ok(None));
    }

    #[test]
    fn nothing_is_read_beyond_the_input(noise in prop::collection::vec(any::<u8>(), 0..400), version_2: bool) {
        let start = if version_2 { SIGNATURE } else { b"PROXY " };
        let buf = [start, &noise].concat();
        if let Ok(Some(header)) = parse_proxy(&buf) {
            prop_assert!(header.len <= buf.len() && header.len <= MAX_HEADER);
            prop_assert_eq!(parse_proxy(&buf[..header.len]), Ok(Some(header)));
            prop_assert_eq!(parse_proxy(&buf[..header.len - 1]), Ok(None));
        }
        let _ = parse_proxy(&noise);
    }
}
