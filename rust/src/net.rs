//! Addresses of peers: networks in CIDR notation, and the identity that limits go by.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A network, such as `10.0.0.0/8` or `2001:db8::/32`; a single address is one, too. Families are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    first: IpAddr,
    length: u32,
}

/// Why a text is no network.
#[derive(Debug, PartialEq, Eq)]
pub struct NotCidr(&'static str);

impl fmt::Display for NotCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl FromStr for Cidr {
    type Err = NotCidr;

    fn from_str(text: &str) -> Result<Self, NotCidr> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let first: IpAddr = address
            .parse()
            .map_err(|_| NotCidr("is not an IP address or network"))?;
        let bits = match first {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        let length = match length {
            None => bits,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|&length| length <= bits)
                .ok_or(NotCidr("has a prefix that is too long"))?,
            Some(_) => return Err(NotCidr("has a prefix that is not a number")),
        };
        if mask(first, length) != number(first) {
            return Err(NotCidr("has bits set beyond its prefix"));
        }
        Ok(Self { first, length })
    }
}

impl Cidr {
    pub fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4()
            && mask(address, self.length) == number(self.first)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// The address without the bits beyond a prefix.
fn mask(address: IpAddr, length: u32) -> u128 {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let host = bits - length.min(bits);
    let number = number(address);
    number
        .checked_shr(host)
        .and_then(|prefix| prefix.checked_shl(host))
        .unwrap_or(0)
}

/// The client that limits see behind an address: an IPv4 address, or the /64 of an IPv6 address, all of
/// whose addresses one subscriber has.
pub fn client_of(address: IpAddr) -> u64 {
    match address {
        // ffff::/16 is multicast: no /64 that connects to anything.
        IpAddr::V4(v4) => 0xffff_ffff_0000_0000 | u64::from(u32::from(v4)),
        IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(network: &str, address: &str) -> bool {
        let network: Cidr = network.parse().unwrap();
        network.contains(address.parse().unwrap())
    }

    #[test]
    fn networks_contain_their_addresses_and_no_others() {
        assert!(inside("10.0.0.0/8", "10.255.1.2"));
        assert!(!inside("10.0.0.0/8", "11.0.0.0"));
        assert!(inside("192.0.2.7", "192.0.2.7"));
        assert!(!inside("192.0.2.7", "192.0.2.6"));
        assert!(inside("0.0.0.0/0", "203.0.113.9"));
        assert!(!inside("0.0.0.0/0", "::1"));
        assert!(inside("::/0", "2001:db8::1"));
        assert!(!inside("::/0", "127.0.0.1"));
        assert!(inside("2001:db8::/33", "2001:db8:7fff::1"));
        assert!(!inside("2001:db8::/33", "2001:db8:8000::1"));
        assert!(inside("::1/128", "::1"));
    }

    #[test]
    fn what_is_no_network_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "address"),
            ("host", "address"),
            ("10.0.0/8", "address"),
            ("10.0.0.0/33", "long"),
            ("::/129", "long"),
            ("10.0.0.0/", "long"),
            ("10.0.0.0/+8", "number"),
            ("10.0.0.1/8", "beyond"),
            ("10.0.0.0/99999999999", "long"),
        ] {
            let error = text.parse::<Cidr>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn an_ipv6_subscriber_is_one_client() {
        let client = |text: &str| client_of(text.parse().unwrap());
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:1"));
        assert_ne!(client("2001:db8:0:1::1"), client("2001:db8::1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
    }
}
