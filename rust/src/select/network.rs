//! Networks of clients: which rule an address falls under, the longest prefix first.

use crate::snapshot::ArchivedNetwork;
use std::net::IpAddr;

/// A network: its address as IPv6 (IPv4 mapped, RFC 4291 section 2.5.5.2), and its bits there.
pub type Prefix = ([u8; 16], u8);

/// Read `address/bits`, or one address.
///
/// # Errors
/// The rule that is broken.
pub fn parse(text: &str) -> Result<Prefix, String> {
    let wrong = || format!("{text:?} is not a network such as 10.0.0.0/8 or 2001:db8::/32");
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let ip: IpAddr = address.parse().map_err(|_| wrong())?;
    let (most, before) = if ip.is_ipv4() { (32, 96) } else { (128, 0) };
    let bits = match bits {
        None => most,
        Some(bits) if bits.starts_with('+') || bits.len() > 1 && bits.starts_with('0') => {
            return Err(wrong())
        }
        Some(bits) => bits
            .parse::<u8>()
            .ok()
            .filter(|&b| b <= most)
            .ok_or_else(wrong)?,
    };
    if ip != ip.to_canonical() {
        return Err(format!("{text:?}: write a mapped IPv4 address as IPv4"));
    }
    let octets = octets(ip);
    let bits = bits + before;
    if masked(octets, bits) != octets {
        return Err(format!("{text:?} has bits set behind its prefix"));
    }
    Ok((octets, bits))
}

/// Whether an address is in a network. Families are kept apart: `::/0` is every IPv6 address.
pub fn contains(network: &Prefix, ip: IpAddr) -> bool {
    let (first, bits) = network;
    let is_ipv4 = *bits >= 96 && masked(*first, 96) == octets(IpAddr::from([0, 0, 0, 0]));
    is_ipv4 == ip.is_ipv4() && masked(octets(ip), *bits) == *first
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn masked(octets: [u8; 16], bits: u8) -> [u8; 16] {
    let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
    (u128::from_be_bytes(octets) & mask).to_be_bytes()
}

/// The candidate of the network that an address, as text, is in. `networks` are in the order of [`sort`].
pub fn find(networks: &[ArchivedNetwork], ip: &[u8]) -> Option<u8> {
    let ip: IpAddr = std::str::from_utf8(ip).ok()?.parse().ok()?;
    let address = octets(ip.to_canonical());
    let mut rest = networks;
    // One binary search for each length of prefix that there is.
    while let Some(first) = rest.first() {
        let bits = first.bits;
        let (same, shorter) = rest.split_at(rest.partition_point(|network| network.bits == bits));
        let wanted = masked(address, bits);
        if let Ok(at) = same.binary_search_by(|network| network.ip.cmp(&wanted)) {
            return same.get(at)?.candidate.as_ref().copied();
        }
        rest = shorter;
    }
    None
}

/// Longer prefixes first, then by address.
pub fn sort(networks: &mut [crate::snapshot::Network]) {
    networks.sort_unstable_by(|a, b| b.bits.cmp(&a.bits).then(a.ip.cmp(&b.ip)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Network;
    use proptest::prelude::*;

    fn found(networks: &[&str], ip: &str) -> Option<u8> {
        let mut list: Vec<_> = networks
            .iter()
            .enumerate()
            .map(|(n, text)| {
                let (ip, bits) = parse(text).unwrap();
                Network {
                    ip,
                    bits,
                    candidate: Some(n as u8),
                }
            })
            .collect();
        sort(&mut list);
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&list).unwrap();
        let list =
            rkyv::access::<rkyv::vec::ArchivedVec<ArchivedNetwork>, rkyv::rancor::Error>(&bytes)
                .unwrap();
        find(list, ip.as_bytes())
    }

    #[test]
    fn the_longest_prefix_wins() {
        let networks = [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.3",
            "2001:db8::/32",
            "2001:db8:1::/48",
            "192.168.0.0/16",
        ];
        for (ip, expected) in [
            ("10.1.2.3", Some(3)),
            ("10.1.2.4", Some(2)),
            ("10.2.0.0", Some(1)),
            ("9.9.9.9", Some(0)),
            ("::ffff:10.1.9.9", Some(2)),
            ("2001:db8:1::9", Some(5)),
            ("2001:db8:2::", Some(4)),
            ("2001:db9::", None),
            ("192.168.255.255", Some(6)),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(found(&networks, ip), expected, "{ip}");
        }
        assert_eq!(found(&["::/0", "10.0.0.0/8"], "11.0.0.0"), Some(0));
        assert_eq!(found(&[], "11.0.0.0"), None);
    }

    #[test]
    fn networks_are_written_plainly() {
        for bad in [
            "",
            "a",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "10.0.0/8",
            "::/129",
            "2001:db8::1/32",
            "::ffff:10.0.0.0/104",
            "10.0.0.0/8/8",
            " 10.0.0.0/8",
            "fe80::1%eth0",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse("10.0.0.0/8").unwrap().1, 104);
        assert_eq!(parse("::/0").unwrap(), ([0; 16], 0));
    }

    proptest! {
        #[test]
        fn as_a_plain_search_finds(rules in prop::collection::vec((any::<u32>(), 0u8..=32), 0..40), ip in any::<u32>()) {
            let texts: Vec<String> = rules.iter().map(|&(ip, bits)| {
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                format!("{}/{bits}", std::net::Ipv4Addr::from(ip & 0x0707_0707 & mask))
            }).collect();
            let mut unique = texts.clone();
            unique.sort();
            unique.dedup();
            let ip = std::net::Ipv4Addr::from(ip & 0x0707_0707);
            let contains = |text: &String| {
                let (network, bits) = parse(text).unwrap();
                masked(octets(ip.into()), bits) == network
            };
            let expected = unique.iter().filter(|text| contains(text)).max_by_key(|text| parse(text).unwrap().1);
            let names: Vec<&str> = unique.iter().map(String::as_str).collect();
            let got = found(&names, &ip.to_string()).map(|n| &unique[usize::from(n)]);
            prop_assert_eq!(got, expected);
        }
    }

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        let inside =
            |network: &str, ip: &str| contains(&parse(network).unwrap(), ip.parse().unwrap());
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
    }
}
