//! What an operator wants to know of a certificate, and what names it is for: read from its DER, which is
//! the operator's own. Trust is decided elsewhere.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Why a certificate, a key or a setting is no good, for a reader who knows the file.
pub type Problem = String;

/// Of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// DNS names and addresses of the extension subjectAltName, lower case.
    pub names: Vec<String>,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const OBJECT: u8 = 0x06;
const OCTETS: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERAL_TIME: u8 = 0x18;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;
/// 2.5.29.17
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];

/// A DER value: tag and contents.
type Item<'a> = (u8, &'a [u8]);

/// Takes one item off the front.
fn item<'a>(from: &mut &'a [u8]) -> Option<Item<'a>> {
    let (&tag, rest) = from.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        length = digits
            .iter()
            .fold(0, |sum, &digit| sum << 8 | usize::from(digit));
        rest = after;
    }
    let (contents, after) = rest.split_at_checked(length)?;
    *from = after;
    Some((tag, contents))
}

fn expect<'a>(from: &mut &'a [u8], wanted: u8) -> Option<&'a [u8]> {
    item(from)
        .filter(|(tag, _)| *tag == wanted)
        .map(|(_, contents)| contents)
}

impl Certificate {
    /// Read a certificate (RFC 5280 section 4.1); None when it is none.
    pub fn read(mut der: &[u8]) -> Option<Self> {
        let mut outer = expect(&mut der, SEQUENCE)?;
        let mut body = expect(&mut outer, SEQUENCE)?;
        if body.first() == Some(&VERSION) {
            item(&mut body)?;
        }
        item(&mut body)?; // serial number
        item(&mut body)?; // algorithm of the signature
        item(&mut body)?; // issuer
        let mut validity = expect(&mut body, SEQUENCE)?;
        let mut read = Self {
            names: Vec::new(),
            not_before: time(item(&mut validity)?)?,
            not_after: time(item(&mut validity)?)?,
        };
        item(&mut body)?; // subject
        item(&mut body)?; // key
        while let Some((tag, mut contents)) = item(&mut body) {
            if tag == EXTENSIONS {
                let mut extensions = expect(&mut contents, SEQUENCE)?;
                while !extensions.is_empty() {
                    read.extension(expect(&mut extensions, SEQUENCE)?)?;
                }
            }
        }
        Some(read)
    }

    fn extension(&mut self, mut extension: &[u8]) -> Option<()> {
        if expect(&mut extension, OBJECT)? != SUBJECT_ALT_NAME {
            return Some(());
        }
        let mut value = loop {
            // A flag for "critical" may come first.
            let (tag, contents) = item(&mut extension)?;
            if tag == OCTETS {
                break contents;
            }
        };
        let mut names = expect(&mut value, SEQUENCE)?;
        while !names.is_empty() {
            match item(&mut names)? {
                (DNS_NAME, name) => {
                    let name = std::str::from_utf8(name)
                        .ok()
                        .filter(|name| name.is_ascii())?;
                    self.names.push(name.to_ascii_lowercase());
                }
                (IP_ADDRESS, ip) => self.names.extend(address(ip)),
                _ => {}
            }
        }
        Some(())
    }
}

fn address(ip: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(ip) {
        return Some(Ipv4Addr::from(v4).to_string());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?).to_string())
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280 section 4.1.2.5) in seconds since 1970.
fn time((tag, text): Item<'_>) -> Option<i64> {
    let digits = text.strip_suffix(b"Z")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |part: &[u8]| {
        part.iter()
            .fold(0, |n, &digit| 10 * n + i64::from(digit - b'0'))
    };
    let (year, rest) = match tag {
        UTC_TIME if digits.len() == 12 => {
            let two = number(&digits[..2]);
            (if two < 50 { 2000 + two } else { 1900 + two }, &digits[2..])
        }
        GENERAL_TIME if digits.len() == 14 => (number(&digits[..4]), &digits[4..]),
        _ => return None,
    };
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| number(&rest[at..at + 2]));
    if !(1..=12).contains(&month) {
        return None;
    }
    // Days since 1970 of a date: years are counted from March, so that a leap day is the last.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days =
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day
            - 719_469;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_since_1970() {
        for (tag, text, seconds) in [
            (UTC_TIME, "700101000000Z", 0),
            (UTC_TIME, "491231235959Z", 2_524_607_999),
            (GENERAL_TIME, "20000229120000Z", 951_825_600),
            (GENERAL_TIME, "20261121033705Z", 1_795_232_225),
            (GENERAL_TIME, "99991231235959Z", 253_402_300_799),
        ] {
            assert_eq!(time((tag, text.as_bytes())), Some(seconds), "{text}");
        }
        for text in [
            "",
            "Z",
            "7001010000Z",
            "70010100000xZ",
            "20001301000000Z",
            "20000101000000",
        ] {
            assert_eq!(time((GENERAL_TIME, text.as_bytes())), None, "{text}");
            assert_eq!(time((UTC_TIME, text.as_bytes())), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused_at_any_length() {
        let noise: Vec<u8> = (0..2000_u32).map(|i| (i * 7919 >> 3) as u8).collect();
        for from in 0..noise.len() {
            assert_eq!(Certificate::read(&noise[from..]), None);
        }
        assert_eq!(
            Certificate::read(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]),
            None
        );
    }
}
