//! Who a client is to limits.

use std::net::IpAddr;

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

    #[test]
    fn an_ipv6_subscriber_is_one_client() {
        let client = |text: &str| client_of(text.parse().unwrap());
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:1"));
        assert_ne!(client("2001:db8:0:1::1"), client("2001:db8::1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
    }
}
