//! The PROXY protocol, versions 1 and 2: before the first byte of a connection, a proxy says for whom it
//! speaks. <https://www.haproxy.org/download/1.8/doc/proxy-protocol.txt>

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest header that is read. Version 1 has 107 bytes at most; version 2 has room for the longest address
/// (232) and a good deal of extensions (TLVs).
pub const MAX_HEADER: usize = 2048;

const V1: &[u8] = b"PROXY ";
const V1_MAX: usize = 107;
const V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;

/// A header, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Bytes it takes.
    pub len: usize,
    /// The client; `None`: the proxy speaks for itself, or for something that has no address.
    pub source: Option<IpAddr>,
}

/// Not a PROXY header, or one that breaks its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadHeader;

/// Read the header at the start of a connection; `None` while it is not complete.
pub fn parse_proxy(buf: &[u8]) -> Result<Option<ProxyHeader>, BadHeader> {
    if begins(buf, V2) {
        version_2(buf)
    } else if begins(buf, V1) {
        version_1(buf)
    } else {
        Err(BadHeader)
    }
}

/// Whether the bytes begin with a signature, as far as they go.
fn begins(buf: &[u8], signature: &[u8]) -> bool {
    buf.iter().zip(signature).all(|(have, want)| have == want)
}

fn version_1(buf: &[u8]) -> Result<Option<ProxyHeader>, BadHeader> {
    let window = buf.get(..V1_MAX).unwrap_or(buf);
    let Some(end) = memchr::memchr(b'\n', window) else {
        return if window.len() < V1_MAX {
            Ok(None)
        } else {
            Err(BadHeader)
        };
    };
    let line = window[..end].strip_suffix(b"\r").ok_or(BadHeader)?;
    let line = std::str::from_utf8(line).map_err(|_| BadHeader)?;
    let mut words = line.split(' ').skip(1);
    let family = words.next().ok_or(BadHeader)?;
    let len = end + 1;
    if family == "UNKNOWN" {
        return Ok(Some(ProxyHeader { len, source: None })); // what follows it is to be ignored
    }
    let (Some(source), Some(target), Some(from), Some(to), None) = (
        words.next(),
        words.next(),
        words.next(),
        words.next(),
        words.next(),
    ) else {
        return Err(BadHeader);
    };
    let source = match family {
        "TCP4" => both::<Ipv4Addr>(source, target)?.into(),
        "TCP6" => both::<Ipv6Addr>(source, target)?.into(),
        _ => return Err(BadHeader),
    };
    if !is_port(from) || !is_port(to) {
        return Err(BadHeader);
    }
    Ok(Some(header(len, source)))
}

/// The first of two addresses, if both are some.
fn both<A: std::str::FromStr>(source: &str, target: &str) -> Result<A, BadHeader> {
    let source = source.parse().map_err(|_| BadHeader)?;
    target.parse::<A>().map_err(|_| BadHeader)?;
    Ok(source)
}

fn is_port(text: &str) -> bool {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits && (text == "0" || !text.starts_with('0')) && text.parse::<u16>().is_ok()
}

fn version_2(buf: &[u8]) -> Result<Option<ProxyHeader>, BadHeader> {
    let Some(&[command, family, high, low]) = buf.get(V2.len()..V2_FIXED) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let len = V2_FIXED + length;
    // Bytes of the addresses, and of the source among them. 0: there are none, or of no use here.
    let (needed, source_len) = match family {
        0x00 => (0, 0),
        0x11 => (12, 4),
        0x12 => (12, 0),
        0x21 => (36, 16),
        0x22 => (36, 0),
        0x31 | 0x32 => (216, 0),
        _ => return Err(BadHeader),
    };
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(BadHeader),
    };
    if len > MAX_HEADER || (!local && length < needed) {
        return Err(BadHeader);
    }
    let Some(addresses) = buf.get(V2_FIXED..len) else {
        return Ok(None);
    };
    if local || source_len == 0 {
        return Ok(Some(ProxyHeader { len, source: None }));
    }
    let source = addresses.get(..source_len).ok_or(BadHeader)?;
    let source: IpAddr = match (<[u8; 4]>::try_from(source), <[u8; 16]>::try_from(source)) {
        (Ok(v4), _) => v4.into(),
        (_, Ok(v6)) => v6.into(),
        _ => return Err(BadHeader),
    };
    Ok(Some(header(len, source)))
}

/// A mapped IPv4 address is that IPv4 address.
fn header(len: usize, source: IpAddr) -> ProxyHeader {
    ProxyHeader {
        len,
        source: Some(source.to_canonical()),
    }
}
