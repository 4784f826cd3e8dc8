//! The node's edge: which peers are believed about the client they speak for, who the client of a
//! connection and of a request is, and what one client may have of the node.

use super::layout::Peer;
use super::WorkerCore;
use crate::codec::proxy_protocol::parse_proxy;
use crate::codec::values::elements;
use crate::codec::RequestHead;
use crate::net::client_of;
use crate::select::{client_hash, network};
use crate::state::lane::Turned;
use crate::state::sets::tag;
use crate::state::Seat;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

/// What a node asks of those who connect to it. The default asks nothing.
#[derive(Debug, Default)]
pub struct Edge {
    /// Connections of one client, all workers together; 0 is any number.
    pub max_connections_per_client: u32,
    /// Requests per second of one client, all workers together; 0 is any number.
    pub max_requests_per_second_per_client: u32,
    /// Peers whose claims about the client are believed.
    pub trusted_proxies: Vec<network::Prefix>,
    /// Write `Forwarded` (RFC 7239) to backends.
    pub forwarded: bool,
}

impl Edge {
    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies
            .iter()
            .any(|trusted| network::contains(trusted, address))
    }
}

impl Peer {
    /// The address of the other end. Only `IpAddr` writes `ip`, so it can be read again.
    fn address(&self) -> Option<IpAddr> {
        std::str::from_utf8(self.ip()).ok()?.parse().ok()
    }

    /// Make it speak for this address; `None` is an address of no known family.
    pub fn set_address(&mut self, address: Option<IpAddr>) {
        let room = self.ip.len();
        let mut rest = &mut self.ip[..];
        // The longest address has 45 characters.
        let _ = match address {
            Some(ip) => write!(rest, "{ip}"),
            None => write!(rest, "unknown"),
        };
        self.ip_len = (room - rest.len()) as u8;
        self.key = client_hash(self.ip());
        self.client = address.map_or(0, client_of);
    }
}

impl WorkerCore {
    /// A connection was accepted; false: close it. With the PROXY protocol it is not known yet who
    /// the client is, only whether the peer may say so.
    pub fn greet(&mut self, peer: &mut Peer, proxy_protocol: bool, now: u64) -> bool {
        if proxy_protocol {
            let nobody = self.edge.trusted_proxies.is_empty();
            let may = nobody || peer.address().is_some_and(|ip| self.edge.trusts(ip));
            if !may {
                self.lane.connection_refused(Turned::Proxy);
            }
            return may;
        }
        self.seat(peer, now)
    }

    /// Read the PROXY header at the start of a connection: its length, 0 while it is not complete, `None` to
    /// close the connection.
    pub fn proxied(&mut self, peer: &mut Peer, now: u64, buf: &[u8]) -> Option<usize> {
        let Ok(parsed) = parse_proxy(buf) else {
            self.lane.connection_refused(Turned::Proxy);
            return None;
        };
        let Some(header) = parsed else {
            return Some(0);
        };
        if let Some(source) = header.source {
            peer.set_address(Some(source));
        }
        self.seat(peer, now).then_some(header.len)
    }

    /// Count the connection among its client's. A trusted proxy has as many as it wants: they are its clients'.
    fn seat(&mut self, peer: &mut Peer, now: u64) -> bool {
        let edge = &self.edge;
        if !edge.trusted_proxies.is_empty() {
            peer.trusted = u8::from(peer.address().is_some_and(|ip| edge.trusts(ip)));
        }
        let ceiling = edge.max_connections_per_client;
        if ceiling == 0 || peer.trusted != 0 {
            return true;
        }
        let tag = tag(
            &self.hash_key,
            &[b"connections", &peer.client.to_le_bytes()],
        );
        match self.lane.sit_down(tag, ceiling, now) {
            Some(seat) => {
                peer.seat = seat.to_raw();
                true
            }
            None => {
                self.lane.connection_refused(Turned::Client);
                false
            }
        }
    }

    /// The connection is gone.
    pub fn part(&self, peer: &mut Peer) {
        if let Some(seat) = Seat::from_raw(std::mem::take(&mut peer.seat)) {
            self.lane.stand_up(seat);
        }
    }

    /// A worker that has all the connections it may have closed one.
    pub fn turned_away(&self) {
        self.lane.connection_refused(Turned::Worker);
    }

    /// The client of a request that came through a trusted proxy, in the shape of a peer.
    #[cold]
    pub(super) fn client_behind(&self, peer: &Peer, head: &RequestHead<'_>) -> Peer {
        let mut client = Peer { seat: 0, ..*peer };
        let claimed = if head.fields.all(b"x-forwarded-for").next().is_some() {
            self.last_stranger(head.fields.all(b"x-forwarded-for"), address)
        } else {
            self.last_stranger(head.fields.all(b"forwarded"), forwarded_for)
        };
        if let Some(address) = claimed {
            client.set_address(Some(address));
        }
        client
    }

    /// Each proxy wrote at the end whom it saw. So, from the end: as long as those are trusted, the one before
    /// was seen by one who is. The first that is not trusted is the client; what stands before it is its
    /// own claim. An entry that cannot be read ends the search: nobody vouches for what is behind it.
    fn last_stranger<'h>(
        &self,
        values: impl DoubleEndedIterator<Item = &'h [u8]>,
        read: impl Fn(&[u8]) -> Option<IpAddr>,
    ) -> Option<IpAddr> {
        let mut found = None;
        for entry in values.rev().flat_map(|value| elements(value).rev()) {
            let Some(address) = read(entry) else {
                return found;
            };
            found = Some(address);
            if !self.edge.trusts(address) {
                return found;
            }
        }
        found
    }
}

/// An address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[…]:80`.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let plain = bare.parse().ok();
    plain
        .or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))
        .map(|ip: IpAddr| ip.to_canonical())
}

/// The address in the `for` of an element of Forwarded (RFC 7239 section 4).
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let node = element.split(|&b| b == b';').find_map(|pair| {
        let pair = crate::codec::values::trim(pair);
        let (name, value) = pair.split_at_checked(4)?;
        name.eq_ignore_ascii_case(b"for=").then_some(value)
    })?;
    let node = node
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .unwrap_or(node);
    address(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_proxies_write_them() {
        let read = |text: &str| address(text.as_bytes()).map(|ip| ip.to_string());
        for (text, ip) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(read(text).as_deref(), Some(ip), "{text}");
        }
        for text in [
            "",
            "unknown",
            "_hidden",
            "192.0.2.1:x",
            "192.0.2",
            "[::1",
            "1.2.3.4 5",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn forwarded_elements_name_the_client() {
        let read = |text: &str| forwarded_for(text.as_bytes()).map(|ip| ip.to_string());
        assert_eq!(read("for=192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(
            read("proto=http; For=\"[2001:db8::1]:80\";by=_x").as_deref(),
            Some("2001:db8::1")
        );
        assert_eq!(read("proto=http"), None);
        assert_eq!(read("for=unknown"), None);
        assert_eq!(read("for=\"192.0.2.1"), None);
    }
}
