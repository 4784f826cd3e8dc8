//! TLS on both sides: towards clients with the certificates that the control process hands over, towards
//! backends with the settings of the snapshot. Sockets are the data plane's; here bytes go in and bytes
//! come out.

mod bundle;
pub mod capi;
mod client;
mod connection;
mod names;
mod resolver;
mod ticket;
mod x509;

use rustls::crypto::CryptoProvider;
use rustls::server::UnbufferedServerConnection;
use rustls::ServerConfig;
use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

pub use bundle::{read_bundle, Bundle};
pub use client::{named_digest, ClientSettings, Clients};
pub use connection::{Connection, Step};
pub use x509::{Certificate, Problem};

/// Ciphertext that is looked at in one go; also the most plaintext that comes out of it.
pub const INCOMING: usize = 128 * 1024;
/// Room for ciphertext that is kept for the next connection. Whole bodies, of middleware and retries, take more.
const KEPT: usize = 512 * 1024;

/// One provider for everything: making one is not free, and configurations compare theirs.
fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

/// What a worker has of TLS. Buffers are made when they are first needed: a worker without TLS has none.
#[derive(Default)]
pub struct Tls {
    server: Option<Arc<ServerConfig>>,
    /// `Strict-Transport-Security` as a field line; empty for none.
    hsts: Vec<u8>,
    /// Behind a cell, for a backend is chosen while others look at the worker. One thread, no re-entry.
    pub clients: RefCell<Clients>,
    pub buffers: Buffers,
}

/// Shared by all connections of a worker, none of which needs them across calls.
#[derive(Default)]
pub struct Buffers {
    /// Where ciphertext is received.
    incoming: Vec<u8>,
    pub outgoing: Outgoing,
    /// Head and body that make one record.
    joined: Vec<u8>,
}

impl Buffers {
    /// Make room for what comes next, after what is left over of the connection's last bytes.
    pub fn room(&mut self, connection: &Connection) -> &mut [u8] {
        if self.incoming.is_empty() {
            self.incoming = vec![0; INCOMING];
        }
        let left = connection.pending();
        let (kept, room) = self.incoming.split_at_mut(left.len());
        kept.copy_from_slice(left);
        room
    }
}

/// Ciphertext to be sent: initialised once, however often it is filled.
#[derive(Default)]
pub struct Outgoing {
    bytes: Vec<u8>,
    used: usize,
}

impl Outgoing {
    pub fn clear(&mut self) {
        if self.bytes.len() > KEPT {
            self.bytes = Vec::new();
        }
        self.used = 0;
    }

    pub fn filled(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or_default()
    }

    /// At least `size` bytes of room.
    fn spare(&mut self, size: usize) -> &mut [u8] {
        if self.bytes.len() < self.used + size {
            self.bytes.resize(self.used + size, 0);
        }
        &mut self.bytes[self.used..]
    }
}

impl Tls {
    /// Use a bundle for the connections to come; those that are open keep theirs.
    pub fn use_bundle(&mut self, bundle: Bundle) {
        self.server = Some(bundle.config);
        self.hsts = bundle.hsts;
    }

    /// The field line for answers over TLS; empty for none.
    pub fn hsts(&self) -> &[u8] {
        &self.hsts
    }

    /// A client's connection; None without certificates.
    pub fn accept(&self) -> Option<Connection> {
        let config = self.server.clone()?;
        UnbufferedServerConnection::new(config)
            .ok()
            .map(Connection::server)
    }
}

#[cfg(test)]
mod tests;
